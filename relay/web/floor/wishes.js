// What is left of a refused wish. Many need nobody's decision: what was wanted is there by now, or the edit it crossed was
// of something else, so that it is simply done again on the row as it is. The rest is told (notices.js).

import { partyOf } from './acts.js'
import { quantityOf, seenOf } from './figures.js'
import { saleOf, unpaid } from './sales.js'
import { LIST_OF, rowKeyOf } from './versions.js'

const OF_FURNITURE = ['number', 'seats'] // they are the same whoever sits there
const nothing = () => null

const isSame = (one, other) => JSON.stringify(one ?? null) === JSON.stringify(other ?? null)
const areThere = (fields, row) => Object.entries(fields).every(([name, value]) => isSame(row[name], value))

// Each of these says what there is to do about a wish that is not done: nothing, or to do it again; null where somebody has
// to decide.

function ofLines({ acts, terminal }, { action, data, meant }, table) {
  const sale = saleOf(terminal, data.orderId)
  const lines = new Map(((sale ? sale.items : table.orderItems) ?? []).map((line) => [line.id, line]))
  if (sale) {
    const isPaid = (line) => lines.has(line.id) && quantityOf(lines.get(line.id)) >= quantityOf(line)
    return action !== 'void_item' && data.items.every(isPaid) ? nothing : null
  }
  if (table.status !== 'occupied' || !isSame(data.orderId, table.orderId)) return null
  if (action === 'add_items') {
    const missing = data.items.filter(({ id }) => !lines.has(id))
    return missing.length ? () => acts.addLines(table, missing) : nothing
  }
  const line = lines.get(data.items[0].id)
  if (line) return () => acts.changeLine(table, line, meant.by)
  return meant.by < 0 ? nothing : null
}

/** Whether the guests that a row is about were never there: somebody else's were. */
const isSeatRefused = (refused, { orderId }) =>
  refused.some(({ data }) => data.meant?.fields?.status === 'occupied' && data.data.orderId === orderId)

function ofTable({ acts, terminal, wishes }, { data, meant }, table) {
  const { party, fields, was, by, seen, sale } = meant
  // The table of a payment that was refused stays as it is; the payment is what has to be decided about.
  if (sale && wishes.refused.some(({ id }) => id === sale)) return nothing
  const isParty = partyOf(table) === party
  const again = () => acts.changeTableAgain(table, data, meant)
  if (fields.status === 'available') {
    if (!isParty) return nothing // they have gone
    return seenOf(table) === seen || (sale && !unpaid(terminal, table).length) ? again : null
  }
  if (by && isParty) return again // where both come to the same number, both have still counted one
  if (areThere(fields, table)) return nothing
  if (!isParty && Object.keys(fields).join() === 'guests' && !isSeatRefused(wishes.refused, data)) return nothing // of guests who have gone
  if (!isParty && Object.keys(fields).some((name) => !OF_FURNITURE.includes(name))) return null
  return areThere(was, table) ? again : null
}

function ofDish({ acts }, { meant: { fields, was } }, dish) {
  if (areThere(fields, dish)) return nothing
  return areThere(was, dish) ? () => acts.changeDish(dish, fields) : null
}

function leftOf(app, { type, data, error }) {
  if (error.code === 'GONE' && data.meant?.fields?.status === 'available') return nothing // and so have the guests
  const row = app.terminal.view[LIST_OF[type]]?.get(data.data?.id)
  if (!row || !['CONFLICT', 'NOT_SENT'].includes(error.code) || error.field === 'number') return null
  if (type === 'UPDATE_TABLE' && data.data.items) return ofLines(app, data, row)
  if (!data.meant?.fields) return null
  return type === 'UPDATE_TABLE' ? ofTable(app, data, row) : ofDish(app, data, row)
}

export class Wishes {
  #app
  #fresh = new Set() // refused a moment ago. What somebody was told of is not done behind their back later
  #done = new Set() // not to be told of
  #left = [] // terminals of windows that were closed, with what was refused of theirs
  #isLooking = false
  #isMore = false

  constructor(app) {
    this.#app = app
    app.terminal.on('refused', (mutation) => {
      this.#fresh.add(mutation)
      this.#look()
    })
    app.terminal.on('view', () => this.#look())
    app.terminal.on('snapshot', () => this.#look())
  }

  /** Whatever was refused and nobody has put away. */
  get refused() {
    return [this.#app.terminal, ...this.#left].flatMap(({ refused }) => refused)
  }

  /** What of it is to be told. */
  get told() {
    const isMoot = (one) => leftOf(this.#app, one) === nothing
    const ofOthers = this.#left.flatMap(({ refused }) => refused).filter((one) => !isMoot(one))
    return [...this.#app.terminal.refused.filter((one) => !this.#fresh.has(one) && !this.#done.has(one)), ...ofOthers]
  }

  /** Tell here what was refused of a window that is closed. */
  adopt(terminal) {
    this.#left.push(terminal)
    this.#app.refresh()
  }

  /** Somebody knows, or has done something about it. */
  dismiss(mutation) {
    for (const one of [this.#app.terminal, ...this.#left]) if (one.refused.includes(mutation)) one.dismiss(mutation)
  }

  /** What builds on something that is done by now. */
  reconsider(mutations) {
    for (const one of mutations) this.#fresh.add(one)
    this.#look()
  }

  #look() {
    this.#isMore = true
    if (this.#isLooking) return // what is done anew is a change of the view itself
    this.#isLooking = true
    while (this.#isMore) {
      this.#isMore = false
      this.#lookOnce()
    }
    this.#isLooking = false
  }

  #lookOnce() {
    const { terminal } = this.#app
    const behind = new Set()
    for (const mutation of terminal.refused) {
      const key = rowKeyOf(mutation)
      // The change that it crossed is on its way. In order: what follows builds on it.
      if (behind.has(key) || this.#isBehind(mutation)) {
        behind.add(key)
        continue
      }
      if (this.#done.has(mutation)) continue
      const left = leftOf(this.#app, mutation)
      const isFresh = this.#fresh.delete(mutation)
      if (left === nothing || (left && isFresh)) this.#do(mutation, left)
    }
  }

  #isBehind({ type, data, error }) {
    const list = LIST_OF[type]
    if (!list || error.code !== 'CONFLICT' || !error.current || error.current.id !== data.data?.id) return false
    return (this.#app.terminal.confirmed[list].get(error.current.id)?.version ?? Infinity) < error.current.version
  }

  async #do(mutation, left) {
    this.#done.add(mutation)
    try {
      await left()
      this.#app.terminal.dismiss(mutation)
    } catch (error) {
      console.warn('not done anew', error)
      this.#done.delete(mutation)
    }
    this.#app.refresh()
  }
}
