// The terminals of all relays: a table that can be sorted and searched, whoever is furthest behind first.

import { chip, el, empty, keyed, mark, say, withParts } from './dom.js'
import { bytes, duration, terminal as texts } from './texts.js'

const COLUMNS = {
  name: (one) => (one.name || one.clientId).toLowerCase(),
  restaurant: (one) => one.restaurant,
  relay: (one) => one.relay,
  behind: (one) => [one.lagging ? 1 : 0, one.behind, one.waitingBytes],
  waiting: (one) => one.waitingBytes,
  since: (one) => one.sinceMs,
}
const DOWNWARD = ['behind', 'waiting', 'since'] // the largest first, when they are chosen

/** The section; `show(view)` takes what data.joined made. */
export const terminalsSection = () => {
  const sorting = { by: 'behind', down: true }
  let view = null
  const find = el('input', { class: 'input', type: 'search', placeholder: texts.findHint, 'aria-label': texts.find, oninput: () => show(view) })
  const only = el('input', { type: 'checkbox', onchange: () => show(view) })
  const shown = el('span', { class: 'muted small', role: 'status' })
  const heads = Object.fromEntries(Object.keys(COLUMNS).map((name) => [name, head(name, sorting, () => show(view))]))
  const body = el('tbody')
  const table = el('table', { class: 'terminals' }, el('thead', {}, el('tr', {}, ...Object.values(heads))), body)
  const nothing = empty('terminal')
  const more = el('p', { class: 'muted small pad' })
  const box = el('section', { 'aria-labelledby': 'terminals-heading' },
    el('div', { class: 'section-head' }, el('h2', { id: 'terminals-heading' }, texts.heading), shown),
    el('div', { class: 'card' },
      el('div', { class: 'tools' }, find, el('label', { class: 'check' }, only, texts.onlyBehind)),
      el('div', { class: 'terminals-scroll', tabindex: '0', role: 'group', 'aria-labelledby': 'terminals-heading' }, table, nothing.box, more)))

  const show = (next) => {
    view = next
    if (view === null) return
    const words = find.value.trim().toLowerCase()
    const chosen = view.terminals.filter((one) => (!only.checked || one.behind > 0 || one.lagging) && matches(one, words))
    chosen.sort(byColumn(sorting))
    for (const [name, cell] of Object.entries(heads)) {
      mark(cell, 'aria-sort', name === sorting.by ? (sorting.down ? 'descending' : 'ascending') : null)
    }
    say(shown, texts.shown(chosen.length, view.count))
    table.hidden = chosen.length === 0
    nothing.box.hidden = chosen.length > 0
    if (view.terminals.length === 0) nothing.say(texts.none, texts.noneHint)
    else nothing.say(texts.noneFound, texts.noneFoundHint)
    const left = view.count - view.terminals.length
    more.hidden = left <= 0
    say(more, texts.more(left))
    table.classList.toggle('one-restaurant', new Set(view.terminals.map((one) => one.restaurant)).size < 2)
    keyed(body, chosen, (one) => one.key, row, fill)
  }
  return { box, show }
}

const head = (name, sorting, show) => {
  const choose = () => {
    sorting.down = sorting.by === name ? !sorting.down : DOWNWARD.includes(name)
    sorting.by = name
    show()
  }
  return el('th', { scope: 'col', class: `col-${name}` },
    el('button', { class: 'sort', type: 'button', onclick: choose }, texts.columns[name]))
}

const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0)

const byColumn = ({ by, down }) => (a, b) => {
  const [first, second] = [COLUMNS[by](a), COLUMNS[by](b)].map((value) => [value].flat())
  const found = first.map((value, n) => compare(value, second[n])).find((one) => one !== 0) ?? 0
  return (down ? -found : found) || compare(COLUMNS.name(a), COLUMNS.name(b)) || compare(a.key, b.key)
}

const matches = (one, words) =>
  words === '' ||
  [one.name, one.clientId, one.address, one.relay, one.restaurant, one.role, one.profile].join(' ').toLowerCase().includes(words)

const row = () => {
  const cells = {
    name: el('span', { class: 'strong wrap' }), about: el('span', { class: 'muted small wrap' }),
    restaurant: el('span', { class: 'wrap' }), relay: el('span', { class: 'wrap' }),
    behind: chip('', ''), waiting: el('span'), since: el('span'),
  }
  const item = el('tr', {}, ...Object.keys(COLUMNS).map((name) =>
    el('td', { class: `col-${name}`, 'data-label': texts.columns[name] },
      el('div', { class: 'cell' }, cells[name], name === 'name' ? cells.about : null))))
  return withParts(item, cells)
}

const fill = (item, one) => {
  const { parts: cells } = item
  mark(item, 'data-client', one.clientId)
  say(cells.name, one.name || one.clientId)
  const about = [one.name && one.name !== one.clientId ? one.clientId : '', one.role, one.profile === 'app' ? texts.app : '', one.address]
  say(cells.about, about.filter(Boolean).join(' · '))
  say(cells.restaurant, one.restaurant)
  say(cells.relay, one.relay)
  mark(cells.behind, 'class', `chip ${one.lagging ? 'bad' : !one.isLive ? 'calm' : one.behind > 0 ? 'warm' : 'good'}`)
  say(cells.behind.lastElementChild, behind(one))
  say(cells.waiting, one.waitingBytes === 0 ? '–' : bytes(one.waitingBytes))
  say(cells.since, duration(one.sinceMs))
}

const behind = (one) => {
  const by = one.behind > 0 ? texts.by(one.behind) : ''
  if (one.lagging) return [by, texts.lagging].filter(Boolean).join(', ')
  if (!one.isLive) return texts.syncing
  return by || texts.upToDate
}
