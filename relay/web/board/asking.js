// Asks the relay that this page is from, with the token of whoever looks. It only ever reads.

const KEY = 'minipos.board.token'
const ANSWER_MS = 8000

/** What an answer with another status than 200 says. */
export class Refused extends Error {
  constructor(status, code, message) {
    super(message)
    this.status = status
    this.code = code
  }
}

const read = () => {
  try {
    return sessionStorage.getItem(KEY) ?? ''
  } catch {
    return '' // this browser keeps nothing
  }
}

let token = read()

/** Whether a token was shown, and show another one from now on; it is kept until the tab is closed. */
export const showsToken = () => token !== ''
export const showToken = (text) => {
  token = text
  try {
    sessionStorage.setItem(KEY, text)
  } catch {
    // shown, and forgotten with the page
  }
}

/** The JSON that a path answers with. Throws Refused, or TypeError and DOMException where nobody answers. */
export const ask = async (path, parameters = {}) => {
  const url = new URL(path, location.href)
  for (const [name, value] of Object.entries(parameters)) if (value != null) url.searchParams.set(name, value)
  const answer = await fetch(url, {
    headers: token ? { Authorization: `Bearer ${token}` } : {},
    signal: AbortSignal.timeout(ANSWER_MS),
    cache: 'no-store',
  })
  if (answer.ok) return answer.json()
  const { error } = await answer.json().catch(() => ({ error: {} }))
  throw new Refused(answer.status, error?.code ?? '', error?.message ?? answer.statusText)
}
