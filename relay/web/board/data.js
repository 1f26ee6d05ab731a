// What the answers of /api/board come to: the terminals and changes of all relays together, and what is wrong.

import { bySql, findings } from './texts.js'

const PENDING_MANY = 100 // changes that wait at one relay, and it is worth a word
const LAG_MANY = 50 // changes a relay is behind the database at a look: below that it is only on its way
const QUEUE_PART = 0.01 // of the notification queue, as the relay's own alarm
const LEFT_SECONDS = 60 // after two heartbeats without an answer a terminal has gone to another relay
const ANSWERS_MS = 300 // a change may be so much younger than the oldest answer, and not be in it
const SILENT_KINDS = ['unknown', 'silent', 'unanswered']

/** A change by restaurant and revision. */
export const keyOf = ({ restaurant, revision }) => `${restaurant}#${revision}`

/** How a relay is: one word of texts.states. */
export const stateOf = (instance) => {
  if (!instance.known) return 'unknown'
  if (instance.silent) return 'silent'
  if (!instance.answered) return 'unanswered'
  return instance.draining ? 'draining' : instance.status
}

/** An answer of /api/board as the page shows it; `before` are the heads of the answer before. */
export const joined = (answer, before) => {
  // By name, and not as they come: behind a proxy it is now this relay that answers first, now that one.
  const instances = answer.instances
    .map((one) => ({ ...one, state: stateOf(one) }))
    .sort((a, b) => a.name.localeCompare(b.name, 'en', { numeric: true }) || (a.id < b.id ? -1 : 1))
  const answered = instances.filter((one) => one.answered)
  const heads = new Map()
  for (const { slug, head } of answered.flatMap((one) => one.restaurants)) {
    heads.set(slug, Math.max(heads.get(slug) ?? 0, head))
  }
  const terminals = answered.flatMap((one) => one.terminals.map((terminal) => shown(terminal, one, heads, before)))
  remember(terminals)
  return {
    instances,
    terminals,
    heads,
    changes: changesOf(answered),
    settledAt: Math.min(...answered.map((one) => one.at)) - ANSWERS_MS,
    count: answered.reduce((sum, one) => sum + one.terminalCount, 0),
    isWhole: instances.every(isToldOf), // or some relay has terminals of which nothing is known
    behind: Math.max(0, ...terminals.map((one) => one.behind)),
    lagging: answered.reduce((sum, one) => sum + one.lagging, 0),
    late: lateNow(answered),
    findings: wrong(instances, answered, terminals),
  }
}

const isToldOf = ({ answered, known, unheardSeconds }) => answered || (known && unheardSeconds > LEFT_SECONDS)

// A terminal may be behind what other relays have, of which its own has not heard. But relays answer at different moments:
// only what was there in the answer before is missed by whoever has not got it.
const shown = (terminal, instance, heads, before) => ({
  ...terminal,
  key: `${instance.id} ${terminal.id}`,
  relay: instance.name,
  isLive: terminal.revision != null,
  sinceMs: Math.max(0, instance.at - Date.parse(terminal.connectedAt)), // both by the clock of its relay
  behind: terminal.revision == null ? 0 : Math.max(terminal.behind, missed(terminal, heads, before)),
})

const missed = ({ restaurant, revision }, heads, before) =>
  Math.min(heads.get(restaurant) ?? 0, before.get(restaurant) ?? 0) - revision

// The names of terminals, also of those that have left since: by restaurant and client id.
const names = new Map()
const NAMES = 5000

const remember = (terminals) => {
  if (names.size > NAMES) names.clear()
  for (const { restaurant, clientId, name } of terminals) if (name) names.set(`${restaurant} ${clientId}`, name)
}

/** Who made a change, for people: the name of its terminal where that is known. */
export const whoMade = ({ restaurant, clientId }) =>
  clientId === 'database' ? bySql : (names.get(`${restaurant} ${clientId}`) ?? clientId)

/** The changes of all relays, the newest first: each with where it came in and where it was passed on. */
const changesOf = (answered) => {
  const found = new Map()
  for (const instance of answered) {
    for (const { given, type, action, rowId, clientId, restaurant, revision, ...passed } of instance.ways) {
      const key = keyOf({ restaurant, revision })
      if (!found.has(key)) {
        found.set(key, { key, restaurant, revision, type, action, rowId, clientId, given, sent: null, passed: [] })
      }
      found.get(key).passed.push({ relay: instance.name, ...passed })
    }
  }
  for (const instance of answered) {
    for (const sent of instance.sent) {
      const change = found.get(keyOf(sent))
      // An answer that only repeats a revision is not where the change came in.
      if (change && change.clientId === sent.clientId && !(change.sent?.received <= sent.received)) {
        change.sent = { relay: instance.name, ...sent }
      }
    }
  }
  return [...found.values()].sort((a, b) => b.given - a.given || b.revision - a.revision)
}

const lateNow = (answered) => {
  const last = answered.flatMap((one) => one.seconds.slice(-1))
  return last.length === 0 ? null : Math.max(...last.map(([, , mean]) => mean))
}

/** When the first step of a change was, when its last, and how many terminals have it. */
export const span = (change) => {
  const times = change.passed.flatMap(({ heard, read, written }) => [Math.max(heard, change.given), read, written])
  if (change.sent) times.push(change.sent.received, change.sent.begun, change.sent.committed)
  const [from, to] = [Math.min(change.given, ...times), Math.max(change.given, ...times)]
  const terminals = change.passed.reduce((sum, one) => sum + one.terminals, 0)
  const missing = change.passed.reduce((sum, one) => sum + one.missing, 0)
  const written = Math.max(...change.passed.map((one) => one.written))
  return { from, to, terminals, missing, late: Math.max(0, written - change.given) }
}

// What is wrong, the worst first: kind of colour, text, and a key that stays the same while figures in the text change.
const wrong = (instances, answered, terminals) => {
  const found = []
  const add = (colour, key, text) => found.push({ colour, key, ...text })
  for (const { id, name, state, problems, unheardSeconds } of instances) {
    if (state === 'down') add('bad', `down ${id}`, findings.down(name, problems))
    if (state === 'silent') add('bad', `silent ${id}`, findings.silent(name, unheardSeconds * 1000))
    if (state === 'unanswered') add('bad', `unanswered ${id}`, findings.unanswered(name))
  }
  for (const { id, name, state, problems, lag, pending } of answered) {
    if (state === 'degraded') add('warm', `degraded ${id}`, findings.degraded(name, problems))
    if (state === 'draining') add('calm', `draining ${id}`, findings.draining(name))
    if (lag >= LAG_MANY) add('warm', `lag ${id}`, findings.lag(name, lag))
    if (pending >= PENDING_MANY) add('warm', `pending ${id}`, findings.pending(name, pending))
  }
  const queue = Math.max(0, ...answered.map((one) => one.queueUsage))
  if (queue > QUEUE_PART) add('warm', 'queue', findings.queue(queue))
  const lagging = answered.reduce((sum, one) => sum + one.lagging, 0)
  if (lagging > 0) add('warm', 'lagging', findings.lagging(lagging))
  if (found.length === 0) {
    const count = answered.reduce((sum, one) => sum + one.terminalCount, 0)
    const behind = terminals.filter((one) => one.behind > 0 && one.isLive).length
    const text = behind > 0 ? findings.behind(behind, instances.length, count) : findings.well(instances.length, count)
    add('good', 'well', text)
  }
  const order = ['bad', 'warm', 'calm', 'good']
  return found.sort((a, b) => order.indexOf(a.colour) - order.indexOf(b.colour))
}

/** Whether a relay's figures are of now. */
export const isHere = (instance) => !SILENT_KINDS.includes(instance.state)

/** Changes per second over the last answers, by how far the restaurants' heads have moved. */
export class Pace {
  #seen = [] // [milliseconds, heads], the oldest first

  take(at, heads) {
    this.#seen.push([at, heads])
    while (this.#seen.length > 2 && at - this.#seen[0][0] > 5000) this.#seen.shift()
    const [from, before] = this.#seen[0]
    if (at - from < 500) return 0
    let moved = 0
    for (const [slug, head] of heads) moved += Math.max(0, head - (before.get(slug) ?? head))
    return (moved * 1000) / (at - from)
  }
}
