// The shop through a real proxy, before a real PostgreSQL.
import { assertIsolated } from 'pgvpd/testing'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { application } from '../../src/application.ts'
import { migrate } from '../../src/migrate.ts'
import { Tenants } from '../../src/tenants.ts'
import { Client } from '../../../client.ts'
import { administratorUrl, roleUrl } from '../../../urls.ts'

let tenants: Tenants
let client: Client

beforeAll(async () => {
  await migrate(administratorUrl())
  // Again: there is nothing left to do.
  await migrate(administratorUrl())
  tenants = new Tenants(roleUrl())
  client = await Client.of(application(tenants))
})

afterAll(async () => {
  await client.close()
  tenants.end()
})

const order = (customer: string, ...quantities: number[]) => ({
  customer,
  lines: quantities.map((quantity) => ({ item: 'anvil', quantity })),
})

test('each tenant sees its own orders', async () => {
  expect(await client.post('acme.shop.example', order('Road Runner', 1, 2))).toEqual({ status: 201, body: 1 })
  expect(await client.post('globex.shop.example', order('Scorpio', 2))).toEqual({ status: 201, body: 2 })

  const acme = [{ id: 1, customer: 'Road Runner', items: 3 }]
  expect(await client.get('acme.shop.example')).toEqual({ status: 200, body: acme })
  const globex = [{ id: 2, customer: 'Scorpio', items: 2 }]
  expect(await client.get('globex.shop.example')).toEqual({ status: 200, body: globex })
})

test.each(['orders', 'lines'])('no tenant reads or changes another’s %s', async (table) => {
  await assertIsolated(table)
})

test.each(['localhost', '.shop.example', 'acme:user7.shop.example', 'a%2eb.shop.example'])('%s is nobody', async (host) => {
  expect(await client.get(host)).toMatchObject({ status: 404 })
})

test('a tenant that may not log in is forbidden', async () => {
  expect(await client.get('mallory.shop.example')).toMatchObject({ status: 403 })
  expect(await client.post('mallory.shop.example', order('x', 1))).toMatchObject({ status: 403 })
})

test('an order with a bad line leaves nothing', async () => {
  expect(await client.post('initech.shop.example', order('x', 1, 0))).toMatchObject({ status: 422 })
  expect(await client.get('initech.shop.example')).toEqual({ status: 200, body: [] })
})
