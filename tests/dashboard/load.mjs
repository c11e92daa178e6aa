// Clients of many tenants that log in, work, and leave, again and again, until they are told to stop.

/** One client after the other of a tenant's: a login, some statements with a pause (ms) behind each, the end. */
const visitor = async (stage, { tenant, database, statements, pause }, isOn) => {
  while (isOn()) {
    const client = stage.client(tenant, { database })
    try {
      await client.connect()
      for (let done = 0; done < statements && isOn(); done += 1) {
        await client.query('INSERT INTO orders (item) VALUES ($1)', ['a chair'])
        await client.query('SELECT id, repeat(item, 20) FROM orders ORDER BY id DESC LIMIT 50')
        if (pause) await new Promise((again) => setTimeout(again, pause))
      }
    } catch {
      // The server or the proxy is away, which a test may want.
      await new Promise((again) => setTimeout(again, 100))
    } finally {
      await client.end().catch(() => {})
    }
  }
}

/** Logins that are refused. */
const refused = async (stage, attempts, isOn) => {
  while (isOn()) {
    for (const [tenant, password] of attempts) {
      const client = stage.client(tenant, { password })
      await client.connect().catch(() => {})
      await client.end().catch(() => {})
    }
    await new Promise((again) => setTimeout(again, 200))
  }
}

/** Starts them; gives what stops them, and waits until they have stopped. */
export const load = (stage, visitors, attempts = []) => {
  let on = true
  const isOn = () => on
  const all = visitors.map((one) => visitor(stage, one, isOn))
  if (attempts.length) all.push(refused(stage, attempts, isOn))
  return async () => {
    on = false
    await Promise.all(all)
  }
}
