// Many sessions, tenants and pools: the page stays of a bounded size, and says what it does not show.
import assert from 'node:assert/strict'
import { test } from 'node:test'

import { altered, scene, shows, text } from './scene.mjs'

const it = scene()
const MANY = 5000

/** What a very large proxy would say. */
const grow = (status) => {
  const session = (index) => ({
    session: index, tenant: `tenant-${index % MANY}`, role: 'app_user', database: 'shop', client: '127.0.0.1', tls: false, state: 'idle', age: index, bytes_from_client: 1, bytes_to_client: 1, requests: 1
  })
  status.sessions.total = 1000
  status.sessions.shown = Array.from({ length: 1000 }, (_, index) => session(index + 1))
  status.tenants.live = MANY
  status.tenants.busiest = Array.from({ length: MANY }, (_, index) => ({ tenant: `tenant-${index}`, sessions_active: 1, sessions_total: MANY - index, from_client: 0, to_client: 0 }))
  status.pools = Array.from({ length: MANY }, (_, index) => ({ database: 'shop', role: `app_user.tenant-${index}`, total: 1, idle: 1, used: 0, connecting: 0, waiting: index === MANY - 1 ? 3 : 0, is_failing: false }))
}
const open = async (change = grow) => {
  const page = await it.browser.open(it.stage)
  it.pages.push(page)
  await altered(page, change)
  await page.reload()
  await shows(page, 'it', () => now !== null)
  return page
}

test('rows are bounded, however many sessions, tenants and pools there are', async () => {
  const page = await open()
  const counted = () => page.evaluate(() => ['#rows tr', '#tenants tr', '#pools li', '*'].map((selector) => document.querySelectorAll(selector).length))
  const [rows, tenants, pools, all] = await counted()
  assert.deepEqual([rows, tenants, pools], [200, 8, 10])
  assert.equal(await text(page, '#shown'), '200 of 1,000')
  assert.equal(await text(page, '#tenants-more'), 'and 4,992 more with a session')
  assert.match(await text(page, '#pools-size'), /; 4,990 more pools$/)
  // Where clients wait comes first.
  assert.equal(await page.locator('#pools .label').first().innerText(), `app_user.tenant-${MANY - 1} in shop`)
  // And they do not grow with time, nor does what is remembered.
  await shows(page, 'more answers', () => (series.get('clients') ?? []).length > 4)
  assert.ok(Math.abs((await counted())[3] - all) < 50)
  assert.ok(await page.evaluate(() => document.getElementById('rows').rowsByKey.size === 200 && [...series.values()].every((values) => values.length <= 120)))
})

test('it asks for a bounded number of sessions, and a search says how far it has looked', async () => {
  const page = await open((status) => {
    grow(status)
    status.sessions.total = MANY
    status.sessions.shown.length = 500
  })
  const request = await page.waitForRequest('**/status?*')
  assert.equal(new URL(request.url()).search, '?sessions=500')
  await page.locator('#filter').fill('tenant-77')
  assert.equal(await text(page, '#shown'), '1 found among 5,000 (looked at the first 500)')
})

test('what is remembered of each figure is bounded', async () => {
  const page = await open()
  assert.equal(await page.evaluate(() => {
    for (let index = 0; index < 1000; index += 1) remember('clients', index)
    return series.get('clients').length
  }), 120)
  // Lines of many looks, of one, and of looks that found nothing.
  const drawn = await page.evaluate(() => {
    series.set('one', [5])
    series.set('gaps', [1, 2, null, 3, null, null, 4, 5])
    series.set('none', [null, null])
    return ['one', 'gaps', 'none', 'unknown'].map((name) => [spark(name).querySelectorAll('.line').length, spark(name).querySelectorAll('.area').length])
  })
  assert.deepEqual(drawn, [[1, 0], [3, 2], [0, 0], [0, 0]])
})
