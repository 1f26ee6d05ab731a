// A terminal for pages and Node: it keeps a restaurant's state current, and does what it is asked to, come what may.
//
//   import { Terminal, indexedDbStore } from '/minipos-sync.js'
//   const terminal = new Terminal('ws://127.0.0.1:8080/ws', { store: indexedDbStore() })
//   terminal.on('view', () => console.log(terminal.tables))
//   await terminal.start()
//   await terminal.table('update', { id: '4', status: 'occupied' })
//
// docs/terminals.md has all of it, minipos-sync.d.ts the types. relay/terminal.py is the same in Python, and one suite of
// tests runs against both.

/** @typedef {import('./minipos-sync.d.ts').Store} Store */

const LISTS = { UPDATE_TABLE: 'tables', UPDATE_MENU: 'menuItems', UPDATE_ORDER: 'orderHistory' }
// What an update may leave out and keeps (docs/protocol.md, section 5); every other field is replaced.
const KEPT = {
  tables: ['number', 'seats', 'status'],
  menuItems: ['name', 'price', 'category', 'description'],
  orderHistory: ['tableNumber', 'customerName', 'orderDate', 'status', 'total', 'items', 'createdAt'],
}
const ADVICE = {
  CONFLICT: 'show what is there now (current), let the person decide, send anew',
  GONE: 'it was deleted; add it if it is wanted after all',
  ORDER_ID_TAKEN: 'send it again under suggestedId',
  VALIDATION: 'correct the field and send it anew',
  TOO_LARGE: 'send less, such as a smaller picture',
  FORBIDDEN: 'this terminal may not do that; ask a manager',
  NOT_SENT: 'decide about what it builds on, then want it anew',
  INTERNAL: 'report it to whoever runs the relay; its log has the details',
}
// What a terminal says without an id, and gets no ACK for: kept, it would hold up what is behind it for ever.
const SAID = ['CLIENT_CONNECTED', 'CLIENT_DISCONNECTED', 'HEARTBEAT', 'SYNC_REQUEST']
const RETRYABLE = ['BUSY', 'UNAVAILABLE', 'RATE_LIMITED']

const ASKS = 3 // for what one hole hides; the last one for everything. Then the connection is given up
const PATIENCE = 8 // times as long as usual, at most, is waited for a state that arrives slowly
const RETRY_MOST = 3600 // seconds that a relay may send a terminal away for
const OPEN_SECONDS = 10 // for a handshake
const STORE_SECONDS = 1 // between two attempts to write to a store that fails
const TIMER_MOST = 2 ** 31 - 1 // milliseconds that a timer can wait
// Close codes (RFC 6455, section 7.4.1, and the IANA registry).
const MEND = [1002, 1003, 1007, 1010]
const [GOODBYE, LOST, POLICY, TOO_LARGE, RESTARTING, COME_BACK_LATER] = [1000, 1006, 1008, 1009, 1012, 1013]

const encoder = new TextEncoder()
const bytesOf = (text) => encoder.encode(text).length
const secondsNow = () => performance.now() / 1000

/** Seconds to wait: anything from nothing to a ceiling that doubles, so that a thousand do not come back in step. */
const fullJitter = (attempt, { firstDelay, lastDelay }) =>
  Math.random() * Math.min(lastDelay, firstDelay * 2 ** Math.min(attempt, 20))

function uuid() {
  // crypto.randomUUID is there on secure pages only, and a relay in a kitchen has no certificate.
  const bytes = crypto.getRandomValues(new Uint8Array(16))
  bytes[6] = (bytes[6] & 0x0f) | 0x40
  bytes[8] = (bytes[8] & 0x3f) | 0x80
  return [...bytes].map((byte, n) => ([4, 6, 8, 10].includes(n) ? '-' : '') + byte.toString(16).padStart(2, '0')).join('')
}

// --- what it holds

const CRC = Uint32Array.from({ length: 256 }, (_, byte) => {
  for (let bit = 0; bit < 8; bit++) byte = (byte >>> 1) ^ (0xedb88320 & -(byte & 1))
  return byte
})

function crc32(text) {
  let crc = ~0
  for (const byte of encoder.encode(text)) crc = (crc >>> 8) ^ CRC[(crc ^ byte) & 0xff]
  return ~crc >>> 0
}

/** The checksum of docs/protocol.md, section 6, with so many of the newest orders. */
export function checksum({ tables, menuItems, orderHistory, categories, settings }, orders) {
  const lines = []
  for (const row of tables.values()) lines.push(`table ${row.version} ${row.id}`)
  for (const row of menuItems.values()) lines.push(`dish ${row.version} ${row.id}`)
  for (const row of orders ? [...orderHistory.values()].slice(-orders) : []) lines.push(`order ${row.version} ${row.id}`)
  for (const name of categories) lines.push(`category ${name}`)
  for (const [key, value] of Object.entries(settings)) {
    const told = typeof value === 'string' || typeof value === 'boolean'
    lines.push(told ? `setting ${key} ${value}` : `setting ${key}`)
  }
  return crc32(lines.map(crc32).sort((a, b) => a - b).join(','))
}

const nothing = () => ({ tables: new Map(), menuItems: new Map(), orderHistory: new Map(), categories: [], settings: {} })
const nothingUnsaved = () => ({ clear: false, urgent: false, values: new Map() })

/** The state at one revision, and what of it has yet to be saved. It only ever moves forward. */
class Replica {
  epoch = null
  revision = -1 // it holds nothing
  state = nothing()
  unsaved = nothingUnsaved()
  #count = 0

  constructor(saved) {
    Object.assign(this, saved.get('cursor'))
    this.state.categories = saved.get('categories') ?? []
    this.state.settings = saved.get('settings') ?? {}
    const rows = [...saved].filter(([key]) => key.startsWith('row/')).sort(([, a], [, b]) => a.n - b.n)
    for (const [key, { n, row }] of rows) {
      this.state[key.split('/', 2)[1]].set(row.id, row)
      this.#count = n
    }
  }

  get cursor() {
    return this.epoch === null ? {} : { epoch: this.epoch, revision: this.revision }
  }

  /** Become a snapshot; false if it is older than what is held, which is kept. */
  take(snapshot) {
    if (snapshot.epoch === this.epoch && snapshot.revision < this.revision && snapshot.reason !== 'ahead') return false
    this.forget()
    this.epoch = snapshot.epoch
    this.revision = snapshot.revision
    this.state = { ...nothing(), categories: snapshot.categories, settings: snapshot.settings }
    for (const name of Object.keys(KEPT)) {
      // The last changed order comes first in a snapshot, and stands last here.
      const rows = name === 'orderHistory' ? [...snapshot[name]].reverse() : snapshot[name]
      for (const row of rows) this.#put(name, row)
    }
    this.save('categories', snapshot.categories)
    this.save('settings', snapshot.settings)
    this.save('cursor', this.cursor)
    return true
  }

  /** Hold nothing, as at first. */
  forget() {
    this.epoch = null
    this.revision = -1
    this.state = nothing()
    this.unsaved.clear = true
    for (const key of [...this.unsaved.values.keys()]) if (key.startsWith('row/')) this.unsaved.values.delete(key)
    for (const key of ['categories', 'settings', 'cursor']) this.save(key, undefined)
  }

  /** Take the change after the one held; false if it carries a row older than the one held, which is kept. */
  apply(type, data, revision) {
    const newer = this.#apply(type, data)
    // Last: what could not be understood has not been applied.
    this.revision = revision
    this.save('cursor', this.cursor)
    return newer
  }

  #apply(type, data) {
    if (type === 'UPDATE_SETTINGS') {
      this.state.settings = data
      this.save('settings', data)
      return true
    }
    const name = LISTS[type]
    if (!name) return true // of a relay that knows more than this terminal
    const { action, data: row } = data
    const rows = this.state[name]
    if (action === 'clear') {
      for (const id of [...rows.keys()]) this.#remove(name, id)
    } else if (action === 'add_category' || action === 'delete_category') {
      const others = this.state.categories.filter((one) => one !== row.name)
      if (action === 'delete_category') this.state.categories = others
      else if (others.length === this.state.categories.length) this.state.categories = [...others, row.name]
      this.save('categories', this.state.categories)
    } else if (row.version < (rows.get(row.id) ?? row).version) {
      return false
    } else if (action.startsWith('delete')) {
      this.#remove(name, row.id)
    } else {
      if (typeof row.version !== 'number') throw new TypeError('a row without a version')
      this.#put(name, row)
    }
    return true
  }

  /** Have something saved; undefined removes it. `urgent`: somebody waits until it is on the disk. */
  save(key, value, urgent = false) {
    this.unsaved.values.set(key, value)
    this.unsaved.urgent ||= urgent
  }

  /** Take back a batch that could not be written: it is written with what comes after it, or not at all. */
  saveLater({ clear, values }) {
    const newer = this.unsaved
    const older = [...values].filter(([key]) => !(newer.clear && key.startsWith('row/')))
    this.unsaved = { clear: clear || newer.clear, urgent: newer.urgent, values: new Map([...older, ...newer.values]) }
  }

  #put(name, row) {
    if (name === 'orderHistory') this.state[name].delete(row.id) // it becomes the newest
    this.state[name].set(row.id, row)
    this.save(`row/${name}/${row.id}`, { n: ++this.#count, row })
  }

  #remove(name, id) {
    this.state[name].delete(id)
    this.save(`row/${name}/${id}`, undefined)
  }
}

/** The state as it will be when these mutations are done, as far as a terminal can tell. */
function foreseen(state, mutations) {
  const view = { ...state }
  const copied = new Set()
  for (const { type, data } of mutations) {
    const name = LISTS[type]
    try {
      if (type === 'UPDATE_SETTINGS') {
        view.settings = { ...view.settings, ...data }
      } else if (name) {
        if (!copied.has(name)) view[name] = new Map(view[name])
        copied.add(name)
        foresee(view, name, data.action, data.data ?? {})
      }
    } catch {
      // It has not the form it must have and will be refused; the rest is to be seen meanwhile.
    }
  }
  return view
}

function foresee(view, name, action, body) {
  const rows = view[name]
  const held = rows.get(body.id)
  if (action === 'clear') {
    rows.clear()
  } else if (action === 'add_category') {
    if (!view.categories.includes(body.name)) view.categories = [...view.categories, body.name]
  } else if (action === 'delete_category') {
    view.categories = view.categories.filter((one) => one !== body.name)
  } else if (action.startsWith('delete')) {
    rows.delete(body.id)
  } else if (action === 'void') {
    if (held) rows.set(body.id, { ...held, status: 'void' })
  } else if (name === 'tables' && ['add_items', 'update_item', 'void_item'].includes(action)) {
    if (held && (held.orderId || body.orderId) === (body.orderId || held.orderId)) {
      rows.set(body.id, withLines(held, action, body))
    }
  } else if (held) {
    const kept = Object.fromEntries([...KEPT[name], 'version'].filter((key) => key in held).map((key) => [key, held[key]]))
    rows.set(body.id, { ...kept, ...body })
  } else if (KEPT[name].every((key) => key === 'createdAt' || key in body)) {
    rows.set(body.id, { ...body, version: 0 })
  }
}

function withLines(table, action, { orderId, items = [] }) {
  const lines = new Map((table.orderItems ?? []).map((line) => [line.id, line]))
  if (action === 'void_item') {
    for (const { id } of items) lines.delete(id)
  } else if (action === 'add_items' || items.every(({ id }) => lines.has(id))) {
    for (const line of items) lines.set(line.id, { ...lines.get(line.id), ...line })
  }
  const row = { ...table, orderItems: [...lines.values()] }
  if (action === 'add_items') {
    row.status = table.status === 'available' ? 'occupied' : table.status
    if (table.orderId || orderId) row.orderId = table.orderId || orderId
  }
  const figures = row.orderItems.map(({ price, quantity = 1 }) => price * quantity)
  if (figures.every((one) => Number.isFinite(one))) row.orderTotal = figures.reduce((sum, one) => sum + one, 0)
  return row
}

// --- what it has asked for

/** The mutations of one terminal: kept in order, sent in order, shown until they have come back. */
class Outbox {
  inFlight = null
  #deliverAt = 0
  #refusals = 0 // retryable ones of the first mutation
  #lastKey
  #replica
  #timing
  #tell

  constructor(saved, replica, timing, tell) {
    this.#replica = replica
    this.#timing = timing
    this.#tell = tell
    const keys = [...saved.keys()].filter((key) => key.startsWith('outbox/')).sort()
    const found = keys.map((key) => {
      const kept = saved.get(key)
      return { after: [], ...kept, key, state: kept.error ? 'refused' : 'pending', answer: null, stored: true }
    })
    this.restaurant = saved.get('restaurant') ?? null
    this.mutations = found.filter((one) => one.state === 'pending')
    this.refused = found.filter((one) => one.state === 'refused')
    this.#lastKey = keys.at(-1) ?? ''
  }

  /** Take in a mutation; it is sent once `stored`. Throws TypeError for what is no JSON or no mutation. */
  want(clientId, type, data, ifVersion, after = []) {
    if (SAID.includes(type)) throw new TypeError(`${type} is no mutation`)
    // Keys sort in the order of wanting, even if the machine's clock was set back meanwhile.
    const last = Number(this.#lastKey.slice(7, 22))
    const count = Date.now() <= last ? Number(this.#lastKey.slice(23, 29)) + 1 : 0
    const key =
      `outbox/${String(Math.max(Date.now(), last)).padStart(15, '0')}-${String(count).padStart(6, '0')}-` + uuid().slice(0, 4)
    const kept = JSON.parse(JSON.stringify(data))
    const mutation = { key, id: uuid(), clientId, type, data: kept, ifVersion: ifVersion ?? null, after: after.map(({ id }) => id) }
    Object.assign(mutation, { restaurant: this.restaurant, error: null, state: 'pending', answer: null, stored: false })
    this.#lastKey = key
    this.mutations.push(mutation)
    this.#replica.save(key, keptOf(mutation), true)
    this.#tell('view')
    if (after.some(({ state }) => state === 'refused')) this.refuse(mutation, NOT_SENT)
    return mutation
  }

  /** Take it back: it could not be stored. */
  unwant(mutation) {
    this.mutations = this.mutations.filter((one) => one !== mutation)
    this.refused = this.refused.filter((one) => one !== mutation)
    this.#tell('view')
  }

  /** Forget a mutation that was refused: somebody knows. */
  dismiss(mutation) {
    this.refused = this.refused.filter((one) => one !== mutation)
    this.#replica.save(mutation.key, undefined)
  }

  /** What is wanted from now on is for this restaurant; another one that something pending is for, if there is one. */
  enter(restaurant) {
    const other = this.pending.find((one) => one.restaurant && one.restaurant !== restaurant)?.restaurant
    if (!other) this.restaurant = restaurant
    return other
  }

  get pending() {
    return this.mutations.filter((one) => one.state === 'pending')
  }

  has(mutation) {
    return this.mutations.includes(mutation) || this.refused.includes(mutation)
  }

  /** Nothing is on its way any more; what was goes out again. */
  disconnected() {
    this.inFlight = null
    this.#deliverAt = 0
    this.#refusals = 0
  }

  /**
   * The text of the mutation to send now, which is in flight from now on.
   *
   * One at a time: the relay may answer one with BUSY and do the next, and then two edits of a row change places.
   */
  next(now, mostBytes) {
    while (!this.inFlight && now >= this.#deliverAt) {
      const mutation = this.mutations.find((one) => one.state === 'pending')
      if (!mutation?.stored) return null
      const { type, id, clientId, ifVersion, data } = mutation
      const text = JSON.stringify({ type, id, clientId, ...(ifVersion !== null && { ifVersion }), data })
      const size = bytesOf(text)
      if (size <= mostBytes) {
        this.inFlight = mutation
        return text
      }
      this.refuse(mutation, { code: 'TOO_LARGE', message: `the message has ${size} bytes, and the relay takes ${mostBytes}` })
    }
    return null
  }

  /** When `next` has one; null: only when something happens. */
  get deliverAt() {
    return !this.inFlight && this.mutations.find((one) => one.state === 'pending')?.stored ? this.#deliverAt : null
  }

  find(ref) {
    return this.mutations.find((one) => one.state === 'pending' && one.id === ref)
  }

  /** It is done, in a revision that may come later: until then it is shown. */
  acknowledge(mutation, data) {
    mutation.state = 'acknowledged'
    mutation.answer = data
    this.#replica.save(mutation.key, undefined)
    this.#land(mutation)
    this.prune()
    this.#tell('acknowledged', mutation)
  }

  /** It may be done later: it goes out again, and nothing behind it before. */
  postpone(mutation, now, after = 0) {
    if (mutation !== this.inFlight) return
    this.inFlight = null
    this.#deliverAt = now + after + fullJitter(this.#refusals++, this.#timing)
  }

  /** It is not done, nor is what builds on it, and what was shown of them is rolled back. */
  refuse(mutation, error) {
    mutation.state = 'refused'
    mutation.error = { ...error, todo: ADVICE[error.code] ?? 'mend the terminal' }
    this.mutations = this.mutations.filter((one) => one !== mutation)
    this.refused = [...this.refused, mutation]
    // Kept until it is dismissed: the person may not be looking.
    this.#replica.save(mutation.key, keptOf(mutation), true)
    this.#land(mutation)
    this.#tell('view')
    this.#tell('refused', mutation)
    for (const follower of this.mutations.filter(({ after }) => after.includes(mutation.id))) {
      if (follower.state === 'pending') this.refuse(follower, NOT_SENT) // and not yet with another that it follows
    }
  }

  /** Drop what is acknowledged and held by now; `every`: also what was acknowledged in another history. */
  prune(every = false) {
    const held = this.#replica.revision
    const left = this.mutations.filter((one) => one.state === 'pending' || (one.answer.revision > held && !every))
    if (left.length === this.mutations.length) return
    this.mutations = left
    this.#tell('view')
  }

  #land(mutation) {
    if (mutation !== this.inFlight) return
    this.inFlight = null
    this.#refusals = 0
  }
}

const NOT_SENT = { code: 'NOT_SENT', message: 'what it builds on was refused' }
const keptOf = ({ id, clientId, type, data, ifVersion, restaurant, after, error }) =>
  ({ id, clientId, type, data, ifVersion, restaurant, after, error })

// --- what it says and hears

/**
 * One terminal's side of the protocol, over all its connections. No I/O: the terminal has socket, clock and disk.
 *
 * After each call, `out` is to be sent, `told` to be passed on, `replica.unsaved` to be written, `hangUp` to be obeyed,
 * and `tick` to be called when `deadline` is over. Times are seconds of any clock that never goes back.
 */
class Conversation {
  out = []
  told = []
  head = 0
  awayUntil = 0 // the relay has asked it to stay away for so long
  status = { state: 'offline', why: 'not started', todo: 'start it', retryAt: null }
  #attempt = 0
  #view = null
  #hello

  constructor(saved, hello, timing) {
    this.timing = timing
    this.#hello = hello
    this.replica = new Replica(saved)
    this.clientId = saved.get('client') ?? `t-${uuid()}`
    if (!saved.has('client')) this.replica.save('client', this.clientId)
    this.outbox = new Outbox(saved, this.replica, timing, (what, detail) => this.#tell(what, detail))
    this.#restaurant = this.outbox.restaurant
    this.role = saved.get('role') ?? null
    this.#reset()
  }

  #restaurant // whose state this is
  #isElsewhere
  #patience = 1 // doubled where it hung up on a relay that may have been sending a large state; 1 when live
  #open
  #welcomed
  #synced
  #target
  #asked // the hole that is asked for: the revision held, how often, and until when an answer is awaited (null: none)
  #answerBy
  #maxBytes
  #heartbeat
  #beatAt
  #deadAt
  #checkAt
  #beaten // head and revision at the last beat

  #reset() {
    this.outbox.disconnected()
    this.out = []
    this.hangUp = ''
    this.#isElsewhere = this.#open = this.#welcomed = this.#synced = false
    this.#target = this.#answerBy = this.#beatAt = this.#checkAt = 0
    this.#asked = { revision: -2, times: 0, until: null }
    this.#maxBytes = 1024 * 1024 // until WELCOME tells
    this.#heartbeat = this.timing.heartbeat ?? 20
    this.#deadAt = this.#beaten = null
  }

  /** The state with what is pending done to it. */
  get view() {
    return (this.#view ??= foreseen(this.replica.state, this.outbox.mutations))
  }

  #tell(what, detail = null) {
    if (what === 'view') {
      this.#view = null
      if (this.told.at(-1)?.[0] === 'view') return
    }
    this.told.push([what, detail])
  }

  #stand(state, why = '', todo = '', retryAt = null) {
    const now = this.status
    if (now.state === state && now.why === why && now.retryAt === retryAt) return
    this.status = { state, why, todo, retryAt }
    this.#tell('state', this.status)
  }

  /** Pass a MESSAGE on; false where there is no connection, for nobody would hear it later. */
  say(data) {
    if (this.#open) this.#say('MESSAGE', data)
    return this.#open
  }

  // Connecting

  connecting() {
    this.#reset()
    this.#stand('connecting')
  }

  opened(now) {
    this.#open = true
    this.#say('CLIENT_CONNECTED', { clientId: this.clientId, protocol: 1, ...this.#hello })
    this.#beatAt = now + this.#heartbeat
    this.#checkAt = now + this.timing.check
    this.#ask(now)
  }

  /** The socket is closed, or could not be opened (code 1006, RFC 6455, section 7.1.5). */
  closed(now, code, reason) {
    const inFlight = this.outbox.inFlight
    const why = reason || this.hangUp || `the connection ended (${code})`
    if (this.#isElsewhere) code = POLICY
    this.#reset()
    if (code === POLICY) {
      this.#stand('refused', why, 'correct the address, the restaurant or the token, then start again')
      return
    }
    if (MEND.includes(code)) {
      this.#stand('refused', why, 'the terminal or what is between is at fault; mend it')
      return
    }
    if (code === TOO_LARGE && inFlight) {
      this.outbox.refuse(inFlight, { code: 'TOO_LARGE', message: 'the message is larger than what is let through' })
    }
    const away = code === RESTARTING || code === COME_BACK_LATER
    const told = away && /retry after ([0-9]+(?:\.[0-9]+)?) s/.exec(reason)
    const delay = told ? Math.min(Number(told[1]), RETRY_MOST) : fullJitter(this.#attempt++, this.timing)
    this.awayUntil = told ? now + delay : 0
    this.#stand('offline', why, 'it connects again by itself; go on working', now + delay)
  }

  stopped() {
    this.#reset()
    this.#stand('offline', 'stopped', 'start it')
  }

  // Hearing

  /** Take one message of the relay. Throws for what no relay says. */
  hear(text, now) {
    if (this.hangUp) return // what still comes is of no use any more
    const message = JSON.parse(text)
    const { type, data, ref, revision } = message
    if (typeof type !== 'string' || typeof data !== 'object') throw new TypeError('no message')
    this.#deadAt = null
    if (type === 'WELCOME') {
      this.#welcomed = true
      this.#maxBytes = data.maxMessageBytes
      this.#heartbeat = this.timing.heartbeat ?? data.heartbeatSeconds
      this.#beatAt = now + this.#heartbeat
      this.#be(data.role ?? null)
      this.#enter(data.restaurant)
    } else if (type === 'SYNC_RESPONSE') {
      this.#sync(data, now)
    } else if (type === 'HEARTBEAT') {
      this.#beat(data, now)
    } else if (type === 'ACK') {
      const found = this.outbox.find(ref)
      if (found) this.outbox.acknowledge(found, data)
    } else if (type === 'ERROR') {
      this.#error(this.outbox.find(ref), data, now)
    } else if (type === 'MESSAGE') {
      this.#tell('message', message)
    } else if (revision !== undefined) {
      this.#change(message, now)
    }
    this.#askAgain(now)
    this.tick(now)
  }

  #be(role) {
    if (role === this.role) return
    this.role = role
    this.replica.save('role', role ?? undefined)
    this.#tell('role', role)
  }

  /** Nothing of one restaurant is sent to another or shown in it, whatever address or token leads there. */
  #enter(restaurant) {
    const other = this.outbox.enter(restaurant)
    if (other) {
      this.hangUp = `what is pending is for restaurant '${other}', and this is '${restaurant}'`
      this.#isElsewhere = true
      return
    }
    if (this.#restaurant !== null && this.#restaurant !== restaurant) {
      // The restaurants of a database share its epoch: the cursor would be taken for one of this restaurant.
      this.replica.forget()
      this.#tell('view')
    }
    if (restaurant !== this.#restaurant) {
      this.#restaurant = restaurant
      this.replica.save('restaurant', restaurant)
    }
  }

  #change(message, now) {
    const { replica } = this
    const { type, data, revision } = message
    this.head = Math.max(this.head, revision)
    if (replica.epoch === null || revision <= replica.revision) return
    if (revision > replica.revision + 1) {
      if (this.#asked.until === null) this.#ask(now)
      return
    }
    if (!replica.apply(type, data, revision)) {
      this.#tell('fault', `revision ${revision} has an older version of a row that is held; it was kept out`)
    }
    this.outbox.prune()
    this.#tell('view')
    this.#tell('change', message)
    this.#caughtUp()
  }

  #sync(data, now) {
    const { replica } = this
    this.#asked.until = null
    this.head = this.#target = data.revision
    if (data.mode === 'snapshot') {
      const another = data.reason === 'ahead' || data.epoch !== replica.epoch
      if (!replica.take(data)) {
        this.#tell('fault', `a snapshot of revision ${data.revision} is older than what is held; it was kept out`)
        this.#ask(now)
        return
      }
      this.outbox.prune(another)
      this.#tell('view')
      this.#tell('snapshot', data.reason)
    } else if (data.epoch !== replica.epoch || data.from > replica.revision) {
      this.#ask(now, true)
      return
    }
    this.#synced = true
    this.#caughtUp()
  }

  #caughtUp() {
    if (!this.#synced || this.#asked.until !== null || this.replica.revision < this.#target) return
    this.#attempt = 0
    this.#patience = 1
    this.#stand('live')
  }

  /** Ask for what follows the cursor; for everything where that did not help, and in the end hang up. */
  #ask(now, anew = false) {
    const asked = this.#asked
    asked.times = asked.revision === this.replica.revision ? asked.times + 1 : 1
    asked.revision = this.replica.revision
    asked.until = now + this.timing.answer
    if (asked.times > ASKS) {
      this.hangUp = 'the relay does not send what is missing'
      return
    }
    this.#stand('catching-up')
    this.#say('SYNC_REQUEST', anew || asked.times === ASKS ? {} : this.replica.cursor)
  }

  /**
   * Ask the same again where no answer came, as of a relay without its database, for as long as there is life.
   *
   * Only when something was heard: while nothing is, the answer may be on its way, and would be sent twice.
   */
  #askAgain(now) {
    if (!this.#open || this.#asked.until === null || now < this.#asked.until) return
    this.#asked.times--
    this.#ask(now)
  }

  #error(mutation, data, now) {
    const retryable = data.retryable || RETRYABLE.includes(data.code)
    if (mutation && retryable) this.outbox.postpone(mutation, now, Math.min(Number(data.retryAfter ?? 0), RETRY_MOST))
    else if (mutation) this.outbox.refuse(mutation, data)
    else if (!retryable) this.#tell('fault', `${data.code}: ${data.message}`)
  }

  #beat(data, now) {
    const held = this.replica.revision
    this.head = data.head ?? this.head
    if (this.#asked.until !== null || data.response !== true) return
    const beaten = this.#beaten
    this.#beaten = { head: this.head, held }
    const stuck = beaten && held === beaten.held && held < Math.min(beaten.head, this.head)
    if (data.revision > held || stuck) {
      this.#ask(now)
    } else if ('checksum' in data && data.revision === held) {
      this.#checkAt = now + this.timing.check
      if (data.checksum !== checksum(this.replica.state, data.orders)) {
        this.#tell('fault', `at revision ${held} it held something else than the database; it starts over`)
        this.#ask(now, true)
      }
    }
  }

  // Time

  /** Do what is due. */
  tick(now) {
    if (!this.#open) return
    if (this.outbox.inFlight && now >= this.#answerBy) this.outbox.disconnected() // it goes out again, under its id
    if (this.#deadAt !== null && now >= this.#deadAt) {
      this.hangUp = 'the relay gives no sign of life'
      // Of a state that is on its way nothing is heard before it is whole, and it comes before any other answer.
      if (this.#welcomed && this.#asked.until !== null) this.#patience = Math.min(2 * this.#patience, PATIENCE)
    }
    if (now >= this.#beatAt) {
      this.#beatAt = now + this.#heartbeat
      this.#deadAt ??= now + this.#heartbeat * this.#patience
      this.#say('HEARTBEAT', { ping: true, ...(now >= this.#checkAt && { checksum: true }) })
    }
    const text = this.#synced && this.outbox.next(now, this.#maxBytes)
    if (text) {
      this.#answerBy = now + this.timing.answer
      this.out.push(text)
    }
  }

  /** When `tick` is due again; null: only when something happens. */
  get deadline() {
    if (!this.#open) return null
    const due = [this.#beatAt, this.#deadAt]
    due.push(this.outbox.inFlight ? this.#answerBy : this.#synced ? this.outbox.deliverAt : null)
    return Math.min(...due.filter((at) => at !== null))
  }

  #say(type, data) {
    this.out.push(JSON.stringify({ type, data, clientId: this.clientId }))
  }
}

// --- the terminal

/** One terminal; minipos-sync.d.ts says what it takes and gives. */
export class Terminal {
  #url
  #hello
  #timing
  #store
  #WebSocket
  #talk
  #loaded = false
  #listeners = new Map()
  #waiting = new Map()
  #running = false
  #socket = null
  #timer = null
  #saving = null
  #storeAt = 0 // after a failure of the store, when what nobody waits for is tried again
  #online = () => this.#hurry()

  constructor(url, { restaurant, name, token, store, timing, WebSocket } = {}) {
    this.#url = new URL(url, globalThis.location?.href)
    this.#url.protocol = this.#url.protocol.replace('http', 'ws')
    if (restaurant) this.#url.searchParams.set('restaurant', restaurant)
    this.#WebSocket = WebSocket ?? globalThis.WebSocket
    if (!this.#WebSocket) {
      throw new Error('there is no WebSocket here: take Node 22, or node --experimental-websocket, or give one as an option')
    }
    this.#hello = { ...(name && { name }), ...(token && { token }) }
    this.#timing = { firstDelay: 0.5, lastDelay: 30, heartbeat: null, answer: 30, check: 300, ...timing }
    this.#store = store ?? memoryStore()
    this.#talk = new Conversation(new Map(), this.#hello, this.#timing)
  }

  // Life

  /** Load what is stored and connect, again and again; after `refused` or `stop`, try anew. */
  async start() {
    if (this.#running) return
    this.#running = true
    try {
      if (!this.#loaded) {
        this.#talk = new Conversation(new Map(await this.#store.load()), this.#hello, this.#timing)
        this.#loaded = true
      }
    } catch (error) {
      this.#running = false
      throw error
    }
    if (!this.#running) return // stopped meanwhile
    globalThis.addEventListener?.('online', this.#online)
    this.#connect()
  }

  /** Say goodbye and save. What is pending stays in the store. */
  async stop() {
    this.#running = false
    globalThis.removeEventListener?.('online', this.#online)
    this.#drop(GOODBYE)
    this.#talk.stopped()
    this.#settle()
    while (this.#saving) await this.#saving
  }

  // What it shows

  get status() {
    const { retryAt, ...status } = this.#talk.status
    return { ...status, retryInSeconds: retryAt === null ? null : Math.max(0, retryAt - secondsNow()) }
  }
  get state() {
    return this.#talk.status.state
  }
  get clientId() {
    return this.#talk.clientId
  }
  get role() {
    return this.#talk.role
  }
  get epoch() {
    return this.#talk.replica.epoch
  }
  get revision() {
    return this.#talk.replica.revision
  }
  get head() {
    return this.#talk.head
  }
  get view() {
    return this.#talk.view
  }
  get confirmed() {
    return this.#talk.replica.state
  }
  get tables() {
    return this.view.tables
  }
  get menu() {
    return this.view.menuItems
  }
  get orders() {
    return this.view.orderHistory
  }
  get pending() {
    return this.#talk.outbox.pending
  }
  get refused() {
    return this.#talk.outbox.refused
  }

  /** Have a function called; returns one that ends this. */
  on(what, listener) {
    if (!this.#listeners.has(what)) this.#listeners.set(what, new Set())
    this.#listeners.get(what).add(listener)
    return () => this.#listeners.get(what).delete(listener)
  }

  // What it is asked to do

  /** Ask for a change; the mutation, once it is safe on the disk. It is shown at once, and sent in order. */
  async change(type, data, { ifVersion, after } = {}) {
    if (!this.#loaded) throw new Error('start the terminal first')
    const mutation = this.#talk.outbox.want(this.clientId, type, data, ifVersion, after)
    this.#settle()
    while (!mutation.stored) {
      // Lost, or refused and dismissed: nobody writes it any more, and whoever waited would do so without a pause.
      if (!this.#talk.outbox.has(mutation)) throw mutation.lost ?? new Error('the mutation could not be stored')
      await this.#saving
    }
    return mutation
  }

  table(action, row, options) {
    return this.change('UPDATE_TABLE', { action, data: row }, options)
  }
  dish(action, row, options) {
    return this.change('UPDATE_MENU', { action, data: row }, options)
  }
  order(action, row = {}, options = undefined) {
    return this.change('UPDATE_ORDER', { action, data: row }, options)
  }
  settings(settings) {
    return this.change('UPDATE_SETTINGS', settings)
  }

  /** An order id that nobody else gets; it waits until the relay can be asked. */
  async nextOrderId() {
    const mutation = await this.answered(await this.change('NEXT_ORDER_ID', {}))
    if (mutation.error) {
      this.dismiss(mutation)
      throw new Error(mutation.error.message)
    }
    return mutation.answer.orderId
  }

  /** Wait until a mutation is acknowledged or refused; its `state` says which. */
  async answered(mutation) {
    if (mutation.state !== 'pending') return mutation
    return new Promise((resolve) => this.#waiting.set(mutation, [...(this.#waiting.get(mutation) ?? []), resolve]))
  }

  /** Forget a mutation that was refused. */
  dismiss(mutation) {
    this.#talk.outbox.dismiss(mutation)
    this.#settle()
  }

  /** Send a MESSAGE to the other terminals, or with `to` to one; false where it is not connected. */
  say(data) {
    const said = this.#talk.say(data)
    this.#settle()
    return said
  }

  // Connecting

  #connect() {
    this.#talk.connecting()
    let socket
    try {
      socket = this.#socket = new this.#WebSocket(this.#url)
    } catch (error) {
      this.#ended(POLICY, String(error)) // such as a page by https and a relay without TLS
      return
    }
    // Of a socket that was dropped nothing is heard any more.
    const own = (heard) => (event) => socket === this.#socket && heard(event)
    socket.onopen = own(() => {
      this.#talk.opened(secondsNow())
      this.#settle()
    })
    socket.onmessage = own(({ data }) => {
      try {
        this.#talk.hear(data, secondsNow())
      } catch (error) {
        console.warn('the relay said what this terminal does not understand', error)
        this.#talk.hangUp = `the relay said what this terminal does not understand: ${error}`
      }
      this.#settle()
    })
    // Of a socket that is open a close follows; of one that never was, in Node 20, nothing else.
    socket.onerror = own(() => socket.readyState === 1 || this.#ended(LOST, 'the relay does not answer'))
    socket.onclose = own(({ code, reason }) => this.#ended(code, reason))
    this.#settle()
    this.#wake(OPEN_SECONDS, () => this.#ended(LOST, 'the relay does not answer'))
  }

  #ended(code, reason) {
    this.#drop(code)
    this.#talk.closed(secondsNow(), code, reason)
    if (this.status.state === 'refused') this.#running = false
    else this.#wake(this.status.retryInSeconds, () => this.#connect())
    this.#settle()
  }

  /** Let go of the socket without waiting for its goodbye: what is dead does not say one. */
  #drop(code) {
    clearTimeout(this.#timer)
    const socket = this.#socket
    this.#socket = null
    if (socket && socket.readyState < 2) socket.close(code === GOODBYE ? GOODBYE : undefined)
  }

  /** The network is there again: do not sit out the pause, unless the relay has asked for it. */
  #hurry() {
    if (this.#running && !this.#socket && secondsNow() >= this.#talk.awayUntil) {
      clearTimeout(this.#timer)
      this.#connect()
    }
  }

  #wake(seconds, then) {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(then, Math.min(seconds * 1000, TIMER_MOST))
  }

  /** Send what is to be sent, pass on what is told, and have saved what is to be saved. */
  #settle() {
    const talk = this.#talk
    const isOpen = this.#socket?.readyState === 1
    if (isOpen) talk.tick(secondsNow())
    if (isOpen && talk.hangUp) {
      this.#ended(LOST, talk.hangUp)
      return
    }
    if (isOpen) {
      for (const text of talk.out.splice(0)) this.#socket.send(text)
      this.#wake(Math.max(0, talk.deadline - secondsNow()), () => this.#settle())
    }
    const { unsaved } = talk.replica
    const isTime = unsaved.urgent || secondsNow() >= this.#storeAt
    if (unsaved.values.size && !this.#saving && this.#loaded && isTime) this.#saving = this.#save()
    for (const [what, detail] of talk.told.splice(0)) this.#pass(what, detail)
  }

  #pass(what, detail) {
    if (what === 'acknowledged' || what === 'refused') {
      for (const resolve of this.#waiting.get(detail) ?? []) resolve(detail)
      this.#waiting.delete(detail)
    }
    for (const listener of [...(this.#listeners.get(what) ?? [])]) {
      try {
        listener(what === 'state' ? this.status : detail)
      } catch (error) {
        console.error('a listener failed', error)
      }
    }
  }

  // The store

  /** Write all that gathers, one batch after the other. */
  async #save() {
    const { replica, outbox } = this.#talk
    this.#storeAt = 0
    while (replica.unsaved.values.size && (replica.unsaved.urgent || this.#storeAt === 0)) {
      const batch = replica.unsaved
      replica.unsaved = nothingUnsaved()
      const written = [...outbox.mutations, ...outbox.refused].filter((one) => !one.stored && batch.values.has(one.key))
      try {
        await this.#store.write({ ...batch, values: [...batch.values] })
        this.#storeAt = 0
        for (const one of written) one.stored = true
      } catch (error) {
        console.error('the store failed', error)
        this.#storeAt = secondsNow() + STORE_SECONDS
        for (const one of written) {
          one.lost = error ?? new Error('the store failed')
          batch.values.delete(one.key)
          outbox.unwant(one)
        }
        replica.saveLater(batch)
      }
      this.#settle()
    }
    this.#saving = null
  }
}

// --- where it keeps what must survive it

/** For a terminal that only looks: it forgets everything with the page or process. */
export const memoryStore = () => ({ load: async () => [], write: async () => {} })

/** A database of the page's origin. @returns {Store} */
export function indexedDbStore(name = 'minipos-sync') {
  let opened = null
  const settled = (request) =>
    new Promise((resolve, reject) => {
      request.onsuccess = () => resolve(request.result)
      request.onerror = () => reject(request.error)
    })
  // A request that fails tells its transaction too, which has no `error` before it is aborted.
  const committed = (transaction) =>
    new Promise((resolve, reject) => {
      transaction.oncomplete = () => resolve()
      transaction.onabort = () => reject(transaction.error)
    })
  const open = () => {
    if (!opened) {
      const request = indexedDB.open(name, 1)
      request.onupgradeneeded = () => request.result.createObjectStore('kept')
      opened = settled(request)
      const forget = () => (opened = null)
      // A browser may close it, in the background and when memory is short.
      opened.then((database) => (database.onclose = forget), forget)
    }
    return opened
  }
  const begin = async (...how) => {
    try {
      return (await open()).transaction('kept', ...how)
    } catch (error) {
      if (error.name !== 'InvalidStateError') throw error
      opened = null // closed, and not said
      return (await open()).transaction('kept', ...how)
    }
  }
  return {
    async load() {
      const kept = (await begin()).objectStore('kept')
      const [keys, values] = await Promise.all([settled(kept.getAllKeys()), settled(kept.getAll())])
      return keys.map((key, n) => [key, values[n]])
    },
    async write({ clear, urgent, values }) {
      // A relaxed transaction is told done before it is on the disk (Indexed Database API 3.0, "durability hint").
      const transaction = await begin('readwrite', { durability: urgent ? 'strict' : 'relaxed' })
      const kept = transaction.objectStore('kept')
      if (clear) kept.delete(IDBKeyRange.bound('row/', 'row0', false, true))
      for (const [key, value] of values) value === undefined ? kept.delete(key) : kept.put(value, key)
      await committed(transaction)
    },
  }
}

const GROWN = 16 * 1024 * 1024 // bytes that a journal grows by before it is made small again

/** A file, in Node: a journal with a line for each batch, made small when it is loaded or has grown. @returns {Store} */
export function fileStore(path) {
  let file = null
  let length = 0
  let most = 0 // then it is made small
  let kept = new Map() // all that the file says
  const take = ({ clear, values }) => {
    if (clear) for (const key of [...kept.keys()]) if (key.startsWith('row/')) kept.delete(key)
    for (const [key, value] of values) value === undefined ? kept.delete(key) : kept.set(key, value)
  }
  const put = async (target, line, at) => {
    const { bytesWritten } = await target.write(line, at)
    // A disk that is nearly full takes a part, and does not call that an error.
    if (bytesWritten < bytesOf(line)) throw new Error('the disk is full')
    return bytesWritten
  }
  const makeSmall = async () => {
    const { open, rename, rm } = await import('node:fs/promises')
    most = length + GROWN // on a disk that is full the old file will do
    const made = await open(`${path}.new`, 'w')
    try {
      const written = await put(made, JSON.stringify({ clear: false, values: [...kept] }) + '\n', 0)
      await made.sync()
      await rename(`${path}.new`, path)
      const old = file
      file = made
      length = written
      most = length + GROWN
      await old.close()
    } catch (error) {
      if (file !== made) await made.close()
      await rm(`${path}.new`, { force: true })
      throw error
    }
    await keepName()
  }
  // Without this a power cut may bring the file of before back, and with it go all later lines.
  const keepName = async () => {
    const { open } = await import('node:fs/promises')
    const { dirname } = await import('node:path')
    const folder = await open(dirname(path))
    await folder.sync()
    await folder.close()
  }
  // Whoever loads a file makes it anew, so two processes would not see each other's: what the first one wrote were lost.
  const isOurs = async () => {
    const { stat } = await import('node:fs/promises')
    const [own, named] = await Promise.all([file.stat({ bigint: true }), stat(path, { bigint: true })])
    if (own.ino !== named.ino) throw new Error(`another process has taken ${path}; a store belongs to one terminal`)
  }
  return {
    async load() {
      const { open, readFile } = await import('node:fs/promises')
      const bytes = await readFile(path).catch((error) => {
        if (error.code === 'ENOENT') return new Uint8Array()
        throw error
      })
      kept = new Map()
      // What follows the last newline was being written when the power went.
      const end = bytes.lastIndexOf(10) + 1
      for (const line of new TextDecoder().decode(bytes.subarray(0, end)).split('\n').slice(0, -1)) {
        take(JSON.parse(line))
      }
      await file?.close()
      file = await open(path, end ? 'r+' : 'w')
      length = end
      await file.truncate(length)
      await keepName()
      // What is pending can be sent on a disk that is full, too.
      await makeSmall().catch((error) => console.warn('the store could not be made small', error))
      return new Map(kept)
    },
    async write({ clear, urgent, values }) {
      // JSON has no undefined: an entry of one element removes its key.
      const entries = values.map(([key, value]) => (value === undefined ? [key] : [key, value]))
      try {
        const written = await put(file, JSON.stringify({ clear, values: entries }) + '\n', length)
        if (urgent) {
          await file.sync()
          await isOurs()
        }
        length += written
      } catch (error) {
        await file.truncate(length) // half a line would spoil the next
        throw error
      }
      take({ clear, values })
      if (length > most) {
        await isOurs()
          .then(makeSmall)
          .catch((error) => console.warn('the store could not be made small', error))
      }
    },
  }
}
