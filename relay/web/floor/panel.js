// One table, opened: seat guests, their order with its lines, the menu to add from, and the payment.

import { h, icon, keyed, mark, say } from './dom.js'
import { amount, costOf, guestOf, money, quantityOf } from './figures.js'
import { payDialog } from './payment.js'
import { makePicker } from './picker.js'
import { needs } from './roles.js'
import { dueOf, paidText, saleOf } from './sales.js'
import { clearTable, reservedText, reserveDialog, tableDialog } from './tabledialogs.js'
import { statusChip, whoLine } from './tables.js'
import { T } from './texts.js'

const button = (classes, onclick, ...children) => h(`button.button${classes}`, { type: 'button', onclick }, ...children)
const iconButton = (name, label, onclick) => {
  const made = button('.icon-only', onclick, icon(name, 's'))
  made.setAttribute('aria-label', label)
  return made
}

function makeLine(app, tableOf, item) {
  const name = h('span.line-name')
  const price = h('span.muted.small')
  const quantity = h('span.line-quantity', { 'aria-live': 'off' })
  const cost = h('span.number.line-cost')
  const [who, setWho] = whoLine(app, 'who.small')
  /** Change the line as it is now: two taps may come between two pictures. */
  const change = (by) => () => {
    const table = tableOf()
    const line = table?.orderItems?.find(({ id }) => id === item.id)
    if (line) app.acts.changeLine(table, line, by)
  }
  const fewer = iconButton('minus', '', change(-1))
  const more = iconButton('plus', '', change(1))
  needs('UPDATE_TABLE', fewer, more)
  const element = h(
    'li.line',
    {},
    h('span.line-what', {}, name, h('span.line-detail', {}, price, who)),
    h('span.stepper', {}, fewer, quantity, more),
    cost,
  )
  element.show = (line) => {
    const number = quantityOf(line)
    say(name, String(line.name ?? line.id))
    say(price, money(line.price, app.currency))
    say(quantity, String(number))
    say(cost, amount(costOf(line, app.currency), app.currency))
    mark(fewer, 'aria-label', number > 1 ? T.table.oneFewer(line.name) : T.table.takeOff(line.name))
    mark(more, 'aria-label', T.table.oneMore(line.name))
    setWho(line.by ? { who: line.by, at: null } : null)
    if (line.by) say(who.querySelector('.who-name'), app.people.label(line.by))
  }
  return element
}

/** Buttons for as many guests as a table may have. */
function makeGuestButtons(seat) {
  const row = h('div.guest-buttons')
  const list = keyed(row, {
    key: (number) => number,
    make: (number) => {
      const made = button('', () => seat(number), String(number))
      made.setAttribute('aria-label', T.table.guests(number))
      return made
    },
  })
  row.show = (seats) => list(Array.from({ length: Math.min(12, Math.max(2, seats + 2)) }, (_, n) => n + 1))
  return row
}

export function makePanel(app) {
  const current = () => app.terminal.tables.get(app.route.table)
  const done = (act) => (...given) => current() && act(current(), ...given)

  const title = h('h2.panel-title', { id: 'panel-title', tabIndex: -1 })
  const [chip, setStatus] = statusChip()
  const [who, setWho] = whoLine(app)
  const waiting = h('span.waiting', {}, icon('clock', 's'), T.pending)
  const close = iconButton('close', T.back, () => app.go('#/floor'))
  const edit = iconButton('edit', T.table.edit, done((table) => tableDialog(app, table)))
  const head = h('header.panel-head', {}, h('div.panel-name', {}, title, chip), edit, close)
  const under = h('p.panel-under', {}, waiting, who)
  const onlyShows = h('p.panel-under.muted', { hidden: true }, T.table.onlyShows)

  const gone = h('div.empty', {}, icon('floor'), h('p', {}, T.table.gone), h('p.small', {}, T.table.goneHint))

  // Free or reserved
  const reservation = h('p.reservation')
  const unreserve = button('.quiet', done((table) => app.acts.clear(table)), T.table.unreserve)
  const howMany = h('h3', {}, T.table.howMany)
  const guestButtons = makeGuestButtons(done((table, number) => table.status !== 'occupied' && app.acts.seat(table, number)))
  const reserve = button('', done((table) => reserveDialog(app, table)), icon('clock', 's'), T.table.reserve)
  const seating = h(
    'div.panel-body.seating',
    {},
    h('div.reserved', {}, reservation, unreserve),
    howMany,
    guestButtons,
    reserve,
  )

  // Occupied
  const guests = h('span.guests')
  const fewer = iconButton('minus', T.table.fewer, done((table) => app.acts.addGuests(table, -1)))
  const more = iconButton('plus', T.table.more, done((table) => app.acts.addGuests(table, 1)))
  const lines = h('ul.lines')
  const noLines = h('p.muted.no-lines')
  const tax = h('span.muted.small')
  const total = h('strong.total')
  const pay = button('.primary.pay', done((table) => table.orderItems?.length && payDialog(app, table)), T.table.pay)
  const clear = button('', done((table) => clearTable(app, table)), T.table.clear)
  const picker = makePicker(app, (dish) => dish && current() && app.acts.addDish(current(), dish))
  const order = h(
    'div.order',
    {},
    h('div.order-head', {}, h('h3', {}, T.table.order), h('span.stepper', {}, fewer, guests, more)),
    noLines,
    lines,
  )
  const foot = h('footer.panel-foot', {}, h('div.bill', {}, h('span', {}, T.table.total), total, tax), h('div.actions', {}, clear, pay))
  const noMore = h('p.muted.no-more', {}, T.table.noMore)
  const serving = h('div.panel-body.serving', {}, order, picker.element, noMore)

  needs('UPDATE_TABLE', edit, unreserve, howMany, guestButtons, reserve, fewer, more, clear, picker.element)
  needs('UPDATE_TABLE UPDATE_ORDER', pay)

  const list = keyed(lines, {
    key: (line, n) => line.id ?? n,
    make: (line) => makeLine(app, current, line),
    update: (element, line) => element.show(line),
    stamp: (line) => `${app.currency} ${line.by ? app.people.label(line.by) : ''}`,
  })

  const element = h('aside.panel', { 'aria-labelledby': 'panel-title' }, head, under, onlyShows, gone, seating, serving, foot)

  return {
    element,
    title,
    show() {
      const table = current()
      const isServing = table?.status === 'occupied'
      gone.hidden = Boolean(table) || !app.isLoaded
      seating.hidden = !table || isServing
      serving.hidden = foot.hidden = !isServing
      chip.hidden = edit.hidden = !table
      under.hidden = !table
      onlyShows.hidden = !table || app.may('UPDATE_TABLE')
      if (!table) return say(title, T.views.floor), true
      say(title, T.floor.name(table.number))
      setStatus(table.status)
      const found = app.journal.of('tables', table.id)
      const isWaiting = app.isPending('tables', table.id)
      waiting.hidden = !isWaiting
      setWho(isWaiting ? null : found)
      under.hidden = !isWaiting && !found
      element.classList.toggle('fresh', Boolean(found?.fresh) && !app.people.isMe(found.who))
      element.dataset.colour = found ? app.people.colour(found.who) : ''
      if (!isServing) {
        reservation.parentElement.hidden = table.status !== 'reserved'
        say(reservation, reservedText(table, guestOf(table)))
        reserve.hidden = table.status === 'reserved'
        return guestButtons.show(table.seats)
      }
      const items = table.orderItems ?? []
      say(guests, T.table.guests(table.guests ?? 0))
      fewer.disabled = (table.guests ?? 0) <= 1
      noLines.hidden = items.length > 0
      say(noLines, app.may('UPDATE_TABLE') ? T.table.noLines : T.table.nothing)
      const sums = dueOf(app.terminal, table)
      const sale = saleOf(app.terminal, table.orderId)
      say(total, money(sums.total, app.currency))
      const extra = [
        sums.service && T.table.service(app.terminal.view.settings.serviceCharge),
        sums.tax && T.table.tax(app.terminal.view.settings.taxRate),
      ]
      say(tax, sale ? T.table.alreadyPaid(paidText(app, sale)) : extra.filter(Boolean).join(', '))
      pay.hidden = items.length === 0
      // The relay takes no line of an order that is paid.
      picker.element.hidden = Boolean(sale)
      noMore.hidden = !sale
      const isDone = list(items)
      return picker.show(table.id) && isDone
    },
  }
}
