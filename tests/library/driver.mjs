// The JavaScript terminal as a process: commands as lines of JSON on stdin, answers on stdout. See driven.py.

import { createInterface } from 'node:readline'
import { Terminal, checksum, fileStore } from '../../relay/web/minipos-sync.js'

// The part of a page's window that tells of its network; Node has none.
const network = new EventTarget()
globalThis.addEventListener = network.addEventListener.bind(network)
globalThis.removeEventListener = network.removeEventListener.bind(network)

const camel = (text) => text.replace(/_(.)/g, (_, letter) => letter.toUpperCase())
const { url, restaurant, token, store, timing } = JSON.parse(process.argv[2])
const terminal = new Terminal(url, {
  restaurant,
  token,
  name: 'driven',
  store: store ? fileStore(store) : undefined,
  timing: Object.fromEntries(Object.entries(timing).map(([key, value]) => [camel(key), value])),
})

const told = []
const summaries = {
  state: ({ state }) => state,
  role: (role) => role,
  change: ({ revision }) => revision,
  snapshot: (reason) => reason,
  acknowledged: ({ id }) => id,
  refused: ({ id }) => id,
  message: ({ data }) => data,
  fault: (text) => text,
}
for (const [what, summary] of Object.entries(summaries)) {
  terminal.on(what, (detail) => told.push([what, summary(detail)]))
}

const plain = ({ tables, menuItems, orderHistory, ...rest }) => ({
  tables: Object.fromEntries(tables),
  menuItems: Object.fromEntries(menuItems),
  orderHistory: Object.fromEntries(orderHistory),
  ...rest,
})

const commands = {
  start: () => terminal.start(),
  stop: () => terminal.stop(),
  online: () => network.dispatchEvent(new Event('online')),
  change: async ({ type, data, ifVersion, after = [] }) => {
    const known = [...terminal.pending, ...terminal.refused].filter(({ id }) => after.includes(id))
    return (await terminal.change(type, data, { ifVersion, after: known })).id
  },
  nextOrderId: () => terminal.nextOrderId(),
  say: ({ data }) => terminal.say(data),
  dismissAtOnce: () => {
    terminal.on('refused', (mutation) => terminal.dismiss(mutation))
  },
  dismiss: ({ id }) => terminal.dismiss(terminal.refused.find((one) => one.id === id)),
  // How long terminals wait that find nobody there.
  delays: async ({ url, count }) => {
    const found = []
    for (let n = 0; n < count; n++) {
      const one = new Terminal(url, { timing: { firstDelay: 100, lastDelay: 100 } })
      const offline = new Promise((resolve) => one.on('state', ({ state }) => state === 'offline' && resolve()))
      await one.start()
      await offline
      found.push(one.status.retryInSeconds)
      await one.stop()
    }
    return found
  },
  report: () => {
    const { status, clientId, role, epoch, revision, head, view, confirmed, pending, refused } = terminal
    return {
      ...status,
      clientId,
      role,
      epoch,
      revision,
      head,
      view: plain(view),
      confirmed: plain(confirmed),
      checksum: checksum(confirmed, 1000),
      pending: pending.map(({ id }) => id),
      refused: refused.map(({ id, error }) => ({ id, ...error })),
      told,
    }
  },
}

for await (const line of createInterface({ input: process.stdin })) {
  const { n, do: name, ...asked } = JSON.parse(line)
  // Not awaited: what waits must not hold up what comes after it.
  Promise.resolve()
    .then(() => commands[name](asked))
    .then((result) => ({ result: result ?? null }), (error) => ({ error: String(error) }))
    .then((answer) => process.stdout.write(JSON.stringify({ n, ...answer }) + '\n'))
}
await terminal.stop()
