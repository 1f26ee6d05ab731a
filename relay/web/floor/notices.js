// What was refused stays here until somebody has seen it: what they wanted, what is there now, and what to do.

import { guestOf, money } from './figures.js'
import { h, icon, keyed } from './dom.js'
import { LIST_OF } from './acts.js'
import { T } from './texts.js'

const SHOWN = 3

/** What a refused mutation was about, for its headline. */
function subjectOf(app, { type, data }) {
  const row = data.data ?? {}
  const held = LIST_OF[type] && app.terminal.view[LIST_OF[type]].get(row.id)
  if (type === 'UPDATE_TABLE') return row.number ?? held?.number
  if (type === 'UPDATE_MENU') return row.name ?? held?.name
  return row.id
}

function tableText(app, row) {
  const guests = row.status === 'occupied' && row.guests ? T.table.guests(row.guests) : guestOf(row)
  const total = row.orderItems?.length ? money(row.orderTotal, app.currency) : ''
  return T.notices.table(T.floor.status[row.status], guests, total)
}

/** What is there now and what was wanted, where both can be said in a line. */
function sidesOf(app, { type, data, error }) {
  const wanted = data.data ?? {}
  const now = error.current && LIST_OF[type] && app.terminal.view[LIST_OF[type]].get(error.current.id)
  if (type === 'UPDATE_TABLE' && now) {
    return [T.notices.now(tableText(app, now)), wanted.status && T.notices.wanted(tableText(app, wanted))]
  }
  if (type === 'UPDATE_MENU' && now) {
    const text = (dish) => [dish.name, money(dish.price, app.currency)].join(', ')
    return [T.notices.now(text(now)), 'price' in wanted && T.notices.wanted(text(wanted))]
  }
  return []
}

function makeNotice(app, mutation) {
  const { type, error } = mutation
  const list = LIST_OF[type]
  const found = error.code === 'CONFLICT' && list ? app.journal.of(list, mutation.data.data?.id) : null
  const who = found && !app.people.isMe(found.who) ? T.notices.changed(app.people.label(found.who)) : ''
  const sides = sidesOf(app, mutation)
  const dismiss = () => {
    app.terminal.dismiss(mutation)
    app.refresh()
  }
  const remedies = app.acts.remediesOf(mutation).map(([kind, act]) =>
    h('button.button.primary', { type: 'button', onclick: () => [dismiss(), act()] }, T.notices.remedies[kind]),
  )
  const what = (T.notices.what[type] ?? T.notices.what.UPDATE_SETTINGS)(subjectOf(app, mutation))
  return h(
    'li.notice.card',
    {},
    icon('alert'),
    h(
      'div.notice-text',
      {},
      h('strong', {}, what),
      h('p', {}, [who, ...sides].filter(Boolean).join(' ') || `${error.message}.`),
      h('p.muted.small', {}, T.notices.advice[error.code] ?? `${error.todo[0].toUpperCase()}${error.todo.slice(1)}.`),
    ),
    h('div.actions', {}, h('button.button', { type: 'button', onclick: dismiss }, remedies.length ? T.notices.dismiss : T.notices.ok), ...remedies),
  )
}

export function makeNotices(app) {
  const rows = h('ul.notices', { 'aria-label': T.notices.label, 'aria-live': 'assertive' })
  const list = keyed(rows, { make: (mutation) => makeNotice(app, mutation) })
  app.terminal.on('refused', () => app.refresh())
  return {
    element: rows,
    show() {
      const { refused } = app.terminal
      rows.hidden = refused.length === 0
      return list(refused.slice(0, SHOWN))
    },
  }
}
