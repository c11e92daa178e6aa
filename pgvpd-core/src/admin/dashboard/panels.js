// What each part of the page shows of `now`, the last answer of /status.
let before = null, now = null
// What tenants, phases and pools had done at each look of the last minute.
const MINUTE = 60
let minute = []

// Nothing is known of what happens each second before the second look.
const known = (shown) => (before ? shown : '–')
const rate = (figure) => (before ? Math.max(0, (figure(now) - figure(before)) / (now.uptime - before.uptime)) : 0)
// What a timing has counted in the last minute; before a second look, since the start.
const lately = (timing) => {
  const [new_, old] = [timing(now), minute.length > 1 ? timing(minute[0]) : null]
  if (!old || new_.count === old.count) return new_
  return { count: new_.count - old.count, sum: new_.sum - old.sum, classes: new_.classes.map((count, index) => count - old.classes[index]) }
}
// The bound below which 95 of 100 were.
const most = (timing) => {
  let counted = 0
  const at = timing.classes.findIndex((count) => (counted += count) >= timing.count * 0.95)
  return at < now.time_bounds.length ? `${time(now.time_bounds[at])}` : `over ${time(now.time_bounds.at(-1))}`
}

const TILES = [
  ['clients', 'Clients', () => [number(now.stats.sessions_active), `of ${number(Number(now.config.max_client_connections))}`]],
  ['waiting', 'Waiting', () => [number(now.stats.pool_waiting), 'for a connection'], () => isBusy()],
  ['connections', 'Connections', () => [known(number(last('connections'))), '/s']],
  ['logins', 'Logins', () => [known(number(last('logins'))), now.logins.total > 0 ? `/s, ${number(now.logins.total)} in progress` : '/s']],
  ['refused', 'Refused', () => [known(number(last('refused'))), '/s'], () => isRefusing()],
  ['requests', 'Requests', () => (now.config.relay === 'raw' ? ['–', 'relay = raw'] : [known(number(last('requests'))), '/s'])],
  ['traffic', 'Traffic', () => [known(bytes(last('traffic'))), '/s']]
]
const showTiles = () => {
  $('tiles').replaceChildren(...TILES.map(([key, name, figure, isAlarm]) => {
    const [value, unit] = figure()
    const text = make('div', { class: 'value' }, make('b', {}, value), ' ', make('small', {}, unit))
    return make('div', { class: `tile ${isAlarm?.() ? 'alarm' : ''}`, id: `tile-${key}` }, make('div', { class: 'name' }, name), text, spark(key))
  }))
}

const bar = (parts, total) => {
  const box = make('span', { class: 'bar', 'aria-hidden': 'true' })
  for (const [kind, value] of parts) {
    const part = make('i', { class: kind })
    part.style.width = `${total ? Math.min(100, (100 * value) / total) : 0}%`
    box.append(part)
  }
  return box
}
const line = (label, figure, parts, total) => make('li', {}, make('span', { class: 'top' }, make('span', { class: 'label' }, label), make('span', { class: 'figure' }, figure)), bar(parts, total))
const list = (lines, none) => (lines.length ? make('ul', { class: 'bars' }, ...lines) : make('p', { class: 'none' }, none))

// A login weighs as much as a KiB, as with the proxy's own order.
const weight = (tenant) => tenant.sessions_total * 1024 + tenant.from_client + tenant.to_client
const SHOWN_TENANTS = 8
// The tenants by what they have used in the last minute; where nobody has, since the start.
const usage = () => {
  const old = new Map((minute.length > 1 ? minute[0].busiest : []).map((tenant) => [tenant.tenant, weight(tenant)]))
  const past = new Map((before?.tenants.busiest ?? []).map((tenant) => [tenant.tenant, tenant]))
  const lasted = before ? now.uptime - before.uptime : 1
  const each = (tenant, since) => {
    const then = past.get(tenant.tenant) ?? tenant
    const a_second = (figure) => Math.max(0, (figure(tenant) - figure(then)) / lasted)
    return { ...tenant, used: Math.max(0, weight(tenant) - since), logins: a_second((it) => it.sessions_total), moved: a_second((it) => it.from_client + it.to_client) }
  }
  const others = Math.max(0, weight(now.tenants.others) - (minute.length > 1 ? weight(minute[0].others) : 0))
  let all = now.tenants.busiest.map((tenant) => each(tenant, old.get(tenant.tenant) ?? 0))
  let total = sum(all.map((tenant) => tenant.used)) + others
  const isRecent = minute.length > 1 && total > 0
  if (!isRecent) {
    all = now.tenants.busiest.map((tenant) => each(tenant, 0))
    total = sum(all.map((tenant) => tenant.used)) + weight(now.tenants.others)
  }
  // Equal ones stay in the proxy's order.
  return { all: all.sort((one, other) => other.used - one.used), total, span: isRecent ? 'in the last minute' : 'since the start' }
}
const percent = (part, total) => {
  const share = total ? (100 * part) / total : 0
  return share > 0 && share < 1 ? 'below 1 %' : `${Math.round(share)} %`
}
const showTenants = () => {
  const { all, total, span } = usage()
  const shown = all.slice(0, SHOWN_TENANTS)
  $('tenants-none').hidden = shown.length > 0
  $('tenants-table').hidden = shown.length === 0
  const top = shown[0]
  $('most').hidden = !top
  if (top) {
    put($('most-name'), top.tenant)
    put($('most-share'), `${percent(top.used, total)} of all use ${span}, ${many(top.sessions_active, 'session')} open`)
  }
  put($('h-tenants-span'), span)
  const create = ({ tenant }) => {
    const button = make('button', { type: 'button', class: 'link', 'aria-label': `Show the sessions of ${tenant}` }, named(tenant))
    button.addEventListener('click', () => only(tenant))
    return make('tr', {}, make('th', { scope: 'row' }, button, make('span', { class: 'bar', 'aria-hidden': 'true' }, make('i', { class: 'used' }))), ...Array.from({ length: 4 }, () => make('td')))
  }
  keyed($('tenants'), shown, (tenant) => tenant.tenant, create, (row, tenant) => {
    row.querySelector('i').style.width = `${total ? (100 * tenant.used) / total : 0}%`
    const figures = [percent(tenant.used, total).replace('below ', '<'), number(tenant.sessions_active), known(number(tenant.logins)), `${known(bytes(tenant.moved))}/s`]
    figures.forEach((text, index) => put(row.cells[index + 1], text))
  })
  const others = now.tenants.live - shown.filter((tenant) => tenant.sessions_active > 0).length
  put($('tenants-more'), others > 0 ? `and ${number(others)} more with a session` : '')
}

const SHOWN_POOLS = 10
const showPools = () => {
  const size = Number(now.config.pool_size) || 1
  const need = (pool) => (pool.is_failing ? 1e9 : 0) + pool.waiting * 1000 + pool.total
  const pools = now.pools.length > SHOWN_POOLS ? [...now.pools].sort((one, other) => need(other) - need(one)) : now.pools
  const lines = pools.slice(0, SHOWN_POOLS).map((pool) => {
    const figures = [`${pool.used} used`, `${pool.idle} idle`, pool.connecting && `${pool.connecting} connecting`, `${pool.waiting} waiting`, pool.is_failing && 'server cannot be reached']
    const total = Math.max(size, pool.total + pool.waiting)
    const parts = [['used', pool.used], ['idle', pool.idle], [pool.is_failing ? 'bad' : 'waiting', pool.waiting]]
    const label = make('span', { title: `${pool.role} in ${pool.database}` }, named(pool.role), ' in ', named(pool.database || '(no name)'))
    return line(label, figures.filter(Boolean).join(', '), parts, total)
  })
  const unused = now.pool_stats.creates > 0 ? 'No pool has a connection now.' : 'No pool has been used yet.'
  const none = now.config.pool_mode === 'none' ? 'Each session has a server connection of its own (pool_mode = none).' : unused
  $('pools').replaceChildren(list(lines, none))
  $('pools-legend').hidden = lines.length === 0
  const more = now.pools.length - lines.length
  put($('pools-size'), `${number(size)} at most in each, ${number(now.stats.pool_connections)} of ${number(Number(now.config.max_upstream_connections))} in all${more > 0 ? `; ${number(more)} more pools` : ''}`)
}

const WORDS = {
  '08006': 'server cannot be reached', '08P01': 'protocol violation', '0A000': 'not supported', '28000': 'not permitted', '28P01': 'wrong password',
  '42501': 'parameter refused', '53300': 'a limit is reached', '57014': 'took too long', '57P01': 'shutting down', '58030': 'cannot be recorded', server: 'by PostgreSQL', tls: 'TLS handshake failed'
}
// What is the proxy's or the server's trouble, and no client's.
const FAULTS = new Set(['08006', '58030'])
const TENANT_WORDS = { deny: 'tenant is denied', limit: 'tenant has too many connections', rate: 'tenant connects too often' }
const reason = (code) => WORDS[code] ?? code
const byCount = (counts) => Object.entries(counts).filter(([, count]) => count > 0).sort((one, other) => other[1] - one[1])
const showRefused = () => {
  const all = byCount(now.refused)
  const top = all[0]?.[1] ?? 1
  const lines = (entries, word, member) => entries.map(([name, count]) => line(word(name), `${number(count)} in all, ${known(number(rate((status) => status[member][name] ?? 0)))}/s`, [[FAULTS.has(name) ? 'bad' : 'refused', count]], top))
  const codes = lines(all, (code) => (WORDS[code] && code.length === 5 ? `${WORDS[code]} (${code})` : reason(code)), 'refused')
  $('refused').replaceChildren(list(codes, 'None since the start.'))
  const tenants = byCount(now.tenant_rejections)
  if (tenants.length) $('refused').append(make('h3', {}, 'Of these, because of the tenant'), list(lines(tenants, (name) => TENANT_WORDS[name] ?? name, 'tenant_rejections')))
}

const PHASES = [['accept', 'Greeting'], ['tls', 'TLS'], ['auth', 'Password'], ['checkout', 'Connection'], ['resolve', 'Resolvers'], ['inject', 'Context']]
const TIMINGS = [...PHASES.map(([name, word]) => [`phase-${name}`, word, (status) => status.phases[name]]), ['pool-wait', 'Wait for pool', (status) => status.pool_wait]]
const showPhases = () => {
  const rows = TIMINGS.filter(([, , timing]) => timing(now)?.count > 0).map(([key, word, timing]) => {
    const while_ = lately(timing)
    const average = recent(key, KEPT).findLast((value) => value !== null) ?? while_.sum / while_.count
    return make('tr', { id: `row-${key}` }, make('th', { scope: 'row' }, word), make('td', { class: 'chart' }, spark(key)), make('td', {}, time(average)), make('td', {}, most(while_)))
  })
  $('phases').replaceChildren(...rows)
  $('phases-table').hidden = rows.length === 0
  $('phases-none').hidden = rows.length > 0
}
const showResolvers = () => {
  $('s-resolvers').hidden = now.resolvers.length === 0
  $('resolvers').replaceChildren(list(now.resolvers.map((resolver) => {
    const looked = resolver.hits + resolver.misses
    const cache = looked ? `${Math.floor((100 * resolver.hits) / looked)} % from the cache` : 'not cached'
    const average = resolver.executions ? `, ${time(resolver.latency_sum / resolver.executions)} each` : ''
    const figure = `${cache}, ${many(resolver.executions, 'query', 'queries')}${average}, ${number(resolver.errors)} failed`
    return line(named(resolver.name), figure, [['used', resolver.hits]], looked || 1)
  }), ''))
}
const SIGNING = { off: 'not signed', prefer: 'signed where the database verifies it', require: 'signed' }
const showFacts = () => {
  const fact = (name, value, kind = '') => make('li', { class: kind }, `${name} `, make('b', {}, value))
  const signing = fact('Context', SIGNING[now.context_signing] ?? now.context_signing, now.context_signing === 'require' ? 'good' : 'warn')
  signing.id = 'signing'
  $('facts').replaceChildren(signing, fact('Server', now.addresses.upstream), fact('Tenants', number(now.tenants.live)), fact('Up', age(now.uptime)))
}
