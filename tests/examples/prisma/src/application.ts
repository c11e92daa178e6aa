// A small shop for many tenants with Express and Prisma, behind pgvpd. docs/prisma.md explains it.
import express, { type ErrorRequestHandler, type Express } from 'express'
import { forTenant } from './current.ts'
import { Prisma } from './generated/client.ts'
import { router } from './orders.ts'
import type { Tenants } from './tenants.ts'

export function application(tenants: Tenants): Express {
  return express().use(forTenant(tenants), router, failed)
}

const failed: ErrorRequestHandler = (error, _request, response, next) => {
  switch (sqlstate(error)) {
    // The proxy and PostgreSQL both say 28000 where a tenant may not log in.
    case '28000':
      response.sendStatus(403)
      break
    case '23514':
      response.sendStatus(422)
      break
    default:
      next(error)
  }
}

/** Prisma has codes of its own (28000 is P1010); the server's is in the driver adapter's error. */
export function sqlstate(error: unknown): string | undefined {
  const known = error instanceof Prisma.PrismaClientKnownRequestError
  const { cause } = ((known ? error.meta?.driverAdapterError : error) ?? {}) as { cause?: { originalCode?: string } }
  return cause?.originalCode
}
