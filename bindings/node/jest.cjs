// Jest's global set-up: `globalSetup: 'pgvpd/jest'`, with options in `globals: { pgvpd: { … } }`.
'use strict'

const { setup } = require('./testing.cjs')

module.exports = async function (globalConfig, projectConfig) {
  // Watch mode calls this anew for each run, in the same process.
  await globalThis.__pgvpd?.stop()
  globalThis.__pgvpd = await setup({ root: globalConfig.rootDir, ...projectConfig.globals.pgvpd })
}
