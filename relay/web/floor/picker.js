// The menu beside an open order: found by name or category, added by a tap.

import { h, keyed, say } from './dom.js'
import { money } from './figures.js'
import { T } from './texts.js'

/** The dishes in the order of the menu: by category, then by name. */
export function inMenuOrder(view) {
  const place = new Map(view.categories.map((name, index) => [name, index]))
  const at = (dish) => place.get(dish.category) ?? view.categories.length
  return [...view.menuItems.values()].sort((a, b) => at(a) - at(b) || collator.compare(a.name, b.name))
}
const collator = new Intl.Collator('en', { numeric: true })

/** The row of categories to choose from; `chosen` gets a name, or null for all. */
export function categoryChips(chosen) {
  const row = h('div.chips', { role: 'group', 'aria-label': T.menu.categories })
  let current = null
  const list = keyed(row, {
    key: ({ name }) => String(name),
    make: ({ name }) =>
      h('button.button', { type: 'button', onclick: () => (row.take(name), chosen(name)) }, name ?? T.menu.all),
    update: (button, { name }) => button.setAttribute('aria-pressed', String(name === current)),
    stamp: ({ name }) => name === current,
  })
  row.take = (name) => (current = name)
  let items = []
  let names = null
  row.show = (categories) => {
    if (names !== categories) items = [{ name: null }, ...categories.map((name) => ({ name }))]
    names = categories
    return list(items)
  }
  return row
}

/** Keeps the last sorted menu, for it is asked for with every change of a table. */
export function sortedMenu(app) {
  let known = []
  let dishes = []
  let categories = null
  return () => {
    const view = app.terminal.view
    const now = [...view.menuItems.values()]
    const isSame = now.length === known.length && view.categories === categories && now.every((dish, n) => dish === known[n])
    if (!isSame) dishes = inMenuOrder(view)
    known = now
    categories = view.categories
    return dishes
  }
}

export function makePicker(app, add) {
  let table = null
  let sought = ''
  let category = null
  const menu = sortedMenu(app)
  const find = h('input.input', {
    type: 'search',
    placeholder: T.menu.find,
    'aria-label': T.menu.find,
    oninput: () => {
      sought = find.value.trim().toLowerCase()
      if (sought) category = chips.take(null) // what is sought by name is sought in the whole menu
      app.refresh()
    },
    onkeydown: (event) => {
      // A waiter types three letters and presses Enter; what is shown may yet be what it was before them.
      if (event.key === 'Enter') add(found()[0])
    },
  })
  const chips = categoryChips((name) => ((category = name), app.refresh()))
  const grid = h('div.dishes', { role: 'group', 'aria-label': T.table.menu })
  const none = h('p.empty.small', {}, T.menu.none)
  const list = keyed(grid, {
    make: (dish) => {
      const button = h('button.button.dish', { type: 'button', onclick: () => add(app.terminal.menu.get(dish.id)) })
      button.append(h('span.dish-name'), h('span.dish-price.muted'))
      return button
    },
    update: (button, dish) => {
      say(button.children[0], dish.name)
      say(button.children[1], money(dish.price, app.currency))
    },
    stamp: () => app.currency,
  })
  const isFound = (dish) => (category === null || dish.category === category) && (!sought || dish.name.toLowerCase().includes(sought))
  const found = () => menu().filter(isFound)
  const element = h('div.picker', {}, h('h3', {}, T.table.menu), find, chips, none, grid)
  return {
    element,
    /** `of` is the table's id: what was chosen for another is not chosen for this one. */
    show(of) {
      if (of !== table) {
        table = of
        find.value = sought = ''
        category = chips.take(null)
      }
      const dishes = found()
      none.hidden = dishes.length > 0
      const isDone = list(dishes)
      return chips.show(app.terminal.view.categories) && isDone
    },
  }
}
