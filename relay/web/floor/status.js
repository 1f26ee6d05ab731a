// How this terminal stands with the relay: always in the corner, in a line while it is away, and with a field for a token.

import { field, form, h, icon, mark, openDialog, say } from './dom.js'
import { T } from './texts.js'

const TONES = { live: 'good', connecting: '', 'catching-up': 'calm', offline: 'warm', refused: 'bad' }
const PATIENT = 3 // attempts before a page that never got in says what may keep it out

export function makeStatus(app) {
  let attempts = 0
  let wasLive = false
  const text = h('span.pill-state')
  const waiting = h('span.pill-waiting')
  const pill = h('button.pill', { type: 'button', onclick: open }, h('span.dot'), text, waiting)

  const kept = h('span')
  const next = h('span.muted')
  const hint = h('p.small.hint')
  const again = h('button.button', { type: 'button', onclick: () => app.reconnect() }, T.connection.tryNow)
  const banner = h(
    'div.banner',
    { hidden: true },
    icon('offline'),
    h('div.banner-text', {}, h('p', {}, h('strong', {}, T.connection.offline), ' ', kept, ' ', next), hint),
    again,
  )
  const noStore = h('div.banner', { hidden: true }, icon('alert'), h('p.banner-text', {}, T.connection.noStore))
  const lost = h('div.banner', { hidden: true, role: 'alert' }, icon('alert'), h('p.banner-text', {}, T.connection.lost))
  const told = h('p.visually-hidden', { role: 'status' })

  function open() {
    const { state, why } = app.terminal.status
    if (state === 'refused') refusal = refusedDialog(app, why)
    else connectionDialog(app)
  }
  let refusal = null
  app.terminal.on('acknowledged', () => (lost.hidden = true))
  app.terminal.on('state', ({ state, why }) => {
    if (state === 'offline') attempts++
    if (state === 'live') {
      attempts = 0
      wasLive = true
    }
    // What is read aloud: not each attempt, only what is different for who works.
    if (['live', 'offline', 'refused'].includes(state)) say(told, T.state[state])
    if (state === 'refused' && !refusal?.open) refusal = refusedDialog(app, why)
    if (state !== 'refused' && state !== 'connecting' && refusal?.open) refusal.close()
    app.refresh()
  })

  return {
    pill,
    banners: [banner, noStore, lost],
    told,
    /** Say that what was just done is not: the store could not take it. */
    lose: () => (lost.hidden = false),
    show() {
      const { state, retryInSeconds } = app.terminal.status
      const number = app.terminal.pending.length
      pill.className = `pill ${TONES[state]}`
      pill.dataset.state = state
      say(text, T.state[state])
      say(waiting, number ? T.connection.waiting(number) : '')
      mark(pill, 'aria-label', T.connection.button(T.state[state], number && T.connection.waiting(number)))
      const isAway = attempts > 0 && state !== 'refused'
      banner.hidden = !isAway
      noStore.hidden = app.isStored
      say(kept, app.isStored ? T.connection.kept(number) : T.connection.waits(number))
      const seconds = retryInSeconds === null ? null : Math.ceil(retryInSeconds)
      say(next, seconds ? T.connection.retry(seconds) : '')
      hint.hidden = wasLive || attempts < PATIENT
      say(hint, T.connection.never(location.origin))
      if (isAway && seconds !== null) app.refreshIn(1000)
      return true
    },
  }
}

function connectionDialog(app) {
  openDialog(T.connection.title, (close) => {
    const values = {}
    const rows = Object.entries(T.connection.rows).flatMap(([name, label]) => {
      values[name] = h('dd')
      return [h('dt', {}, label), values[name]]
    })
    const show = () => {
      const { terminal } = app
      const { state, why, todo } = terminal.status
      say(values.state, T.state[state])
      say(values.why, why || '–')
      say(values.todo, todo || T.connection.nothing)
      say(values.revision, T.connection.revision(terminal.revision, Math.max(terminal.head, terminal.revision)))
      say(values.name, app.people.name)
      say(values.id, terminal.clientId)
      say(values.role, T.connection.roles[terminal.role])
      say(values.pending, terminal.pending.length ? String(terminal.pending.length) : T.connection.nothing)
    }
    show()
    const stops = ['state', 'view'].map((what) => app.terminal.on(what, show))
    const shut = h('button.button.primary', { type: 'button', onclick: close }, T.close)
    queueMicrotask(() => shut.closest('dialog').addEventListener('close', () => stops.forEach((stop) => stop())))
    return [h('dl.facts', {}, ...rows), h('div.actions', {}, shut)]
  })
}

function refusedDialog(app, why) {
  const told = h('p.why', { role: 'alert' }, icon('alert'), h('span', {}, why))
  if (app.restaurant && /no restaurant/.test(why)) return elsewhereDialog(app, told)
  return openDialog(T.refused.title, () => [
    told,
    form(
      ({ token }) => (token.trim() ? app.useToken(token.trim()) : app.reconnect()),
      field(T.refused.token, { name: 'token', type: 'password', maxLength: 4096, spellcheck: false }),
      h('p.muted.small', {}, T.refused.tokenHint),
      h('div.actions', {}, h('button.button.primary', { type: 'submit' }, T.refused.connect)),
    ),
  ])
}

/** The address names a restaurant that the relay does not have: no token helps. */
function elsewhereDialog(app, told) {
  return openDialog(T.elsewhere.title, () => [
    told,
    h('p', {}, T.elsewhere.hint(app.restaurant)),
    h('div.actions', {}, h('a.button.primary', { href: location.pathname }, T.elsewhere.link)),
  ])
}
