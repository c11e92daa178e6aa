import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    globalSetup: 'pgvpd/vitest',
    provide: { pgvpd: { schema: '../schema.sql' } },
    // Exercised by the runner, one after the other.
    pool: process.env.TEST_POOL ?? 'forks',
  },
})
