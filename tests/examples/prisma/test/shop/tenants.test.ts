// Pools: how many there are, when they end, and what they survive.
import { adminUrl, withTenant } from 'pgvpd/testing'
import pg from 'pg'
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import type { PrismaClient } from '../../src/generated/client.ts'
import { Tenants } from '../../src/tenants.ts'
import { roleUrl } from '../../../urls.ts'

const admin = new pg.Client(adminUrl())
beforeAll(() => admin.connect().then(() => undefined))
afterAll(() => admin.end())

function tenantsWith(tenants: number): Tenants {
  const made = new Tenants(roleUrl(), { tenants, connections: 1, idle: 60_000 })
  onTestFinished(() => made.end())
  return made
}

interface Session {
  tenant: string
  pid: number
}

async function session(db: PrismaClient): Promise<Session | undefined> {
  const rows = await db.$queryRaw<Session[]>`SELECT current_tenant_id() AS tenant, pg_backend_pid() AS pid`
  return rows[0]
}

/** Those of these sessions that the server still has. */
async function living(sessions: (Session | undefined)[]): Promise<string[]> {
  const found = await admin.query<{ pid: number }>('SELECT pid FROM pg_stat_activity')
  const pids = found.rows.map(({ pid }) => pid)
  return sessions.flatMap((session) => (session && pids.includes(session.pid) ? [session.tenant] : []))
}

test('the pool used least recently makes room for a further tenant', async () => {
  const tenants = tenantsWith(2)
  const sessions: (Session | undefined)[] = []
  for (const tenant of ['a', 'b', 'a', 'c']) sessions.push(await tenants.use(tenant, session))
  expect(sessions.map((session) => session?.tenant)).toEqual(['a', 'b', 'a', 'c'])
  expect(sessions[2]).toEqual(sessions[0])
  await expect.poll(() => living(sessions.slice(1))).toEqual(['a', 'c'])
})

test('a pool that has lost its place serves those who have it, and ends with the last', async () => {
  const tenants = tenantsWith(1)
  let mine: Session | undefined
  await tenants.use('a', async (db) => {
    mine = await session(db)
    expect(await tenants.use('b', session)).toMatchObject({ tenant: 'b' })
    expect(await session(db)).toEqual(mine)
  })
  await expect.poll(() => living([mine])).toEqual([])
})

test('a connection that breaks while it is idle is replaced', async () => {
  const tenants = tenantsWith(1)
  const before = await tenants.use('a', session)
  await admin.query('SELECT pg_terminate_backend($1)', [before?.pid])
  const after = async () => {
    // Until the pool has noticed, a query may still get the broken one.
    const found = await tenants.use('a', session).catch(() => undefined)
    return found?.pid === before?.pid ? undefined : found?.tenant
  }
  await expect.poll(after).toBe('a')
})

test('a tenant’s name is one user name, whatever characters it has', async () => {
  const odd = 'ac/me@x:7?#%2e ü'
  expect(await tenantsWith(1).use(odd, session)).toMatchObject({ tenant: odd })
})

test('a test may have a tenant of its own', () =>
  withTenant(async ({ tenant }) => {
    expect(await tenantsWith(1).use(tenant, session)).toMatchObject({ tenant })
  }))
