// Waiting for something to become so, which has a limit and no other measure of time.

const LIMIT = 120_000

/** Asks again and again until it gives something that counts as true, and gives that. */
export const until = async (what, ask) => {
  const last = Date.now() + LIMIT
  for (;;) {
    const found = await ask()
    if (found) return found
    if (Date.now() > last) throw new Error(`not so within ${LIMIT / 1000} s: ${what}`)
    await new Promise((again) => setTimeout(again, 50))
  }
}
