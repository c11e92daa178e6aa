// An application that used to set the tenant itself, before and after.
import { sql } from 'drizzle-orm'
import { bigint, pgTable, text } from 'drizzle-orm/pg-core'
import type { Database } from './tenants.ts'

const invoices = pgTable('invoices', {
  id: bigint({ mode: 'number' }).primaryKey().generatedAlwaysAsIdentity(),
  number: text().notNull(),
})

/** Before: one pool for all, and each unit of work sets its tenant. */
export function numbersBySet(db: Database, tenant: string): Promise<string[]> {
  return db.transaction(async (transaction) => {
    await transaction.execute(sql`SELECT set_config('myapp.tenant', ${tenant}, true)`)
    return numbers(transaction)
  })
}

/** After: the tenant's own database. */
export async function numbers(db: Pick<Database, 'select'>): Promise<string[]> {
  const found = await db.select({ number: invoices.number }).from(invoices).orderBy(invoices.id)
  return found.map(({ number }) => number)
}

export async function add(db: Pick<Database, 'insert'>, number: string): Promise<void> {
  await db.insert(invoices).values({ number })
}
