// Orders. No statement here names a tenant.
import express, { Router } from 'express'
import { db } from './current.ts'

export interface NewOrder {
  customer: string
  lines: { item: string; quantity: number }[]
}

export const router = Router()

router.get('/orders', async (_request, response) => {
  const orders = await db().order.findMany({ include: { lines: true }, orderBy: { id: 'asc' } })
  const items = (lines: { quantity: number }[]) => lines.reduce((sum, { quantity }) => sum + quantity, 0)
  response.json(orders.map(({ id, customer, lines }) => ({ id, customer, items: items(lines) })))
})

router.post('/orders', express.json(), async (request, response) => {
  response.status(201).json(await create(request.body as NewOrder))
})

/** The order and its lines, or nothing. */
function create(order: NewOrder): Promise<number> {
  return db().$transaction(async (transaction) => {
    const { id } = await transaction.order.create({ data: { customer: order.customer } })
    for (const line of order.lines) {
      // An error rolls the transaction back.
      await transaction.line.create({ data: { ...line, orderId: id } })
    }
    return id
  })
}
