// The restaurant's settings, which all terminals share, and those of this window.

import { field, form, h, say } from './dom.js'
import { needs } from './roles.js'
import { T } from './texts.js'

// Name, kind of value, and the attributes of the field.
const SHARED = [
  ['restaurantName', 'text', { maxLength: 200, required: true }],
  ['description', 'text', { maxLength: 500 }],
  ['currency', 'text', { maxLength: 12 }],
  ['taxRate', 'number', { type: 'number', min: 0, max: 100, step: 'any', required: true }],
  ['serviceChargeEnabled', 'check', {}],
  ['serviceCharge', 'number', { type: 'number', min: 0, max: 100, step: 'any', required: true }],
]

const shownOf = (kind, value) => (kind === 'check' ? value === true : String(value ?? (kind === 'number' ? 0 : '')))

function makeField([name, kind, attributes], changed) {
  const input = kind === 'check' ? h('input', { type: 'checkbox', name }) : null
  const element = input ? h('label.check', {}, input, h('span', {}, T.settings[name])) : field(T.settings[name], { name, ...attributes })
  const control = input ?? element.querySelector('input')
  const note = h('p.small.note', { hidden: true })
  const about = T.settings.about[name] ? h('p.small.muted', { id: `about-${name}` }, T.settings.about[name]) : null
  if (about) control.setAttribute('aria-describedby', about.id)
  let shown // what the restaurant had when the field was last filled
  const read = () => (kind === 'check' ? control.checked : kind === 'number' ? Number(control.value) : control.value.trim())
  control.addEventListener('input', changed)
  return {
    element: h('div.setting', {}, element, about, note),
    name,
    read,
    get isChanged() {
      return shown !== undefined && shownOf(kind, read()) !== shown
    },
    /** Take what the restaurant has now; what somebody is typing is left, and told of. */
    fill(value, who) {
      const now = shownOf(kind, value)
      if (now === shown) return
      if (this.isChanged && shownOf(kind, read()) !== now) {
        note.hidden = false
        say(note, T.settings.changedTo(who, kind === 'check' ? T.settings[now ? 'on' : 'off'] : now))
        return
      }
      shown = now
      note.hidden = true
      if (kind === 'check') control.checked = now
      else control.value = now
    },
    lock: (isLocked) => (control.disabled = isLocked),
    saved() {
      shown = shownOf(kind, read())
      note.hidden = true
    },
  }
}

export function makeSettings(app) {
  const save = h('button.button.primary', { type: 'submit', disabled: true }, T.save)
  const told = h('p.small.muted', { role: 'status' })
  const changed = () => {
    save.disabled = !fields.some((one) => one.isChanged)
    say(told, '')
  }
  let last = null // the newest that was asked for: what is said is said of it
  const outcomeOf = async (mutation) =>
    (await app.terminal.answered(mutation)).state === 'acknowledged' ? T.settings.done : '' // a notice says why not
  const hint = h('p.muted.small')
  const fields = SHARED.map((one) => makeField(one, changed))
  const at = (name) => fields.find((one) => one.name === name).element
  const shared = form(
    () => {
      const wanted = fields.filter((one) => one.isChanged)
      if (!wanted.length) return
      const saving = (last = app.acts.saveSettings(Object.fromEntries(wanted.map((one) => [one.name, one.read()]))))
      for (const one of wanted) one.saved()
      changed()
      say(told, T.settings.saved)
      saving.then(outcomeOf, () => '').then((text) => saving === last && told.textContent && say(told, text))
    },
    h('h2', {}, T.settings.restaurant),
    hint,
    at('restaurantName'),
    at('description'),
    h('div.two', {}, at('currency'), at('taxRate')),
    at('serviceChargeEnabled'),
    at('serviceCharge'),
    h('div.actions', {}, told, save),
  )
  shared.classList.add('card', 'panelled')

  const name = field(T.settings.windowName, { maxLength: 40, value: app.people.name })
  name.querySelector('input').addEventListener('change', (event) => app.rename(event.target.value))
  const windowHint = h('p.muted.small', {}, T.settings.windowHint)
  const board = h('a.board-link', { href: `/board${location.search}` }, T.settings.board)
  needs('UPDATE_SETTINGS', save, board)
  needs('MESSAGE', windowHint, name)
  const id = h('p.mono.small.clip')
  const themes = h('div.segments', { role: 'group', 'aria-label': T.settings.theme })
  for (const choice of ['auto', 'light', 'dark']) {
    themes.append(h('button.button', { type: 'button', dataset: { choice }, onclick: () => theme.choose(choice) }, T.settings.themes[choice]))
  }
  const showTheme = () => {
    for (const button of themes.children) button.setAttribute('aria-pressed', String(button.dataset.choice === theme.choice))
  }
  addEventListener('themechange', showTheme)
  showTheme()
  const forget = h('button.button', { type: 'button', onclick: () => app.useToken('') }, T.settings.forget)
  const own = h(
    'div.card.panelled.stack',
    {},
    h('h2', {}, T.settings.window),
    windowHint,
    name,
    h('div', {}, h('span.label', {}, T.settings.clientId), id),
    h('div.stack.tight', {}, h('span.label', {}, T.settings.theme), themes),
    board,
    app.hasToken ? h('div.stack.tight', {}, h('p.muted.small', {}, T.settings.forgetHint), forget) : null,
  )
  const element = h(
    'section.view.settings',
    { 'aria-label': T.settings.title },
    h('div.view-head', {}, h('h1', {}, T.settings.title)),
    h('div.columns', {}, shared, own),
  )
  return {
    element,
    show() {
      say(id, app.terminal.clientId)
      const { settings } = app.terminal.view
      const who = app.journal.settings?.who
      if (app.isLoaded) for (const one of fields) one.fill(settings[one.name], who ? app.people.label(who) : T.relay)
      save.disabled = !fields.some((one) => one.isChanged)
      const isMine = app.may('UPDATE_SETTINGS')
      say(hint, isMine ? T.settings.restaurantHint : T.settings.ofManagers)
      for (const one of fields) one.lock(!isMine)
      return true
    },
  }
}
