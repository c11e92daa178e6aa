// Ending sessions from the page: with the token alone, and by keyboard alone.
import assert from 'node:assert/strict'
import { beforeEach, afterEach, test } from 'node:test'

import { scene, shows, text } from './scene.mjs'
import { TOKEN } from './stage.mjs'

const it = scene()
let sessions
beforeEach(async () => {
  sessions = []
  for (const tenant of ['acme', 'acme', 'globex']) sessions.push(await it.stage.session(tenant))
})
afterEach(() => Promise.all(sessions.map((session) => session.end().catch(() => {}))))

const tenants = async () => (await it.stage.status()).sessions.shown.map((one) => one.tenant)
const said = async (page) => {
  await shows(page, 'what was done', () => document.getElementById('said').textContent !== '')
  return text(page, '#said')
}
const give = async (page, token) => {
  await page.getByLabel('admin_token').fill(token)
  await page.getByRole('button', { name: 'Keep' }).click()
}
const offers = (page, words) => shows(page, words, (words) => document.getElementById('token').textContent === words, words)
const first = (page) => page.locator('#rows button').first()
const open = async () => {
  const page = await it.open()
  await shows(page, 'the sessions', () => document.querySelectorAll('#rows tr').length === 3)
  page.posted = []
  page.on('request', (request) => {
    if (request.method() === 'POST') page.posted.push(request)
  })
  return page
}

test('one session is ended with the token, which is in no address and in no storage that lasts', async () => {
  const page = await open()
  const addresses = []
  page.on('request', (request) => addresses.push(request.url()))
  const number = await page.locator('#rows .c-session').first().innerText()
  await first(page).click()
  assert.equal(await text(page, '#sure-what'), `Session ${number} of tenant acme, from 127.0.0.1. Its client is told that an administrator has ended it.`)
  const ended = new Promise((resolve) => sessions[0].once('error', resolve))
  await page.getByRole('button', { name: 'This session' }).click()
  await give(page, TOKEN)
  assert.equal(await said(page), 'Disconnected: 1 session.')
  assert.equal((await ended).code, '57P01')
  assert.deepEqual(await tenants(), ['acme', 'globex'])
  await shows(page, 'two', () => document.querySelectorAll('#rows tr').length === 2)
  assert.equal(page.posted.length, 1)
  assert.equal(page.posted[0].headers().authorization, `Bearer ${TOKEN}`)
  assert.ok(addresses.length > 1 && addresses.every((address) => !address.includes(TOKEN)) && !page.url().includes(TOKEN))
  const kept = await page.evaluate(() => [JSON.stringify(localStorage), document.cookie, document.documentElement.outerHTML, document.getElementById('secret').value].join())
  assert.ok(!kept.includes(TOKEN), kept)
})

test("all of a tenant's sessions are ended, and the token is asked for once", async () => {
  const page = await open()
  await page.getByRole('button', { name: 'Sign in' }).click()
  await give(page, TOKEN)
  await offers(page, 'Signed in')
  await first(page).click()
  await page.getByRole('button', { name: 'All of this tenant' }).click()
  assert.equal(await said(page), 'Disconnected: 2 sessions.')
  assert.deepEqual(await tenants(), ['globex'])
  await page.getByRole('button', { name: 'Signed in' }).click()
  await page.getByRole('button', { name: 'Forget' }).click()
  await offers(page, 'Sign in')
  assert.equal(await page.evaluate(() => sessionStorage.length), 0)
})

test('without the token nothing is done, nor asked of the proxy', async () => {
  const page = await open()
  await first(page).click()
  await page.getByRole('button', { name: 'This session' }).click()
  await page.locator('#ask').getByRole('button', { name: 'Cancel' }).click()
  assert.equal(await said(page), 'Nothing was done: it needs the token.')
  assert.deepEqual([page.posted.length, (await tenants()).length], [0, 3])
})

test('a wrong token is refused, said so, and forgotten', async () => {
  const page = await open()
  // The next look would forget it as well.
  await page.evaluate(() => (isHeld = true))
  await first(page).click()
  await page.getByRole('button', { name: 'All of this tenant' }).click()
  await give(page, 'of-somebody-else')
  assert.equal(await said(page), 'Nothing was done: the token is not that of admin_token.')
  assert.deepEqual([page.posted.length, (await tenants()).length], [1, 3])
  assert.equal(await page.evaluate(() => sessionStorage.length), 0)
  await offers(page, 'Sign in')
})

test('a session that has ended in the meantime is said to be gone', async () => {
  const page = await open()
  await page.evaluate((token) => sessionStorage.setItem('pgvpd-token', token), TOKEN)
  const number = await page.locator('#rows .c-session').first().innerText()
  await first(page).click()
  await sessions[0].end()
  await shows(page, 'two', () => document.querySelectorAll('#rows tr').length === 2)
  await page.getByRole('button', { name: 'This session' }).click()
  assert.equal(await said(page), `Nothing was done: there is no session ${number}.`)
})

test('the keyboard alone ends a session, and what is safe comes first', async () => {
  const page = await open()
  const focused = () => page.evaluate(() => document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent.trim())
  const presses = async (key, wanted) => {
    for (let count = 0; count < 40 && !wanted.test(await focused()); count += 1) await page.keyboard.press(key)
    assert.match(await focused(), wanted)
  }
  await presses('Tab', /^Skip to the sessions$/)
  await page.keyboard.press('Enter')
  await presses('Tab', /^Disconnect session \d+$/)
  const button = await focused()
  // Escape and what has the focus first: neither does anything.
  for (const key of ['Escape', 'Enter']) {
    await page.keyboard.press('Enter')
    assert.equal(await focused(), 'Cancel')
    await page.keyboard.press(key)
    await shows(page, 'no dialog', () => !document.querySelector('dialog[open]'))
    assert.equal(await focused(), button)
  }
  assert.deepEqual([page.posted.length, (await tenants()).length], [0, 3])
  // Rows are shown anew each second; the focus stays.
  await shows(page, 'two more answers', () => (window.first ??= now.uptime) + 2 < now.uptime)
  assert.equal(await focused(), button)
  await page.keyboard.press('Enter')
  await presses('Shift+Tab', /^This session$/)
  await page.keyboard.press('Enter')
  await shows(page, 'the question', () => document.activeElement.id === 'secret')
  await page.keyboard.type(TOKEN)
  await page.keyboard.press('Enter')
  assert.equal(await said(page), 'Disconnected: 1 session.')
  assert.deepEqual(await tenants(), ['acme', 'globex'])
})
