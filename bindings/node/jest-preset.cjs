// `preset: 'pgvpd'` in Jest's configuration is its global set-up and tear-down.
'use strict'

module.exports = {
  globalSetup: require.resolve('./jest.cjs'),
  globalTeardown: require.resolve('./jest-teardown.cjs'),
}
