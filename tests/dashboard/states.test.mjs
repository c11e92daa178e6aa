// What the page says while the proxy, or the server behind it, is in trouble, and when that is over.
import assert from 'node:assert/strict'
import { test } from 'node:test'

import { load } from './load.mjs'
import { altered, saysHealth, scene, shows, text, until } from './scene.mjs'
import { DENIED } from './stage.mjs'

const it = scene()
const why = (page) => text(page, '#health-why')
const kind = (page) => page.locator('#verdict').getAttribute('class')

test('where nobody has connected yet, the page says so', async () => {
  const page = await it.open()
  await saysHealth(page, 'Healthy')
  assert.equal(await kind(page), 'verdict good')
  assert.equal(await why(page), 'PostgreSQL answers.')
  assert.equal(await text(page, '#health-now'), '0 clients, nobody waits')
  assert.equal(await page.locator('#most').isVisible(), false)
  const empty = { '#tenants-none': 'No tenant has logged in yet.', '#pools': 'No pool has been used yet.', '#refused': 'None since the start.', '#phases-none': 'Nobody has logged in yet.', '#rows-none': 'Nobody is connected.', '#shown': '0 of 0' }
  for (const [where, words] of Object.entries(empty)) assert.equal(await text(page, where), words)
})

test('pools that have been used and have closed their connections are not called unused', async () => {
  const page = await it.open()
  await altered(page, (status) => {
    status.pools = []
    status.pool_stats.creates = 3
  })
  await shows(page, 'the words', () => document.getElementById('pools').textContent === 'No pool has a connection now.')
})

test('a server that is down is said at once, and that it is back', async (t) => {
  const page = await it.open()
  const stop = load(it.stage, [{ tenant: 'acme', database: 'shop', statements: 5 }])
  t.after(stop)
  await shows(page, 'a login', () => now.stats.sessions_total > 0)
  await it.stage.postgres.stop()
  await shows(page, 'that logins fail', () => ['Trouble', 'Not ready'].includes(document.getElementById('health-word').textContent))
  assert.equal(await kind(page), 'verdict bad')
  await saysHealth(page, 'Not ready')
  assert.match(await why(page), /^The upstream server is not reachable: .*\.$/)
  assert.equal(await page.title(), 'Not ready - pgvpd')
  await shows(page, 'the reason among those of refused logins', () => document.getElementById('refused').textContent.includes('server cannot be reached (08006)'))
  await shows(page, 'the pool', () => document.getElementById('pools').textContent.includes('server cannot be reached'))
  await it.stage.postgres.resume()
  await saysHealth(page, 'Healthy')
})

test('logins that fail for want of the server are trouble, before anybody has asked whether it answers', async () => {
  const page = await it.open()
  let failed = 0
  await altered(page, (status) => (status.refused['08006'] = failed += 1))
  await saysHealth(page, 'Trouble')
  assert.equal(await why(page), 'Logins fail because the server cannot be reached.')
})

test('more refusals than logins are said, with the most frequent reason of late', async (t) => {
  const page = await it.open()
  await saysHealth(page, 'Healthy')
  const stop = load(it.stage, [], Array.from({ length: 4 }, () => [DENIED]))
  t.after(stop)
  await saysHealth(page, 'Refusing')
  assert.equal(await kind(page), 'verdict warn')
  assert.equal(await why(page), 'More logins are refused than let in, most of them: not permitted.')
  await stop()
  await saysHealth(page, 'Healthy')
})

test('limits of the proxy and lost audit events are said; limits of a tenant are as they should be', async () => {
  const page = await it.open()
  let count = 0
  await altered(page, (status) => {
    count += 1
    status.refused['53300'] = count
    status.tenant_rejections.limit = count
    status.stats.audit_errors_total = count
  })
  await saysHealth(page, 'Trouble')
  assert.equal(await why(page), 'Events cannot be written to the audit stream.')
  await page.unroute('**/status?*')
  count = 0
  await altered(page, (status) => (status.refused['53300'] = count += 1))
  await saysHealth(page, 'Full')
  await page.unroute('**/status?*')
  let limited = 0
  await altered(page, (status) => (status.refused['53300'] = status.tenant_rejections.rate = limited += 1))
  await page.reload()
  await shows(page, 'rates', () => (series.get('full') ?? []).length > 2)
  await saysHealth(page, 'Healthy')
})

test('paused pools are said, with who waits, and that they go on', async (t) => {
  const page = await it.open()
  await it.stage.post('/pools/pause')
  const coming = it.stage.session('acme')
  t.after(async () => (await coming).end())
  await saysHealth(page, 'Paused')
  await shows(page, 'who waits', () => document.getElementById('health-now').textContent.includes('1 waits'))
  assert.equal(await kind(page), 'verdict warn')
  await it.stage.post('/pools/resume')
  await saysHealth(page, 'Healthy')
})

test('a proxy that hangs gives no answer, and what is shown is said to be from before', async () => {
  const page = await it.open()
  it.stage.proxy.kill('SIGSTOP')
  await saysHealth(page, 'No answer')
  assert.equal(await kind(page), 'verdict bad')
  assert.equal(await why(page), 'The proxy does not answer; what you see is from before.')
  assert.match(await text(page, '#health-now'), /^Last answer \d+ s ago$/)
  it.stage.proxy.kill('SIGCONT')
  await saysHealth(page, 'Healthy')
})

test('a drain is said as long as it lasts; then there is no answer; and the next proxy is another', async (t) => {
  const page = await it.open()
  const session = await it.stage.session('acme')
  t.after(() => session.end().catch(() => {}))
  await shows(page, 'the session', () => now.sessions.total === 1)
  await it.stage.post('/drain')
  await saysHealth(page, 'Draining')
  assert.equal(await kind(page), 'verdict warn')
  await session.end()
  await saysHealth(page, 'No answer')
  assert.equal(await page.evaluate(() => document.body.className), 'stale')
  await page.evaluate(() => remember('of the one before', 1))
  await until('the proxy has ended', () => it.stage.proxy.exitCode !== null)
  await it.stage.run()
  await saysHealth(page, 'Healthy')
  assert.equal(await page.evaluate(() => document.body.className), '')
  // Its counters begin at zero: no rate is below, and no line goes on.
  assert.ok(await page.evaluate(() => !series.has('of the one before') && [...series.values()].flat().every((value) => value === null || value >= 0)))
  assert.equal(await text(page, '#shown'), '0 of 0')
})

test('where reading needs the token the page asks for it, once', async () => {
  const page = await it.browser.open(it.stage)
  it.pages.push(page)
  let asked = 0
  await page.route('**/status?*', (route) => {
    asked += 1
    if (route.request().headers().authorization === 'Bearer right') return route.continue({ headers: { ...route.request().headers(), authorization: '' } })
    return route.fulfill({ status: 401, json: { error: 'this needs the token: Authorization: Bearer <admin_token>' } })
  })
  await page.reload()
  await page.locator('#ask').waitFor()
  assert.equal(await text(page, '#ask-error'), 'This needs the token: Authorization: Bearer <admin_token>.')
  await page.keyboard.press('Escape')
  await saysHealth(page, 'Locked')
  await shows(page, 'no question', () => !document.querySelector('dialog[open]'))
  const before = asked
  await shows(page, 'that time has passed', () => (window.since ??= performance.now()) + 2500 < performance.now())
  assert.deepEqual([asked, await page.locator('#ask').isVisible()], [before, false])
})
