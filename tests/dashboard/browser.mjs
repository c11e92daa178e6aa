// Headless Chromium, which reaches nothing but this machine, and what it must never see.
import { chromium } from './packages.mjs'

// playwright gives it an empty profile, which it removes.
const FLAGS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost'
]

export const SIZES = { wide: { width: 1280, height: 900 }, phone: { width: 390, height: 844 } }

export class Browser {
  static async start() {
    const browser = new Browser()
    browser.chromium = await chromium.launch({ executablePath: process.env.PGVPD_CHROMIUM, headless: true, args: FLAGS })
    return browser
  }

  /** A page of its own, as a person sees it who opens the address; what goes wrong in it is in its `wrong`. */
  async open(stage, options = {}) {
    const context = await this.chromium.newContext({ viewport: SIZES.wide, colorScheme: 'light', locale: 'en-US', ...options })
    const page = await context.newPage()
    page.wrong = []
    page.on('console', (message) => {
      // A refused request is in the console by Chromium's own account, whatever the page does with it.
      const isRefusal = message.text().startsWith('Failed to load resource:')
      if (['error', 'warning'].includes(message.type()) && !isRefusal) page.wrong.push(message.text())
    })
    page.on('pageerror', (error) => page.wrong.push(String(error)))
    page.on('dialog', (dialog) => page.wrong.push(`a dialog of a script's: ${dialog.message()}`))
    page.on('request', (request) => {
      const { origin, protocol } = new URL(request.url())
      if (origin !== stage.admin && protocol !== 'data:') page.wrong.push(`a request to ${request.url()}`)
    })
    await page.addInitScript(() => {
      addEventListener('securitypolicyviolation', (event) => console.error(`policy violated: ${event.violatedDirective}`))
    })
    await page.goto(stage.admin)
    return page
  }

  async stop() {
    await this.chromium.close()
  }
}
