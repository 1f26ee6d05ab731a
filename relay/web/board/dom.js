// Builds the page's elements, and keeps a list of them in step with data without making it anew.

/** An element; `with` sets properties, `on*` listeners, `aria-*`, `data-*` and what has no property as attributes. */
export const el = (tag, given = {}, ...children) => set(document.createElement(tag), given, ...children)

/** The same in SVG. */
export const svg = (tag, given = {}, ...children) =>
  set(document.createElementNS('http://www.w3.org/2000/svg', tag), given, ...children)

const set = (element, given, ...children) => {
  for (const [name, value] of Object.entries(given)) {
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value)
    else if (value === true || value === false) element.toggleAttribute(name, value)
    else if (value != null) element.setAttribute(name, value)
  }
  element.append(...children.filter((child) => child != null && child !== false))
  return element
}

/** An element that knows those parts of it which show data. */
export const withParts = (element, parts) => Object.assign(element, { parts })

/** Set a text where it is another: a screen reader and a selection are left alone where nothing changed. */
export const say = (element, text) => {
  if (element.textContent !== text) element.textContent = text
}

/** Set an attribute where it is another; null removes it. */
export const mark = (element, name, value) => {
  if (value == null) element.removeAttribute(name)
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value)
}

/**
 * Make the children of an element those of a list, by key: what stays is kept, with its focus, and moves if it must.
 * `make(item)` builds one and `fill(child, item)` shows the item in it.
 */
export const keyed = (parent, items, key, make, fill) => {
  const known = (parent.known ??= new Map())
  const wanted = new Set(items.map(key))
  for (const [one, child] of known) {
    if (!wanted.has(one)) {
      child.remove()
      known.delete(one)
    }
  }
  let place = parent.firstElementChild
  for (const item of items) {
    const name = key(item)
    let child = known.get(name)
    if (child === undefined) known.set(name, (child = make(item)))
    fill?.(child, item)
    if (child === place) place = place.nextElementSibling
    else parent.insertBefore(child, place)
  }
}

const ICONS = {
  theme: ['M12 3a9 9 0 1 0 9 9 7 7 0 0 1-9-9z'],
  relay: ['M4 6h16v5H4zM4 13h16v5H4z', 'M8 8.5h.01M8 15.5h.01'],
  terminal: ['M5 4h14v11H5z', 'M9 20h6M12 15v5'],
  way: ['M5 5h4v4H5zM15 15h4v4h-4z', 'M7 9v4a4 4 0 0 0 4 4h4'],
  log: ['M5 6h14M5 12h14M5 18h9'],
  floor: ['M4 10h16M6 10v9M18 10v9M9 4h6v6H9z'],
}

export const icon = (name, size = '') =>
  svg('svg', { class: `icon ${size}`, viewBox: '0 0 24 24', 'aria-hidden': 'true' },
    ...ICONS[name].map((d) => svg('path', { d })))

/** What stands where a list has nothing to show. */
export const empty = (name) => {
  const [title, hint] = [el('strong'), el('p', { class: 'small' })]
  const box = el('div', { class: 'empty' }, icon(name), title, hint)
  return { box, say: (what, why) => (say(title, what), say(hint, why)) }
}

export const chip = (kind, text) => el('span', { class: `chip ${kind}` }, el('span', { class: 'dot', 'aria-hidden': 'true' }), el('span', {}, text))
