// Figures as people read them: sums of money, times, and how long ago.

// How many decimals a currency has, and how its sums are written, by its code.
const kinds = new Map()
const MOST_DIGITS = 6 // of what others have recorded; it is shown as it is

function kindOf(currency) {
  const code = String(currency)
  if (!kinds.has(code)) {
    let digits = 2
    try {
      digits = new Intl.NumberFormat('en', { style: 'currency', currency: code }).resolvedOptions().maximumFractionDigits
    } catch {
      // A restaurant may call its currency what it likes.
    }
    const format = new Intl.NumberFormat('en', { minimumFractionDigits: digits, maximumFractionDigits: Math.max(digits, MOST_DIGITS) })
    kinds.set(code, { digits, format })
  }
  return kinds.get(code)
}

export const digitsOf = (currency) => kindOf(currency).digits

/** A sum with all the decimals of its currency, such as `2.50`. */
export function amount(sum, currency) {
  const number = Number(sum)
  return Number.isFinite(number) ? kindOf(currency).format.format(number) : '–'
}

/** The same with the currency, such as `12,500 MMK`. */
export const money = (sum, currency) => [amount(sum, currency), currency].filter(Boolean).join(' ')

/** To the smallest coin of a currency, as it is paid. */
export function rounded(sum, currency) {
  const coins = 10 ** digitsOf(currency)
  return Math.round(sum * coins * (1 + Number.EPSILON)) / coins
}

/** How many of a line, and what it costs; a line without a quantity is one. */
export const quantityOf = (line) => (Number.isFinite(line.quantity) ? line.quantity : 1)
export const costOf = (line, currency) => rounded((Number(line.price) || 0) * quantityOf(line), currency)

/**
 * What a table is to pay by the restaurant's settings: {subtotal, service, tax, total}. It is the sum of its lines; only
 * where one of them has no price it is what the table says.
 */
export function bill({ orderItems, orderTotal }, { currency, ...settings }) {
  const lines = orderItems ?? []
  const arePriced = lines.every(({ price }) => Number.isFinite(Number(price ?? NaN)))
  const sum = arePriced ? lines.reduce((all, line) => all + costOf(line, currency), 0) : Number(orderTotal) || 0
  const subtotal = rounded(sum, currency)
  const percent = settings.serviceChargeEnabled ? Number(settings.serviceCharge) || 0 : 0
  const service = rounded((subtotal * percent) / 100, currency)
  const tax = rounded(((subtotal + service) * (Number(settings.taxRate) || 0)) / 100, currency)
  return { subtotal, service, tax, total: rounded(subtotal + service + tax, currency) }
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
