// The fixtures in test/vitest, test/jest and test/types, by the tools that users have.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'

import { run } from './support.cjs'

const here = import.meta.dirname
const modules = join(here, '../node_modules')
const tool = (script, args, options) => run(process.execPath, [join(modules, script), ...args], { cwd: here, ...options })
const environment = { ...process.env, NO_COLOR: '1', FORCE_COLOR: '0' }
// Set by the runner that runs this file, and read by theirs.
delete environment.NODE_TEST_CONTEXT

describe('Vitest', () => {
  const vitest = (project, env = {}) =>
    tool('vitest/vitest.mjs', ['run', '--root', project], { env: { ...environment, ...env } })

  for (const pool of ['forks', 'threads', 'vmThreads', 'vmForks']) {
    test(`pool ${pool}`, async () => {
      const { status, output } = await vitest('vitest', { TEST_POOL: pool })
      assert.equal(status, 0, output)
      assert.match(output, /Tests +4 passed \(4\)/)
      assert.doesNotMatch(output, /hanging|did not exit|close timed out/i)
    })
  }

  test('projects of one run have set-ups of their own', async () => {
    const { status, output } = await vitest('projects')
    assert.equal(status, 0, output)
    assert.match(output, /Tests +2 passed \(2\)/)
  })
})

describe('Jest', () => {
  const jest = (...args) => tool('jest/bin/jest.js', args, { cwd: join(here, 'jest'), env: environment })

  for (const args of [['--detectOpenHandles'], ['--maxWorkers=2', '--no-cache'], ['--workerThreads', '--maxWorkers=2'], ['--runInBand']]) {
    test(args.join(' '), async () => {
      const { status, output } = await jest(...args)
      assert.equal(status, 0, output)
      assert.match(output, /Tests: +\d+ passed, \d+ total/)
      assert.doesNotMatch(output, /open handle|did not exit|failed to exit/i)
    })
  }
})

test('node --test', async () => {
  const { status, output } = await run(process.execPath, ['--test', '--test-reporter=tap', 'node/notes.test.mjs'], { cwd: here, env: environment })
  assert.equal(status, 0, output)
  assert.match(output, /# pass 2$/m)
})

test('the types hold, in ESM and CommonJS, and the wrapper fits the addon', async () => {
  const { status, output } = await tool('typescript/bin/tsc', ['-p', '..'])
  assert.deepEqual({ status, output }, { status: 0, output: '' })
})

test('the options’ types and the table in README.md are those of the manual', async () => {
  const print = async (...args) => (await run(process.execPath, ['../scripts/options.mjs', ...args], { cwd: here })).output
  assert.equal(readFileSync(join(here, '../options.d.cts'), 'utf8'), await print())
  assert.ok(readFileSync(join(here, '../README.md'), 'utf8').includes(`|---|---|---|\n${await print('--readme')}\n`))
})

test('await using, compiled for Node.js 20, stops proxy and server', async () => {
  // Below the package, so that it finds itself.
  const outDir = join(here, 'types/compiled')
  const compiled = await tool('typescript/bin/tsc', [
    ...['--ignoreConfig', '--target', 'es2022', '--module', 'nodenext', '--lib', 'es2023,esnext.disposable', '--types', 'node'],
    ...['--strict', '--rootDir', '.', '--outDir', outDir, 'types/await-using.mts'],
  ])
  assert.deepEqual(compiled, { status: 0, output: '' })
  const { status, output } = await run(process.execPath, [join(outDir, 'types/await-using.mjs')])
  assert.deepEqual({ status, output }, { status: 0, output: 'ECONNREFUSED ECONNREFUSED\n' })
})
