// Building and keeping elements. Text only ever becomes text: nothing here reads markup.

const SVG = 'http://www.w3.org/2000/svg'

/**
 * An element: `h('button.primary', { type: 'button', onclick }, 'Pay')`. Names that begin with `on` are listeners,
 * `dataset` and `style` are objects, what is a property of the element is set as one, all else is an attribute; null and
 * false leave an attribute out.
 */
export function h(what, attributes = {}, ...children) {
  const [tag, ...classes] = what.split('.')
  const element = document.createElement(tag)
  if (classes.length) element.className = classes.join(' ')
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value)
    else if (name === 'dataset') Object.assign(element.dataset, value)
    else if (name in element && name !== 'list' && name !== 'form' && value !== null) element[name] = value
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? '' : value)
  }
  element.append(...children.filter((child) => child !== null && child !== false && child !== undefined))
  return element
}

/** A picture of the sprite in index.html; it says nothing to who cannot see it. */
export function icon(name, classes = '') {
  const svg = document.createElementNS(SVG, 'svg')
  svg.setAttribute('class', `icon ${classes}`)
  svg.setAttribute('aria-hidden', 'true')
  const use = document.createElementNS(SVG, 'use')
  use.setAttribute('href', `#i-${name}`)
  svg.append(use)
  return svg
}

/** Set a text if it is another: an equal one would make the browser lay it out again. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text
}

/** Set or take away an attribute if it is another. */
export function mark(element, name, value) {
  if (value === null || value === false) element.removeAttribute(name)
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, String(value))
}

/**
 * Keeps the children of an element in step with items: only what changed is touched, and what stays keeps its focus.
 *
 * The function it returns is called with all items, in order. `stamp(item)` is what an element shows besides the item
 * itself. At most `slice` elements are made in one call; false says that some are still to be made.
 */
export function keyed(parent, { key = (item) => item.id, make, update = () => {}, stamp = () => '', slice = 150 }) {
  const held = new Map()
  return (items) => {
    const wanted = new Set(items.map(key))
    for (const [id, { node }] of held) {
      if (wanted.has(id)) continue
      node.remove()
      held.delete(id)
    }
    let place = parent.firstElementChild
    let made = 0
    for (const [n, item] of items.entries()) {
      const id = key(item, n)
      let entry = held.get(id)
      if (!entry) {
        if (made++ === slice) return false
        entry = { node: make(item), item: null, stamp: null }
        held.set(id, entry)
      }
      const shown = stamp(item)
      if (entry.item !== item || entry.stamp !== shown) {
        update(entry.node, item)
        Object.assign(entry, { item, stamp: shown })
      }
      if (entry.node === place) place = place.nextElementSibling
      else parent.insertBefore(entry.node, place)
    }
    return true
  }
}

/**
 * Show a dialog until it is closed; Escape closes it and gives the focus back, as the browser does. `build(close)` returns
 * its contents; a form in it closes by calling `close()`.
 */
export function openDialog(title, build) {
  const id = `dialog-${Math.random().toString(36).slice(2)}`
  const dialog = h('dialog', { 'aria-labelledby': id })
  const opener = document.activeElement
  const close = () => dialog.close()
  dialog.append(h('h2', { id }, title), ...[build(close)].flat())
  dialog.addEventListener('close', () => {
    dialog.remove()
    // The browser has given the focus back; this comes later, when it may have gone on.
    if (opener?.isConnected && document.activeElement === document.body) opener.focus()
  })
  dialog.addEventListener('click', (event) => event.target === dialog && close())
  document.body.append(dialog)
  dialog.showModal()
  return dialog
}

/** A form that sends nothing itself; `then` gets its values as texts. */
export function form(then, ...children) {
  const made = h('form', { className: 'stack', noValidate: false }, ...children)
  made.addEventListener('submit', (event) => {
    event.preventDefault()
    then(Object.fromEntries(new FormData(made)), made)
  })
  return made
}

/** A field with its label above it. */
export const field = (label, attributes, tag = 'input') =>
  h('label.field', {}, h('span', {}, label), h(`${tag}.input`, { autocomplete: 'off', ...attributes }))
