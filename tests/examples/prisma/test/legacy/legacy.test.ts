// An application that used SET moves over without it.
import { assertIsolated } from 'pgvpd/testing'
import { afterAll, expect, test } from 'vitest'
import { add, numbers, numbersBySet } from '../../src/invoices.ts'
import { Tenants } from '../../src/tenants.ts'
import { roleUrl } from '../../../urls.ts'

const tenants = new Tenants(roleUrl())
afterAll(() => tenants.end())

test('an application that used SET moves over without it', async () => {
  await tenants.use('acme', (db) => add(db, 'A1'))
  await tenants.use('globex', (db) => add(db, 'G1'))
  expect(await tenants.use('acme', numbers)).toEqual(['A1'])
  expect(await tenants.use('globex', numbers)).toEqual(['G1'])
})

test('a SET that is still there does no harm', async () => {
  expect(await tenants.use('acme', (db) => numbersBySet(db, 'acme'))).toEqual(['A1'])
})

test('no tenant reads or changes another’s invoices', async () => {
  await assertIsolated('invoices', { column: 'tenant' })
})
