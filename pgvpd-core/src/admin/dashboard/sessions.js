// The list of sessions, and what can be done to one: with the token alone.
const ROWS = 200
const authorization = () => {
  const token = sessionStorage.getItem('pgvpd-token')
  return token ? { authorization: `Bearer ${token}` } : {}
}
const say = (text) => {
  $('said').textContent = text
  clearTimeout(say.timer)
  say.timer = setTimeout(() => ($('said').textContent = ''), 8000)
}

const CELLS = [
  ['session', 'Session', (session) => String(session.session)],
  ['tenant', 'Tenant', (session) => session.tenant || '(bypass user)'],
  ['client', 'Client', (session) => session.client + (session.tls ? ', TLS' : '')],
  ['state', 'State', (session) => session.state.replaceAll('_', ' ')],
  ['age', 'Age', (session) => age(session.age)],
  ['role', 'Role', (session) => session.role],
  ['database', 'Database', (session) => session.database],
  ['in', 'In', (session) => bytes(session.bytes_from_client)],
  ['out', 'Out', (session) => bytes(session.bytes_to_client)]
]
const SEARCHED = ['session', 'tenant', 'client', 'state', 'role', 'database']
const fits = (session, wanted) => SEARCHED.some((name) => CELLS.find(([cell]) => cell === name)[2](session).toLowerCase().includes(wanted))
const createRow = (session) => {
  const cells = CELLS.map(([name, word]) => make('td', { class: `c-${name}`, 'data-name': word }, make('bdi')))
  const button = make('button', { type: 'button', 'aria-label': `Disconnect session ${session.session}` }, 'Disconnect')
  button.addEventListener('click', () => sure(session))
  return make('tr', {}, ...cells, make('td', { class: 'c-action' }, button))
}
const showSessions = () => {
  const wanted = $('filter').value.trim().toLowerCase()
  const { total, shown } = now.sessions
  const all = wanted ? shown.filter((session) => fits(session, wanted)) : shown
  const looked = total > shown.length ? ` (looked at the first ${number(shown.length)})` : ''
  put($('shown'), wanted ? `${number(all.length)} found among ${number(total)}${looked}` : `${number(Math.min(all.length, ROWS))} of ${number(total)}`)
  put($('rows-none'), total === 0 ? 'Nobody is connected.' : all.length === 0 ? 'No session has that.' : '')
  keyed($('rows'), all.slice(0, ROWS), (session) => session.session, createRow, (row, session) => {
    CELLS.forEach(([name, , text], index) => {
      const box = row.cells[index].firstElementChild
      put(box, text(session))
      if (box.title !== box.textContent) box.title = box.textContent
      if (name === 'state') box.className = `state ${session.state}`
    })
  })
}
const only = (tenant) => {
  $('filter').value = tenant
  showSessions()
  $('sessions').scrollIntoView()
  $('filter').focus({ preventScroll: true })
}

// Resolves with the choice that closed it: the value of a button, or nothing for Escape.
const choose = (dialog) => new Promise((done) => {
  dialog.returnValue = ''
  dialog.addEventListener('close', () => done(dialog.returnValue), { once: true })
  dialog.showModal()
})
let isAsking = false
// Whether there is a token afterwards.
const token = async (why = '') => {
  isAsking = true
  put($('ask-error'), why)
  $('secret').value = ''
  const choice = await choose($('ask'))
  if (choice === 'keep' && $('secret').value) sessionStorage.setItem('pgvpd-token', $('secret').value)
  if (choice === 'forget') sessionStorage.removeItem('pgvpd-token')
  $('secret').value = ''
  isAsking = false
  showToken()
  return choice === 'keep' && 'authorization' in authorization()
}
const showToken = () => put($('token'), 'authorization' in authorization() ? 'Signed in' : 'Sign in')
const forget = () => {
  sessionStorage.removeItem('pgvpd-token')
  showToken()
}
const act = async (path) => {
  if (!('authorization' in authorization()) && !(await token())) return say('Nothing was done: it needs the token.')
  const answer = await fetch(path, { method: 'POST', headers: authorization(), signal: AbortSignal.timeout(10_000) })
  const said = await answer.json()
  if (answer.status === 401) forget()
  say(answer.ok ? `Disconnected: ${many(said.sessions, 'session')}.` : `Nothing was done: ${said.error}.`)
}
const sure = async (session) => {
  put($('sure-number'), String(session.session))
  put($('sure-whose'), session.tenant ? 'tenant ' : 'a bypass user')
  put($('sure-name'), session.tenant)
  put($('sure-client'), session.client)
  $('sure-tenant').hidden = !session.tenant
  const path = { session: `sessions/${session.session}/disconnect`, tenant: `tenants/${encodeURIComponent(session.tenant)}/disconnect` }[await choose($('sure'))]
  try {
    if (path) await act(path)
  } catch {
    say('The proxy does not answer.')
  }
}
