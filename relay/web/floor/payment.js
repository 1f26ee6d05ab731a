// The payment of a table: what is shown is what is recorded, whatever others do meanwhile.

import { h, openDialog, say } from './dom.js'
import { bill, money, seenOf } from './figures.js'
import { T } from './texts.js'

/** What a table is to pay as it is now, and what a person has seen of it; null where there is nothing to pay. */
function askedOf(app, id) {
  const table = app.terminal.tables.get(id)
  if (!table?.orderItems?.length) return null
  const { settings } = app.terminal.view
  const sums = bill(table.orderItems, settings)
  const percents = [sums.service && settings.serviceCharge, sums.tax && settings.taxRate]
  return { table, sums, percents, seen: JSON.stringify([table.orderId, seenOf(table), sums, percents, settings.currency]) }
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

/** Take the payment. Where it changes meanwhile the new sum is shown, and paid only after somebody has agreed to it. */
export function payDialog(app, { id, number }) {
  let shown = askedOf(app, id)
  const button = (classes, label, onclick) => h(`button.button${classes}`, { type: 'button', onclick }, label)
  const pay = (payment) => () => {
    dialog.close()
    app.acts.pay(shown.table, payment, shown.sums)
    app.go('#/floor')
  }
  const hint = h('p.muted', { role: 'alert' })
  const sums = h('div.sums')
  const leave = button('', T.cancel, () => dialog.close())
  const kinds = ['card', 'cash'].map((payment) => button('.primary', T.table[payment], pay(payment)))
  const agree = button('.primary', '', () => {
    draw(T.table.payHint, true)
    kinds.at(-1).focus()
  })

  function draw(text, isAgreed) {
    say(hint, text)
    sums.replaceChildren(...(shown ? sumsOf(shown, app.terminal.view.settings.currency) : []))
    for (const kind of kinds) kind.hidden = !shown || !isAgreed
    agree.hidden = !shown || isAgreed
    if (shown) say(agree, T.table.payThis(money(shown.sums.total, app.terminal.view.settings.currency)))
    else say(leave, T.close)
  }

  function check() {
    const now = askedOf(app, id)
    const isSeen = now?.seen === shown?.seen
    shown = now // also where it is seen: the row may have a newer version
    if (isSeen) return
    draw(now ? T.table.payAgain : T.table.payGone, false)
    const next = now ? agree : leave
    next.focus()
  }

  draw(T.table.payHint, true)
  const dialog = openDialog(T.table.payTitle(number), () => [hint, sums, h('div.actions.wide', {}, leave, ...kinds, agree)])
  kinds.at(-1).focus()
  const stop = app.terminal.on('view', check)
  dialog.addEventListener('close', stop)
}
