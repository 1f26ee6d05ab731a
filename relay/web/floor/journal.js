// The last changes, whoever made them: who, when, and in words what. Rows that have just changed are `fresh`.

import { guestOf, quantityOf, when } from './figures.js'
import { T } from './texts.js'
import { LIST_OF, rowKeyOf } from './versions.js'

const MOST = 200
const FRESH = 4000 // milliseconds

export class Journal {
  entries = [] // newest first
  #marks = new Map()
  #before = { tables: new Map(), menuItems: new Map(), orderHistory: new Map() }
  #settings = {}
  #count = 0
  #fresh = [] // with the time until when
  #timer = null
  #terminal
  #changed

  /** `changed` is called when there is more to show, or something is fresh no more. */
  constructor(terminal, changed) {
    this.#terminal = terminal
    this.#changed = changed
    terminal.on('snapshot', () => {
      this.#remember()
      changed()
    })
    terminal.on('change', (change) => this.#hear(change))
  }

  /** Take what is there as seen. */
  #remember() {
    for (const list of Object.keys(this.#before)) this.#before[list] = new Map(this.#terminal.confirmed[list])
    this.#settings = this.#terminal.confirmed.settings
  }

  /** Begin: what was stored is no news. */
  start() {
    this.#remember()
  }

  /** Who changed a row last, and when: {who, at, fresh}, as far as this window has seen it. */
  of(list, id) {
    return this.#marks.get(`${list}/${id}`)
  }

  /** The same for the settings. */
  get settings() {
    return this.#marks.get('UPDATE_SETTINGS')
  }

  #hear(change) {
    const entry = this.#entry(change)
    const key = rowKeyOf(change) ?? change.type
    const found = { who: change.clientId, at: change.timestamp, fresh: true, revision: change.revision }
    this.#marks.set(key, found)
    this.entries.unshift({ id: ++this.#count, ...found, mark: found, ...entry })
    this.entries.length = Math.min(this.entries.length, MOST)
    this.#fresh.push([found, performance.now() + FRESH])
    this.#age()
    this.#changed()
  }

  #age() {
    this.#timer ??= setTimeout(() => {
      this.#timer = null
      while (this.#fresh.length && this.#fresh[0][1] <= performance.now()) this.#fresh.shift()[0].fresh = false
      if (this.#fresh.length) this.#age()
      this.#changed()
    }, this.#fresh[0][1] - performance.now())
  }

  #entry({ type, data }) {
    const list = LIST_OF[type]
    if (type === 'UPDATE_SETTINGS') {
      const names = Object.keys(data).filter((name) => JSON.stringify(data[name]) !== JSON.stringify(this.#settings[name]))
      this.#settings = data
      const texts = names.map((name) => T.journal.setting[name]?.(data[name]) ?? T.journal.otherSetting(name))
      return { text: T.journal.settings(texts), view: 'settings' }
    }
    if (!list) return { text: T.journal.other, view: '' }
    const { action, data: row } = data
    const before = this.#before[list].get(row.id)
    if (action === 'clear') this.#before[list].clear()
    else if (action.startsWith('delete')) this.#before[list].delete(row.id)
    else if (row.id) this.#before[list].set(row.id, row)
    const currency = String(this.#settings.currency ?? '')
    const isPaid = this.#before.orderHistory.get(before?.orderId)?.status === 'completed'
    if (list === 'tables') return { text: tableText(action, row, before, isPaid, currency), view: 'floor', table: row.id }
    if (list === 'menuItems') return { text: menuText(action, row, before, currency), view: 'menu' }
    return { text: orderText(action, row, before, currency), view: 'orders' }
  }
}

function tableText(action, row, before, isPaid, currency) {
  const J = T.journal
  const number = row.number ?? before?.number ?? '?'
  if (action === 'delete') return J.tableGone(number)
  if (!before) return J.tableNew(number)
  if (before.status !== row.status) {
    if (row.status === 'reserved') return J.reserved(number, guestOf(row), when(row.reservationTime) || row.reservationTime)
    if (row.status === 'available' && before.status === 'reserved') return J.unreserved(number)
    if (row.status === 'available') return isPaid ? J.freed(number) : J.cleared(number, before.orderItems?.length && before.orderTotal, currency)
    if (!row.orderItems?.length) return J.seated(number, row.guests)
  }
  const lines = linesText(row.orderItems ?? [], before.orderItems ?? [])
  if (lines) return J.lines(lines, number)
  if (before.guests !== row.guests) return J.guests(number, row.guests ?? 0)
  if (before.number !== row.number) return J.renumbered(before.number, row.number)
  if (before.seats !== row.seats) return J.seats(number, row.seats)
  return J.tableChanged(number)
}

/** `+2 Mohinga, −1 Tea`, of the first few that are different; empty where none is. */
function linesText(lines, before) {
  const difference = new Map()
  const count = (all, sign) => {
    for (const line of all) difference.set(line.name, (difference.get(line.name) ?? 0) + sign * quantityOf(line))
  }
  count(lines, 1)
  count(before, -1)
  const found = [...difference].filter(([, number]) => number !== 0)
  const shown = found.slice(0, 2).map(([name, number]) => T.journal.line(number, String(name)))
  return shown.join(', ') + (found.length > 2 ? T.journal.more(found.length - 2) : '')
}

function menuText(action, row, before, currency) {
  const J = T.journal
  if (action === 'add_category') return J.categoryNew(row.name)
  if (action === 'delete_category') return J.categoryGone(row.name)
  if (action === 'delete_item') return J.dishGone(before?.name ?? row.id)
  if (!before) return J.dishNew(row.name)
  if (before.price !== row.price) return J.price(row.name, before.price, row.price, currency)
  return J.dishChanged(row.name)
}

function orderText(action, row, before, currency) {
  const J = T.journal
  if (action === 'clear') return J.historyCleared
  if (row.status === 'void' && before?.status !== 'void') return J.voided(row.id)
  if (row.status === 'completed' && before?.status !== 'completed') return J.paid(row.tableNumber, row.total, row.currency ?? currency)
  return J.orderChanged(row.id)
}
