// Every English text of the board, in one place. What takes values is a function.

const many = (n, one, more) => `${count(n)} ${n === 1 ? one : more}`

export const count = (n) => n.toLocaleString('en')

/** A duration in milliseconds, in the unit that fits. */
export const duration = (ms) => {
  if (ms < 0.95) return `${ms.toFixed(1)} ms`
  if (ms < 999.5) return `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`
  const s = ms / 1000
  if (s < 60) return `${s < 10 ? s.toFixed(1) : Math.round(s)} s`
  if (s < 3600) return `${Math.floor(s / 60)} min`
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`
  return many(Math.floor(s / 86400), 'day', 'days')
}

export const bytes = (n) =>
  n < 1024 ? `${n} B` : n < 1024 * 1024 ? `${Math.round(n / 1024)} KiB` : `${(n / 1048576).toFixed(1)} MiB`

export const clock = (ms) => new Date(ms).toLocaleTimeString('en-GB')

export const terminals = (n) => many(n, 'terminal', 'terminals')
export const changes = (n) => many(n, 'change', 'changes')
const relays = (n) => many(n, 'relay', 'relays')

export const page = {
  title: 'Relay board',
  floor: 'Floor',
  floorHint: 'Open the floor, where a terminal works',
  skip: 'Skip to the health of the relays',
  restaurant: 'Restaurant',
  all: 'All restaurants',
  theme: { auto: 'Theme: as the system', light: 'Theme: light', dark: 'Theme: dark' },
  loading: 'Asking the relay…',
  updated: (ms) => (ms < 1500 ? 'Live' : `Last answer ${duration(ms)} ago`),
}

export const figures = {
  relays: 'Relays',
  terminals: 'Terminals',
  behind: 'Furthest behind',
  rate: 'Changes per second',
  late: 'Commit to socket',
  none: '–',
  upToDate: 'Nobody',
  behindBy: (n) => changes(n),
  atLeast: (n) => `at least ${count(n)}`,
}

export const token = {
  title: 'This relay wants a token',
  why: 'Whoever runs the relay may look at the board: show the token of a manager. It is kept until this tab is closed.',
  how: 'relay terminal add --name "Board" --role manager',
  howWhy: 'makes one, on a machine that reaches the database.',
  field: 'Token',
  show: 'Look at the board',
  refused: (why) => `Not with that token: ${why}.`,
  forbidden: 'That token is no manager’s. The board shows who is connected, so it needs one of a manager.',
  noToken: 'A token begins with minipos_, or with eyJ where tokens are signed.',
}

// How a relay is, in a word for its card.
export const states = {
  healthy: 'Healthy',
  degraded: 'Not well',
  down: 'Down',
  draining: 'Stopping',
  silent: 'Silent',
  unanswered: 'No answer',
  unknown: 'Not known',
}

const sentences = (texts) => texts.map((text) => `${text[0].toUpperCase()}${text.slice(1)}.`).join(' ')

// What is wrong and what to do about it; the worst comes first.
export const findings = {
  well: (n, t) => ({
    title: 'All is well',
    todo:
      t === 0
        ? `${relays(n)} ${n === 1 ? 'is' : 'are'} ready, and no terminal is connected.`
        : `${relays(n)} ${n === 1 ? 'serves' : 'serve'} ${terminals(t)}, and nobody is behind.`,
  }),
  lost: () => ({ title: 'This relay does not answer', todo: 'What you see is from before; asking again.' }),
  refused: (why) => ({ title: 'This relay does not show the board', todo: sentences([why]) }),
  away: {
    title: 'The database cannot be asked who you are',
    todo: 'This relay does not reach PostgreSQL. What you see is from before; asking again.',
  },
  silent: (name, ms) => ({
    title: `${name} is silent`,
    todo: `Nothing was heard of it for ${duration(ms)}. If nobody stopped it, look at its log and start it again; its terminals connect to the other relays by themselves.`,
  }),
  unanswered: (name) => ({
    title: `${name} gave no answer`,
    todo: 'It said a moment ago that it is there. If this stays, look at its log: it may be stuck or out of reach of the database.',
  }),
  // What is wrong at a relay it says itself, as under /health.
  down: (name, problems) => ({ title: `${name} serves nobody`, todo: sentences(problems) }),
  degraded: (name, problems) => ({ title: `${name} is not well`, todo: sentences(problems) }),
  draining: (name) => ({
    title: `${name} is stopping`,
    todo: 'It finishes what it has begun and sends its terminals to the others.',
  }),
  lag: (name, n) => ({
    title: `${name} is ${changes(n)} behind the database`,
    todo: 'It is catching up. If this stays, look at its CPU and at how long reads take.',
  }),
  queue: (part) => ({
    title: `PostgreSQL’s notification queue is ${(part * 100).toFixed(0)} % full`,
    todo: 'Some session of the cluster listens and does not read. “relay doctor” names it; end it before the queue is full.',
  }),
  pending: (name, n) => ({
    title: `${many(n, 'change waits', 'changes wait')} to be written at ${name}`,
    todo: 'The database takes longer than usual. Look for locks: a transaction left open in psql holds its rows.',
  }),
  lagging: (n) => ({
    title: `${many(n, 'terminal does', 'terminals do')} not read as fast as changes come`,
    todo: 'They are first in the list of terminals. Often it is a weak Wi-Fi; they are brought up to date as soon as they read again.',
  }),
  behind: (n, r, t) => ({
    title: 'All is well',
    todo: `${relays(r)} ${r === 1 ? 'serves' : 'serve'} ${terminals(t)}, of which ${count(n)} ${n === 1 ? 'is' : 'are'} being sent the newest changes.`,
  }),
}

export const relay = {
  heading: 'Relays',
  here: 'this one',
  version: (version) => `Version ${version}`,
  up: (ms) => `up ${duration(ms)}`,
  heard: (ms) => `heard of ${duration(ms)} ago`,
  terminals: 'Terminals',
  pending: 'Waiting to be written',
  waiting: 'Waiting to be read',
  silent: 'Last notification',
  ago: (ms) => (ms < 1000 ? 'just now' : `${duration(ms)} ago`),
  deaf: 'hears none',
  rate: 'Changes per second',
  late: 'Commit to socket',
  rateNow: (n) => `${count(n)}/s`,
  lateNow: (ms) => duration(ms),
  peak: (text) => `most ${text}`,
  slowest: (text) => `slowest ${text}`,
  quiet: 'none in 2 minutes',
  rateChart: (now, most) => `Changes per second in the last two minutes: ${now} now, ${most} at most.`,
  lateChart: (now, most) => `From commit to socket in the last two minutes: ${now} last, ${most} at the slowest.`,
}

export const terminal = {
  heading: 'Terminals',
  find: 'Find',
  findHint: 'Name, address, relay …',
  onlyBehind: 'Only those behind',
  shown: (n, all) => (n === all ? terminals(all) : `${count(n)} of ${terminals(all)}`),
  none: 'No terminal is connected',
  noneHint: 'They appear here as soon as they connect.',
  noneFound: 'No terminal is like that',
  noneFoundHint: 'Clear the field, or show all of them.',
  columns: {
    name: 'Terminal',
    restaurant: 'Restaurant',
    relay: 'Relay',
    behind: 'Behind',
    waiting: 'Waits to be read',
    since: 'Connected',
  },
  app: 'web app',
  sort: (name) => `Sort by ${name}`,
  upToDate: 'up to date',
  by: (n) => changes(n),
  lagging: 'does not read',
  syncing: 'is being synced',
  more: (n) => `${terminals(n)} more; those furthest behind are shown.`,
}

export const way = {
  heading: 'A change’s way',
  list: 'The newest changes',
  newest: 'Follow the newest',
  none: 'No change yet',
  noneHint: 'Change something, on a terminal or in psql, and see where it goes.',
  total: (ms, n) => `${duration(ms)} from its revision to ${terminals(n)}`,
  byHand: 'Made in SQL, not through a relay',
  unknown: 'Where it came in is not known any more',
  gone: (revision) => `The way of #${revision} is not known any more: relays keep those of a restaurant’s last 50 changes.`,
  missing: (n) => `${terminals(n)} still ${n === 1 ? 'lacks' : 'lack'} it`,
  from: (name) => `Taken in by ${name}`,
  to: (name) => `Passed on by ${name}`,
  database: 'Database',
  steps: {
    received: 'Taken from the terminal',
    begun: 'Its transaction begins',
    given: 'Gets its revision',
    committed: 'Commit is answered',
    heard: 'The doorbell is heard',
    read: 'It is read from the log',
    written: (n) => `Written to ${terminals(n)}`,
  },
  legend: {
    wait: 'waits for the batch before',
    commit: 'transaction',
    given: 'gets its revision',
    read: 'until it is read',
    write: 'until it is written',
  },
  note: 'Times are of each machine’s own clock; the revision’s is the database’s, when its statement ran.',
  step: 'Step',
  at: 'At',
  after: 'After the first',
}

export const bySql = 'psql'

export const log = {
  heading: 'Live log',
  find: 'Find',
  findHint: 'Table, guest, dish, terminal …',
  kind: 'What',
  kinds: { '': 'Everything', UPDATE_TABLE: 'Tables', UPDATE_ORDER: 'Orders', UPDATE_MENU: 'Menu', UPDATE_SETTINGS: 'Settings' },
  pause: 'Pause',
  resume: 'Go on',
  paused: (n) => (n ? `Paused; ${changes(n)} since` : 'Paused'),
  none: 'No change yet',
  noneHint: 'The changes of every restaurant that has a terminal connected are listed here as they are committed.',
  noneFound: 'No change is like that',
  noneFoundHint: 'Clear the field, or choose everything.',
  skipped: (n) => `${changes(n)} came too fast to be listed`,
  pruned: 'Older changes are pruned',
  way: 'Show its way',
  columns: { when: 'When', revision: 'Revision', who: 'Who', what: 'What' },
}

const VERBS = { add: 'added', update: 'changed', delete: 'deleted', void: 'voided', clear: 'cleared' }

/** What a change of sync_log did, by its type, action and row, in a few words. */
export const did = (type, action, row) => {
  const verb = VERBS[action.split('_')[0]] ?? action
  if (type === 'UPDATE_SETTINGS') return 'Settings changed'
  if (action === 'clear') return 'Order history cleared'
  if (action.endsWith('_category')) return `Category ${row.name ?? ''} ${verb}`
  if (type === 'UPDATE_TABLE') return `Table ${row.number ?? row.id ?? ''} ${verb}`
  if (type === 'UPDATE_MENU') return `Dish ${row.name ?? row.id ?? ''} ${verb}`
  if (type === 'UPDATE_ORDER') return `Order ${row.id ?? ''} ${verb}`
  return `${type} ${action}`
}

/** The same where nothing is known of the row but its id, which is no table's number and no dish's name. */
export const didTo = (type, action, id) => {
  if (action.endsWith('_category')) return did(type, action, { name: id })
  return did(type, action, { id: type === 'UPDATE_ORDER' ? id : `with the id ${id}` })
}

// A sum of money in figures; a number has lost its last zero on the way, and may have got digits that nobody wrote.
const sum = (value) =>
  typeof value === 'number' && !Number.isInteger(value)
    ? value.toLocaleString('en', { minimumFractionDigits: 2, maximumFractionDigits: 2 })
    : value.toLocaleString('en')

/** What stands in the row that a person would look for. */
export const details = (type, action, row) => {
  if (type === 'UPDATE_SETTINGS') return [row.restaurantName, row.theme && `theme ${row.theme}`].filter(Boolean)
  if (action.startsWith('delete') || action === 'clear') return []
  const lines = row.orderItems ?? row.items
  const hasLines = Array.isArray(lines) && lines.length > 0
  // What an empty table would cost says nothing.
  const total = type === 'UPDATE_TABLE' ? (hasLines ? row.orderTotal : null) : row.total
  return [
    row.status,
    row.customer?.name ?? row.customerName ?? (typeof row.customer === 'string' ? row.customer : undefined),
    row.guests != null && many(row.guests, 'guest', 'guests'),
    row.tableNumber != null && `table ${row.tableNumber}`,
    hasLines && many(lines.length, 'line', 'lines'),
    row.price != null && `price ${sum(row.price)}`,
    row.category,
    total != null && `total ${sum(total)}`,
  ].filter((one) => typeof one === 'string' && one !== '')
}
