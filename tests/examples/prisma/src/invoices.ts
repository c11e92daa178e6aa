// An application that used to set the tenant itself, before and after.
import type { Prisma, PrismaClient } from './generated/client.ts'

/** Before: one client for all, and each unit of work sets its tenant. */
export function numbersBySet(db: PrismaClient, tenant: string): Promise<string[]> {
  return db.$transaction(async (transaction) => {
    await transaction.$executeRaw`SELECT set_config('myapp.tenant', ${tenant}, true)`
    return numbers(transaction)
  })
}

/** After: the tenant's own client. */
export async function numbers(db: Prisma.TransactionClient): Promise<string[]> {
  const found = await db.invoice.findMany({ orderBy: { id: 'asc' } })
  return found.map(({ number }) => number)
}

export async function add(db: Prisma.TransactionClient, number: string): Promise<void> {
  await db.invoice.create({ data: { number } })
}
