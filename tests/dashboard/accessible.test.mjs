// The page by eye, by keyboard and by screen reader: contrast, labels, themes, widths, motion.
import assert from 'node:assert/strict'
import { test } from 'node:test'

import { SIZES } from './browser.mjs'
import { load } from './load.mjs'
import { saysHealth, scene, shows, violations } from './scene.mjs'
import { DENIED } from './stage.mjs'

const visitors = [{ tenant: 'acme', database: 'shop', statements: 20 }, { tenant: 'globex', database: 'shop', statements: 2 }]
const it = scene({ options: { pool_size: 3 } }, async ({ stage }) => {
  const session = await stage.session('initech')
  await session.query('BEGIN')
  await session.query('SELECT 1')
  const stop = load(stage, visitors, [[DENIED]])
  return async () => {
    await session.end()
    await stop()
  }
})
const full = (page) => shows(page, 'all its parts', () => now.sessions.total > 1 && now.pools.length > 0 && before !== null && now.refused['28000'] > 0)

for (const colorScheme of ['light', 'dark']) {
  for (const [name, viewport] of Object.entries(SIZES)) {
    test(`axe finds nothing, ${colorScheme}, ${viewport.width} px wide, with dialogs and in every state`, async () => {
      const page = await it.open({ colorScheme, viewport })
      await full(page)
      assert.deepEqual(await violations(page), [], name)
      await page.locator('#rows button').first().click()
      assert.deepEqual(await violations(page), [], 'the question before a session is ended')
      await page.getByRole('button', { name: 'This session' }).click()
      await page.locator('#ask').waitFor()
      assert.deepEqual(await violations(page), [], 'the question for the token')
      await page.keyboard.press('Escape')
      await shows(page, 'what was done', () => document.getElementById('said').textContent !== '')
      assert.deepEqual(await violations(page), [], 'what was said')
      for (const [kind, word] of [['warn', 'Busy'], ['bad', 'Trouble']]) {
        await page.getByRole('button', { name: 'Pause', exact: true }).click()
        await page.evaluate(([kind, word]) => {
          document.getElementById('verdict').className = `verdict ${kind}`
          document.getElementById('health-word').textContent = word
          document.getElementById('tile-waiting').className = 'tile alarm'
        }, [kind, word])
        assert.deepEqual(await violations(page), [], word)
      }
    })
  }
}

test('nothing is wider than a phone, down to 320 px', async () => {
  for (const width of [390, 320]) {
    const page = await it.open({ viewport: { width, height: 700 } })
    await full(page)
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), width)
  }
})

test("the theme is the system's, until the button says otherwise, and the choice is kept", async () => {
  const page = await it.open({ colorScheme: 'dark' })
  const look = () => page.evaluate(() => [getComputedStyle(document.body).backgroundColor, document.getElementById('theme').getAttribute('aria-pressed')])
  const dark = await look()
  assert.equal(dark[1], 'true')
  await page.emulateMedia({ colorScheme: 'light' })
  await shows(page, 'that it is light', () => document.getElementById('theme').getAttribute('aria-pressed') === 'false')
  const light = await look()
  assert.notEqual(light[0], dark[0])
  const button = page.getByRole('button', { name: 'Dark' })
  await button.click()
  assert.deepEqual(await look(), dark)
  await page.reload()
  assert.deepEqual(await look(), dark)
  await button.click()
  await page.emulateMedia({ colorScheme: 'dark' })
  assert.deepEqual(await look(), light)
})

test('nothing moves by itself for who wants that', async () => {
  const page = await it.open({ reducedMotion: 'no-preference' })
  await full(page)
  const motion = () => page.evaluate(() => [getComputedStyle(document.querySelector('#tenants .bar i')).transitionDuration, getComputedStyle(document.documentElement).scrollBehavior])
  assert.deepEqual(await motion(), ['0.4s', 'smooth'])
  await page.emulateMedia({ reducedMotion: 'reduce' })
  assert.deepEqual(await motion(), ['0s', 'auto'])
})

test('everything that can be used is reached by Tab, in order, and shows that it has the focus', async () => {
  const page = await it.open()
  await full(page)
  // A list that changes would be another one at the end.
  await page.evaluate(() => (isHeld = true))
  const reached = []
  for (;;) {
    await page.keyboard.press('Tab')
    const at = await page.evaluate(() => {
      const element = document.activeElement
      return element === document.body ? null : [element.id || element.className || element.getAttribute('aria-label'), getComputedStyle(element).outlineStyle]
    })
    if (!at) break
    reached.push(at)
  }
  const expected = await page.evaluate(() => [...document.querySelectorAll('a[href], button, input, .scroll')].filter((element) => element.checkVisibility()).map((element) => element.id || element.className || element.getAttribute('aria-label')))
  assert.deepEqual(reached.map(([name]) => name), expected)
  assert.deepEqual([...new Set(reached.map(([, outline]) => outline))], ['solid'])
})

test('a screen reader is told of the health when it changes, and not of each figure', async () => {
  const page = await it.open()
  await full(page)
  const status = page.getByRole('status').first()
  assert.equal(await status.getAttribute('id'), 'health')
  const from = await page.evaluate(() => {
    const word = () => document.getElementById('health-word').textContent
    window.told = [word()]
    new MutationObserver(() => window.told.push(word())).observe(document.getElementById('health'), { subtree: true, childList: true, characterData: true })
    return now.uptime
  })
  await shows(page, 'five more answers', (from) => now.uptime > from + 5, from)
  await it.stage.post('/pools/pause')
  await saysHealth(page, 'Paused')
  const told = await page.evaluate(() => window.told)
  assert.equal(told.at(-1), 'Paused')
  assert.ok(told.every((word, index) => word !== told[index - 1]), told.join())
  await it.stage.post('/pools/resume')
})
