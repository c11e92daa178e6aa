// A pool of connections for each tenant.
import { drizzle, type NodePgDatabase } from 'drizzle-orm/node-postgres'
import { LRUCache } from 'lru-cache'
import pg from 'pg'

export type Database = NodePgDatabase

/** What counts at the server is tenants × connections; its max_connections has to hold it. */
export interface Limits {
  /** Tenants that have a pool at one time. */
  tenants: number
  /** Connections of one tenant. */
  connections: number
  /** Milliseconds that an idle connection stays. */
  idle: number
}

interface Entry {
  pool: pg.Pool
  db: Database
  users: number
  evicted: boolean
}

export class Tenants {
  readonly #url: URL
  readonly #limits: Limits
  readonly #entries: LRUCache<string, Entry>

  /** `url` is the proxy's, with the role and its password: `postgresql://app_user:secret@127.0.0.1:6432/shop`. */
  constructor(url: string, limits: Limits = { tenants: 100, connections: 4, idle: 30_000 }) {
    this.#url = new URL(url)
    this.#limits = limits
    this.#entries = new LRUCache({
      max: limits.tenants,
      memoMethod: (tenant) => this.#open(tenant),
      dispose: (entry) => {
        entry.evicted = true
        endUnused(entry)
      },
    })
  }

  /** Gives `work` the database of one tenant, or of one combination of values (`list1:user7`), until it is done. */
  async use<Result>(tenant: string, work: (db: Database) => Promise<Result>): Promise<Result> {
    const entry = this.#entries.memo(tenant)
    entry.users += 1
    try {
      return await work(entry.db)
    } finally {
      entry.users -= 1
      endUnused(entry)
    }
  }

  /** Ends all pools, each with the last piece of work that uses it. */
  end(): void {
    this.#entries.clear()
  }

  #open(tenant: string): Entry {
    const url = new URL(this.#url)
    url.username = `${this.#url.username}.${encodeURIComponent(tenant)}`
    const pool = new pg.Pool({
      connectionString: url.href,
      max: this.#limits.connections,
      idleTimeoutMillis: this.#limits.idle,
      connectionTimeoutMillis: 10_000,
    })
    // An idle connection that breaks leaves the pool, and the next query opens another: nothing to end the process for.
    pool.on('error', () => {})
    return { pool, db: drizzle(pool), users: 0, evicted: false }
  }
}

/** A pool that left the cache ends with the last request that uses it. */
function endUnused({ pool, users, evicted }: Entry): void {
  if (evicted && users === 0) void pool.end()
}
