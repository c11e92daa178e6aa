// Which tenant a request is for, and the database that its handlers get.
import { AsyncLocalStorage } from 'node:async_hooks'
import { once } from 'node:events'
import type { RequestHandler } from 'express'
import type { PrismaClient } from './generated/client.ts'
import type { Tenants } from './tenants.ts'

const storage = new AsyncLocalStorage<PrismaClient>()

/** The database of the request's tenant. There is no other way to one. */
export function db(): PrismaClient {
  const database = storage.getStore()
  if (!database) throw new Error('no tenant: this is not a request behind forTenant()')
  return database
}

/** Everything after this runs for the tenant that the host name says. */
export function forTenant(tenants: Tenants): RequestHandler {
  return async (request, response, next) => {
    const tenant = tenantOf(request.hostname)
    if (tenant === undefined) {
      response.sendStatus(404)
      return
    }
    await tenants.use(tenant, (database) => {
      const closed = once(response, 'close')
      storage.run(database, next)
      return closed
    })
  }
}

/** The first label of `acme.shop.example`, if it is one that a tenant may have: a host name comes from the client. */
function tenantOf(host: string | undefined): string | undefined {
  return /^([a-z0-9-]{1,63})\./.exec(host ?? '')?.[1]
}
