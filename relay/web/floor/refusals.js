// What was refused, as a person thinks of it: all that was wanted of one order together, of several edits of one row the
// last, and what can be done about it.

import { freed, LIST_OF, rowKeyOf } from './acts.js'
import { quantityOf } from './figures.js'

const OF_LINES = ['add_items', 'update_item', 'void_item']
const EDITS = ['update', 'update_item']
// What somebody can want of a table in a dialog; its lines belong to everybody.
const WANTED = ['number', 'seats', 'status', 'guests', 'seatedAt', 'customer', 'reservationTime']

export const isOfLines = ({ type, data }) => type === 'UPDATE_TABLE' && OF_LINES.includes(data.action)

function keyOf(mutation) {
  const row = rowKeyOf(mutation)
  const { code } = mutation.error
  if (row && isOfLines(mutation)) return `lines ${code} ${row}`
  if (row && EDITS.includes(mutation.data.action)) return `edit ${code} ${row}`
  return mutation.id
}

/** Refused mutations that are one thing to a person: {key, all, last}, oldest first. */
export function groupsOf(refused) {
  const groups = new Map()
  for (const mutation of refused) {
    const key = keyOf(mutation)
    const all = [...(groups.get(key)?.all ?? []), mutation]
    groups.set(key, { key, all, last: mutation })
  }
  return [...groups.values()]
}

/** What was wanted of an order in the end: lines with the `change` of their quantity, and what they `had`. */
export function linesOf(all) {
  const lines = new Map()
  for (const { data } of all) {
    const { items, was } = data.data
    for (const item of items) {
      const known = lines.get(item.id) ?? { ...was, had: was ? quantityOf(was) : 0 }
      lines.set(item.id, { ...known, ...item, quantity: data.action === 'void_item' ? 0 : quantityOf(item) })
    }
  }
  const changed = [...lines.values()].map(({ quantity, ...line }) => ({ ...line, change: quantity - line.had }))
  return changed.filter(({ change }) => change !== 0)
}

/** What can be done about a group, as [kind, function]; kinds are texts of T.notices.remedies. */
export function remediesOf(app, { all, last }) {
  const { acts, terminal } = app
  const { type, error } = last
  const { action, data: wanted } = last.data
  const list = LIST_OF[type]
  const now = list && terminal.view[list].get(wanted?.id)
  if (error.code === 'ORDER_ID_TAKEN') {
    return [['another', () => acts.order('add', { ...wanted, id: error.suggestedId })]]
  }
  if (error.code === 'GONE') {
    if (now) return [] // somebody has made it again
    if (action === 'update' && list === 'tables') return [['again', () => terminal.table('add', wanted)]]
    return action === 'update_item' && list === 'menuItems' ? [['again', () => terminal.dish('add_item', wanted)]] : []
  }
  if (error.code !== 'CONFLICT') return []
  if (action === 'add' && error.field === 'number') return [['number', () => acts.addTable({ ...wanted, number: acts.nextNumber() })]]
  if (!now) return []
  if (isOfLines(last)) {
    const again = acts.orderedAgain(now, linesOf(all))
    return again ? [['lines', again]] : []
  }
  if (action === 'delete') return [['mine', () => acts.deleteTable(now)]]
  if (action === 'delete_item') return [['mine', () => acts.deleteDish(now)]]
  if (action === 'update_item' && list === 'menuItems') return [['mine', () => acts.changeDish(now, wanted)]]
  if (action !== 'update' || list !== 'tables' || error.field === 'number') return []
  const fields = Object.fromEntries(WANTED.filter((name) => name in wanted).map((name) => [name, wanted[name]]))
  return [['mine', () => acts.changeTable(wanted.status === 'available' ? freed(now) : now, fields)]]
}
