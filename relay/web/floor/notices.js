// What was refused stays here until somebody has seen it: what they wanted, what is there now, and what to do.

import { guestOf, money, quantityOf } from './figures.js'
import { h, icon, keyed, say } from './dom.js'
import { LIST_OF } from './acts.js'
import { groupsOf, isOfLines, linesOf, remediesOf } from './refusals.js'
import { T } from './texts.js'

const SHOWN = 3

/** What a refused mutation was about, for its headline. */
function headlineOf(app, mutation) {
  const { type, data } = mutation
  const row = data.data ?? {}
  const held = LIST_OF[type] && app.terminal.view[LIST_OF[type]].get(row.id)
  const N = T.notices.what
  if (isOfLines(mutation)) return N.lines(held?.number)
  if (type === 'UPDATE_TABLE') return N.table(row.number ?? held?.number)
  if (type === 'UPDATE_MENU') return N.menu(row.name ?? held?.name)
  if (type === 'UPDATE_ORDER') return data.action === 'add' ? N.payment(row.tableNumber) : N.order(row.id)
  return N.settings()
}

function tableText(app, row) {
  const guests = row.status === 'occupied' && row.guests ? T.table.guests(row.guests) : guestOf(row)
  const total = row.orderItems?.length ? money(row.orderTotal, app.currency) : ''
  return T.notices.table(T.floor.status[row.status], guests, total)
}

const dishText = (app, dish) => [dish.name, money(dish.price, app.currency)].join(', ')

/** What there is now, as far as it can be said in a line. */
function nowOf(app, { type, data, error }) {
  const { id, number } = data.data ?? {}
  if (!['CONFLICT', 'GONE'].includes(error.code) || !id || !['UPDATE_TABLE', 'UPDATE_MENU'].includes(type)) return ''
  if (error.field === 'number') return T.notices.taken(number)
  const row = app.terminal.view[LIST_OF[type]].get(id)
  if (!row) return T.notices.deleted
  return T.notices.now(type === 'UPDATE_TABLE' ? tableText(app, row) : dishText(app, row))
}

/** What was wanted and is not done. */
function wantedOf(app, { all, last }) {
  const { type, data } = last
  const wanted = data.data ?? {}
  if (isOfLines(last)) return T.notices.lost(linesOf(all).map(({ name, change, had }) => T.notices.line(name, change, had)))
  if (type === 'UPDATE_TABLE' && data.action === 'add') return T.notices.wanted(T.floor.guests(0, wanted.seats))
  if (type === 'UPDATE_TABLE' && wanted.status) return T.notices.wanted(tableText(app, wanted))
  if (type === 'UPDATE_MENU' && 'price' in wanted) return T.notices.wanted(dishText(app, wanted))
  if (type === 'UPDATE_ORDER' && data.action === 'add') {
    const items = (Array.isArray(wanted.items) ? wanted.items : []).map((line) => T.notices.line(line.name, quantityOf(line), 0))
    return T.notices.lost([money(wanted.total, app.currency), ...items])
  }
  if (type !== 'UPDATE_SETTINGS') return ''
  return T.notices.lost(Object.entries(data).map(([name, value]) => T.notices.setting(T.settings[name] ?? name, value)))
}

function whoOf(app, { type, data, error }) {
  const list = LIST_OF[type]
  const found = error.code === 'CONFLICT' && list ? app.journal.of(list, data.data?.id) : null
  return found && !app.people.isMe(found.who) ? T.notices.changed(app.people.label(found.who)) : ''
}

function adviceOf({ last }, remedies) {
  const { code, todo } = last.error
  if (isOfLines(last) && code === 'CONFLICT') return remedies.length ? T.notices.linesAdvice : T.notices.linesLater
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
    if (kind) new Map(remediesOf(app, shown)).get(kind)?.()
    for (const mutation of shown.all) app.terminal.dismiss(mutation)
    app.refresh()
  }
  const list = keyed(others, {
    key: ([kind]) => kind,
    make: ([kind]) => h('button.button.primary', { type: 'button', onclick: () => put(kind) }, T.notices.remedies[kind]),
  })

  const notice = h('li.notice.card', {}, icon('alert'), h('div.notice-text', {}, what, text, advice), actions)
  notice.show = (group) => {
    shown = group
    const { last } = group
    const remedies = remediesOf(app, group)
    say(what, headlineOf(app, last))
    const known = [whoOf(app, last), nowOf(app, last), wantedOf(app, group)].filter(Boolean)
    say(text, known.join(' ') || `${last.error.message}.`)
    say(advice, adviceOf(group, remedies))
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
    element: h('div', {}, rows, more),
    show() {
      const groups = groupsOf(app.terminal.refused)
      rows.hidden = groups.length === 0
      more.hidden = groups.length <= SHOWN
      say(more, T.notices.more(groups.length - SHOWN))
      return list(groups.slice(0, SHOWN))
    },
  }
}
