// What a person does, as mutations. A row is sent with the version it was read at, so that nobody's work is overwritten
// unseen (docs/protocol.md, section 5). Beside it stands what was `meant`, which the relay leaves alone: should it be
// refused, wishes.js and the notices know what to do about it.

import { dayOf, guestOf, quantityOf, seenOf } from './figures.js'
import { markOf } from './identity.js'
import { isFinished, restIdOf, saleRow } from './sales.js'
import { Versions } from './versions.js'

// What a table holds only while guests are there.
const OF_GUESTS = ['orderId', 'orderItems', 'orderTotal', 'customer', 'reservationTime', 'guests', 'seatedAt']
const LETTERS = '23456789ABCDEFGHJKLMNPQRSTUVWXYZ' // none that is read as another
const MOST_GUESTS = 1000

const bodyOf = ({ version, ...body }) => body
const without = (row, names) => Object.fromEntries(Object.entries(row).filter(([name]) => !names.includes(name)))
/** The named fields of a row; what it does not have is null, which JSON can say. */
const pick = (row, names) => Object.fromEntries(names.map((name) => [name, row[name] ?? null]))
/** A table whose guests have left. */
const freed = (table) => ({ ...without(table, OF_GUESTS), status: 'available' })
const fresh = (prefix) => {
  const bytes = crypto.getRandomValues(new Uint8Array(10))
  return prefix + [...bytes].map((byte) => LETTERS[byte & 31]).join('')
}

/** An order id in the terminals' form. Should it be taken by another order, the relay gives this one the next free. */
function orderIdOf(letters) {
  const [year, month, day] = dayOf(new Date()).split('-')
  return `POS-${month}${day}${year}-${letters.slice(-6)}`
}

/** Who is at a table, as one text: what was meant for some must not be done to others. */
export function partyOf(table) {
  if (table.status === 'occupied') return `order ${table.orderId || table.seatedAt || ''}`
  return table.status === 'reserved' ? `reserved ${guestOf(table)} ${table.reservationTime ?? ''}` : 'nobody'
}

export class Acts {
  #terminal
  #people
  #versions

  constructor(terminal, people) {
    this.#terminal = terminal
    this.#people = people
    this.#versions = new Versions(terminal, people)
  }

  #change(type, action, row, meant, options) {
    this.#people.introduce()
    return this.#terminal.change(type, { action, data: row, ...(meant && { meant }) }, options)
  }
  #table(action, row, meant, options = this.#versions.next('tables', row.id)) {
    return this.#change('UPDATE_TABLE', action, row, meant, options)
  }

  /** A table as it is to be: `fields` are those that are meant to be different. */
  #wholeTable(table, row, fields, more = {}, options = undefined) {
    const meant = { party: partyOf(table), fields, was: pick(table, Object.keys(fields)), ...more }
    return this.#table('update', bodyOf(row), meant, options)
  }

  // Tables

  seat(table, guests, customer = guestOf(table)) {
    const seatedAt = new Date().toISOString()
    // The order is opened here and not with its first line: two waiters who begin at once would open two.
    const row = { ...without(table, OF_GUESTS), status: 'occupied', guests, seatedAt, orderId: orderIdOf(fresh('')) }
    return this.#wholeTable(table, customer ? { ...row, customer } : row, { status: 'occupied', guests })
  }
  /** So many more guests, or fewer. */
  addGuests(table, by) {
    const guests = Math.min(MOST_GUESTS, Math.max(1, (table.guests ?? 0) + by))
    return this.#wholeTable(table, { ...table, guests }, { guests }, { by })
  }
  setGuests(table, guests) {
    return this.#wholeTable(table, { ...table, guests }, { guests })
  }
  reserve(table, customer, reservationTime) {
    const row = { ...without(table, OF_GUESTS), status: 'reserved', customer }
    const fields = { status: 'reserved', customer, reservationTime: reservationTime || null }
    return this.#wholeTable(table, reservationTime ? { ...row, reservationTime } : row, fields)
  }
  clear(table) {
    return this.#wholeTable(table, freed(table), { status: 'available' }, { seen: seenOf(table) })
  }
  nextNumber() {
    return [...this.#terminal.tables.values()].reduce((most, { number }) => Math.max(most, number), 0) + 1
  }
  addTable({ number, seats }) {
    return this.#table('add', { id: fresh('table_'), number, seats, status: 'available' }, undefined, {})
  }
  /** A table that could not be added, or was deleted. */
  addTableAgain(row) {
    return this.#table('add', bodyOf(row), undefined, {})
  }
  /** `fields` are those that are to be different; where there are none nothing is sent. */
  changeTable(table, fields) {
    return Object.keys(fields).length ? this.#wholeTable(table, { ...table, ...fields }, fields) : null
  }
  /** An edit that was refused, done to the table as it is now: only what was meant is taken of it. */
  changeTableAgain(table, wanted, { fields, by, seen, sale }) {
    if (by) return this.addGuests(table, by)
    if (!('status' in fields)) return this.changeTable(table, fields)
    const ofGuests = Object.fromEntries(OF_GUESTS.filter((name) => name in wanted).map((name) => [name, wanted[name]]))
    const row = { ...without(table, OF_GUESTS), ...ofGuests, status: wanted.status }
    const options = this.#versions.next('tables', table.id)
    const pending = this.#terminal.pending.filter(({ id }) => id === sale)
    return this.#wholeTable(table, row, fields, { seen, sale }, { ...options, after: [...options.after, ...pending] })
  }
  deleteTable(table) {
    return this.#table('delete', { id: table.id }, { party: partyOf(table) })
  }

  // The open order

  /** One more of a dish: on this terminal's own line of it, or on a new one. Lines of others are left to them. */
  addDish(table, dish) {
    const by = this.#terminal.clientId
    const own = (table.orderItems ?? []).find(
      (line) => line.dishId === dish.id && line.by === by && line.price === dish.price && line.name === dish.name,
    )
    if (own) return this.changeLine(table, own, 1)
    return this.addLines(table, [{ id: fresh('line_'), dishId: dish.id, name: dish.name, price: dish.price, quantity: 1, by }])
  }
  addLines(table, items) {
    // The relay would merge them by itself, and where the table was cleared meanwhile seat nobody with them.
    return this.#table('add_items', this.#lines(table, items))
  }
  /** So many more of a line, or fewer; with none left it is off. Only as it was read: another's tap must count too. */
  changeLine(table, line, by) {
    const quantity = Math.max(0, quantityOf(line) + by)
    const item = quantity > 0 ? { id: line.id, quantity } : { id: line.id }
    const was = { name: line.name, price: line.price, dishId: line.dishId, quantity: quantityOf(line) }
    return this.#table(quantity > 0 ? 'update_item' : 'void_item', this.#lines(table, [item]), { by: quantity - was.quantity, was })
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
      for (const { id, change } of changed) this.changeLine(table, held.get(id), change)
      return added.length ? this.addLines(table, added) : null
    }
  }
  /** Lines are meant for these guests: they are refused if others sit there by now. */
  #lines({ id, orderId }, items) {
    return { id, ...(orderId && { orderId }), items }
  }
  /**
   * What is `due` of a table, as it was shown with its sums, goes into the history, and the table is free. Where its order
   * was paid before, this is another sale; `isGone`: there is no table to free.
   */
  async pay(due, payment, sums, { isGone = false } = {}) {
    const { id } = due
    const table = this.#terminal.tables.get(id)
    const freeing = this.#versions.next('tables', id) // before anything is waited for: nobody saw what comes meanwhile
    const made = { payment, by: this.#terminal.clientId, till: this.#people.name, settings: this.#terminal.view.settings }
    const sale = await this.addSale(saleRow(this.#saleIdOf(due), due, sums, made))
    if (isGone || !table) return sale
    const options = { ...freeing, after: [...freeing.after, sale] }
    return this.#wholeTable(table, freed(table), { status: 'available' }, { seen: seenOf(table), sale: sale.id }, options)
  }
  #saleIdOf({ orderId, orderItems }) {
    if (isFinished(this.#terminal.orders.get(orderId))) return restIdOf(orderId, orderItems)
    // Where somebody else has seated them without one, every terminal makes the same of the first line.
    return orderId || orderIdOf(markOf(orderItems?.[0]?.id ?? fresh('')).toUpperCase())
  }
  /** A sale goes where there is none, and never in the place of another. An order that an app keeps open there becomes it. */
  addSale(row) {
    const open = this.#terminal.confirmed.orderHistory.get(row.id)
    const isOpen = open && !isFinished(open)
    const sale = isOpen ? { ...row, createdAt: open.createdAt ?? row.createdAt } : row
    return this.#change('UPDATE_ORDER', 'add', sale, undefined, { ifVersion: isOpen ? open.version : 0 })
  }
  /** A sale that was refused because its id is another's. */
  addSaleApart(row, id = orderIdOf(fresh(''))) {
    return this.addSale({ ...row, id })
  }

  // Orders, menu, settings

  voidOrder(id) {
    return this.#change('UPDATE_ORDER', 'void', { id })
  }
  clearHistory() {
    return this.#change('UPDATE_ORDER', 'clear', {})
  }
  #dish(action, row, meant, options) {
    return this.#change('UPDATE_MENU', action, row, meant, options)
  }
  addDishToMenu(fields) {
    return this.#dish('add_item', { id: fresh('item_'), ...fields })
  }
  addDishAgain(row) {
    return this.#dish('add_item', bodyOf(row))
  }
  changeDish(dish, fields) {
    if (!Object.keys(fields).length) return null
    const meant = { fields, was: pick(dish, Object.keys(fields)) }
    return this.#dish('update_item', { ...bodyOf(dish), ...fields }, meant, this.#versions.next('menuItems', dish.id))
  }
  deleteDish(dish) {
    return this.#dish('delete_item', { id: dish.id }, undefined, this.#versions.next('menuItems', dish.id))
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
