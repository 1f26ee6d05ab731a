// The live log: every change as it is committed, by /api/changes, asked for only when the board has seen a head move.

import { ask } from './asking.js'
import { keyOf, whoMade } from './data.js'
import { el, empty, keyed, mark, say, withParts } from './dom.js'
import { clock, details, did, log as texts } from './texts.js'

const KEPT = 300 // changes that are listed, and searched
const FIRST = 20 // of each restaurant, when the page is opened
const MOST = 100 // of each restaurant in one round: what a burst brings beyond that is counted, not listed
const AT_ONCE = 6 // restaurants asked about in one round

/** The section; `show(view)` takes what data.joined made, `onWay(restaurant, revision)` is asked for a change's way. */
export const logSection = (onWay) => {
  const cursors = new Map() // the revision up to which each restaurant's log was read
  let lines = [] // the newest first
  let paused = null // while it is: how many have come since
  let asking = false
  const find = el('input', { class: 'input', type: 'search', placeholder: texts.findHint, 'aria-label': texts.find, oninput: () => draw() })
  const kind = el('select', { class: 'input', 'aria-label': texts.kind, onchange: () => draw() },
    ...Object.entries(texts.kinds).map(([value, text]) => el('option', { value }, text)))
  const pause = el('button', { class: 'button', type: 'button', 'aria-pressed': 'false', onclick: () => toggle() }, texts.pause)
  const status = el('span', { class: 'muted small', role: 'status' })
  const list = el('ol', { class: 'log', reversed: true })
  const nothing = empty('log')
  const box = el('section', { 'aria-labelledby': 'log-heading' },
    el('div', { class: 'section-head' }, el('h2', { id: 'log-heading' }, texts.heading), status),
    el('div', { class: 'card' }, el('div', { class: 'tools' }, find, kind, pause),
      el('div', { class: 'log-scroll', tabindex: '0', role: 'group', 'aria-labelledby': 'log-heading' }, list, nothing.box)))

  const toggle = () => {
    paused = paused === null ? 0 : null
    mark(pause, 'aria-pressed', paused !== null)
    say(pause, paused === null ? texts.pause : texts.resume)
    draw()
  }

  let several = false
  let frozen = [] // what is shown while it is paused
  const draw = () => {
    if (paused === null) frozen = lines
    say(status, paused === null ? '' : texts.paused(paused))
    const words = find.value.trim().toLowerCase()
    // What is left out may be just what is looked for, so that is said whatever is chosen.
    const isChosen = (one) => (kind.value === '' || one.type === kind.value) && wordsOf(one).includes(words)
    const chosen = frozen.filter((one) => one.isNote || isChosen(one))
    nothing.box.hidden = chosen.some((one) => !one.isNote)
    if (frozen.length === 0) nothing.say(texts.none, texts.noneHint)
    else nothing.say(texts.noneFound, texts.noneFoundHint)
    list.classList.toggle('several', several)
    keyed(list, chosen, (one) => one.key, (one) => line(one, onWay), (item, one) => say(item.parts.who, who(one)))
  }

  const add = (fresh) => {
    if (fresh.length === 0) return
    lines = [...fresh, ...lines].sort((a, b) => b.at - a.at || b.revision - a.revision).slice(0, KEPT)
    if (paused !== null) paused += fresh.filter((one) => !one.isNote).length
    draw()
  }

  const read = async (restaurant, head) => {
    const known = cursors.get(restaurant)
    const since = Math.max(0, known ?? head - FIRST, head - MOST)
    const fresh = []
    try {
      const answer = await ask('/api/changes', { restaurant, since, limit: MOST })
      fresh.push(...answer.changes.map((message) => entry(restaurant, message)))
      const first = fresh[0]?.at ?? Date.now()
      if (known !== undefined && since > known) fresh.push(note(restaurant, since, first, texts.skipped(since - known)))
      cursors.set(restaurant, answer.changes.at(-1)?.revision ?? answer.revision)
    } catch (error) {
      if (error.status !== 410) throw error
      cursors.set(restaurant, head)
      fresh.push(note(restaurant, head, Date.now(), texts.pruned))
    }
    add(fresh)
  }

  const show = async (view) => {
    several = view.heads.size > 1
    if (asking) return
    asking = true
    try {
      const moved = [...view.heads].filter(([slug, head]) => head !== (cursors.get(slug) ?? -1)).slice(0, AT_ONCE)
      for (const [slug, head] of moved) {
        if (head < (cursors.get(slug) ?? 0)) cursors.delete(slug) // another history
        await read(slug, head)
      }
    } catch {
      // The board says what is wrong, and the next round asks again.
    } finally {
      asking = false
    }
    draw()
  }
  const forget = () => {
    cursors.clear()
    lines = []
    draw()
  }
  /** What a change did, in words, where it is listed. */
  const what = (key) => lines.find((one) => keyOf(one) === key && !one.isNote)?.what
  return { box, show, forget, what }
}

// A terminal may say its name later than it is heard of.
const who = (one) => (one.isNote ? '' : whoMade(one))
const wordsOf = (one) => `${one.words} ${who(one)}`.toLowerCase()

const entry = (restaurant, message) => {
  const { type, data, revision, clientId, timestamp } = message
  const [action, row] = type === 'UPDATE_SETTINGS' ? ['update', data] : [data.action, data.data ?? {}]
  const what = did(type, action, row)
  const more = details(type, action, row).join(', ')
  const words = [what, more, clientId, restaurant, revision, row.id ?? ''].join(' ')
  return { key: `${restaurant}#${revision}#${timestamp}`, restaurant, revision, type, at: timestamp, clientId, what, more, words }
}

// What is no change: it stands behind the revision up to which something is left out.
const note = (restaurant, revision, at, text) => ({
  key: `${restaurant}#${revision}#${text}`, isNote: true, restaurant, revision, type: '', at, clientId: '', what: text, more: '',
})

const line = (one, onWay) => {
  const who = el('span')
  return withParts(el('li', { class: one.isNote ? 'log-line note' : 'log-line', 'data-revision': one.isNote ? null : one.revision },
    el('time', { class: 'mono muted', datetime: new Date(one.at).toISOString() }, clock(one.at)),
    one.isNote
      ? el('span')
      : el('button', { class: 'link mono', type: 'button', 'aria-label': `${texts.way}: ${one.revision}`, title: texts.way, onclick: () => onWay(one.restaurant, one.revision) }, `#${one.revision}`),
    el('span', { class: 'wrap log-what' }, el('span', { class: 'strong' }, one.what), one.more ? ` ${one.more}` : ''),
    el('span', { class: 'muted small wrap log-who', title: one.clientId }, who, el('span', { class: 'log-restaurant' }, ` · ${one.restaurant}`))), { who })
}
