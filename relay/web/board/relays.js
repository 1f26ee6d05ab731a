// The relays: one card each, with how it is in a word, its figures and two charts.

import { chart, everySecond, measured } from './charts.js'
import { isHere } from './data.js'
import { chip, el, keyed, mark, say, withParts } from './dom.js'
import { bytes, count, duration, relay as texts, states } from './texts.js'

const COLOURS = {
  healthy: 'good', degraded: 'warm', draining: 'calm', down: 'bad', silent: 'bad', unanswered: 'bad', unknown: '',
}
const FIGURES = ['terminals', 'pending', 'waiting', 'silent']

/** The section; `show(view)` takes what data.joined made. */
export const relaysSection = () => {
  const list = el('ul', { class: 'relays' })
  const box = el('section', { 'aria-labelledby': 'relays-heading' }, 
    el('div', { class: 'section-head' }, el('h2', { id: 'relays-heading' }, texts.heading)), list)
  return { box, show: (view) => keyed(list, view.instances, (one) => one.id, card, fill) }
}

const card = () => {
  const parts = {
    name: el('h3', { class: 'wrap' }),
    state: chip('', ''),
    about: el('p', { class: 'muted small' }),
    rate: chart(texts.rate),
    late: chart(texts.late),
  }
  const figures = el('dl', { class: 'figures-small' })
  for (const name of FIGURES) {
    parts[name] = el('dd', {})
    figures.append(el('div', {}, el('dt', { class: 'muted small' }, texts[name]), parts[name]))
  }
  const item = el('li', { class: 'card relay' },
    el('div', { class: 'relay-head' }, el('div', { class: 'grow' }, parts.name, parts.about), parts.state),
    figures, el('div', { class: 'charts' }, parts.rate.box, parts.late.box))
  return withParts(item, parts)
}

const fill = (item, one) => {
  const { parts } = item
  mark(item, 'data-state', one.state)
  mark(item, 'data-relay', one.name)
  say(parts.name, one.here ? `${one.name} · ${texts.here}` : one.name)
  mark(parts.state, 'class', `chip ${COLOURS[one.state]}`)
  say(parts.state.lastElementChild, states[one.state])
  const since = isHere(one) ? texts.up(one.at - one.startedAt) : texts.heard(one.unheardSeconds * 1000)
  say(parts.about, `${texts.version(one.version)}, ${since}`)
  if (!one.answered) {
    for (const name of FIGURES) say(parts[name], '–')
    parts.rate.stop()
    parts.late.stop()
    return
  }
  say(parts.terminals, count(one.terminalCount))
  say(parts.pending, count(one.pending))
  say(parts.waiting, bytes(one.waitingBytes))
  say(parts.silent, one.silentSeconds == null ? texts.deaf : texts.ago(one.silentSeconds * 1000))
  showRate(parts.rate, one)
  showLate(parts.late, one)
}

const showRate = (drawn, one) => {
  const points = everySecond(one.seconds, one.at, ([, changes]) => changes)
  const now = texts.rateNow(points.at(-1)[1])
  const most = texts.rateNow(Math.max(...points.map(([, value]) => value)))
  drawn.show(points, { nowText: now, peakText: texts.peak(most), words: texts.rateChart(now, most) })
}

const showLate = (drawn, one) => {
  const points = measured(one.seconds, one.at, ([, , mean]) => mean)
  if (points.length === 0) {
    drawn.show([], { nowText: '–', peakText: texts.quiet, words: `${texts.late}: ${texts.quiet}` })
    return
  }
  const now = texts.lateNow(points.at(-1)[1])
  const slowest = texts.lateNow(Math.max(...one.seconds.map(([, , , most]) => most)))
  drawn.show(points, { nowText: now, peakText: texts.slowest(slowest), words: texts.lateChart(now, slowest) })
}
