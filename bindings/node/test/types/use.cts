// As CommonJS sees the types.
import pgvpd = require('pgvpd')
import testing = require('pgvpd/testing')

export const start: (options?: pgvpd.Options) => Promise<pgvpd.Proxy> = pgvpd.Proxy.start
export const check: typeof testing.assertIsolated = testing.assertIsolated
