// What is asked about a table before it is done: its number and seats, a reservation, and whether it is meant.

import { partyOf } from './acts.js'
import { field, form, h, openDialog } from './dom.js'
import { guestOf, seenOf, when } from './figures.js'
import { unpaid } from './sales.js'
import { T } from './texts.js'

const numberOf = (text) => Math.trunc(Number(text))

/** Cancel, and what is done instead; `primary` submits the form that it stands in. */
export const buttons = (close, primary, ...more) =>
  h(
    'div.actions',
    {},
    ...more,
    h('button.button', { type: 'button', onclick: close }, T.cancel),
    h('button.button.primary', { type: 'submit' }, primary),
  )

/** Ask whether something that loses work is meant. */
export function sure(title, hint, answer, then) {
  openDialog(title, (close) => {
    const yes = h('button.button.danger.primary', { type: 'button', onclick: () => [close(), then()] }, answer)
    const no = h('button.button', { type: 'button', autofocus: true, onclick: close }, T.cancel)
    return [h('p.muted', {}, hint), h('div.actions', {}, no, yes)]
  })
}

/** Of what a form wanted, what the person has changed: the rest may have been changed by somebody else meanwhile. */
export const changedOf = (shown, wanted) =>
  Object.fromEntries(Object.entries(wanted).filter(([name, value]) => value !== shown[name]))

/** Add a table, or change one. */
export function tableDialog(app, table) {
  const all = [...app.terminal.tables.values()]
  openDialog(table ? T.table.editTitle(table.number) : T.table.addTitle, (close) => {
    const number = { name: 'number', type: 'number', min: 0, max: 2147483647, required: true, value: table?.number ?? app.acts.nextNumber() }
    const seats = { name: 'seats', type: 'number', min: 0, max: 1000, required: true, value: table?.seats ?? 4 }
    const remove = () => {
      close()
      deleteTable(app, app.terminal.tables.get(table.id))
    }
    const made = form(
      (values) => {
        const wanted = { number: numberOf(values.number), seats: numberOf(values.seats) }
        const other = all.find((one) => one.number === wanted.number && one.id !== table?.id)
        const input = made.elements.namedItem('number')
        input.setCustomValidity(other ? T.table.taken(wanted.number) : '')
        if (other) return void input.reportValidity()
        close()
        const now = table && app.terminal.tables.get(table.id)
        if (!table) app.acts.addTable(wanted)
        else if (now) app.acts.changeTable(now, changedOf(table, wanted))
      },
      h('div.two', {}, field(T.table.number, number), field(T.table.seats, seats)),
      buttons(close, T.save, table && h('button.button.danger.quiet.first', { type: 'button', onclick: remove }, T.remove)),
    )
    made.addEventListener('input', () => made.elements.namedItem('number').setCustomValidity(''))
    return made
  })
}

/** Delete a table, once somebody has read what goes with it. */
function deleteTable(app, table) {
  if (!table) return
  const lines = unpaid(app.terminal, table).length
  sure(T.table.deleteSure(table.number), lines ? T.table.deleteLost(lines) : T.table.deleteHint, T.remove, () => {
    const now = app.terminal.tables.get(table.id)
    if (now && (partyOf(now) !== partyOf(table) || seenOf(now) !== seenOf(table))) return deleteTable(app, now)
    if (now) app.acts.deleteTable(now)
    app.go('#/floor')
  })
}

/** Reserve a table. Where somebody else has taken it while the name was typed, that is said, and the name stays. */
export function reserveDialog(app, table) {
  openDialog(T.table.reserveTitle(table.number), (close) => {
    const hint = h('p.muted', { role: 'alert' })
    return form(
      ({ guest, time }) => {
        const now = app.terminal.tables.get(table.id)
        if (now?.status === 'available') {
          close()
          app.acts.reserve(now, guest.trim(), time)
        } else if (!now) hint.textContent = T.table.deletedNow(table.number)
        else hint.textContent = now.status === 'reserved' ? T.table.reservedNow(now.number, guestOf(now)) : T.table.seatedNow(now.number)
      },
      field(T.table.guestName, { name: 'guest', maxLength: 100, required: true }),
      field(T.table.time, { name: 'time', type: 'time' }),
      hint,
      buttons(close, T.table.reserve),
    )
  })
}

/** Free a table whose guests have left; asked first where an order would be lost. */
export function clearTable(app, table) {
  const clear = () => {
    const now = app.terminal.tables.get(table.id)
    if (!now || partyOf(now) !== partyOf(table)) return // they have gone
    if (seenOf(now) !== seenOf(table)) clearTable(app, now)
    else app.acts.clear(now)
  }
  const lines = unpaid(app.terminal, table).length
  if (lines) sure(T.table.clearSure(table.number), T.table.clearHint(lines), T.table.clearIt, clear)
  else clear()
}

export const reservedText = (table, guest) => T.table.reservedFor(guest, when(table.reservationTime) || table.reservationTime)
