// A change's way: the newest changes in a list, and of the chosen one every step with its time, relay by relay.

import { keyOf, span, whoMade } from './data.js'
import { el, empty, keyed, mark, say, withParts } from './dom.js'
import { clock, didTo, duration, way as texts } from './texts.js'

const LISTED = 12

/**
 * The section; `show(view)` takes what data.joined made, `choose(restaurant, revision)` pins a change, and `known(key)`
 * gives what a change did in words, where the log has it: a way has no more of the row than its id.
 */
export const waysSection = (known) => {
  const what = (one) => known(one.key) ?? didTo(one.type, one.action, one.rowId ?? '')
  let view = null
  let pinned = null // the key of the chosen change; null: the newest
  const list = el('ul', { class: 'way-list', 'aria-label': texts.list })
  const follow = el('button', { class: 'button small-button', type: 'button', 'aria-pressed': 'true', onclick: () => pin(null) }, texts.newest)
  const detail = drawn(what)
  const gone = el('p', { class: 'small warm-text pad', role: 'status', hidden: true })
  const nothing = empty('way')
  const parts = el('div', { class: 'way' }, list, detail.box)
  const box = el('section', { id: 'way', 'aria-labelledby': 'way-heading' },
    el('div', { class: 'section-head' }, el('h2', { id: 'way-heading', tabindex: '-1' }, texts.heading), follow),
    el('div', { class: 'card' }, gone, parts, nothing.box, el('p', { class: 'muted small pad' }, texts.note)))
  nothing.say(texts.none, texts.noneHint)

  const pin = (key) => {
    gone.hidden = true
    pinned = key
    show(view)
  }
  const show = (next) => {
    view = next
    if (view === null) return
    const { changes } = view
    // The newest may be on its way to a relay that has answered already: the newest of which all can tell.
    const newest = changes.find((one) => one.given <= view.settledAt) ?? changes[0]
    const chosen = changes.find((one) => one.key === pinned) ?? newest
    if (pinned !== null && chosen?.key !== pinned) pinned = null // it is too old to be known
    parts.hidden = chosen === undefined
    nothing.box.hidden = chosen !== undefined
    mark(follow, 'aria-pressed', pinned === null)
    if (chosen === undefined) return
    const listed = changes.slice(0, LISTED)
    if (!listed.includes(chosen)) listed.push(chosen)
    const several = view.heads.size > 1
    keyed(list, listed, (one) => one.key, () => entry((key) => pin(key)), (item, one) => {
      item.key = one.key
      mark(item.parts.button, 'aria-current', one === chosen ? 'true' : null)
      say(item.parts.what, what(one))
      say(item.parts.who, `${clock(one.given)} · ${whoMade(one)}${several ? ` · ${one.restaurant}` : ''}`)
      say(item.parts.late, duration(span(one).late))
    })
    detail.show(chosen)
  }
  const choose = (restaurant, revision) => {
    const key = keyOf({ restaurant, revision })
    if (view === null) return
    const isKnown = view.changes.some((one) => one.key === key)
    if (isKnown) pin(key)
    gone.hidden = isKnown
    say(gone, texts.gone(revision))
    box.querySelector('h2').focus()
    box.scrollIntoView({ block: 'start' })
  }
  return { box, show, choose }
}

const entry = (pin) => {
  const [what, who, late] = [el('span', { class: 'strong wrap' }), el('span', { class: 'muted small wrap' }), el('span', { class: 'number small' })]
  const item = el('li')
  const button = el('button', { class: 'way-entry', type: 'button', onclick: () => pin(item.key) },
    el('span', { class: 'grow' }, what, el('br'), who), late)
  item.append(button)
  return withParts(item, { what, who, late, button })
}

// The chosen change: its total, a bar a part in one scale, and the same steps as a table for who reads figures.
const drawn = (what) => {
  const [title, total, missing] = [el('h3', { class: 'wrap' }), el('p'), el('p', { class: 'small warm-text' })]
  const lanes = el('div', { class: 'lanes', 'aria-hidden': 'true' })
  const body = el('tbody')
  const table = el('table', { class: 'steps' },
    el('thead', {}, el('tr', {},
      el('th', { scope: 'col' }, texts.step), el('th', { scope: 'col', class: 'number col-at' }, texts.at),
      el('th', { scope: 'col', class: 'number' }, texts.after))), body)
  const legend = el('p', { class: 'legend small muted', 'aria-hidden': 'true' },
    ...Object.entries(texts.legend).map(([kind, text]) => el('span', {}, el('i', { class: `bar ${kind}` }), text)))
  const box = el('div', { class: 'way-detail' }, title, total, missing, lanes, legend, table)
  const show = (change) => {
    const { from, to, terminals, missing: left, late } = span(change)
    say(title, `${what(change)} · ${change.restaurant} #${change.revision}`)
    say(total, texts.total(late, terminals))
    missing.hidden = left === 0
    say(missing, texts.missing(left))
    mark(box, 'data-change', change.key)
    keyed(lanes, lanesOf(change), (one) => one.name, lane, (item, one) => fillLane(item, one, from, Math.max(to - from, 0.1)))
    keyed(body, stepsOf(change), (one) => one.key, stepRow, (item, one) => {
      say(item.parts.where, one.where)
      say(item.parts.what, one.what)
      say(item.parts.at, one.at == null ? '' : `${clock(one.at)}.${String(Math.floor(one.at % 1000)).padStart(3, '0')}`)
      say(item.parts.after, one.at == null ? '' : duration(Math.max(0, one.at - from)))
    })
  }
  return { box, show }
}

const lanesOf = (change) => {
  const lanes = []
  if (change.sent) {
    const { relay, received, begun, committed } = change.sent
    lanes.push({ name: texts.from(relay), given: change.given, bars: [['wait', received, begun], ['commit', begun, committed]] })
  }
  for (const { relay, heard, read, written } of change.passed) {
    const start = Math.max(heard, change.given)
    lanes.push({ name: texts.to(relay), bars: [['read', start, read], ['write', read, written]] })
  }
  return lanes
}

const lane = () => {
  const name = el('span', { class: 'small wrap' })
  const track = el('span', { class: 'track' })
  return withParts(el('div', { class: 'lane' }, name, track), { name, track })
}

const fillLane = (item, one, from, length) => {
  say(item.parts.name, one.name)
  const place = (element, at, until) => {
    element.style.left = `${Math.max(0, ((at - from) / length) * 100)}%`
    if (until != null) element.style.width = `${Math.max(0, ((until - at) / length) * 100)}%`
  }
  const marks = one.bars.map(([kind, at, until]) => ({ kind, at, until }))
  if (one.given != null) marks.push({ kind: 'given', at: one.given, until: null })
  keyed(item.parts.track, marks, (bar) => bar.kind, ({ kind }) => el('span', { class: `bar ${kind}` }), (element, bar) => {
    place(element, bar.at, bar.until)
    mark(element, 'title', texts.legend[bar.kind] + (bar.until == null ? '' : `: ${duration(Math.max(0, bar.until - bar.at))}`))
  })
}

const stepsOf = (change) => {
  const { steps } = texts
  const rows = []
  if (change.sent) {
    for (const step of ['received', 'begun', 'committed']) {
      rows.push({ key: step, where: change.sent.relay, what: steps[step], at: change.sent[step] })
    }
  } else {
    const why = change.clientId === 'database' ? texts.byHand : texts.unknown
    rows.push({ key: 'unsent', where: '', what: why, at: null })
  }
  rows.push({ key: 'given', where: texts.database, what: steps.given, at: change.given })
  for (const { relay, heard, read, written, terminals } of change.passed) {
    // A doorbell that rang before the change was there led to the read that found it.
    rows.push({ key: `${relay} heard`, where: relay, what: steps.heard, at: Math.max(heard, change.given) })
    rows.push({ key: `${relay} read`, where: relay, what: steps.read, at: read })
    rows.push({ key: `${relay} written`, where: relay, what: steps.written(terminals), at: written })
  }
  return rows.sort((a, b) => (a.at ?? 0) - (b.at ?? 0))
}

const stepRow = () => {
  const parts = {
    what: el('span', { class: 'wrap' }), where: el('span', { class: 'muted small wrap' }),
    at: el('td', { class: 'number mono col-at' }), after: el('td', { class: 'number' }),
  }
  return withParts(el('tr', {}, el('td', {}, parts.what, el('br'), parts.where), parts.at, parts.after), parts)
}
