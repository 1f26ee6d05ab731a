// The payment of a table: what is shown is what is recorded, whatever others do meanwhile.

import { partyOf } from './acts.js'
import { h, openDialog, say } from './dom.js'
import { bill, money, seenOf } from './figures.js'
import { paidText, saleOf, unpaid } from './sales.js'
import { T } from './texts.js'

/** What a table is to pay as it is now, and what a person has seen of it; null where there is nothing to pay. */
function askedOf({ terminal }, table) {
  const { settings } = terminal.view
  const due = table && { ...table, orderItems: unpaid(terminal, table) }
  if (!due?.orderItems.length) return null
  const sums = bill(due, settings)
  const percents = [sums.service && settings.serviceCharge, sums.tax && settings.taxRate]
  return { due, sums, percents, seen: JSON.stringify([partyOf(due), seenOf(due), sums, percents, settings.currency]) }
}

function sumsOf({ sums, percents }, currency) {
  const line = (label, sum, className = '') =>
    h('div', { className: `sum ${className}` }, h('span', {}, label), h('span', {}, money(sum, currency)))
  const lines = [
    line(T.table.subtotal, sums.subtotal),
    sums.service ? line(T.table.service(percents[0]), sums.service) : null,
    sums.tax ? line(T.table.tax(percents[1]), sums.tax) : null,
    line(T.table.total, sums.total, 'total'),
  ]
  return lines.filter(Boolean)
}

/**
 * Take the payment. Where it changes meanwhile the new sum is shown, and paid only after somebody has agreed to it. Where the
 * guests have gone meanwhile, or their table, that is said; what was shown may still be recorded, for the money may be taken.
 */
export function payDialog(app, { id }) {
  const { terminal } = app
  const first = terminal.tables.get(id)
  const party = partyOf(first)
  const before = saleOf(terminal, first.orderId)
  let shown = askedOf(app, first)
  let { number } = first // who looks for the table finds it by its newest
  let isGone = false // there is no table to free

  const button = (classes, label, onclick) => h(`button.button${classes}`, { type: 'button', onclick }, label)
  const pay = (payment) => () => {
    dialog.close()
    app.acts.pay(shown.due, payment, shown.sums, { isGone })
    app.go('#/floor')
  }
  const hint = h('p.muted', { role: 'alert' })
  const sums = h('div.sums')
  const leave = button('', T.cancel, () => dialog.close())
  const kinds = ['card', 'cash'].map((payment) => button('.primary', T.table[payment], pay(payment)))
  const agree = button('.primary', '', () => {
    draw(isGone ? T.table.payApart : T.table.payHint, true)
    kinds.at(-1).focus()
  })

  /** `isPaid`: it is, and not to be taken again. */
  function draw(text, isAgreed, isPaid = false) {
    const { currency } = terminal.view.settings
    say(hint, text)
    sums.replaceChildren(...(shown && !isPaid ? sumsOf(shown, currency) : []))
    for (const kind of kinds) kind.hidden = !shown || !isAgreed || isPaid
    agree.hidden = !shown || isAgreed || isPaid
    if (shown) say(agree, (isGone ? T.table.payAllTheSame : T.table.payThis)(money(shown.sums.total, currency)))
    say(leave, isGone || isPaid ? T.close : T.cancel)
  }

  function check() {
    const table = terminal.tables.get(id)
    number = table?.number ?? number
    say(dialog.querySelector('h2'), T.table.payTitle(number))
    const isThere = table && partyOf(table) === party
    const now = isThere ? askedOf(app, table) : null
    const sale = saleOf(terminal, first.orderId)
    const isPaid = sale && !before
    if (now) {
      const isSeen = now.seen === shown?.seen
      shown = now // also where it is seen: the row may have a newer version
      if (isSeen) return
      draw(isPaid ? T.table.payRest(paidText(app, sale)) : T.table.payAgain, false)
      return agree.focus()
    }
    if (isPaid) {
      stop()
      draw(T.table.payPaid(paidText(app, sale)), false, true)
    } else if (isGone || !shown) {
      return // it has been said; who goes on all the same is left to it
    } else {
      isGone = true
      draw(table ? T.table.payCleared(number) : T.table.payDeleted(number), false)
    }
    leave.focus()
  }

  const opening = shown ? T.table.payRest : T.table.payPaid
  draw(before ? opening(paidText(app, before)) : T.table.payHint, true, !shown)
  const dialog = openDialog(T.table.payTitle(number), () => [hint, sums, h('div.actions.wide', {}, leave, ...kinds, agree)])
  leave.focus() // who presses Enter twice has not seen what is to be paid
  dialog.addEventListener('keydown', (event) => event.repeat && event.key === 'Enter' && event.preventDefault())
  const stop = terminal.on('view', check)
  dialog.addEventListener('close', stop)
}
