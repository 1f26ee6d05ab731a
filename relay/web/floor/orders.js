// The order history: what was paid, newest first, and an order opened.

import { h, icon, keyed, openDialog, say } from './dom.js'
import { amount, costOf, dayOf, money, quantityOf, when } from './figures.js'
import { needs } from './roles.js'
import { currencyOf, saleOf, takerOf } from './sales.js'
import { sure } from './tabledialogs.js'
import { whoLine } from './tables.js'
import { T } from './texts.js'

const TONES = { completed: 'good', void: 'bad' }
const itemsOf = (order) => (Array.isArray(order.items) ? order.items : [])
const shortOf = (id) => (/^POS-\d{8}-/.test(id) ? `#${id.slice(13)}` : id)

function orderDialog(app, order) {
  openDialog(T.orders.titleOf(shortOf(order.id)), (close) => {
    const line = (label, sum, className = '') =>
      h('div', { className: `sum ${className}` }, h('span', {}, label), h('span', {}, sum))
    const currency = currencyOf(app, order)
    const sum = (label, value) => (Number(value) ? line(label, money(value, currency)) : null)
    const taker = takerOf(app, order)
    const facts = [
      T.orders.table(order.tableNumber),
      order.customerName,
      order.guests && T.table.guests(order.guests),
      when(order.paidAt ?? order.createdAt) || order.orderDate,
      T.orders.paidBy[order.payment],
      taker && T.orders.taker(taker),
    ]
    const voiding = () => {
      close()
      sure(T.orders.voidSure, T.orders.voidHint, T.orders.void, () => app.acts.voidOrder(order.id))
    }
    const remove = h('button.button.danger.quiet.first', { type: 'button', onclick: voiding }, T.orders.void)
    needs('UPDATE_ORDER', remove)
    return [
      h('p', {}, h('span', { className: `chip ${TONES[order.status] ?? ''}` }, T.orders.status(order.status))),
      h('p.muted', {}, facts.filter(Boolean).join(' · ')),
      h(
        'div.sums',
        {},
        ...itemsOf(order).map((one) => line(`${quantityOf(one)} × ${one.name ?? one.id}`, amount(costOf(one, currency), currency))),
        sum(T.table.subtotal, order.subtotal !== order.total && order.subtotal),
        sum(T.table.service(order.serviceCharge), order.service),
        sum(T.table.tax(order.taxRate), order.tax),
        line(T.table.total, money(order.total, currency), 'total'),
      ),
      h('p.muted.small.mono', {}, order.id),
      h('div.actions', {}, order.status === 'void' ? null : remove, h('button.button.primary', { type: 'button', autofocus: true, onclick: close }, T.close)),
    ]
  })
}

/** What was paid, by currency. */
function sumsOf(app, orders) {
  const sums = new Map()
  for (const order of orders) {
    const currency = currencyOf(app, order)
    sums.set(currency, (sums.get(currency) ?? 0) + (Number(order.total) || 0))
  }
  return [...sums].map(([currency, sum]) => money(Number(sum.toFixed(6)), currency))
}

function makeRow(app, { id }) {
  const number = h('span.order-number')
  const table = h('span')
  const detail = h('span.muted.small.clip')
  const chip = h('span.chip')
  const [who, setWho] = whoLine(app, 'who.small')
  const waiting = h('span.waiting.small', {}, icon('clock', 's'), T.pending)
  const total = h('span.number.order-total')
  const open = h('button.order-row', { type: 'button', onclick: () => app.terminal.orders.has(id) && orderDialog(app, app.terminal.orders.get(id)) })
  open.append(h('span.order-what', {}, h('span.order-first', {}, table, number), detail), h('span.order-state', {}, waiting, who), chip, total)
  const row = h('li', {}, open)
  row.show = (order) => {
    say(number, shortOf(order.id))
    say(table, T.orders.table(order.tableNumber))
    const items = itemsOf(order)
    const count = T.orders.items(items.reduce((all, line) => all + quantityOf(line), 0))
    const moment = when(order.paidAt ?? order.createdAt) || order.orderDate
    say(detail, [moment, order.customerName, count].filter(Boolean).join(' · '))
    chip.className = `chip ${TONES[order.status] ?? ''}`
    say(chip, T.orders.status(order.status))
    say(total, money(order.total, currencyOf(app, order)))
    const found = app.journal.of('orderHistory', order.id)
    const isWaiting = app.isPending('orderHistory', order.id)
    waiting.hidden = !isWaiting
    const taker = found ? '' : takerOf(app, order)
    setWho(isWaiting ? null : (found ?? (taker ? { who: order.by, at: order.paidAt } : null)))
    if (taker && !isWaiting) say(who.querySelector('.who-name'), T.by(taker, when(order.paidAt)))
    row.classList.toggle('fresh', Boolean(found?.fresh))
    row.classList.toggle('is-void', order.status === 'void')
    row.dataset.colour = found ? app.people.colour(found.who) : ''
  }
  return row
}

/** Not while what a table has paid is known from the history alone. */
function clearHistory(app) {
  const open = [...app.terminal.tables.values()].filter(({ orderId }) => saleOf(app.terminal, orderId))
  if (!open.length) return sure(T.orders.clearSure, T.orders.clearHint, T.orders.clear, () => app.acts.clearHistory())
  return openDialog(T.orders.clearSure, (close) => [
    h('p', {}, T.orders.clearNot(open.map(({ number }) => number))),
    h('div.actions', {}, h('button.button', { type: 'button', onclick: close }, T.close)),
  ])
}

/** The day of a sale, here: the MiniPOS app's `orderDate` is the day in London. */
function soldOn({ paidAt, createdAt, orderDate }) {
  const moment = new Date(paidAt ?? createdAt ?? NaN)
  return Number.isNaN(moment.getTime()) ? orderDate : dayOf(moment)
}

export function makeOrders(app) {
  const today = h('span.muted')
  const clear = h(
    'button.button.danger.quiet',
    { type: 'button', onclick: () => clearHistory(app) },
    T.orders.clear,
  )
  needs('UPDATE_ORDER', clear)
  const empty = h('div.empty', {}, icon('orders'), h('p', {}, T.orders.empty), h('p.small', {}, T.orders.emptyHint))
  const rows = h('ul.card.order-rows')
  const element = h(
    'section.view.orders',
    { 'aria-label': T.orders.title },
    h('div.view-head', {}, h('h1', {}, T.orders.title), today, h('div.spread'), clear),
    empty,
    rows,
  )
  const list = keyed(rows, {
    make: (order) => makeRow(app, order),
    update: (row, order) => row.show(order),
    stamp: ({ id }) => {
      const found = app.journal.of('orderHistory', id)
      const told = found ? `${found.revision} ${found.fresh} ${app.people.label(found.who)}` : ''
      return `${app.isPending('orderHistory', id)} ${told} ${app.currency}`
    },
  })
  return {
    element,
    show() {
      const orders = [...app.terminal.orders.values()].reverse()
      const day = dayOf(new Date())
      const ofToday = orders.filter((order) => order.status === 'completed' && soldOn(order) === day)
      say(today, app.isLoaded ? T.orders.today(ofToday.length, sumsOf(app, ofToday)) : T.loading)
      empty.hidden = !app.isLoaded || orders.length > 0
      rows.hidden = clear.hidden = orders.length === 0
      return list(orders)
    },
  }
}
