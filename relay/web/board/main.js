// The board: asks the relay once a second while it can be seen, and shows what the answer says.

import { ask, Refused, showsToken, showToken } from './asking.js'
import { joined, Pace } from './data.js'
import { el, icon, keyed, mark, say, withParts } from './dom.js'
import { logSection } from './log.js'
import { relaysSection } from './relays.js'
import { terminalsSection } from './terminals.js'
import { count, duration, figures as figureTexts, findings, page, token as tokenTexts } from './texts.js'
import { waysSection } from './ways.js'

const PACE_MS = 1000
const SHUT_OUT = [401, 403] // statuses that say that the token is not good for this, or that there is none
const OLD_MS = 6000 // an answer that is older is shown as such

const asked = new URL(location.href).searchParams.get('restaurant')
let restaurant = asked
let view = null
let answeredAt = 0
let timer = null
let under_way = false
let pace = new Pace()

// The parts

const live = el('span', { class: 'chip', id: 'live' }, el('span', { class: 'dot', 'aria-hidden': 'true' }), el('span', {}, page.loading))
const choice = el('select', { class: 'input', 'aria-label': page.restaurant, onchange: () => choose(choice.value) })
const themeButton = el('button', { class: 'button quiet icon-only', type: 'button', onclick: () => theme.next() }, icon('theme'))
const health = el('ul', { class: 'health' })
const spoken = el('p', { class: 'visually-hidden', role: 'status' })
const tiles = Object.fromEntries(['relays', 'terminals', 'behind', 'rate', 'late'].map((name) => [name, el('dd', {})]))
const [relays, terminals] = [relaysSection(), terminalsSection()]
const ways = waysSection((key) => log.what(key))
const log = logSection(ways.choose)
const form = tokenForm()

const content = el('div', { class: 'content', hidden: true },
  el('dl', { class: 'figures' }, ...Object.entries(tiles).map(([name, value]) =>
    el('div', { class: 'card figure' }, el('dt', { class: 'muted small' }, figureTexts[name]), value))),
  el('div', { class: 'sections' }, relays.box, terminals.box, ways.box, log.box))

document.body.append(
  el('a', { class: 'skip', href: '#health' }, page.skip),
  el('header', { class: 'top' },
    el('img', { src: '/icon.svg', alt: '', width: 32, height: 32 }),
    el('h1', { class: 'grow' }, page.title),
    el('div', { class: 'top-tools' }, live, choice,
      el('a', { class: 'button quiet floor-link', href: restaurant ? `/?restaurant=${encodeURIComponent(restaurant)}` : '/', title: page.floorHint }, icon('floor'), el('span', {}, page.floor)),
      themeButton)),
  el('main', {}, el('div', { id: 'health', tabindex: '-1' }, health), spoken, form.box, content))

const showTheme = () => {
  mark(themeButton, 'aria-label', page.theme[theme.choice])
  mark(themeButton, 'title', page.theme[theme.choice])
}
addEventListener('themechange', showTheme)
showTheme()

function tokenForm() {
  const field = el('input', { class: 'input mono', type: 'password', autocomplete: 'off', spellcheck: 'false', id: 'token', 'aria-describedby': 'token-fault' })
  const fault = el('p', { class: 'bad-text', id: 'token-fault', role: 'alert' })
  const submit = (submitted) => {
    submitted.preventDefault()
    const text = field.value.trim()
    if (!/^(minipos_|eyJ)[\w.-]+$/.test(text)) {
      say(fault, tokenTexts.noToken)
      field.focus()
      return
    }
    showToken(text)
    field.value = ''
    say(fault, '')
    ask_now()
  }
  const box = el('form', { class: 'card token', hidden: true, onsubmit: submit },
    el('h2', {}, tokenTexts.title), el('p', {}, tokenTexts.why),
    el('p', { class: 'small muted' }, el('code', { class: 'mono' }, tokenTexts.how), ` ${tokenTexts.howWhy}`),
    el('label', { class: 'field', for: 'token' }, el('span', {}, tokenTexts.field), field), fault,
    el('button', { class: 'button primary', type: 'submit' }, tokenTexts.show))
  return {
    box,
    show(text) {
      const first = box.hidden
      box.hidden = false
      say(fault, text)
      if (first) field.focus()
    },
    hide() {
      box.hidden = true
    },
  }
}

// What is shown

const showHealth = (found) => {
  document.title = found.length && found[0].colour !== 'good' ? `${found[0].title} – ${page.title}` : page.title
  // Said when something else is wrong, and not whenever a figure in it is another.
  const keys = found.map((one) => one.key).join()
  if (spoken.keys !== keys) say(spoken, found.map((one) => `${one.title}. ${one.todo}`).join(' '))
  spoken.keys = keys
  keyed(health, found, (one) => one.key, () => {
    const [title, todo] = [el('strong'), el('span')]
    return withParts(el('li', {}, el('span', { class: 'dot', 'aria-hidden': 'true' }), el('div', {}, title, todo)), { title, todo })
  }, (item, one) => {
    mark(item, 'class', `finding ${one.colour}`)
    say(item.parts.title, one.title)
    say(item.parts.todo, one.todo)
  })
}

const showChoice = () => {
  const known = [...view.heads.keys()].sort()
  if (restaurant && !known.includes(restaurant)) known.unshift(restaurant)
  choice.hidden = known.length < 2 && !restaurant
  keyed(choice, ['', ...known], (slug) => slug, (slug) => el('option', { value: slug }, slug || page.all))
  if (choice.value !== (restaurant ?? '')) choice.value = restaurant ?? ''
}

const choose = (slug) => {
  restaurant = slug || null
  const url = new URL(location.href)
  if (restaurant) url.searchParams.set('restaurant', restaurant)
  else url.searchParams.delete('restaurant')
  history.replaceState(null, '', url)
  pace = new Pace()
  log.forget()
  view = null
  ask_now()
}

const show = () => {
  content.hidden = false
  form.hide()
  showHealth(view.findings)
  const rate = pace.take(performance.now(), view.heads)
  say(tiles.relays, count(view.instances.length))
  say(tiles.terminals, view.isWhole ? count(view.count) : figureTexts.atLeast(view.count))
  const nobody = view.isWhole ? figureTexts.upToDate : figureTexts.none
  say(tiles.behind, view.behind === 0 ? nobody : figureTexts.behindBy(view.behind))
  say(tiles.rate, count(rate < 10 ? Math.round(rate * 10) / 10 : Math.round(rate)))
  say(tiles.late, view.late === null ? figureTexts.none : duration(view.late))
  showChoice()
  relays.show(view)
  terminals.show(view)
  ways.show(view)
  log.show(view).then(() => ways.show(view)) // which calls the rows by what the log knows of them
}

const showLive = () => {
  const age = Date.now() - answeredAt
  const old = age > OLD_MS
  live.hidden = !form.box.hidden
  mark(live, 'class', `chip ${answeredAt === 0 ? '' : old ? 'bad' : 'good'}`)
  say(live.lastElementChild, answeredAt === 0 ? page.loading : page.updated(old ? age : 0))
  content.classList.toggle('old', old && view !== null)
}

// Asking

const take = (answer) => {
  answeredAt = Date.now()
  view = joined(answer, view?.heads ?? new Map())
  show()
}

/** Show why there is no answer; whether asking again may help. */
const fail = (error) => {
  if (error instanceof Refused && SHUT_OUT.includes(error.status)) {
    answeredAt = 0
    content.hidden = true
    showHealth([])
    form.show(error.status === 403 ? tokenTexts.forbidden : showsToken() ? tokenTexts.refused(error.message) : '')
    return false
  }
  if (error instanceof Refused && error.status === 503) {
    const others = (view?.findings ?? []).filter((one) => one.colour !== 'good')
    showHealth([{ colour: 'bad', key: 'away', ...findings.away }, ...others])
  } else {
    const [key, text] = error instanceof Refused ? ['refused', findings.refused(error.message)] : ['lost', findings.lost()]
    showHealth([{ colour: 'bad', key, ...text }])
  }
  return true
}

async function ask_now() {
  clearTimeout(timer)
  if (document.hidden || under_way) return
  under_way = true
  const wanted = restaurant
  let goesOn = true
  try {
    const answer = await ask('/api/board', { restaurant: wanted })
    if (wanted === restaurant) take(answer)
  } catch (error) {
    goesOn = fail(error)
  } finally {
    under_way = false
    showLive()
    clearTimeout(timer)
    if (goesOn) timer = setTimeout(ask_now, wanted === restaurant ? PACE_MS : 0)
  }
}

document.addEventListener('visibilitychange', ask_now)
setInterval(showLive, PACE_MS)
ask_now()
