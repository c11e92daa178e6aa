// What the guide warns of. Should this ever fail, the warning can go.
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { adminUrl, assertIsolated } from 'pgvpd/testing'
import { expect, test } from 'vitest'
import { migrate } from '../../src/migrate.ts'
import { administratorUrl } from '../../../urls.ts'

test('drizzle-kit push takes the protection away, without being asked, and assertIsolated sees it', { timeout: 60_000 }, async () => {
  await migrate(administratorUrl())
  await assertIsolated('orders')
  const root = `${import.meta.dirname}/../..`
  const push = ['push', '--dialect', 'postgresql', '--schema', './src/schema.ts', '--url', adminUrl()]
  await promisify(execFile)(`${root}/../node_modules/.bin/drizzle-kit`, push, { cwd: root })
  await expect(assertIsolated('orders')).rejects.toThrow(/orders leaks/)
})
