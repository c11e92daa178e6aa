'use strict'
// Names of tenants, roles and databases are untrusted: they reach the page as text nodes and never as markup.
const $ = (id) => document.getElementById(id)
const make = (tag, attributes = {}, ...children) => {
  const element = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value)
  element.append(...children)
  return element
}
const draw = (shape, width, height) => {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg')
  svg.setAttribute('class', 'spark')
  svg.setAttribute('viewBox', `0 0 ${width} ${height}`)
  svg.setAttribute('preserveAspectRatio', 'none')
  svg.setAttribute('aria-hidden', 'true')
  for (const [kind, d] of shape) {
    const path = document.createElementNS('http://www.w3.org/2000/svg', 'path')
    path.setAttribute('class', kind)
    path.setAttribute('d', d)
    svg.append(path)
  }
  return svg
}
const KEPT = 120
const PERIOD = 1000
const series = new Map()
let before = null, now = null, held = false, busy = false, failures = 0, readiness = null, asked = 0, wanted = null

const remember = (name, value) => {
  const values = series.get(name) ?? []
  values.push(value)
  if (values.length > KEPT) values.shift()
  series.set(name, values)
}
const spark = (name) => {
  const values = series.get(name) ?? []
  const top = Math.max(...values, 0) || 1
  const at = (value, index) => `${(index + KEPT - values.length).toFixed(0)},${(31 - (value / top) * 29).toFixed(1)}`
  if (values.length < 2) return draw([['line', 'M0,31 L119,31']], KEPT - 1, 32)
  const line = values.map(at).join(' L')
  return draw([['area', `M${KEPT - values.length},32 L${line} L${KEPT - 1},32 Z`], ['line', `M${line}`]], KEPT - 1, 32)
}
const number = (value) => (value >= 100 || Number.isInteger(value) ? Math.round(value).toLocaleString('en-US') : value.toFixed(1))
const bytes = (value) => {
  for (const unit of ['B', 'KiB', 'MiB', 'GiB']) {
    if (value < 1024) return unit === 'B' ? `${Math.round(value)} B` : `${value.toFixed(1)} ${unit}`
    value /= 1024
  }
  return `${value.toFixed(1)} TiB`
}
const age = (seconds) => {
  const whole = Math.floor(seconds)
  if (whole < 60) return `${whole} s`
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor(whole / 60) % 60} min`
  return `${Math.floor(whole / 86400)} d ${Math.floor(whole / 3600) % 24} h`
}
const time = (seconds) => (seconds < 0.001 ? `${Math.round(seconds * 1e6)} µs` : seconds < 1 ? `${(seconds * 1000).toFixed(1)} ms` : `${seconds.toFixed(2)} s`)
const rate = (figure) => (before ? Math.max(0, (figure(now) - figure(before)) / (now.uptime - before.uptime)) : 0)

const authorization = () => {
  const token = sessionStorage.getItem('pgvpd-token')
  return token ? { authorization: `Bearer ${token}` } : {}
}
const say = (text) => {
  $('said').textContent = text
  clearTimeout(say.timer)
  say.timer = setTimeout(() => ($('said').textContent = ''), 6000)
}

const tile = (name, value, unit, key, isAlarm = false) =>
  make('div', { class: isAlarm ? 'tile alarm' : 'tile' }, make('div', { class: 'name' }, name), make('div', { class: 'value' }, value, ' ', make('small', {}, unit)), spark(key))

const health = () => {
  const stats = now.stats
  const unreachable = readiness !== null && readiness !== 'ready'
  let kind = 'good', word = 'Healthy', why = ''
  const waiting = stats.pool_waiting
  const failing = now.pools.filter((pool) => pool.is_failing).length
  if (waiting > 0) [kind, word, why] = ['warn', 'Busy', `${number(waiting)} ${waiting === 1 ? 'client waits' : 'clients wait'} for a connection of the pool`]
  if (failing > 0) [kind, word, why] = ['bad', 'Trouble', `connections to the server cannot be made (${failing} ${failing === 1 ? 'pool' : 'pools'})`]
  if (unreachable) [kind, word, why] = ['bad', 'Not ready', readiness]
  if (now.pools_paused) [kind, word, why] = ['warn', 'Paused', 'pools give no connections until they are resumed']
  if (now.state === 'draining') [kind, word, why] = ['warn', 'Draining', 'no new clients; sessions may finish']
  if (failures > 0) [kind, word, why] = ['bad', 'No answer', 'the proxy does not answer; what you see is from before']
  const element = $('health')
  element.className = `health ${kind}`
  if ($('health-word').textContent !== word) $('health-word').textContent = word
  if ($('health-why').textContent !== why) $('health-why').textContent = why
  document.title = `${word} - pgvpd`
}

const bars = (target, rows, none) => {
  target.replaceChildren(rows.length ? make('ul', { class: 'bars' }, ...rows) : make('p', { class: 'none' }, none))
}
const bar = (label, figure, parts, total) => {
  const box = make('span', { class: 'bar', 'aria-hidden': 'true' })
  for (const [kind, value] of parts) {
    const part = make('i', { class: kind })
    part.style.width = `${total ? Math.min(100, (100 * value) / total) : 0}%`
    box.append(part)
  }
  return make('li', {}, make('span', { class: 'top' }, make('span', { class: 'label', title: label }, label), make('span', { class: 'figure' }, figure)), box)
}

const WORDS = {
  '08006': 'server cannot be reached', '08P01': 'protocol violation', '0A000': 'not supported', '28000': 'not permitted', '28P01': 'wrong password',
  '42501': 'parameter refused', '53300': 'a limit is reached', '57014': 'took too long', '57P01': 'shutting down', '58030': 'cannot be recorded', server: 'refused by PostgreSQL', tls: 'TLS handshake failed'
}

const showTenants = () => {
  const old = new Map((before?.tenants.busiest ?? []).map((tenant) => [tenant.tenant, tenant]))
  const lasted = before ? now.uptime - before.uptime : 1
  const used = (tenant) => tenant.sessions_total * 1024 + tenant.from_client + tenant.to_client
  const all = now.tenants.busiest.slice(0, 8)
  const most = Math.max(...all.map(used), 1)
  const rows = all.map((tenant) => {
    const last = old.get(tenant.tenant)
    const logins = last ? (tenant.sessions_total - last.sessions_total) / lasted : 0
    const moved = last ? (tenant.from_client + tenant.to_client - last.from_client - last.to_client) / lasted : 0
    const figure = `${number(tenant.sessions_active)} open, ${number(Math.max(0, logins))} logins/s, ${bytes(Math.max(0, moved))}/s`
    return bar(tenant.tenant, figure, [['used', used(tenant)]], most)
  })
  const others = now.tenants.live - all.filter((tenant) => tenant.sessions_active > 0).length
  bars($('tenants'), rows, 'No tenant has logged in yet.')
  if (others > 0) $('tenants').append(make('p', { class: 'legend' }, `and ${number(others)} more with a session`))
}
const showPools = () => {
  const size = Number(now.config.pool_size) || 1
  const rows = now.pools.slice(0, 12).map((pool) => {
    const total = Math.max(size, pool.total + pool.waiting)
    const figure = `${pool.used} used, ${pool.idle} idle${pool.connecting ? `, ${pool.connecting} connecting` : ''}, ${pool.waiting} waiting${pool.is_failing ? ', failing' : ''}`
    return bar(`${pool.role} in ${pool.database}`, figure, [['used', pool.used], ['idle', pool.idle], [pool.is_failing ? 'bad' : 'waiting', pool.waiting]], total)
  })
  bars($('pools'), rows, now.config.pool_mode === 'none' ? 'Sessions have server connections of their own (pool_mode = none).' : 'No pool has been used yet.')
  if (rows.length) $('pools').append(make('p', { class: 'legend' }, make('span', {}, make('i', { class: 'used' }), 'used'), make('span', {}, make('i', { class: 'idle' }), 'idle'), make('span', {}, make('i', { class: 'waiting' }), 'clients waiting'), `of ${size} each`))
}
const showRefused = () => {
  const all = Object.entries(now.refused).sort((one, other) => other[1] - one[1])
  const most = Math.max(...all.map((entry) => entry[1]), 1)
  bars($('refused'), all.map(([code, count]) => bar(`${WORDS[code] ?? code} (${code})`, `${number(count)} since the start, ${number(rate((status) => status.refused[code] ?? 0))}/s`, [['bad', count]], most)), 'None since the start.')
}
const PHASES = [['accept', 'Greeting'], ['tls', 'TLS'], ['auth', 'Password'], ['checkout', 'Connection'], ['resolve', 'Resolvers'], ['inject', 'Context']]
const showPhases = () => {
  const rows = PHASES.filter(([name]) => now.phases[name]?.count > 0).flatMap(([name, word]) => {
    const phase = now.phases[name]
    const average = phase.sum / phase.count
    return [make('span', {}, word), spark(`phase-${name}`), make('span', { class: 'figure' }, `${time((series.get(`phase-${name}`) ?? []).at(-1) ?? average)} now, ${time(average)} on average`)]
  })
  $('phases').replaceChildren(rows.length ? make('div', { class: 'phases' }, ...rows) : make('p', { class: 'none' }, 'Nobody has logged in yet.'))
}
const showResolvers = () => {
  $('s-resolvers').hidden = now.resolvers.length === 0
  bars($('resolvers'), now.resolvers.map((resolver) => {
    const looked = resolver.hits + resolver.misses
    const share = looked ? Math.round((100 * resolver.hits) / looked) : 0
    return bar(resolver.name, `${looked ? `${share} % from the cache` : 'not cached'}, ${number(resolver.executions)} queries, ${number(resolver.errors)} failed`, [['used', looked ? resolver.hits : 0]], looked || 1)
  }), '')
}
const cell = (name, text, kind) => make('td', { 'data-name': name, title: text, ...(kind && { class: kind }) }, text)
const showSessions = () => {
  const filter = $('filter').value.toLowerCase()
  const fits = (session) => !filter || [session.session, session.tenant, session.client, session.state, session.role, session.database].some((text) => String(text).toLowerCase().includes(filter))
  const all = now.sessions.shown.filter(fits)
  $('shown').textContent = `${number(all.length)} of ${number(now.sessions.total)}`
  const focused = document.activeElement?.dataset?.session
  $('rows').replaceChildren(...all.slice(0, 200).map((session) => {
    const button = make('button', { type: 'button', 'data-session': session.session, 'aria-label': `Disconnect session ${session.session}` }, 'Disconnect')
    button.addEventListener('click', () => sure(session))
    const state = make('td', { 'data-name': 'State' }, make('span', { class: `state ${session.state}` }, session.state.replaceAll('_', ' ')))
    return make('tr', {}, cell('Session', String(session.session)), cell('Tenant', session.tenant || '(bypass user)'), cell('Client', session.client + (session.tls ? ' TLS' : '')), state, cell('Age', age(session.age)), cell('Role', session.role), cell('Database', session.database), cell('In', bytes(session.bytes_from_client)), cell('Out', bytes(session.bytes_to_client)), make('td', { class: 'wide' }, button))
  }))
  if (focused) document.querySelector(`button[data-session="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true })
}
const show = () => {
  health()
  if (!now) return
  const stats = now.stats
  $('version').textContent = now.version
  const fact = (name, value) => make('li', {}, `${name} `, make('b', {}, value))
  $('facts').replaceChildren(fact('up', age(now.uptime)), fact('server', now.addresses.upstream), fact('context', now.context_signing === 'off' ? 'not signed' : `signed (${now.context_signing})`), fact('tenants', number(now.tenants.live)))
  const last = (key) => (series.get(key) ?? []).at(-1) ?? 0
  $('tiles').replaceChildren(
    tile('Clients', number(stats.sessions_active), `of ${number(Number(now.config.max_client_connections))}`, 'clients'),
    tile('Logins', number(last('logins')), '/s', 'logins'),
    tile('Refused', number(last('refused')), '/s', 'refused', last('refused') > last('logins') && last('refused') > 1),
    tile('Requests', number(last('requests')), '/s', 'requests'),
    tile('To clients', bytes(last('out')), '/s', 'out'),
    tile('Waiting', number(stats.pool_waiting), stats.pool_waiting === 1 ? 'client' : 'clients', 'waiting', stats.pool_waiting > 0)
  )
  showTenants()
  showPools()
  showRefused()
  showPhases()
  showResolvers()
  showSessions()
}
const take = (status) => {
  if (now && (now.started !== status.started || status.uptime <= now.uptime)) [now, before] = [null, null]
  ;[before, now] = [now, status]
  remember('clients', status.stats.sessions_active)
  remember('waiting', status.stats.pool_waiting)
  if (!before) return
  remember('logins', rate((it) => it.stats.sessions_total))
  remember('refused', rate((it) => it.stats.refused_total))
  remember('requests', rate((it) => it.stats.requests_total))
  remember('out', rate((it) => it.stats.bytes_to_clients_total))
  for (const [name] of PHASES) {
    const count = now.phases[name].count - before.phases[name].count
    if (count > 0) remember(`phase-${name}`, (now.phases[name].sum - before.phases[name].sum) / count)
  }
}
const look = async () => {
  if (busy || held || document.hidden || wanted) return
  busy = true
  try {
    const headers = authorization()
    const answer = await fetch('status?sessions=500', { headers, cache: 'no-store' })
    if (answer.status === 401 && headers.authorization) {
      // A wrong one is forgotten: reading may need none.
      sessionStorage.removeItem('pgvpd-token')
    } else if (answer.status === 401 || answer.status === 403) {
      $('ask-why').textContent = (await answer.json()).error
      if (!$('ask').open) await token()
    } else {
      take(await answer.json())
      failures = 0
    }
    if (asked++ % 5 === 0) {
      const ready = await fetch('ready', { cache: 'no-store' })
      readiness = (await ready.text()).trim().replace(/^not ready: /, '')
    }
  } catch {
    failures += 1
  }
  busy = false
  if (now) show()
}
const token = () => new Promise((done) => {
  const dialog = $('ask')
  $('secret').value = ''
  dialog.returnValue = ''
  dialog.addEventListener('close', () => {
    if (dialog.returnValue === 'keep' && $('secret').value) sessionStorage.setItem('pgvpd-token', $('secret').value)
    if (dialog.returnValue === 'forget') sessionStorage.removeItem('pgvpd-token')
    $('secret').value = ''
    wanted = null
    done()
  }, { once: true })
  wanted = dialog
  dialog.showModal()
  $('secret').focus()
})
const act = async (path) => {
  if (!sessionStorage.getItem('pgvpd-token')) await token()
  const answer = await fetch(path, { method: 'POST', headers: authorization() })
  const said = await answer.json()
  if (answer.status === 401) sessionStorage.removeItem('pgvpd-token')
  say(answer.ok ? `Disconnected: ${said.sessions} ${said.sessions === 1 ? 'session' : 'sessions'}` : said.error)
}
const sure = (session) => {
  const dialog = $('sure')
  $('sure-what').textContent = `Session ${session.session} of ${session.tenant ? `tenant ${session.tenant}` : 'a bypass user'}, from ${session.client}. Its client reads that an administrator has ended it.`
  $('sure-tenant').hidden = !session.tenant
  dialog.returnValue = ''
  dialog.addEventListener('close', async () => {
    const path = { session: `sessions/${session.session}/disconnect`, tenant: `tenants/${encodeURIComponent(session.tenant)}/disconnect` }[dialog.returnValue]
    try {
      if (path) await act(path)
    } catch {
      say('The proxy does not answer.')
    }
  }, { once: true })
  dialog.showModal()
}
const dark = () => (document.documentElement.dataset.theme ?? (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light')) === 'dark'
$('theme').setAttribute('aria-pressed', String(dark()))
$('theme').addEventListener('click', () => {
  document.documentElement.dataset.theme = dark() ? 'light' : 'dark'
  $('theme').setAttribute('aria-pressed', String(dark()))
})
$('hold').addEventListener('click', () => {
  held = !held
  $('hold').setAttribute('aria-pressed', String(held))
})
$('token').addEventListener('click', token)
$('filter').addEventListener('input', () => now && showSessions())
look()
setInterval(look, PERIOD)
