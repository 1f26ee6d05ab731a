// The floor: every table with its state, guests and sum, and who changed it last.

import { h, icon, keyed, mark, say } from './dom.js'
import { guestOf, minutesSince, money, quantityOf, when } from './figures.js'
import { needs } from './roles.js'
import { dueOf, saleOf } from './sales.js'
import { tableDialog } from './tabledialogs.js'
import { T } from './texts.js'

const FILTERS = ['all', 'available', 'occupied', 'reserved']
const TONES = { available: 'good', occupied: 'warm', reserved: 'calm' }

export const addressOf = (table) => `#/floor/${encodeURIComponent(table.id)}`

/** A chip that names a table's state; its colour says the same. */
export function statusChip() {
  const text = h('span')
  const chip = h('span.chip', {}, h('span.dot'), text)
  return [
    chip,
    (status) => {
      chip.className = `chip ${TONES[status] ?? ''}`
      say(text, T.floor.status[status] ?? String(status))
    },
  ]
}

/** Who changed a row last: a dot in their colour, their name and the time. */
export function whoLine(app, className = 'who') {
  const name = h('span.who-name')
  const line = h(`span.${className}`, {}, h('span.dot'), name)
  return [
    line,
    (found) => {
      line.hidden = !found
      if (!found) return
      line.dataset.colour = app.people.colour(found.who)
      line.title = found.who
      say(name, T.by(app.people.label(found.who), when(found.at)))
    },
  ]
}

function makeCard(app, table) {
  const number = h('span.table-number')
  const [chip, setStatus] = statusChip()
  const guests = h('span.table-guests')
  const since = h('span.muted')
  const sum = h('span.table-sum')
  const [who, setWho] = whoLine(app)
  const waiting = h('span.waiting', {}, icon('clock', 's'), T.pending)
  const card = h(
    'a.card.table',
    { href: addressOf(table), dataset: { id: table.id } },
    h('span.table-top', {}, h('span.visually-hidden', {}, `${T.floor.word} `), number, chip),
    h('span.table-middle', {}, guests, since),
    h('span.table-bottom', {}, sum, waiting, who),
  )
  card.show = (row) => {
    say(number, String(row.number))
    setStatus(row.status)
    card.dataset.status = row.status
    say(guests, guestsText(row))
    const minutes = row.status === 'occupied' ? minutesSince(row.seatedAt) : null
    say(since, minutes === null ? '' : T.ago(minutes))
    const items = (row.orderItems ?? []).reduce((all, line) => all + quantityOf(line), 0)
    say(sum, items ? money(dueOf(app.terminal, row).total, app.currency) : '')
    const isWaiting = app.isPending('tables', row.id)
    const found = app.journal.of('tables', row.id)
    waiting.hidden = !isWaiting
    setWho(isWaiting ? null : found)
    card.classList.toggle('is-waiting', isWaiting)
    card.classList.toggle('fresh', Boolean(found?.fresh))
    card.dataset.colour = found ? app.people.colour(found.who) : ''
    mark(card, 'aria-current', app.route.table === row.id && 'true')
  }
  return card
}

function guestsText(row) {
  // The time first: where a long name is cut short it must be there.
  if (row.status === 'reserved') return [when(row.reservationTime) || row.reservationTime, guestOf(row)].filter(Boolean).join(', ')
  return T.floor.guests(row.status === 'occupied' ? row.guests : 0, row.seats)
}

export function makeFloor(app) {
  let filter = 'all'
  let sought = ''
  const grid = h('div.tables', { role: 'list' })
  const counts = new Map()
  const buttons = FILTERS.map((name) => {
    const number = h('span.count')
    counts.set(name, number)
    return h(
      'button.button',
      { type: 'button', 'aria-pressed': String(name === filter), dataset: { filter: name }, onclick: () => choose(name) },
      T.floor.filters[name],
      number,
    )
  })
  const find = h('input.input.find', {
    type: 'search',
    placeholder: T.floor.find,
    'aria-label': T.floor.find,
    oninput: () => {
      sought = find.value.trim().toLowerCase()
      app.refresh()
    },
  })
  const addOne = h('button.card.table.add', { type: 'button', onclick: () => tableDialog(app, null) }, icon('plus'), T.floor.add)
  const add = h('div.table-item', { role: 'listitem' }, addOne)
  grid.append(add) // and the tables before it
  const addFirst = h('button.button.primary', { type: 'button', onclick: () => tableDialog(app, null) }, T.floor.add)
  const hint = h('p.small', {}, T.floor.emptyHint)
  const empty = h('div.empty', {}, icon('floor'), h('p', {}, T.floor.empty), hint, addFirst)
  needs('UPDATE_TABLE', add, hint, addFirst)
  const none = h('p.empty', {}, T.floor.none)
  const skeleton = h('div.tables', { 'aria-hidden': 'true' }, ...Array.from({ length: 8 }, () => h('div.card.table.skeleton')))
  const loading = h('div', {}, h('p.visually-hidden', { role: 'status' }, T.loading), skeleton)
  const tools = h('div.tools', {}, h('div.segments', { role: 'group', 'aria-label': T.floor.filtersLabel }, ...buttons), find)
  const element = h('section.view.floor', { 'aria-label': T.views.floor }, h('h1.visually-hidden', {}, T.views.floor), tools, loading, empty, none, grid)

  const list = keyed(grid, {
    make: (row) => {
      const item = h('div', { role: 'listitem', className: 'table-item' }, makeCard(app, row))
      return item
    },
    update: (item, row) => item.firstElementChild.show(row),
    stamp: (row) => {
      const found = app.journal.of('tables', row.id)
      const told = found ? `${found.revision} ${found.fresh} ${app.people.label(found.who)}` : ''
      const minutes = row.status === 'occupied' ? minutesSince(row.seatedAt) : ''
      return `${app.isPending('tables', row.id)} ${told} ${minutes} ${app.route.table === row.id} ${app.rates} ${saleOf(app.terminal, row.orderId)?.version}`
    },
  })

  function choose(name) {
    filter = name
    for (const button of buttons) button.setAttribute('aria-pressed', String(button.dataset.filter === name))
    app.refresh()
  }
  const isSought = (row) => !sought || String(row.number).includes(sought) || guestOf(row).toLowerCase().includes(sought)

  return {
    element,
    show() {
      const rows = [...app.terminal.tables.values()].sort((a, b) => a.number - b.number)
      const shown = rows.filter((row) => (filter === 'all' || row.status === filter) && isSought(row))
      const isLoading = !app.isLoaded
      loading.hidden = !isLoading
      tools.hidden = isLoading || rows.length === 0
      empty.hidden = isLoading || rows.length > 0
      none.hidden = isLoading || rows.length === 0 || shown.length > 0
      grid.hidden = isLoading || rows.length === 0
      add.hidden = filter !== 'all' || sought !== ''
      find.hidden = rows.length <= 24
      for (const [name, number] of counts) {
        say(number, String(name === 'all' ? rows.length : rows.filter(({ status }) => status === name).length))
      }
      return list(shown)
    },
  }
}

