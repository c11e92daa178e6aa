// The options of the global set-up are typed in Vitest's configuration.
/// <reference types="pgvpd/vitest" />
import { defineConfig } from 'vitest/config'

export default defineConfig({ test: { globalSetup: 'pgvpd/vitest', provide: { pgvpd: { schema: 'schema.sql' } } } })

// @ts-expect-error not an option
defineConfig({ test: { provide: { pgvpd: { schemas: 'schema.sql' } } } })
