// A login that carries two values: the list that a user looks at, and the user.
import { adminUrl, assertIsolated, tenantUrl } from 'pgvpd/testing'
import { afterAll, expect, test } from 'vitest'
import { Tenants } from '../../src/tenants.ts'
import { roleUrl } from '../../../urls.ts'

const tenants = new Tenants(roleUrl())
afterAll(() => tenants.end())

test('a list is shared, and drafts are their author’s', async () => {
  for (const [user, title] of [['list1:user7', 'paint'], ['list1:user8', 'sand']] as const) {
    await tenants.use(user, async (db) => {
      await db.task.create({ data: { title } })
      await db.draft.create({ data: { body: title } })
    })
  }
  const select = { title: true } as const
  const titles = (user: string) => tenants.use(user, (db) => db.task.findMany({ select, orderBy: { id: 'asc' } }))
  expect(await titles('list1:user7')).toEqual([{ title: 'paint' }, { title: 'sand' }])
  expect(await titles('list2:user7')).toEqual([])
  const bodies = (user: string) => tenants.use(user, (db) => db.draft.findMany({ select: { body: true } }))
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
