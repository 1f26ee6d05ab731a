// The menu: every dish by category, and its dialog to change it.

import { field, form, h, icon, keyed, openDialog, say } from './dom.js'
import { digitsOf, money, rounded } from './figures.js'
import { categoryChips, sortedMenu } from './picker.js'
import { needs } from './roles.js'
import { buttons, changedOf, sure } from './tabledialogs.js'
import { whoLine } from './tables.js'
import { T } from './texts.js'

const MOST = 999_999_999 // what a dish may cost

function dishDialog(app, dish) {
  openDialog(dish ? T.menu.editTitle : T.menu.addTitle, (close) => {
    const categories = app.terminal.view.categories
    const remove = () => {
      close()
      sure(T.menu.deleteSure(dish.name), T.menu.deleteHint, T.remove, () => app.acts.deleteDish(dish))
    }
    const id = 'categories-of-the-menu'
    const made = form(
      (values) => {
        const price = made.elements.namedItem('price')
        const isPayable = rounded(Number(values.price), app.currency) === Number(values.price) || Number(values.price) === dish?.price
        price.setCustomValidity(isPayable ? '' : T.menu.priceDigits(app.currency, digitsOf(app.currency)))
        if (!isPayable) return void price.reportValidity()
        close()
        const wanted = { name: values.name.trim(), price: Number(values.price), category: values.category.trim(), description: values.description.trim() }
        const now = dish && app.terminal.menu.get(dish.id)
        if (!dish) app.acts.addDishToMenu(wanted)
        else app.acts.changeDish(now ?? dish, changedOf(dish, wanted))
      },
      field(T.menu.name, { name: 'name', required: true, maxLength: 1000, pattern: '.*\\S.*', value: dish?.name ?? '' }),
      h(
        'div.two',
        {},
        field(T.menu.price, { name: 'price', type: 'number', min: 0, max: MOST, step: 'any', required: true, value: dish?.price ?? '' }),
        field(T.menu.category, { name: 'category', maxLength: 200, list: id, value: dish?.category ?? categories[0] ?? '' }),
      ),
      h('datalist', { id }, ...categories.map((value) => h('option', { value }))),
      field(T.menu.description, { name: 'description', maxLength: 2000, value: dish?.description ?? '' }, 'textarea'),
      buttons(close, T.save, dish && h('button.button.danger.quiet.first', { type: 'button', onclick: remove }, T.remove)),
    )
    made.addEventListener('input', () => made.elements.namedItem('price').setCustomValidity(''))
    return made
  })
}

function categoriesDialog(app) {
  openDialog(T.menu.categories, (close) => {
    const rows = h('ul.category-rows')
    const list = keyed(rows, {
      key: ({ name }) => name,
      make: ({ name }) => {
        const remove = h('button.button.icon-only.quiet', { type: 'button', onclick: () => app.acts.deleteCategory(name) }, icon('trash', 's'))
        remove.setAttribute('aria-label', T.menu.deleteCategory(name))
        return h('li', {}, h('span', {}, name), h('span.muted.small'), remove)
      },
      update: (row, { number }) => {
        say(row.children[1], T.menu.dishes(number))
        row.children[2].disabled = number > 0
      },
      stamp: ({ number }) => number,
    })
    const show = () => {
      const numbers = new Map()
      for (const { category } of app.terminal.menu.values()) numbers.set(category, (numbers.get(category) ?? 0) + 1)
      list(app.terminal.view.categories.map((name) => ({ name, number: numbers.get(name) ?? 0 })))
    }
    const stop = app.terminal.on('view', show)
    show()
    const add = form(
      ({ name }, made) => {
        if (name.trim()) app.acts.addCategory(name.trim())
        made.reset()
      },
      h(
        'div.with-button',
        {},
        field(T.menu.newCategory, { name: 'name', maxLength: 200, required: true }),
        h('button.button', { type: 'submit' }, T.menu.addCategory),
      ),
    )
    const shut = h('button.button.primary', { type: 'button', onclick: close }, T.close)
    queueMicrotask(() => rows.closest('dialog').addEventListener('close', stop))
    return [h('p.muted.small', {}, T.menu.categoriesHint), rows, add, h('div.actions', {}, shut)]
  })
}

function makeRow(app, dish) {
  const picture = h('img.dish-picture', { alt: '', loading: 'lazy', decoding: 'async' })
  const name = h('span.dish-name')
  const description = h('span.muted.small.clip')
  const [who, setWho] = whoLine(app, 'who.small')
  const waiting = h('span.waiting.small', {}, icon('clock', 's'), T.pending)
  const price = h('span.number.dish-price')
  const edit = h('button.dish-row', { type: 'button', onclick: () => app.terminal.menu.has(dish.id) && dishDialog(app, app.terminal.menu.get(dish.id)) })
  edit.append(picture, h('span.dish-what', {}, name, description), h('span.dish-state', {}, waiting, who), price)
  const row = h('li', {}, edit)
  row.show = (now) => {
    edit.disabled = !app.may('UPDATE_MENU')
    const isPicture = typeof now.image === 'string' && now.image.startsWith('data:image/')
    picture.hidden = !isPicture
    if (isPicture && picture.src !== now.image) picture.src = now.image
    say(name, now.name)
    say(description, now.description ?? '')
    say(price, money(now.price, app.currency))
    const found = app.journal.of('menuItems', now.id)
    const isWaiting = app.isPending('menuItems', now.id)
    waiting.hidden = !isWaiting
    setWho(isWaiting ? null : found)
    row.classList.toggle('fresh', Boolean(found?.fresh))
    row.dataset.colour = found ? app.people.colour(found.who) : ''
  }
  return row
}

export function makeMenu(app) {
  let sought = ''
  let category = null
  const menu = sortedMenu(app)
  const find = h('input.input.find', {
    type: 'search',
    placeholder: T.menu.find,
    'aria-label': T.menu.find,
    oninput: () => {
      sought = find.value.trim().toLowerCase()
      if (sought) category = chips.take(null) // what is sought by name is sought in the whole menu
      app.refresh()
    },
  })
  const chips = categoryChips((name) => ((category = name), app.refresh()))
  const add = h('button.button.primary', { type: 'button', onclick: () => dishDialog(app, null) }, icon('plus', 's'), T.menu.add)
  const sort = h('button.button', { type: 'button', onclick: () => categoriesDialog(app) }, T.menu.categories)
  const number = h('span.muted')
  const addFirst = h('button.button.primary', { type: 'button', onclick: () => dishDialog(app, null) }, T.menu.add)
  const hint = h('p.small', {}, T.menu.emptyHint)
  const empty = h('div.empty', {}, icon('menu'), h('p', {}, T.menu.empty), hint, addFirst)
  needs('UPDATE_MENU', sort, add, hint, addFirst)
  const none = h('p.empty', {}, T.menu.none)
  const sections = h('div.menu-sections')
  const element = h(
    'section.view.menu',
    { 'aria-label': T.menu.title },
    h('div.view-head', {}, h('h1', {}, T.menu.title), number, h('div.spread'), sort, add),
    h('div.tools', {}, find, chips),
    empty,
    none,
    sections,
  )
  const list = keyed(sections, {
    key: ({ name }) => name,
    make: ({ name }) => {
      const rows = h('ul.card.dish-rows')
      const section = h('section', { 'aria-label': name || T.menu.other }, h('h2', {}, name || T.menu.other), rows)
      section.list = keyed(rows, {
        make: (dish) => makeRow(app, dish),
        update: (row, dish) => row.show(dish),
        stamp: (dish) => {
          const found = app.journal.of('menuItems', dish.id)
          const told = found ? `${found.revision} ${found.fresh} ${app.people.label(found.who)}` : ''
          return `${app.isPending('menuItems', dish.id)} ${told} ${app.currency} ${app.denied}`
        },
      })
      return section
    },
    update: (section, { dishes }) => (section.isDone = section.list(dishes)),
    slice: 20,
  })

  return {
    element,
    show() {
      const all = menu()
      const dishes = all.filter(
        (dish) =>
          (category === null || dish.category === category) &&
          (!sought || `${dish.name} ${dish.description ?? ''}`.toLowerCase().includes(sought)),
      )
      say(number, app.isLoaded ? T.menu.dishes(all.length) : T.loading)
      empty.hidden = !app.isLoaded || all.length > 0
      none.hidden = all.length === 0 || dishes.length > 0
      find.hidden = chips.hidden = all.length === 0
      const groups = new Map()
      for (const dish of dishes) {
        if (!groups.has(dish.category)) groups.set(dish.category, { name: dish.category, dishes: [] })
        groups.get(dish.category).dishes.push(dish)
      }
      const areMade = list([...groups.values()])
      const areFilled = [...sections.children].every((section) => section.isDone)
      return chips.show(app.terminal.view.categories) && areMade && areFilled
    },
  }
}
