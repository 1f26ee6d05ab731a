// What a person does, as mutations. A whole row is sent with the version it was read at, so that nobody's work is
// overwritten unseen; the lines of an order are merged by the relay and need none (docs/protocol.md, section 5).

import { dayOf, guestOf, quantityOf } from './figures.js'
import { markOf } from './identity.js'

// What a table holds only while guests are there.
const OF_GUESTS = ['orderId', 'orderItems', 'orderTotal', 'customer', 'reservationTime', 'guests', 'seatedAt']
const LETTERS = '23456789ABCDEFGHJKLMNPQRSTUVWXYZ' // none that is read as another

const bodyOf = ({ version, ...body }) => body
const without = (row, names) => Object.fromEntries(Object.entries(row).filter(([name]) => !names.includes(name)))
/** A table whose guests have left. */
export const freed = (table) => ({ ...without(table, OF_GUESTS), status: 'available' })
const fresh = (prefix) => {
  const bytes = crypto.getRandomValues(new Uint8Array(10))
  return prefix + [...bytes].map((byte) => LETTERS[byte & 31]).join('')
}

/** An order id in the terminals' form. Should it be taken by another order, the relay gives this one the next free. */
function orderIdOf(letters) {
  const [year, month, day] = dayOf(new Date()).split('-')
  return `POS-${month}${day}${year}-${letters.slice(-6)}`
}

/** The lists whose rows have versions, by message type. */
export const LIST_OF = { UPDATE_TABLE: 'tables', UPDATE_MENU: 'menuItems', UPDATE_ORDER: 'orderHistory' }

/** The key of the row that a mutation or change is about; null where it is about none. */
export function rowKeyOf({ type, data }) {
  const id = data?.data?.id
  return LIST_OF[type] && typeof id === 'string' ? `${LIST_OF[type]}/${id}` : null
}

export class Acts {
  #terminal
  #people
  // An ACK and the change it is about come in either order.
  #acknowledged = new Map() // by row: the version that it has once the change has come
  #landed = new Set() // mutations whose change has come, and whose ACK has not

  constructor(terminal, people) {
    this.#terminal = terminal
    this.#people = people
    terminal.on('acknowledged', (mutation) => {
      const key = rowKeyOf(mutation)
      if (!this.#landed.delete(mutation.id) && key && mutation.answer.version) {
        this.#acknowledged.set(key, mutation.answer.version)
      }
    })
    terminal.on('refused', ({ id }) => this.#landed.delete(id))
    terminal.on('change', (change) => this.#land(change))
    terminal.on('snapshot', () => {
      this.#acknowledged.clear()
      this.#landed.clear()
    })
  }

  #land(change) {
    const key = rowKeyOf(change)
    const version = change.data.data?.version
    const awaited = this.#acknowledged.get(key)
    if (awaited <= version) this.#acknowledged.delete(key)
    if (key === null || awaited >= version || !this.#people.isMe(change.clientId)) return
    const sent = this.#terminal.pending.find((mutation) => rowKeyOf(mutation) === key && !this.#landed.has(mutation.id))
    if (sent) this.#landed.add(sent.id)
  }

  /** The version a row will have when what is pending here is done to it, each of which adds one. */
  #versionOf(list, id) {
    const key = `${list}/${id}`
    const held = this.#terminal.confirmed[list].get(id)?.version ?? 0
    const pending = this.#terminal.pending.filter((one) => rowKeyOf(one) === key && !this.#landed.has(one.id))
    return Math.max(held, this.#acknowledged.get(key) ?? 0) + pending.length
  }

  #table(action, row, ifVersion) {
    this.#people.introduce()
    return this.#terminal.table(action, row, ifVersion === undefined ? {} : { ifVersion })
  }

  #wholeTable(row) {
    return this.#table('update', bodyOf(row), this.#versionOf('tables', row.id))
  }

  // Tables

  seat(table, guests, customer = guestOf(table)) {
    const seatedAt = new Date().toISOString()
    // The order is opened here and not with its first line: two waiters who begin at once would open two.
    const row = { ...without(table, OF_GUESTS), status: 'occupied', guests, seatedAt, orderId: orderIdOf(fresh('')) }
    return this.#wholeTable(customer ? { ...row, customer } : row)
  }
  setGuests(table, guests) {
    return this.#wholeTable({ ...table, guests })
  }
  reserve(table, customer, reservationTime) {
    const row = { ...without(table, OF_GUESTS), status: 'reserved', customer }
    return this.#wholeTable(reservationTime ? { ...row, reservationTime } : row)
  }
  clear(table) {
    return this.#wholeTable(freed(table))
  }
  nextNumber() {
    return [...this.#terminal.tables.values()].reduce((most, { number }) => Math.max(most, number), 0) + 1
  }
  addTable({ number, seats }) {
    return this.#table('add', { id: fresh('table_'), number, seats, status: 'available' })
  }
  /** `fields` are those that are to be different; where there are none nothing is sent. */
  changeTable(table, fields) {
    return Object.keys(fields).length ? this.#wholeTable({ ...table, ...fields }) : null
  }
  deleteTable(table) {
    return this.#table('delete', { id: table.id }, this.#versionOf('tables', table.id))
  }

  // The open order

  /** One more of a dish: on this terminal's own line of it, or on a new one. Lines of others are left to them. */
  addDish(table, dish) {
    const by = this.#terminal.clientId
    const own = (table.orderItems ?? []).find(
      (line) => line.dishId === dish.id && line.by === by && line.price === dish.price && line.name === dish.name,
    )
    if (own) return this.setQuantity(table, own, quantityOf(own) + 1)
    const line = { id: fresh('line_'), dishId: dish.id, name: dish.name, price: dish.price, quantity: 1, by }
    return this.#table('add_items', { id: table.id, ...this.#guard(table), items: [line] })
  }
  /** None of them takes the line off. */
  setQuantity(table, line, quantity) {
    const items = [quantity > 0 ? { id: line.id, quantity } : { id: line.id }]
    // The relay leaves `was` alone: it is for the notice, should this be refused.
    const was = { name: line.name, price: line.price, dishId: line.dishId, quantity: quantityOf(line) }
    return this.#table(quantity > 0 ? 'update_item' : 'void_item', { id: table.id, ...this.#guard(table), items, was })
  }
  /** What orders lines that were refused (refusals.js) on the order that is there now; null where it cannot be done. */
  orderedAgain(table, lines) {
    const held = new Map((table.orderItems ?? []).map((line) => [line.id, line]))
    const changed = lines.filter(({ id }) => held.has(id))
    const added = lines
      .filter(({ id, change, price }) => !held.has(id) && change > 0 && Number.isFinite(price))
      .map(({ had, change, ...line }) => ({ ...line, quantity: change, id: fresh('line_'), by: this.#terminal.clientId }))
    if (table.status !== 'occupied' || (!changed.length && !added.length)) return null
    return () => {
      for (const { id, change } of changed) {
        this.setQuantity(table, held.get(id), Math.max(0, quantityOf(held.get(id)) + change))
      }
      if (added.length) this.#table('add_items', { id: table.id, ...this.#guard(table), items: added })
    }
  }
  /** Lines are meant for these guests: they are refused if others sit there by now. */
  #guard({ orderId }) {
    return orderId ? { orderId } : {}
  }
  /** The order as it was shown, with its sums, goes into the history, and the table is free. */
  async pay(table, payment, { subtotal, service, tax, total }) {
    const ifVersion = this.#versionOf('tables', table.id) // before anything is waited for: nobody saw what comes meanwhile
    const now = new Date()
    await this.order('add', {
      // Where somebody else has seated them without one, every terminal makes the same of the first line.
      id: table.orderId || orderIdOf(markOf(table.orderItems?.[0]?.id ?? fresh('')).toUpperCase()),
      tableNumber: table.number,
      customerName: guestOf(table) || null,
      orderDate: dayOf(now),
      status: 'completed',
      items: table.orderItems ?? [],
      ...{ subtotal, service, tax, total, payment, guests: table.guests ?? null },
      paidAt: now.toISOString(),
      // By it the relay knows one sale: two terminals that take the payment of one table make one order.
      createdAt: table.seatedAt ?? now.toISOString(),
    })
    return this.#table('update', bodyOf(freed(table)), ifVersion)
  }

  // Orders, menu, settings

  order(action, row) {
    this.#people.introduce()
    return this.#terminal.order(action, row)
  }
  #dish(action, row, options = {}) {
    this.#people.introduce()
    return this.#terminal.dish(action, row, options)
  }
  addDishToMenu(fields) {
    return this.#dish('add_item', { id: fresh('item_'), ...fields })
  }
  changeDish(dish, fields) {
    if (!Object.keys(fields).length) return null
    const ifVersion = this.#versionOf('menuItems', dish.id)
    return this.#dish('update_item', { ...bodyOf(dish), ...fields }, { ifVersion })
  }
  deleteDish(dish) {
    return this.#dish('delete_item', { id: dish.id }, { ifVersion: this.#versionOf('menuItems', dish.id) })
  }
  addCategory(name) {
    return this.#dish('add_category', { name })
  }
  deleteCategory(name) {
    return this.#dish('delete_category', { name })
  }
  saveSettings(changed) {
    this.#people.introduce()
    return this.#terminal.settings(changed)
  }
}
