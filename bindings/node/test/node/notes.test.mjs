import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { assertIsolated, setup } from 'pgvpd/testing'

let started
before(async () => (started = await setup({ schema: 'schema.sql' })))
after(() => started.stop())

test('tenants see only their own notes', () => assertIsolated('notes'))

test('a leak fails the test', () => assert.rejects(assertIsolated('unprotected'), /unprotected leaks/))
