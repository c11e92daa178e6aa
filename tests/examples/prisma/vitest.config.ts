import type { SetupOptions } from 'pgvpd/testing'
import { defineConfig } from 'vitest/config'

// Each project has a PostgreSQL and a proxy of its own.
const project = (name: string, pgvpd: SetupOptions) => ({
  test: { name, include: [`test/${name}/*.test.ts`], globalSetup: 'pgvpd/vitest', provide: { pgvpd } },
})

export default defineConfig({
  test: {
    projects: [
      { test: { name: 'guide', include: ['test/guide.test.ts'] } },
      project('shop', { proxy: { tenantDeny: 'mallory' } }),
      project('lists', { schema: '../lists.sql', proxy: { contextVariables: ['app.list_id', 'app.user_id'] } }),
      project('legacy', { schema: '../legacy.sql', proxy: { contextVariables: 'myapp.tenant' } }),
    ],
  },
})
