// What the page shows is what /status says, and it moves while clients come and go.
import assert from 'node:assert/strict'
import { test } from 'node:test'

import { load } from './load.mjs'
import { altered, saysHealth, scene, shows, snapshot, text, until } from './scene.mjs'
import { DENIED } from './stage.mjs'

const visitors = (tenant, count, statements, database = 'shop') => Array.from({ length: count }, () => ({ tenant, database, statements }))
// More clients than the pool of one database has connections for.
const VISITORS = [...visitors('acme', 5, 20), ...visitors('globex', 1, 2), ...visitors('initech', 1, 2, 'reports')]
const it = scene({ databases: ['shop', 'reports'], options: { pool_size: 4 } }, ({ stage }) => load(stage, VISITORS, [[DENIED], ['acme', 'a wrong one']]))

/** A figure as a person would write it. */
const number = (value) => (value >= 100 || Number.isInteger(value) ? Math.round(value).toLocaleString('en-US') : value.toFixed(1))
const aSecond = ({ before, now }, figure) => number((figure(now) - figure(before)) / (now.uptime - before.uptime))

test('the health and the busiest tenant are what the status says', async () => {
  const page = await it.open()
  await saysHealth(page, 'Busy')
  await shows(page, 'a minute in part', () => minute.length > 5)
  const seen = await snapshot(page, { top: '#most-name', share: '#most-share', names: '#tenants bdi', open: '#tenants td:nth-child(3)', state: '#health-now', word: '#health-word', title: 'title' })
  assert.deepEqual(seen.top, ['acme'])
  assert.match(seen.share[0], /^\d+ % of all use in the last minute, \d+ sessions? open$/)
  assert.ok(Number.parseInt(seen.share[0], 10) > 50, seen.share[0])
  assert.deepEqual([...seen.names].sort(), seen.now.tenants.busiest.map((one) => one.tenant).sort())
  const open = new Map(seen.now.tenants.busiest.map((one) => [one.tenant, String(one.sessions_active)]))
  assert.deepEqual(seen.open, seen.names.map((name) => open.get(name)))
  assert.ok(seen.state[0].startsWith(`${seen.now.stats.sessions_active} client`), seen.state[0])
  assert.deepEqual(seen.title, [`${seen.word[0]} - pgvpd`])
})

test('a tenant that is busy now is before one that was busy long ago', async () => {
  const page = await it.browser.open(it.stage)
  it.pages.push(page)
  await altered(page, (status) => {
    status.tenants.busiest.unshift({ tenant: 'of-yesterday', sessions_active: 1, sessions_total: 1e9, from_client: 1e12, to_client: 1e12 })
  })
  await page.reload()
  await shows(page, 'a minute in part', () => minute.length > 2)
  const { top, names } = await snapshot(page, { top: '#most-name', names: '#tenants bdi' })
  assert.deepEqual([top, names.at(-1)], [['acme'], 'of-yesterday'])
})

test('connections, logins, refusals and requests are shown by the second', async () => {
  const page = await it.open()
  await shows(page, 'a rate', () => before !== null)
  const selectors = { clients: '#tile-clients b', waiting: '#tile-waiting b', connections: '#tile-connections b', logins: '#tile-logins b', refused: '#tile-refused b', requests: '#tile-requests b' }
  const seen = await snapshot(page, selectors)
  const { stats } = seen.now
  const expected = {
    clients: number(stats.sessions_active), waiting: number(stats.pool_waiting),
    connections: aSecond(seen, (it) => it.stats.connections_total), logins: aSecond(seen, (it) => it.stats.sessions_total),
    refused: aSecond(seen, (it) => it.stats.refused_total), requests: aSecond(seen, (it) => it.stats.requests_total)
  }
  assert.deepEqual(Object.fromEntries(Object.keys(selectors).map((name) => [name, seen[name][0]])), expected)
  assert.match(await text(page, '#tile-traffic'), /[\d.]+ [KM]iB\s+\/s/)
})

test('figures and lines move while clients come and go', async () => {
  const page = await it.open()
  const look = () => page.evaluate(() => ['connections', 'logins', 'requests', 'traffic'].map((tile) => [document.querySelector(`#tile-${tile} b`).textContent, document.querySelector(`#tile-${tile} .line`)?.getAttribute('d')]))
  await shows(page, 'a rate', () => before !== null)
  const first = await look()
  await until('each figure and each line has moved', async () => (await look()).every(([figure, line], index) => figure !== first[index][0] && line !== first[index][1]))
})

test('pools are bars of used, idle and waiting', async () => {
  const page = await it.open()
  await shows(page, 'a client that waits', () => now.pools.some((pool) => pool.waiting > 0))
  const seen = await page.evaluate(() => ({
    pools: now.pools,
    lines: [...document.querySelectorAll('#pools li')].map((line) => ({
      label: line.querySelector('.label').textContent,
      figure: line.querySelector('.figure').textContent,
      widths: Object.fromEntries([...line.querySelectorAll('.bar i')].map((part) => [part.className, Number.parseFloat(part.style.width)]))
    }))
  }))
  assert.deepEqual(seen.lines.map((line) => line.label), seen.pools.map((pool) => `${pool.role} in ${pool.database}`))
  seen.pools.forEach((pool, index) => {
    const { figure, widths } = seen.lines[index]
    assert.equal(figure, `${pool.used} used, ${pool.idle} idle, ${pool.connecting ? `${pool.connecting} connecting, ` : ''}${pool.waiting} waiting`)
    const total = Math.max(4, pool.total + pool.waiting)
    for (const part of ['used', 'idle', 'waiting']) assert.ok(Math.abs(widths[part] - (100 * pool[part]) / total) < 0.01, `${part} ${widths[part]}`)
  })
  assert.match(await text(page, '#pools-legend'), /4 at most in each, \d+ of 100 in all/)
})

test('refused logins are counted by reason, in words', async () => {
  const page = await it.open()
  await shows(page, 'both', () => now.refused['28P01'] > 0 && now.tenant_rejections.deny > 0)
  const { now, labels, figures } = await snapshot(page, { labels: '#refused .label', figures: '#refused .figure' })
  const shown = Object.fromEntries(labels.map((label, index) => [label, Number.parseInt(figures[index].replaceAll(',', ''), 10)]))
  assert.deepEqual(shown, { 'wrong password (28P01)': now.refused['28P01'], 'not permitted (28000)': now.refused['28000'], 'tenant is denied': now.tenant_rejections.deny })
})

test('reasons for which a tenant is refused are told apart', async () => {
  const page = await it.browser.open(it.stage)
  it.pages.push(page)
  await altered(page, (status) => Object.assign(status, { tenant_rejections: { deny: 1, limit: 22, rate: 333 }, refused: { 53300: 400, '08006': 5, server: 6, tls: 7 } }))
  await page.reload()
  await shows(page, 'them', () => now !== null)
  const { labels, bad } = await snapshot(page, { labels: '#refused .label', bad: '#refused li:has(.bad) .label' })
  assert.deepEqual(labels, [
    'a limit is reached (53300)', 'TLS handshake failed', 'by PostgreSQL', 'server cannot be reached (08006)',
    'tenant connects too often', 'tenant has too many connections', 'tenant is denied'
  ])
  assert.deepEqual(bad, ['server cannot be reached (08006)'])
})

test("a resolver's hit rate is shown", async () => {
  const page = await it.open()
  await shows(page, 'a hit', () => now.resolvers[0]?.hits > 0)
  const { now, labels, figures } = await snapshot(page, { labels: '#resolvers .label', figures: '#resolvers .figure' })
  const [{ name, hits, misses, executions, errors }] = now.resolvers
  assert.deepEqual(labels, [name])
  assert.ok(figures[0].startsWith(`${Math.floor((100 * hits) / (hits + misses))} % from the cache, ${number(executions)} quer`), figures[0])
  assert.ok(figures[0].endsWith(`${errors} failed`), figures[0])
})

test('each phase of a login has its line, its average and its bound', async () => {
  const page = await it.open()
  await shows(page, 'some looks', () => series.get('phase-auth')?.filter((value) => value !== null).length > 2)
  const seen = await page.evaluate(() => ({
    now, before, oldest: minute[0],
    rows: Object.fromEntries([...document.querySelectorAll('#phases tr')].map((row) => [row.cells[0].textContent, [row.cells[2].textContent, row.cells[3].textContent, row.querySelectorAll('.line').length]]))
  }))
  const words = { accept: 'Greeting', auth: 'Password', checkout: 'Connection', resolve: 'Resolvers', inject: 'Context' }
  assert.deepEqual(Object.keys(seen.rows), [...Object.values(words), 'Wait for pool'])
  const unit = { µs: 1e-6, ms: 1e-3, s: 1 }
  for (const [phase, word] of Object.entries(words)) {
    const [average, bound, lines] = seen.rows[word]
    const [old, now] = [seen.before.phases[phase], seen.now.phases[phase]]
    assert.ok(lines > 0, word)
    const [value, name] = average.split(' ')
    // To two digits.
    if (now.count > old.count) assert.ok(Math.abs((Number(value) * unit[name]) / ((now.sum - old.sum) / (now.count - old.count)) - 1) < 0.051, `${word}: ${average}`)
    const classes = now.classes.map((count, index) => count - seen.oldest.phases[phase].classes[index])
    const [limit, limitUnit] = bound.split(' ')
    const below = classes.filter((_, index) => seen.now.time_bounds[index] <= Number(limit) * unit[limitUnit] * 1.001).reduce((all, count) => all + count, 0)
    assert.ok(below >= 0.95 * classes.reduce((all, count) => all + count, 0), `${word}: 95 % below ${bound}, of ${classes}`)
  }
})

test('whether contexts are signed is shown', async () => {
  const page = await it.open()
  assert.equal(await text(page, '#signing'), 'Context signed')
  for (const [mode, words] of [['off', 'Context not signed'], ['prefer', 'Context signed where the database verifies it']]) {
    await page.unroute('**/status?*')
    await altered(page, (status) => (status.context_signing = mode))
    await shows(page, words, (words) => document.getElementById('signing').textContent === words, words)
    assert.equal(await page.locator('#signing').getAttribute('class'), 'warn')
  }
})

test('the list of sessions has the tenant, client, state and age of each', async () => {
  const page = await it.open()
  await shows(page, 'sessions', () => now.sessions.total > 3)
  const cell = (name) => `#rows .c-${name}`
  const seen = await snapshot(page, { session: cell('session'), tenant: cell('tenant'), client: cell('client'), state: cell('state'), age: cell('age'), database: cell('database') })
  const { shown } = seen.now.sessions
  assert.deepEqual(seen.session, shown.map((one) => String(one.session)))
  assert.deepEqual(seen.tenant, shown.map((one) => one.tenant))
  assert.deepEqual(seen.database, shown.map((one) => one.database))
  assert.deepEqual(seen.state, shown.map((one) => one.state.replaceAll('_', ' ')))
  assert.deepEqual(seen.age, shown.map((one) => `${Math.floor(one.age)} s`))
  assert.ok(seen.client.every((client) => client === '127.0.0.1'), seen.client.join())
})

test('the list can be narrowed, by hand and by the name of a busy tenant', async () => {
  const client = await it.stage.session('umbrella')
  const page = await it.open()
  await shows(page, 'it', () => now.sessions.shown.some((one) => one.tenant === 'umbrella'))
  await page.locator('#filter').fill('UMBRELLA')
  assert.deepEqual(await page.locator('#rows .c-tenant').allInnerTexts(), ['umbrella'])
  assert.match(await text(page, '#shown'), /^1 found among \d+$/)
  await page.locator('#filter').fill('nobody has this')
  assert.equal(await text(page, '#rows-none'), 'No session has that.')
  await page.getByRole('button', { name: 'Show the sessions of umbrella' }).click()
  assert.equal(await page.locator('#filter').inputValue(), 'umbrella')
  assert.deepEqual(await page.locator('#rows .c-tenant').allInnerTexts(), ['umbrella'])
  await client.end()
})

test('what happens each second is a dash before there is something to compare with', async () => {
  const page = await it.open()
  const shown = await page.evaluate(() => {
    before = null
    show()
    return ['connections', 'logins', 'refused', 'traffic'].map((name) => document.querySelector(`#tile-${name} b`).textContent)
  })
  assert.deepEqual(shown, ['–', '–', '–', '–'])
})

test('Pause makes the figures stand still, and says so', async () => {
  const page = await it.open()
  const hold = page.getByRole('button', { name: 'Pause', exact: true })
  await hold.click()
  assert.equal(await text(page, '#health-now'), 'Paused: these figures stand still')
  const { uptime } = await page.evaluate(() => now)
  // One that was under way may still come.
  const held = async () => (await page.evaluate(() => now)).uptime
  await until('the last has come', async () => !(await page.evaluate(() => isLooking)))
  const last = await held()
  await until('others go on', async () => (await it.stage.status()).uptime > uptime + 3)
  assert.equal(await held(), last)
  await hold.click()
  await until('it goes on', async () => (await held()) > last)
})
