// A login that carries two values: the list that a user looks at, and the user.
import { sql } from 'drizzle-orm'
import { bigint, pgTable, text } from 'drizzle-orm/pg-core'
import { adminUrl, assertIsolated, tenantUrl } from 'pgvpd/testing'
import { afterAll, expect, test } from 'vitest'
import { Tenants } from '../../src/tenants.ts'
import { roleUrl } from '../../../urls.ts'

// lists.sql has the rest of them.
const id = () => bigint({ mode: 'number' }).primaryKey().generatedAlwaysAsIdentity()
const tasks = pgTable('tasks', { id: id(), title: text().notNull() })
const drafts = pgTable('drafts', { id: id(), body: text().notNull() })

const tenants = new Tenants(roleUrl())
afterAll(() => tenants.end())

test('a list is shared, and drafts are their author’s', async () => {
  for (const [user, title] of [['list1:user7', 'paint'], ['list1:user8', 'sand']] as const) {
    await tenants.use(user, async (db) => {
      await db.insert(tasks).values({ title })
      await db.insert(drafts).values({ body: title })
    })
  }
  const titles = (user: string) => tenants.use(user, (db) => db.select({ title: tasks.title }).from(tasks).orderBy(tasks.id))
  expect(await titles('list1:user7')).toEqual([{ title: 'paint' }, { title: 'sand' }])
  expect(await titles('list2:user7')).toEqual([])
  const bodies = (user: string) => tenants.use(user, (db) => db.select({ body: drafts.body }).from(drafts))
  expect(await bodies('list1:user7')).toEqual([{ body: 'paint' }])
  expect(await bodies('list2:user8')).toEqual([{ body: 'sand' }])
})

test('no list reads or changes another’s tasks', async () => {
  await assertIsolated('tasks', { column: 'list_id' })
})

test('no user reads or changes another’s drafts, in the same list either', async () => {
  const user = (name: string) => ({ name, url: tenantUrl(`list1:${name}`) })
  await assertIsolated('drafts', { column: 'user_id', tenants: [user('user7'), user('user8')], adminUrl: adminUrl() })
})

test('the values are in the session', async () => {
  const values = sql`SELECT pgvpd_context('app.list_id') AS list, pgvpd_context('app.user_id') AS user`
  expect((await tenants.use('list1:user7', (db) => db.execute(values))).rows).toEqual([{ list: 'list1', user: 'user7' }])
})
