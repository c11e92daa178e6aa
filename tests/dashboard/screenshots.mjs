// node tests/dashboard/screenshots.mjs DIRECTORY: what docs/dashboard.md shows.
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'

import { Browser, SIZES } from './browser.mjs'
import { load } from './load.mjs'
import { DENIED, Stage } from './stage.mjs'
import { until } from './wait.mjs'

// Looks that the lines of the page are made of.
const LOOKS = 75

const directory = process.argv[2]
mkdirSync(directory, { recursive: true })
const visitors = (tenant, count, statements, pause, database = 'shop') => Array.from({ length: count }, () => ({ tenant, database, statements, pause }))
const stage = await Stage.start({ databases: ['shop', 'reports'], options: { pool_size: 10, tenant_max_connections: 6 } })
const browser = await Browser.start()
const kept = []
let stop = async () => {}
try {
  for (const tenant of ['acme', 'acme', 'globex', 'initech']) kept.push(await stage.session(tenant))
  await kept[1].query('BEGIN')
  await kept[1].query('SELECT 1')
  stop = load(
    stage,
    [...visitors('acme', 3, 40, 5), ...visitors('globex', 1, 40, 6), ...visitors('umbrella', 2, 20, 12, 'reports'), ...visitors('initech', 1, 10, 25), ...visitors('hooli', 1, 6, 40, 'reports'), ...visitors('soylent', 1, 4, 90)],
    [[DENIED], ['globex', 'a wrong one']]
  )
  const pages = []
  for (const [size, viewport] of Object.entries(SIZES)) {
    for (const colorScheme of ['light', 'dark']) pages.push([`${viewport.width}-${colorScheme}`, await browser.open(stage, { viewport, colorScheme }), size])
  }
  for (const [name, page, size] of pages) {
    await until(`${name} has seen enough`, () => page.evaluate((looks) => (series.get('logins') ?? []).length >= looks && document.getElementById('health-word').textContent === 'Healthy', LOOKS))
    await page.screenshot({ path: join(directory, `${name}.png`), fullPage: size === 'wide', animations: 'disabled' })
    if (page.wrong.length) throw new Error(page.wrong.join('; '))
  }
} finally {
  await stop()
  await Promise.all(kept.map((session) => session.end().catch(() => {})))
  await browser.stop()
  await stage.remove()
}
