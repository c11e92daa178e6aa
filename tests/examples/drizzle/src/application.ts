// A small shop for many tenants with Express and Drizzle, behind pgvpd. docs/drizzle-integration.md explains it.
import express, { type ErrorRequestHandler, type Express } from 'express'
import { forTenant } from './current.ts'
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

/** Drizzle wraps the driver's error where a statement failed, and not where a connection did. */
export function sqlstate(error: unknown): string | undefined {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    if ('code' in cause && typeof cause.code === 'string') return cause.code
  }
  return undefined
}
