// Payments: each is a sale of its own, so that a second one of the same order is refused by the relay and never takes the
// first one's place; and what is left to pay of an order that was paid while somebody added to it.

import { bill, dayOf, guestOf, money, quantityOf, when } from './figures.js'
import { markOf } from './identity.js'
import { T } from './texts.js'

export const isFinished = (order) => ['completed', 'void'].includes(order?.status)

/** The sale that an order became; undefined where it is still to be paid. */
export function saleOf(terminal, orderId) {
  const order = orderId ? terminal.view.orderHistory.get(orderId) : undefined
  return order?.status === 'completed' ? order : undefined
}

/**
 * The id of the sale that the rest of a paid order becomes. Every terminal makes the same of the same rest, so that of two
 * payments of it the second is refused.
 */
export function restIdOf(orderId, lines) {
  const rest = JSON.stringify([orderId, lines.map((line) => [line.id, quantityOf(line)])])
  return orderId.replace(/[^-]*$/, markOf(rest).toUpperCase())
}

/** The lines of a table that nobody has paid: without those of its order's sale, and of the sales of its rests. */
export function unpaid(terminal, table) {
  let left = table.orderItems ?? []
  let sale = saleOf(terminal, table.orderId)
  while (sale && left.length) {
    const paid = new Map((Array.isArray(sale.items) ? sale.items : []).map((line) => [line.id, quantityOf(line)]))
    if (!left.some(({ id }) => paid.has(id))) break
    left = left.map((line) => ({ ...line, quantity: quantityOf(line) - (paid.get(line.id) ?? 0) })).filter(({ quantity }) => quantity > 0)
    sale = saleOf(terminal, restIdOf(table.orderId, left))
  }
  return left
}

/** What a table is still to pay: {subtotal, service, tax, total}. */
export const dueOf = (terminal, table) => bill({ ...table, orderItems: unpaid(terminal, table) }, terminal.view.settings)

/** The row of a sale. `made` says who takes the payment, `id` is the order's. */
export function saleRow(id, table, { subtotal, service, tax, total }, { payment, by, till, settings }) {
  const now = new Date()
  const rates = { taxRate: Number(settings.taxRate) || 0, serviceCharge: service ? Number(settings.serviceCharge) || 0 : 0 }
  return {
    id,
    tableNumber: table.number,
    customerName: guestOf(table) || null,
    orderDate: dayOf(now),
    status: 'completed',
    items: table.orderItems ?? [],
    ...{ subtotal, service, tax, total, payment, guests: table.guests ?? null, by, till, ...rates },
    currency: String(settings.currency ?? ''),
    paidAt: now.toISOString(),
    // By it the relay tells sales apart: no other payment has this one's, not even of the same order.
    createdAt: now.toISOString(),
  }
}

/** The currency that an order was paid in; those of other terminals do not say. */
export const currencyOf = (app, order) => (typeof order.currency === 'string' ? order.currency : app.currency)

/** Who took a payment, as far as anybody can tell: a change that this window has seen, or else what the order says. */
export function takerOf(app, order) {
  const who = app.journal.of('orderHistory', order.id)?.who ?? order.by
  if (typeof who !== 'string') return ''
  if (who === order.by && !app.people.knows(who) && typeof order.till === 'string') return order.till
  return app.people.label(who)
}

/** `3,360 MMK cash by Till 1 at 20:14` */
export function paidText(app, order) {
  const kind = T.orders.paidBy[order.payment]?.toLowerCase()
  return T.sales.paid(money(order.total, currencyOf(app, order)), kind, takerOf(app, order), when(order.paidAt ?? order.createdAt))
}
