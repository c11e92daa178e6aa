// Orders. No statement here names a tenant.
import { eq, sql } from 'drizzle-orm'
import express, { Router } from 'express'
import { db } from './current.ts'
import { lines, orders } from './schema.ts'

export interface NewOrder {
  customer: string
  lines: { item: string; quantity: number }[]
}

export const router = Router()

router.get('/orders', async (_request, response) => {
  const items = sql`coalesce(sum(${lines.quantity}), 0)`.mapWith(Number)
  const found = await db()
    .select({ id: orders.id, customer: orders.customer, items })
    .from(orders)
    .leftJoin(lines, eq(lines.orderId, orders.id))
    .groupBy(orders.id)
    .orderBy(orders.id)
  response.json(found)
})

router.post('/orders', express.json(), async (request, response) => {
  response.status(201).json(await create(request.body as NewOrder))
})

/** The order and its lines, or nothing. */
function create(order: NewOrder): Promise<number> {
  return db().transaction(async (transaction) => {
    const [made] = await transaction.insert(orders).values({ customer: order.customer }).returning({ id: orders.id })
    if (!made) throw new Error('INSERT gave no row')
    for (const { item, quantity } of order.lines) {
      // An error rolls the transaction back.
      await transaction.insert(lines).values({ orderId: made.id, item, quantity })
    }
    return made.id
  })
}
