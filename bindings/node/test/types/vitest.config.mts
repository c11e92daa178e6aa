// The options of the global set-up are typed in Vitest's configuration.
import type {} from 'pgvpd/vitest'
import type { ProvidedContext } from 'vitest'
import { defineConfig } from 'vitest/config'

export default defineConfig({ test: { globalSetup: 'pgvpd/vitest', provide: { pgvpd: { schema: 'schema.sql' } } } })

// @ts-expect-error not an option
export const wrong: ProvidedContext = { pgvpd: { schemas: 'schema.sql' } }
