// Which terminal this window is. Every window is one of its own: till 1, till 2 … of this browser, each with a store (and
// so a client id and an outbox) that a reload finds again. A window that is opened later takes the lowest till that nobody
// has, and sends what was left in it; so nothing stays behind in a window that was closed.

const WAIT = 2000 // milliseconds for the page before a reload to let go
const LEASE = 90_000 // without locks: a till is free when nobody has renewed it for so long. Hidden pages renew slowly
const RENEW = 2000
const MOST = 99

/** Read a key of `localStorage` or `sessionStorage`, or write it, or remove it with null. */
const kept = (name, key, value) => {
  try {
    const storage = globalThis[name] // this itself throws where site data is blocked
    if (value === undefined) return storage.getItem(key)
    if (value === null) storage.removeItem(key)
    else storage.setItem(key, value)
  } catch {
    // this browser keeps nothing
  }
  return null
}

/** Take a till until the window closes, or `let go` is called; null where another has it. */
async function take(name, wait) {
  // Locks are there on secure pages only (Web Locks API, section 4.1), and a relay in a kitchen has no certificate.
  if (!navigator.locks) return lease(name)
  return new Promise((resolve) => {
    const waiting = new AbortController()
    const options = wait ? { signal: waiting.signal } : { ifAvailable: true }
    const timer = wait && setTimeout(() => waiting.abort(), wait)
    const held = (lock) => {
      clearTimeout(timer)
      return lock ? new Promise((letGo) => resolve(letGo)) : resolve(null)
    }
    navigator.locks.request(name, options, held).catch(() => resolve(null))
  })
}

function lease(name) {
  const renewed = Number(kept('localStorage', name))
  if (renewed && Date.now() - renewed < LEASE) return null
  const renew = () => kept('localStorage', name, String(Date.now()))
  const timer = setInterval(renew, RENEW)
  const letGo = () => {
    clearInterval(timer)
    removeEventListener('pagehide', letGo) // by then it may be another window's
    kept('localStorage', name, null)
  }
  renew()
  addEventListener('pagehide', letGo)
  addEventListener('pageshow', ({ persisted }) => persisted && location.reload())
  return letGo
}

/**
 * The till of this window: its `number` and the `store`'s name. `scope` tells apart what must not share a till: another
 * restaurant, another token.
 */
export async function till(scope) {
  const storeOf = (number) => `minipos-till-${scope}-${number}`
  const own = Number(kept('sessionStorage', `minipos.till.${scope}`))
  // A window that was duplicated has the number of its twin, which still holds it.
  let number = own && (await take(storeOf(own), WAIT)) ? own : 0
  for (let next = 1; !number && next <= MOST; next++) if (await take(storeOf(next), 0)) number = next
  number ||= Math.floor(Math.random() * 1e9) + MOST
  kept('sessionStorage', `minipos.till.${scope}`, String(number))
  return { number, store: storeOf(number) }
}

/**
 * Take the tills of closed windows at this `place`, one by one, also those that showed another token: theirs may have been
 * replaced. `use(store)` is awaited, and says whether the till is to be kept.
 */
export async function leftTills(place, use) {
  const found = (await indexedDB.databases?.()) ?? []
  for (const { name } of found) {
    const prefix = `minipos-till-${place}`
    if (!name?.startsWith(prefix) || !/^(\.\w+)?-\d+$/.test(name.slice(prefix.length))) continue
    const letGo = await take(name, 0)
    if (!letGo) continue
    if (!(await use(name))) letGo()
  }
}

/** What this browser remembers: the name of a till, and the token that its windows show. */
export const remembered = {
  name: (store) => kept('localStorage', `${store}.name`),
  rememberName: (store, name) => kept('localStorage', `${store}.name`, name || null),
  get token() {
    return kept('localStorage', 'minipos.token') ?? ''
  },
  set token(token) {
    kept('localStorage', 'minipos.token', token || null)
  },
}

/** A short mark of a text, to tell two apart; no secret is kept by it (FNV-1a, 32 bits). */
export function markOf(text) {
  let hash = 0x811c9dc5
  for (const byte of new TextEncoder().encode(text)) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0
  return hash.toString(36)
}
