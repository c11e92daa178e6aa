// Jest's global set-up: `globalSetup: 'pgvpd/jest'`, with options in `globals: { pgvpd: { … } }`.
'use strict'

const { setup } = require('./testing.cjs')

/** @type {import('./testing.cjs').Setup | undefined} */
let started

/**
 * @param {unknown} _globalConfig
 * @param {{ rootDir: string, globals: { pgvpd?: import('./testing.cjs').SetupOptions } }} projectConfig
 */
async function globalSetup(_globalConfig, projectConfig) {
  started = await setup({ root: projectConfig.rootDir, ...projectConfig.globals.pgvpd })
}

async function globalTeardown() {
  await started?.stop()
}

module.exports = Object.assign(globalSetup, { globalTeardown })
