// What was refused stays here until somebody has seen it: what they wanted, what is there now, and what to do.

import { guestOf, money, quantityOf, when } from './figures.js'
import { h, icon, keyed, say } from './dom.js'
import { groupsOf, isFreeing, isNewTable, isOfLines, isOfOthers, isPaidTwice, isReserving, isSale, linesOf, remediesOf } from './refusals.js'
import { rolesFor } from './roles.js'
import { currencyOf, dueOf, paidText, saleOf, unpaid } from './sales.js'
import { T } from './texts.js'
import { LIST_OF } from './versions.js'

const SHOWN = 3
// What makes a sale double, loses an order or a reservation or is put on the bill of others is not what lies nearest.
const CAREFUL = ['another', 'clear', 'instead', 'others']

/** What a refused mutation was about, for its headline. */
function headlineOf(app, mutation) {
  const { type, data } = mutation
  const row = data.data ?? {}
  const held = LIST_OF[type] && app.terminal.view[LIST_OF[type]].get(row.id)
  const N = T.notices.what
  if (isOfLines(mutation)) return N.lines(held?.number)
  if (isFreeing(mutation)) return N.freeing(row.number)
  if (isReserving(mutation)) return N.reserving(held?.number ?? row.number)
  if (type === 'UPDATE_TABLE') return N.table(row.number ?? held?.number)
  if (type === 'UPDATE_MENU') return N.menu(row.name ?? held?.name)
  if (type === 'UPDATE_ORDER') return isSale(mutation) ? N.payment(row.tableNumber) : N.order(row.id)
  return N.settings()
}

function tableText(app, row) {
  const guests = row.status === 'occupied' && row.guests ? T.table.guests(row.guests) : guestOf(row)
  const total = row.orderItems?.length ? money(dueOf(app.terminal, row).total, app.currency) : ''
  return T.notices.table(T.floor.status[row.status], guests, row.status === 'reserved' && timeOf(row), total)
}

const timeOf = (row) => when(row.reservationTime) || row.reservationTime

const dishText = (app, dish) => [dish.name, money(dish.price, app.currency)].join(', ')

const linesText = (lines) => lines.map((line) => T.notices.line(line.name, quantityOf(line), 0))

/** What there is now, as far as it can be said in a line. */
function nowOf(app, mutation) {
  const { type, data, error } = mutation
  const { id, number } = data.data ?? {}
  if (error.code === 'FORBIDDEN' && error.field === 'type') return T.notices.forbidden(type, rolesFor(type))
  if (isPaidTwice(mutation)) {
    const sale = app.terminal.view.orderHistory.get(id) ?? error.current
    if (sale?.status === 'void') return T.notices.voided(paidText(app, sale))
    return sale?.status === 'completed' ? T.notices.alreadyPaid(paidText(app, sale)) : T.notices.anotherOrder
  }
  if (!['CONFLICT', 'GONE', 'NOT_SENT'].includes(error.code) || !id || !['UPDATE_TABLE', 'UPDATE_MENU'].includes(type)) return ''
  if (error.field === 'number') return T.notices.taken(number)
  const row = app.terminal.view[LIST_OF[type]].get(id)
  if (!row) return T.notices.deleted
  if (isReserving(mutation) && row.status === 'reserved') return T.notices.reservedNow(guestOf(row), timeOf(row))
  if (isReserving(mutation) && row.status === 'occupied') return T.notices.seatedNow(row.guests && T.table.guests(row.guests))
  const text = T.notices.now(type === 'UPDATE_TABLE' ? tableText(app, row) : dishText(app, row))
  if (!isOfOthers(mutation, row)) return text
  const sale = saleOf(app.terminal, data.data.orderId)
  return `${T.notices.gone(sale && paidText(app, sale))} ${text}`
}

/** What was wanted and is not done. */
function wantedOf(app, { all, last }) {
  const { type, data } = last
  const wanted = data.data ?? {}
  if (isOfLines(last)) return T.notices.lost(linesOf(all).map(({ name, change, had }) => T.notices.line(name, change, had)))
  if (isFreeing(last)) {
    const row = app.terminal.view.tables.get(wanted.id)
    return row ? T.notices.unpaid(linesText(unpaid(app.terminal, row))) : ''
  }
  if (isNewTable(last)) {
    const lines = linesOf(all.filter(isOfLines)).map(({ name, change, had }) => T.notices.line(name, change, had))
    return [T.notices.wanted(T.floor.guests(0, wanted.seats)), T.notices.lost(lines)].filter(Boolean).join(' ')
  }
  if (type === 'UPDATE_TABLE' && wanted.status) return T.notices.wanted(tableText(app, wanted))
  if (type === 'UPDATE_MENU' && 'price' in wanted) return T.notices.wanted(dishText(app, wanted))
  if (isSale(last)) {
    const taken = [money(wanted.total, currencyOf(app, wanted)), T.orders.paidBy[wanted.payment]?.toLowerCase()].filter(Boolean)
    return T.notices.lost([taken.join(' '), ...linesText(Array.isArray(wanted.items) ? wanted.items : [])])
  }
  if (type !== 'UPDATE_SETTINGS') return ''
  return T.notices.lost(Object.entries(data).map(([name, value]) => T.notices.setting(T.settings[name] ?? name, value)))
}

function whoOf(app, { type, data, error }) {
  const list = LIST_OF[type]
  const found = ['CONFLICT', 'NOT_SENT'].includes(error.code) && list && type !== 'UPDATE_ORDER' ? app.journal.of(list, data.data?.id) : null
  return found && !app.people.isMe(found.who) ? T.notices.changed(app.people.label(found.who)) : ''
}

/** What to do about it; of the buttons only those are named that are there. */
function adviceOf(app, { last }, remedies) {
  const { code, todo } = last.error
  const isConflict = ['CONFLICT', 'NOT_SENT'].includes(code)
  if (isPaidTwice(last)) return T.notices.advice.ORDER_ID_TAKEN
  if (isFreeing(last) && isConflict) return T.notices.freeingAdvice
  if (isOfLines(last) && isConflict) {
    if (remedies.length) return remedies[0][0] === 'others' ? T.notices.othersAdvice : T.notices.linesAdvice
    const row = app.terminal.view.tables.get(last.data.data.id)
    return row && saleOf(app.terminal, row.orderId) ? T.notices.linesPaid : T.notices.linesLater
  }
  if (isReserving(last) && isConflict && !remedies.length) return T.notices.seatedAdvice
  if (isConflict) return T.notices.adviceOf[remedies[0]?.[0]] ?? T.notices.later
  if (code === 'GONE' && !remedies.length) return T.notices.later
  return T.notices.advice[code] ?? `${todo[0].toUpperCase()}${todo.slice(1)}.`
}

function makeNotice(app) {
  const what = h('strong')
  const text = h('p')
  const advice = h('p.muted.small')
  const dismiss = h('button.button', { type: 'button', onclick: () => put() })
  const others = h('div.remedies')
  const actions = h('div.actions', {}, dismiss, others)
  let shown = null

  /** Put the notice away, once what is done about it is on its way. */
  function put(kind = null) {
    const done = kind && new Map(remediesOf(app, shown)).get(kind)?.()
    for (const mutation of Array.isArray(done) ? done : shown.all) app.wishes.dismiss(mutation)
    app.refresh()
  }
  const list = keyed(others, {
    key: ([kind]) => kind,
    make: ([kind]) => h(`button.button${CAREFUL.includes(kind) ? '' : '.primary'}`, { type: 'button', onclick: () => put(kind) }, T.notices.remedies[kind]),
  })

  const notice = h('li.notice.card', {}, icon('alert'), h('div.notice-text', {}, what, text, advice), actions)
  notice.show = (group) => {
    shown = group
    const { last } = group
    const remedies = remediesOf(app, group)
    say(what, headlineOf(app, last))
    const known = [whoOf(app, last), nowOf(app, last), wantedOf(app, group)].filter(Boolean)
    say(text, known.join(' ') || `${last.error.message}.`)
    say(advice, adviceOf(app, group, remedies))
    say(dismiss, remedies.length ? T.notices.dismiss : T.notices.ok)
    list(remedies)
  }
  return notice
}

export function makeNotices(app) {
  const rows = h('ul.notices', { 'aria-label': T.notices.label, 'aria-live': 'assertive' })
  const more = h('p.notices-more.small')
  // A group is made anew each time: what there is now may be another although nothing else was refused.
  const list = keyed(rows, { key: ({ key }) => key, make: () => makeNotice(app), update: (notice, group) => notice.show(group) })
  app.terminal.on('refused', () => app.refresh())
  return {
    element: h('div', {}, more, rows),
    show() {
      const groups = groupsOf(app.wishes.told)
      rows.hidden = groups.length === 0
      more.hidden = groups.length <= SHOWN
      say(more, T.notices.more(groups.length - SHOWN))
      return list(groups.slice(0, SHOWN))
    },
  }
}
