// Figures as people read them: sums of money, times, and how long ago.

const formats = new Map()

/** A sum in the restaurant's currency, such as `12,500 MMK`; two decimals only where there are any. */
export function money(sum, currency = '') {
  const number = Number(sum)
  if (!Number.isFinite(number)) return '–'
  const digits = Number.isInteger(number) ? 0 : 2
  if (!formats.has(digits)) {
    formats.set(digits, new Intl.NumberFormat('en', { minimumFractionDigits: digits, maximumFractionDigits: digits }))
  }
  return `${formats.get(digits).format(number)}${currency ? ` ${currency}` : ''}`
}

/** To the hundredth, as it is paid. */
export const rounded = (sum) => Math.round((sum + Number.EPSILON) * 100) / 100

/** How many of a line, and what it costs; a line without a quantity is one. */
export const quantityOf = (line) => (Number.isFinite(line.quantity) ? line.quantity : 1)
export const costOf = (line) => rounded((Number(line.price) || 0) * quantityOf(line))

/** What is to be paid for lines, by the restaurant's settings: {subtotal, service, tax, total}. */
export function bill(lines, settings) {
  const subtotal = rounded(lines.reduce((sum, line) => sum + costOf(line), 0))
  const percent = settings.serviceChargeEnabled ? Number(settings.serviceCharge) || 0 : 0
  const service = rounded((subtotal * percent) / 100)
  const tax = rounded(((subtotal + service) * (Number(settings.taxRate) || 0)) / 100)
  return { subtotal, service, tax, total: rounded(subtotal + service + tax) }
}

/** What somebody has seen of an order who decides about it: not the whole lines, whose keys come back in another order. */
export const seenOf = ({ orderItems }) => JSON.stringify((orderItems ?? []).map((line) => [line.id, line.price, quantityOf(line)]))

const clock = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit' })
const date = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short' })

const isTime = (moment) => !Number.isNaN(moment.getTime())

/** `19:05`, or with the day where it is not today; nothing for what is no time. */
export function when(value) {
  const moment = new Date(value)
  if (!value || !isTime(moment)) return ''
  const today = moment.toDateString() === new Date().toDateString()
  return today ? clock.format(moment) : `${date.format(moment)}, ${clock.format(moment)}`
}

/** Whole minutes since a time; null for what is no time. */
export function minutesSince(value) {
  const moment = new Date(value)
  return value && isTime(moment) ? Math.max(0, Math.floor((Date.now() - moment) / 60_000)) : null
}

/** The day in the form that orders carry, `2026-11-26`, where this window is. */
export function dayOf(moment) {
  const two = (number) => String(number).padStart(2, '0')
  return `${moment.getFullYear()}-${two(moment.getMonth() + 1)}-${two(moment.getDate())}`
}

/** Whatever a row says of its guest: a name, or an object with one. */
export function guestOf(row) {
  const { customer } = row
  if (typeof customer === 'string') return customer
  return typeof customer?.name === 'string' ? customer.name : ''
}
