// The page at /: a floor that works. Everything it shows and does goes through the terminal library.

import { indexedDbStore, memoryStore, Terminal } from '../minipos-sync.js'
import { Acts } from './acts.js'
import { makeChanges, makeRail } from './changes.js'
import { h, icon, mark, say } from './dom.js'
import { leftTills, markOf, remembered, till } from './identity.js'
import { Journal } from './journal.js'
import { makeMenu } from './menu.js'
import { makeNotices } from './notices.js'
import { makeOrders } from './orders.js'
import { makePanel } from './panel.js'
import { People } from './people.js'
import { deniedTo } from './roles.js'
import { makeSettings } from './settings.js'
import { makeStatus } from './status.js'
import { makeFloor } from './tables.js'
import { T } from './texts.js'
import { rowKeyOf } from './versions.js'
import { Wishes } from './wishes.js'

const restaurant = new URLSearchParams(location.search).get('restaurant') ?? undefined
const { token } = remembered
const place = restaurant ?? ''
// A window that shows another token is another terminal.
const scope = `${place}${token && `.${markOf(token)}`}`
const own = await till(scope)

const optionsWith = (store) => ({ restaurant, token: token || undefined, name: app.people?.name, store })
const VIEWS = ['floor', 'menu', 'orders', 'changes', 'settings']
const MINUTE = 60_000

/** What all parts of the page share. */
const app = {
  terminal: null,
  isStored: true,
  isLoaded: false,
  currency: '',
  rates: '',
  route: { view: 'floor', table: null },
  restaurant,
  hasToken: token !== '',
  denied: [],
  may: (type) => !app.denied.includes(type),
  pendingKeys: new Set(),
  isPending: (list, id) => app.pendingKeys.has(`${list}/${id}`),
  go: (hash) => {
    location.hash = hash
    goOn() // `hashchange` is a task of its own: a key or a tap that comes before it must not meet the page that was left
  },
  refresh,
  refreshIn: (milliseconds) => (later ??= setTimeout(() => ((later = null), refresh()), milliseconds)),
  reconnect: async () => {
    await app.terminal.stop()
    await app.terminal.start()
  },
  useToken: (used) => {
    remembered.token = used
    location.reload()
  },
  rename: (name) => {
    app.people.name = name.trim() || T.till(own.number)
    remembered.rememberName(own.store, name.trim())
    app.people.introduce(true)
    refresh()
  },
}
let later = null
let frame = null

function routeOf(hash) {
  const [view, table] = hash.replace(/^#\/?/, '').split('/')
  const isView = VIEWS.includes(view)
  try {
    return { view: isView ? view : 'floor', table: view === 'floor' && table ? decodeURIComponent(table) : null }
  } catch {
    return { view: 'floor', table: null }
  }
}

// Showing: at most once a frame, however many changes came, and only what can be seen.

let parts = null

function refresh() {
  frame ??= requestAnimationFrame(() => {
    frame = null
    if (!parts) return
    const focused = document.activeElement
    if (!show()) refresh() // a long list is made over several frames
    keepFocus(focused)
  })
}

/** Who works by keyboard must not be thrown to the top of the page when what had the focus goes. */
function keepFocus(before) {
  if (before === document.body || before.closest('dialog')) return
  if (before.isConnected && (before.checkVisibility?.() ?? true) && !before.disabled) return
  if (app.route.table === null) document.getElementById('main').focus({ preventScroll: true })
  else parts.panel.title.focus({ preventScroll: true })
}

function show() {
  const { terminal, route } = app
  const settings = terminal.view.settings
  app.isLoaded = terminal.revision >= 0
  app.currency = String(settings.currency ?? '')
  app.rates = [app.currency, settings.taxRate, settings.serviceChargeEnabled && settings.serviceCharge].join(' ')
  app.denied = deniedTo(terminal.role)
  mark(document.body, 'data-denied', app.denied.join(' ') || null)
  app.pendingKeys = new Set(terminal.pending.map(rowKeyOf))
  const name = String(settings.restaurantName || T.title)
  say(parts.name, name)
  if (document.title !== name) document.title = name
  for (const [view, part] of Object.entries(parts.views)) part.element.hidden = view !== route.view
  parts.panel.element.hidden = route.table === null
  document.body.dataset.view = route.view
  document.body.classList.toggle('has-panel', route.table !== null)
  const isDone = [parts.status.show(), parts.notices.show(), parts.views[route.view].show()]
  if (route.table !== null) isDone.push(parts.panel.show())
  if (parts.rail.element.checkVisibility?.() ?? true) isDone.push(parts.rail.show())
  for (const link of parts.links) mark(link, 'aria-current', link.dataset.view === route.view && 'page')
  return isDone.every((one) => one !== false)
}

function build() {
  const $ = (selector) => document.querySelector(selector)
  const status = makeStatus(app)
  const notices = makeNotices(app)
  const views = { floor: makeFloor(app), menu: makeMenu(app), orders: makeOrders(app), changes: makeChanges(app), settings: makeSettings(app) }
  const panel = makePanel(app)
  const rail = makeRail(app)
  const links = VIEWS.map((view) => h('a.nav-link', { href: `#/${view}`, dataset: { view } }, icon(view), h('span', {}, T.views[view])))
  $('#views').setAttribute('aria-label', T.viewsLabel)
  $('#views').append(...links)
  const themeButton = h('button.button.quiet.icon-only', { type: 'button', onclick: () => theme.next() })
  const showTheme = () => {
    themeButton.replaceChildren(icon(`theme-${theme.choice}`))
    themeButton.setAttribute('aria-label', T.theme[theme.choice])
    themeButton.title = T.theme[theme.choice]
  }
  addEventListener('themechange', showTheme)
  showTheme()
  const second = h('a.button.quiet.second', { href: location.pathname + location.search, target: '_blank', rel: 'noopener', title: T.secondWindowHint }, icon('window', 's'), h('span', {}, T.secondWindow))
  $('#tools').append(second, themeButton, status.pill)
  $('#skip').textContent = T.skip
  $('#skip').addEventListener('click', (event) => {
    event.preventDefault()
    $('#main').focus()
  })
  $('#banners').setAttribute('aria-label', T.connection.title)
  $('#banners').append(...status.banners)
  $('#notices').append(notices.element)
  $('#news').before(status.told)
  // The panel of a table begins below them.
  const news = new ResizeObserver(([{ target }]) => document.documentElement.style.setProperty('--news', `${target.offsetHeight}px`))
  news.observe($('#news'))
  $('#main').replaceChildren(...Object.values(views).map(({ element }) => element))
  $('#side').append(panel.element, rail.element)
  return { name: $('#restaurant'), status, notices, views, panel, rail, links }
}

// Going from view to view

/** Where the panel covers the page, the page behind it is out of reach. */
const covering = matchMedia('(max-width: 899px)')
function cover() {
  const isCovered = covering.matches && app.route.table !== null
  for (const id of ['main', 'top']) document.getElementById(id).inert = isCovered
}

/** Be where the address says, with the focus; nothing where it is there already. */
function goOn() {
  const before = app.route
  const route = routeOf(location.hash)
  if (route.view === before.view && route.table === before.table) return
  const focused = document.activeElement
  app.route = route
  cover()
  show()
  refresh()
  if (route.table !== null) return parts.panel.title.focus()
  if (before.view !== route.view) scrollTo(0, 0)
  const card = before.table !== null && document.querySelector(`.table[data-id="${CSS.escape(before.table)}"]`)
  if (card && route.view === 'floor') card.focus()
  else keepFocus(focused)
}

/** Follow the page's own links at once, as `go` does; a new tab or window stays the browser's. */
function follow(event) {
  const link = event.target.closest('a[href^="#/"]')
  if (!link || event.defaultPrevented || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return
  event.preventDefault()
  app.go(link.getAttribute('href'))
}

/** Escape empties a field, or else closes the table. */
function escape(event) {
  const { target } = event
  if (event.key !== 'Escape' || app.route.table === null || document.querySelector('dialog[open]')) return
  if (!target.matches('input, textarea') || !target.value) return app.go('#/floor')
  event.preventDefault() // not every browser empties a field by itself, and none should do it twice
  target.value = ''
  target.dispatchEvent(new Event('input', { bubbles: true }))
}

// Life

async function begin(store) {
  const terminal = (app.terminal = new Terminal('/ws', optionsWith(store)))
  app.people = new People(terminal, remembered.name(own.store) ?? T.till(own.number))
  app.acts = new Acts(terminal, app.people)
  app.wishes = new Wishes(app)
  app.journal = new Journal(terminal, refresh)
  for (const what of ['view', 'role', 'message', 'acknowledged']) terminal.on(what, refresh)
  terminal.on('state', ({ state }) => {
    if (!terminal.pending.length) return
    if (state === 'live') app.people.introduce()
    // What waits here must not be cleared away when the disk is full.
    if (state === 'offline') navigator.storage?.persist?.().catch(() => null)
  })
  app.route = routeOf(location.hash)
  parts = build()
  await terminal.start()
  app.journal.start()
}

/** Where nothing is stored, a window with something to send is not closed by mistake. */
function warn(event) {
  if (!app.isStored && app.terminal.pending.length) event.preventDefault()
}

/** What a person has done is taken back where the store cannot take it: the disk is full. */
function lose(event) {
  if (!(event.reason instanceof DOMException)) return // a fault of the page
  console.warn('not done', event.reason)
  event.preventDefault()
  parts.status.lose()
}

/**
 * Send what closed windows have left, and tell what was refused of it. Their terminals run until nothing is pending, or the
 * relay does not want them: what is meant for one restaurant the library sends to no other.
 */
async function sendForOthers() {
  await leftTills(place, async (name) => {
    const left = indexedDbStore(name)
    const isOpen = ([key]) => key.startsWith('outbox/')
    if (![...(await left.load())].some(isOpen)) return false // its terminal would only fetch everything to say nothing
    const other = new Terminal('/ws', { restaurant, token: token || undefined, store: left })
    const unwanted = new Promise((resolve) => other.on('state', ({ state }) => state === 'refused' && resolve()))
    await other.start()
    await Promise.race([unwanted, Promise.all(other.pending.map((mutation) => other.answered(mutation)))])
    await other.stop()
    if (other.refused.length) app.wishes.adopt(other)
    return other.refused.length > 0
  })
}

/** Look for what others have left, one look at a time. */
function sendLeft() {
  if (!app.isStored || app.terminal.state !== 'live') return
  sending ??= sendForOthers()
    .catch((error) => console.warn('what closed windows left is not sent', error))
    .finally(() => (sending = null))
}

/** Have this page open without its relay, too: worker.js answers with what is put into the cache here. */
async function keepPage() {
  if (!navigator.serviceWorker) return // on secure pages only
  const rule = { createScriptURL: (address) => address }
  const policy = globalThis.trustedTypes?.createPolicy('worker', rule) ?? rule
  await navigator.serviceWorker.register(policy.createScriptURL('/worker.js'))
  const cache = await caches.open('minipos-floor')
  const loaded = performance.getEntriesByType('resource').map(({ name }) => name)
  const isPart = (address) => address.startsWith(`${location.origin}/`) && /\.(js|css|svg)$/.test(address)
  await cache.addAll([...new Set([location.origin + location.pathname, ...loaded.filter(isPart)])])
}

let sending = null // while it is looked for what closed windows have left
app.people = { name: remembered.name(own.store) ?? T.till(own.number) }
let store = indexedDbStore(own.store)
try {
  await store.load()
} catch (error) {
  console.warn('this browser keeps nothing', error)
  app.isStored = false
  store = memoryStore()
}
await begin(store)
addEventListener('hashchange', goOn)
document.getElementById('side').addEventListener('click', ({ target, currentTarget }) => {
  if (target === currentTarget) app.go('#/floor') // beside the table that covers the page
})
covering.addEventListener('change', cover)
addEventListener('keydown', escape)
addEventListener('click', follow)
addEventListener('beforeunload', warn)
addEventListener('unhandledrejection', lose)
addEventListener('offline', () => {
  // Or its socket would be taken for alive until a heartbeat is missed. Without one it waits, maybe because it was told to.
  if (app.terminal.state !== 'offline') app.reconnect()
})
setInterval(refresh, MINUTE)
goOn() // while it began, the address may have changed
cover()
refresh()
app.terminal.on('state', sendLeft)
setInterval(sendLeft, MINUTE) // a window that was killed seems to be there for a while
keepPage().catch((error) => console.warn('this page does not open without its relay', error))
// For who looks under the bonnet, and for the tests.
globalThis.terminal = app.terminal
