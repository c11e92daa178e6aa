// Looking each second, and what that says of the proxy's health.
const PERIOD = 1000
const PATIENCE = 5000
// Looks that a judgement is made of: a moment's queue is no trouble.
const LATELY = 10
const QUEUED = 3
let isHeld = false, isLooking = false, isLocked = false, failures = 0, readiness = null, asked = 0, answered = null

const isBusy = () => recent('waiting', QUEUED).length === QUEUED && recent('waiting', QUEUED).every((count) => count > 0)
const isRefusing = () => sum(recent('refused', LATELY)) > Math.max(LATELY, sum(recent('logins', LATELY)))
// The reason of most refusals of late.
const mostRefused = () => {
  const old = minute.at(-LATELY - 1) ?? minute[0]
  return byCount(Object.fromEntries(Object.entries(now.refused).map(([code, count]) => [code, count - (old.refused[code] ?? 0)])))[0]?.[0]
}
// Each that holds, the worst last: kind, word, why.
const judge = () => {
  const lately = (name) => sum(recent(name, LATELY)) > 0
  const failing = now.pools.filter((pool) => pool.is_failing).length
  const found = [['good', 'Healthy', 'PostgreSQL answers.']]
  const add = (is, ...what) => is && found.push(what)
  add(isRefusing(), 'warn', 'Refusing', `More logins are refused than let in, most of them: ${reason(mostRefused())}.`)
  add(lately('full'), 'warn', 'Full', 'Logins are refused because a limit of the proxy is reached.')
  add(isBusy(), 'warn', 'Busy', 'Clients wait for a connection of the pool.')
  add(lately('unrecorded'), 'bad', 'Trouble', 'Events cannot be written to the audit stream.')
  add(lately('unreachable'), 'bad', 'Trouble', 'Logins fail because the server cannot be reached.')
  add(failing > 0, 'bad', 'Trouble', `Connections to the server cannot be made in ${many(failing, 'pool')}.`)
  add(readiness !== null && readiness !== 'ready', 'bad', 'Not ready', sentence(readiness ?? ''))
  add(now.pools_paused, 'warn', 'Paused', 'Pools give no connections until they are resumed.')
  add(now.state === 'draining', 'warn', 'Draining', 'No new clients; sessions may finish.')
  add(failures > 0, 'bad', 'No answer', 'The proxy does not answer; what you see is from before.')
  return found.at(-1)
}
const sentence = (text) => `${text.charAt(0).toUpperCase()}${text.slice(1)}.`
const showHealth = () => {
  const [kind, word, why] = judge()
  $('verdict').className = `verdict ${kind}`
  document.body.classList.toggle('stale', failures > 0)
  put($('health-word'), word)
  put($('health-why'), why)
  // Beside the announced region: it changes each second.
  const waiting = now.stats.pool_waiting
  const clients = `${many(now.stats.sessions_active, 'client')}, ${waiting === 0 ? 'nobody waits' : `${number(waiting)} ${waiting === 1 ? 'waits' : 'wait'}`}`
  put($('health-now'), failures > 0 ? `Last answer ${age((Date.now() - answered) / 1000)} ago` : isHeld ? 'Paused: these figures stand still' : clients)
  document.title = `${word} - pgvpd`
}
const show = () => {
  showHealth()
  put($('version'), now.version)
  showFacts()
  showTiles()
  showTenants()
  showPools()
  showRefused()
  showPhases()
  showResolvers()
  showSessions()
}

const RATES = [
  ['connections', (status) => status.stats.connections_total],
  ['logins', (status) => status.stats.sessions_total],
  ['refused', (status) => status.stats.refused_total],
  ['requests', (status) => status.stats.requests_total],
  ['traffic', (status) => status.stats.bytes_from_clients_total + status.stats.bytes_to_clients_total],
  ['unreachable', (status) => status.refused['08006'] ?? 0],
  // A tenant at its own limit is as it should be.
  ['full', (status) => (status.refused['53300'] ?? 0) - status.tenant_rejections.limit - status.tenant_rejections.rate],
  ['unrecorded', (status) => status.stats.audit_errors_total]
]
const take = (status) => {
  if (now && (now.started !== status.started || status.uptime <= now.uptime)) {
    // Another process: it counts from zero.
    ;[now, before, minute] = [null, null, []]
    series.clear()
  }
  ;[before, now] = [now, status]
  minute.push({ uptime: now.uptime, busiest: now.tenants.busiest, others: now.tenants.others, refused: now.refused, phases: now.phases, pool_wait: now.pool_wait })
  while (minute[0].uptime < now.uptime - MINUTE) minute.shift()
  // Nobody has looked for a while: the line is broken there.
  if (before && now.uptime - before.uptime > PATIENCE / 1000) for (const name of series.keys()) remember(name, null)
  remember('clients', now.stats.sessions_active)
  remember('waiting', now.stats.pool_waiting)
  if (!before) return
  for (const [name, figure] of RATES) remember(name, rate(figure))
  for (const [name, , timing] of TIMINGS) {
    const [new_, old] = [timing(now), timing(before)]
    remember(name, new_.count > old.count ? (new_.sum - old.sum) / (new_.count - old.count) : null)
  }
}
const ask = (path, headers = {}) => fetch(path, { headers, cache: 'no-store', signal: AbortSignal.timeout(PATIENCE) })
const look = async () => {
  if (isLooking || isHeld || isAsking || isLocked || document.hidden) return
  isLooking = true
  try {
    const headers = authorization()
    const answer = await ask('status?sessions=500', headers)
    if (answer.status === 401 && headers.authorization) {
      // A wrong one is forgotten: reading may need none.
      forget()
    } else if (answer.status === 401 || answer.status === 403) {
      put($('health-word'), 'Locked')
      put($('health-why'), 'To read, the proxy wants the token.')
      // Asked once: who declines is not asked each second.
      isLocked = !(await token(sentence((await answer.json()).error)))
    } else {
      const status = await answer.json()
      // The server is asked less often, until something is wrong.
      if (asked++ % 5 === 0 || readiness !== 'ready') readiness = (await (await ask('ready')).text()).trim().replace(/^not ready: /, '')
      take(status)
      failures = 0
      answered = Date.now()
    }
  } catch {
    failures += 1
  }
  isLooking = false
  if (now) show()
  else if (failures > 0) put($('health-word'), 'No answer')
}

const root = document.documentElement
const isDark = () => (root.dataset.theme ?? (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light')) === 'dark'
const showTheme = () => $('theme').setAttribute('aria-pressed', String(isDark()))
const chosen = localStorage.getItem('pgvpd-theme')
if (chosen === 'dark' || chosen === 'light') root.dataset.theme = chosen
$('theme').addEventListener('click', () => {
  root.dataset.theme = isDark() ? 'light' : 'dark'
  localStorage.setItem('pgvpd-theme', root.dataset.theme)
  showTheme()
})
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', showTheme)
$('hold').addEventListener('click', () => {
  isHeld = !isHeld
  $('hold').setAttribute('aria-pressed', String(isHeld))
  if (now) showHealth()
})
$('token').addEventListener('click', async () => {
  if (await token()) isLocked = false
})
$('filter').addEventListener('input', () => now && showSessions())
showTheme()
showToken()
look()
setInterval(look, PERIOD)
