// The last changes as a list: beside the floor where there is room, and as a view of its own.

import { h, icon, keyed, say } from './dom.js'
import { when } from './figures.js'
import { T } from './texts.js'

function makeEntry(app, entry) {
  const who = h('span.entry-who')
  const address = entry.table ? `#/floor/${encodeURIComponent(entry.table)}` : entry.view ? `#/${entry.view}` : '#/changes'
  const element = h(
    'li',
    {},
    h(
      'a.entry',
      { href: address, title: entry.who, dataset: { colour: app.people.colour(entry.who) } },
      h('span.dot'),
      h('span.entry-what', {}, who, ' ', h('span', {}, entry.text)),
      h('time.muted.small', {}, when(entry.at)),
    ),
  )
  element.show = () => {
    say(who, app.people.label(entry.who))
    element.classList.toggle('fresh', entry.mark.fresh)
    element.dataset.colour = app.people.colour(entry.who)
  }
  return element
}

/** `most` entries of the journal, as a list that is kept current. */
export function makeEntries(app, most) {
  const rows = h('ol.entries')
  const list = keyed(rows, {
    make: (entry) => makeEntry(app, entry),
    update: (element) => element.show(),
    stamp: (entry) => `${app.people.label(entry.who)} ${entry.mark.fresh}`,
    slice: 50,
  })
  rows.show = () => list(app.journal.entries.slice(0, most))
  return rows
}

export function makeChanges(app) {
  const rows = makeEntries(app, 200)
  rows.classList.add('card')
  const empty = h('div.empty', {}, icon('changes'), h('p', {}, T.changes.empty), h('p.small', {}, T.changes.emptyHint))
  const element = h(
    'section.view.changes',
    { 'aria-label': T.changes.title },
    h('div.view-head', {}, h('h1', {}, T.changes.title)),
    empty,
    rows,
  )
  return {
    element,
    show() {
      empty.hidden = app.journal.entries.length > 0
      rows.hidden = !empty.hidden
      return rows.show()
    },
  }
}

/** The same, small, beside the floor. */
export function makeRail(app) {
  const rows = makeEntries(app, 40)
  const empty = h('p.muted.small', {}, T.changes.emptyHint)
  const element = h('aside.rail', { 'aria-labelledby': 'rail-title' }, h('h2', { id: 'rail-title' }, T.changes.title), empty, rows)
  return {
    element,
    show() {
      empty.hidden = app.journal.entries.length > 0
      return rows.show()
    },
  }
}
