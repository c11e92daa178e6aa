import assert from 'node:assert/strict'
import { test } from 'node:test'

import { run } from './support.cjs'

const linux = process.platform === 'linux'

// Memory is what is resident without pages of files: those of Node.js and the addon come in as their code is run. V8 does
// not optimise, because the code that it makes of hot functions grows for thousands of cycles, and is no leak.
const flags = ['--expose-gc', '--no-opt', '--no-sparkplug']

test('1,000 starts and stops leak no thread, file or memory', { skip: !linux }, async (t) => {
  const { status, output } = await run(process.execPath, [...flags, 'cycles.mjs'], { cwd: import.meta.dirname })
  assert.equal(status, 0, output)
  const { 200: early, 1000: late } = JSON.parse(output)
  const growth = late.memory - early.memory
  t.diagnostic(`${early.memory} B resident after 200, ${late.memory} B after 1,000: ${growth} B of growth`)
  assert.equal(late.threads, early.threads)
  assert.equal(late.files, early.files)
  assert.ok(growth < 1024 * 1024, `${growth} B of growth`)
})
