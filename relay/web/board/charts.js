// Small live charts: what each of the last 120 seconds held, as lines of SVG, with the figures in words beside them.

import { el, mark, say, svg } from './dom.js'

const SECONDS = 120
const [WIDTH, HEIGHT, TOP] = [240, 56, 4]

/** A chart of one measure. `show(points, most, words)` draws [second, value] pairs, of which the last is now. */
export const chart = (title) => {
  const [now, peak] = [el('span', { class: 'chart-now' }), el('span', { class: 'muted small' })]
  const [line, area] = [svg('path', { class: 'chart-line' }), svg('path', { class: 'chart-area' })]
  const grid = svg('path', { class: 'chart-grid', d: `M0 ${HEIGHT - 0.5}H${WIDTH}` })
  const picture = svg('svg', {
    class: 'chart', role: 'img', 'aria-label': title, viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none',
  }, grid, area, line)
  const box = el('figure', { class: 'chart-box' },
    el('figcaption', {}, el('span', { class: 'muted small' }, title), now), picture, peak)
  const show = (points, { nowText, peakText, words }) => {
    say(now, nowText)
    say(peak, peakText)
    mark(picture, 'aria-label', words)
    const { open, closed } = paths(points)
    mark(line, 'd', open)
    mark(area, 'd', closed)
  }
  /** What was drawn stays, and is not of now. */
  const stop = () => say(now, '–')
  return { box, show, stop }
}

const paths = (points) => {
  const most = Math.max(1e-9, ...points.map(([, value]) => value))
  const x = (age) => (((SECONDS - age) / SECONDS) * WIDTH).toFixed(1)
  const y = (value) => (HEIGHT - 1 - (value / most) * (HEIGHT - TOP - 1)).toFixed(1)
  const drawn = points.map(([age, value]) => `${x(age)} ${y(value)}`)
  if (drawn.length === 0) return { open: '', closed: '' }
  const open = `M${drawn.join('L')}`
  return { open, closed: `${open}V${HEIGHT}H${x(points[0][0])}Z` }
}

/** Of seconds that are there, one value for each of the last 120 and 0 for the others: rates. */
export const everySecond = (seconds, at, value) => {
  const last = Math.floor(at / 1000)
  const found = new Map(seconds.map((one) => [one[0], value(one)]))
  return Array.from({ length: SECONDS }, (_, n) => [SECONDS - 1 - n, found.get(last - SECONDS + n) ?? 0])
}

/** Only the seconds that are there: between them nothing was measured. A lone one is drawn as a short line. */
export const measured = (seconds, at, value) => {
  const last = Math.floor(at / 1000)
  const points = seconds.map((one) => [last - one[0], value(one)]).filter(([age]) => age < SECONDS)
  return points.length === 1 ? [[points[0][0] + 1, points[0][1]], points[0]] : points
}
