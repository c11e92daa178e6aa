// A Prisma client, with its pool of connections, for each tenant.
import { PrismaPg } from '@prisma/adapter-pg'
import { LRUCache } from 'lru-cache'
import { PrismaClient } from './generated/client.ts'

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
  db: PrismaClient
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
      memoMethod: (tenant): Entry => ({ db: this.#open(tenant), users: 0, evicted: false }),
      dispose: (entry) => {
        entry.evicted = true
        endUnused(entry)
      },
    })
  }

  /** Gives `work` the database of one tenant, or of one combination of values (`list1:user7`), until it is done. */
  async use<Result>(tenant: string, work: (db: PrismaClient) => Promise<Result>): Promise<Result> {
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

  #open(tenant: string): PrismaClient {
    const url = new URL(this.#url)
    url.username = `${this.#url.username}.${encodeURIComponent(tenant)}`
    const adapter = new PrismaPg({
      connectionString: url.href,
      max: this.#limits.connections,
      idleTimeoutMillis: this.#limits.idle,
      connectionTimeoutMillis: 10_000,
    })
    return new PrismaClient({ adapter })
  }
}

/** A pool that left the cache ends with the last request that uses it. */
function endUnused({ db, users, evicted }: Entry): void {
  if (evicted && users === 0) void db.$disconnect()
}
