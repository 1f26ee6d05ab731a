// What was refused, as a person thinks of it: all that was wanted of one order together, of several edits of one row the
// last, and what can be done about it. Nothing is done to other guests than those it was meant for.

import { partyOf } from './acts.js'
import { quantityOf } from './figures.js'
import { saleOf } from './sales.js'
import { clearTable } from './tabledialogs.js'
import { LIST_OF, rowKeyOf } from './versions.js'

const EDITS = ['update', 'update_item']

export const isOfLines = ({ type, data }) => type === 'UPDATE_TABLE' && Boolean(data.data?.items)
export const isSale = ({ type, data }) => type === 'UPDATE_ORDER' && data.action === 'add'
/** A sale that was refused because there is one with its id. */
export const isPaidTwice = (mutation) => isSale(mutation) && ['ORDER_ID_TAKEN', 'CONFLICT'].includes(mutation.error.code)
export const isNewTable = ({ type, data }) => type === 'UPDATE_TABLE' && data.action === 'add'
/** Lines that were meant for other guests than those who sit there now. */
export const isOfOthers = (mutation, now) =>
  isOfLines(mutation) && Boolean(mutation.data.data.orderId && now?.orderId) && mutation.data.data.orderId !== now.orderId
export const isFreeing = ({ type, data }) => type === 'UPDATE_TABLE' && Boolean(data.meant?.sale)
export const isReserving = ({ type, data }) => type === 'UPDATE_TABLE' && data.meant?.fields?.status === 'reserved'

function keyOf(mutation) {
  const row = rowKeyOf(mutation)
  if (row && isOfLines(mutation)) return `lines ${row} ${mutation.data.data.orderId ?? ''}`
  if (row && EDITS.includes(mutation.data.action)) return `edit ${row} ${isFreeing(mutation)}`
  return mutation.id
}

/** Refused mutations that are one thing to a person: {key, all, last}, oldest first. `last` says what it is about. */
export function groupsOf(refused) {
  const groups = new Map()
  for (const mutation of refused) {
    // What was done at a table that could not be added.
    const made = groups.get(`table ${rowKeyOf(mutation)}`)
    const key = made?.key ?? (isNewTable(mutation) ? `table ${rowKeyOf(mutation)}` : keyOf(mutation))
    const all = [...(groups.get(key)?.all ?? []), mutation]
    groups.set(key, { key, all, last: made?.last ?? mutation })
  }
  return [...groups.values()]
}

/** What was wanted of an order in the end: lines with the `change` of their quantity, and what they `had`. */
export function linesOf(all) {
  const lines = new Map()
  for (const { data } of all) {
    const was = data.meant?.was
    for (const item of data.data.items) {
      const known = lines.get(item.id) ?? { ...was, had: was ? quantityOf(was) : 0 }
      lines.set(item.id, { ...known, ...item, quantity: data.action === 'void_item' ? 0 : quantityOf(item) })
    }
  }
  const changed = [...lines.values()].map(({ quantity, ...line }) => ({ ...line, change: quantity - line.had }))
  return changed.filter(({ change }) => change !== 0)
}

/** What somebody wanted of a table may be done to the guests it was meant for, or to a table that has no order yet. */
function ofTable(app, { all, last }, now) {
  const { acts, terminal } = app
  const { party, fields } = last.data.meant ?? {}
  if (!fields || isFreeing(last)) return []
  const again = () => all.forEach(({ data }) => acts.changeTableAgain(terminal.tables.get(now.id), data.data, data.meant))
  if (fields.status === 'available') return partyOf(now) === party ? [['clear', () => clearTable(app, now)]] : []
  if (all.every(({ data }) => Object.keys(data.meant.fields).every((name) => ['number', 'seats'].includes(name)))) return [['mine', again]]
  if (isReserving(last) && now.status === 'reserved') return [['instead', again]]
  if (now.status !== 'occupied') return 'status' in fields ? [['mine', again]] : []
  if (now.orderItems?.length || !('guests' in fields)) return partyOf(now) === party ? [['mine', again]] : []
  return [['mine', () => acts.setGuests(now, fields.guests)]]
}

/** A table whose number is taken, with another one, and all that was done at it. */
function withNumber({ acts, wishes }, [made, ...others]) {
  acts.addTableAgain({ ...made.data.data, number: acts.nextNumber() })
  wishes.reconsider(others)
  return [made] // of the others each is put away when it is done, or told
}

/**
 * What can be done about a group, as [kind, function]; kinds are texts of T.notices.remedies. What a function returns, where
 * that is an array, is all that is done with.
 */
export function remediesOf(app, group) {
  const { all, last } = group
  const { acts, terminal } = app
  const { type, error } = last
  if (!app.may(type)) return []
  const { action, data: wanted, meant } = last.data
  const list = LIST_OF[type]
  const now = list && terminal.view[list].get(wanted?.id)
  if (isPaidTwice(last)) return [['another', () => acts.addSaleApart(wanted, error.suggestedId)]]
  if (error.code === 'GONE') {
    if (now) return [] // somebody has made it again
    if (action === 'update' && list === 'tables') return [['again', () => acts.addTableAgain(wanted)]]
    return action === 'update_item' && list === 'menuItems' ? [['again', () => acts.addDishAgain(wanted)]] : []
  }
  if (!['CONFLICT', 'NOT_SENT'].includes(error.code)) return []
  if (isNewTable(last) && error.field === 'number') return [['number', () => withNumber(app, all)]]
  if (!now) return []
  if (isOfLines(last)) {
    const again = saleOf(terminal, now.orderId) ? null : acts.orderedAgain(now, linesOf(all))
    return again ? [[isOfOthers(last, now) ? 'others' : 'lines', again]] : []
  }
  if (action === 'delete') return partyOf(now) === meant?.party && !now.orderItems?.length ? [['mine', () => acts.deleteTable(now)]] : []
  if (action === 'delete_item') return [['mine', () => acts.deleteDish(now)]]
  if (action === 'update_item' && list === 'menuItems') return [['mine', () => acts.changeDish(now, meant?.fields ?? {})]]
  if (action !== 'update' || list !== 'tables' || error.field === 'number') return []
  return ofTable(app, group, now)
}
