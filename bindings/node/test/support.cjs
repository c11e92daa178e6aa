// What the tests share.
'use strict'

const { once } = require('node:events')
const { spawn } = require('node:child_process')
const path = require('node:path')
const pg = require('pg')

const schema = path.join(__dirname, 'schema.sql')

/** Runs a function with a connection. */
async function withClient(url, use) {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 10_000 })
  // A session that the proxy closes.
  client.on('error', () => {})
  await client.connect()
  try {
    return await use(client)
  } finally {
    await client.end()
  }
}

/** Runs a command to its end, which a deadline makes sure of; gives its status and what it said. */
async function run(command, args, options = {}) {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], timeout: 120_000, ...options })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text) => (output += text))
  const [status, signal] = await once(child, 'close')
  return { status: signal ?? status, output }
}

/** Runs a script in a Node.js of its own, as ESM with top-level await. */
function runScript(script, { args = [], env = {} } = {}) {
  return run(process.execPath, [...args, '--input-type=module', '--eval', script], {
    cwd: __dirname,
    env: { ...process.env, ...env },
  })
}

module.exports = { schema, withClient, run, runScript }
