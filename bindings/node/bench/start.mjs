// How long a proxy takes from start to ready: node bench/start.mjs.
//
// Prints `node`, the median and every measurement in microseconds, as the benchmarks of the other languages do; ready is
// when the promise is resolved, since the listener is open then. PGVPD_BENCH_PACKAGE names an installed package's folder
// whose addon is a release build, instead of the one here.
import { pathToFileURL } from 'node:url'

const folder = process.env.PGVPD_BENCH_PACKAGE ?? `${import.meta.dirname}/..`
const { Proxy } = await import(pathToFileURL(`${folder}/index.mjs`))

/** The first ones warm up and do not count. */
const WARM_UP = 5
const COUNTED = 25

async function startToReady() {
  const begun = process.hrtime.bigint()
  const proxy = await Proxy.start({ upstreamHost: '127.0.0.1', upstreamPort: 5432, port: 0 })
  const took = process.hrtime.bigint() - begun
  await proxy.stop()
  return Number(took / 1000n)
}

const measured = []
for (let round = 0; round < WARM_UP + COUNTED; round += 1) measured.push(await startToReady())
const counted = measured.slice(WARM_UP)
const median = [...counted].sort((one, other) => one - other)[Math.floor(COUNTED / 2)]
console.log('node', median, ...counted)
