import { expect, test } from 'vitest'
import pg from 'pg'
import { adminUrl, assertIsolated, tenantUrl, withTenant } from 'pgvpd/testing'

test('tenants see only their own notes', () => assertIsolated('notes'))

test('a fresh tenant starts empty and keeps what it writes', () =>
  withTenant(async ({ tenant, url }) => {
    const client = new pg.Client(url)
    await client.connect()
    await client.query("INSERT INTO notes (body) VALUES ('mine')")
    expect((await client.query('SELECT tenant_id, body FROM notes')).rows).toEqual([{ tenant_id: tenant, body: 'mine' }])
    await client.end()
  }))

test('a leak fails the test with what leaked', async () => {
  await expect(assertIsolated('unprotected')).rejects.toThrow(/unprotected leaks/)
})

test('URLs hold what the application needs', () => {
  expect(tenantUrl('a@b')).toMatch(/^postgresql:\/\/app_user\.a%40b:\w+@127\.0\.0\.1:\d+\/app$/)
  expect(adminUrl()).toMatch(/^postgresql:\/\/postgres:/)
})
