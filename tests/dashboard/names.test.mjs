// Names of tenants are anybody's text: no element comes of them, no address, and nothing else moves.
import assert from 'node:assert/strict'
import { test } from 'node:test'

import { SIZES } from './browser.mjs'
import { scene, shows, text } from './scene.mjs'
import { TOKEN } from './stage.mjs'

const LONG = 'a-tenant-with-a-very-long-name-'.repeat(8)
const NAMES = ['<img src=x onerror=alert(1)>', `"'><script>alert(1)</script>&amp;`, '\u202eemca\u202d and more', 'שלום עולם', '%2e%2e/../?a=b#c', '__proto__', LONG]
const it = scene({}, async ({ stage }) => {
  const sessions = []
  for (const name of NAMES) {
    const session = await stage.session(name)
    await session.query('SELECT 1')
    sessions.push(session)
  }
  return () => Promise.all(sessions.map((session) => session.end().catch(() => {})))
})

const all = (page) => shows(page, 'all sessions', (count) => document.querySelectorAll('#rows tr').length === count && document.querySelectorAll('#tenants tr').length === count, NAMES.length)

test('a name is text, letter by letter, wherever it stands', async () => {
  const page = await it.open()
  await all(page)
  const names = (selector) => page.evaluate((selector) => [...document.querySelectorAll(selector)].map((element) => element.textContent), selector)
  assert.deepEqual(await names('#rows .c-tenant'), NAMES)
  assert.deepEqual((await names('#tenants bdi')).sort(), [...NAMES].sort())
  assert.deepEqual(await page.evaluate(() => [document.images.length, document.scripts.length, document.querySelectorAll('iframe, object, embed, base, a:not(.skip)').length]), [0, 1, 0])
  for (const [index, name] of NAMES.entries()) {
    await page.locator('#rows tr').nth(index).getByRole('button').click()
    assert.equal(await page.evaluate(() => document.getElementById('sure-name').textContent), name)
    await page.keyboard.press('Escape')
  }
})

test('a name that is written from right to left turns nothing but itself', async () => {
  const page = await it.open()
  await all(page)
  const directions = await page.evaluate(() => [...document.querySelectorAll('#rows .c-tenant > *, #tenants button > *, #most strong > *, #sure-name')].map((element) => getComputedStyle(element).unicodeBidi))
  assert.deepEqual(directions, Array(2 * NAMES.length + 2).fill('isolate'))
})

test('very long names do not make the page wider than a phone', async () => {
  const page = await it.open({ viewport: SIZES.phone })
  await all(page)
  const widths = () => page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth, ...[...document.querySelectorAll('main > *, dialog[open]')].map((one) => one.getBoundingClientRect().right)])
  const fits = async () => {
    for (const width of await widths()) assert.ok(width <= SIZES.phone.width, `${width}`)
  }
  await fits()
  await page.locator('#rows tr').last().getByRole('button').click()
  await fits()
  // Every one of them can still be reached by a finger.
  await page.keyboard.press('Escape')
  for (const button of await page.locator('#rows button').all()) {
    const box = await button.boundingBox()
    assert.ok(box.x >= 0 && box.x + box.width <= SIZES.phone.width && box.height >= 24, JSON.stringify(box))
  }
})

test('a tenant of any name can be disconnected, and no other', async () => {
  const page = await it.open()
  await page.evaluate((token) => sessionStorage.setItem('pgvpd-token', token), TOKEN)
  for (const name of [NAMES[0], NAMES[4], NAMES[3], LONG]) {
    await shows(page, name, (name) => now.sessions.shown.some((one) => one.tenant === name), name)
    const left = (await it.stage.status()).sessions.shown.map((one) => one.tenant).filter((one) => one !== name)
    const index = await page.evaluate((name) => [...document.querySelectorAll('#rows .c-tenant')].findIndex((cell) => cell.textContent === name), name)
    await page.locator('#rows tr').nth(index).getByRole('button').click()
    await page.getByRole('button', { name: 'All of this tenant' }).click()
    await shows(page, 'what was done', () => document.getElementById('said').textContent !== '')
    assert.equal(await text(page, '#said'), 'Disconnected: 1 session.')
    await shows(page, 'that it has gone', (name) => now.sessions.shown.every((one) => one.tenant !== name), name)
    assert.deepEqual((await it.stage.status()).sessions.shown.map((one) => one.tenant), left)
    await page.evaluate(() => (document.getElementById('said').textContent = ''))
  }
})
