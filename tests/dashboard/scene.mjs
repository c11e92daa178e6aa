// What the tests of one file share: a stage, a browser, and what the page shows.
import { after, afterEach, before } from 'node:test'

import { Browser } from './browser.mjs'
import { axe } from './packages.mjs'
import { Stage } from './stage.mjs'
import { until } from './wait.mjs'

export { until }

/**
 * For one file of tests: `stage` and `browser` are there in each, and what `begin` did; `begin` gives what undoes it. Whatever
 * a page did wrong fails the test that opened it.
 */
export const scene = (options, begin = async () => {}) => {
  const it = { pages: [] }
  let end
  before(async () => {
    it.stage = await Stage.start(options)
    it.browser = await Browser.start()
    end = await begin(it)
  })
  after(async () => {
    await end?.()
    await it.browser?.stop()
    await it.stage?.remove()
  })
  it.open = async (settings) => {
    const page = await it.browser.open(it.stage, settings)
    it.pages.push(page)
    await shows(page, 'the first answer', () => now !== null)
    return page
  }
  afterEach(async () => {
    const pages = it.pages.splice(0)
    const wrong = pages.flatMap((page) => page.wrong)
    // An answer that is still being altered belongs to no page any more.
    await Promise.all(pages.map((page) => page.unrouteAll({ behavior: 'ignoreErrors' }).then(() => page.context().close())))
    if (wrong.length) throw new Error(`in the page: ${wrong.join('; ')}`)
  })
  return it
}

/** Waits until the page shows something: a function of the page, which sees its script's variables. */
export const shows = (page, what, is, argument) => until(`the page shows ${what}`, () => page.evaluate(is, argument))

export const text = (page, selector) => page.locator(selector).innerText()

/** Waits until the health is said in this word. */
export const saysHealth = (page, word) => shows(page, word, (word) => document.getElementById('health-word').textContent === word, word)

/** The status that the page shows, the one before it, and the texts of elements: of one and the same moment. */
export const snapshot = (page, selectors) =>
  page.evaluate((selectors) => {
    const texts = Object.entries(selectors).map(([name, selector]) => [name, [...document.querySelectorAll(selector)].map((element) => element.textContent)])
    return { now, before, ...Object.fromEntries(texts) }
  }, selectors)

/** The page gets this in place of what /status says, made from it. */
export const altered = (page, change) =>
  page.route('**/status?*', async (route) => {
    const answer = await route.fetch()
    const status = await answer.json()
    change(status)
    await route.fulfill({ response: answer, json: status })
  })

/** What axe finds against accessibility, in words; Chromium runs it past the page's policy. */
export const violations = async (page) => {
  await page.evaluate(axe.source)
  const found = await page.evaluate(() => axe.run(document, { resultTypes: ['violations'] }))
  return found.violations.flatMap((one) => one.nodes.map((node) => `${one.id}: ${node.target.join(' ')}: ${node.failureSummary}`))
}
