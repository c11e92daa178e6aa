// The shop's tables. The column tenant_id is the database's affair: it fills itself, and the policies look at it.
import { sql } from 'drizzle-orm'
import { bigint, check, index, integer, pgTable, text } from 'drizzle-orm/pg-core'

const tenantId = () => text('tenant_id').notNull().default(sql`current_tenant_id()`)

export const orders = pgTable(
  'orders',
  {
    id: bigint({ mode: 'number' }).primaryKey().generatedAlwaysAsIdentity(),
    tenantId: tenantId(),
    customer: text().notNull(),
  },
  (table) => [index('orders_tenant').on(table.tenantId, table.id)],
)

export const lines = pgTable(
  'lines',
  {
    id: bigint({ mode: 'number' }).primaryKey().generatedAlwaysAsIdentity(),
    tenantId: tenantId(),
    orderId: bigint('order_id', { mode: 'number' })
      .notNull()
      .references(() => orders.id),
    item: text().notNull(),
    quantity: integer().notNull(),
  },
  (table) => [index('lines_tenant').on(table.tenantId, table.orderId), check('quantity', sql`${table.quantity} > 0`)],
)
