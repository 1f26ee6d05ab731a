// Who makes changes: a name and a colour for a client id. A terminal tells all others its name in a MESSAGE when it first
// changes something, and when it is asked. Who shows a change of somebody unknown asks that one terminal, after a moment: the
// answer goes to all, so of a hundred windows that came back together one or two ask. Until then the client id's end is shown.

import { markOf } from './identity.js'
import { may } from './roles.js'
import { T } from './texts.js'

const MOST = 500
const AGAIN = 5000 // milliseconds between two introductions, however many ask
const MOMENT = 2000 // at most so long one waits for somebody else to ask
const LONGEST = 40
export const COLOURS = 8

export class People {
  #names = new Map()
  #said = -Infinity
  #answering = null
  #asked = new Set()
  #terminal
  name

  constructor(terminal, name) {
    this.#terminal = terminal
    this.name = name
    terminal.on('message', ({ clientId, data }) => {
      if (data?.to === terminal.clientId && data.whoAreYou === true) this.#answer()
      if (typeof data?.terminalName !== 'string' || clientId === terminal.clientId) return
      const name = data.terminalName.replace(/\s+/g, ' ').trim().slice(0, LONGEST)
      if ([T.you, T.database, T.relay].includes(name)) return // nobody passes for these
      if (this.#names.size >= MOST) this.#names.delete(this.#names.keys().next().value)
      if (name) this.#names.set(clientId, name)
    })
  }

  /** Tell the others this terminal's name, unless they were told. */
  introduce(anew = false) {
    if (!anew && this.#said > -Infinity) return
    if (this.#say({ terminalName: this.name })) this.#said = performance.now()
  }

  #say(data) {
    return may(this.#terminal.role, 'MESSAGE') && this.#terminal.say(data)
  }

  /** Somebody asks: answer all who ask about now. */
  #answer() {
    const told = () => ((this.#answering = null), this.introduce(true))
    this.#answering ??= setTimeout(told, Math.max(0, this.#said + AGAIN - performance.now()))
  }

  /** Somebody is shown who is not known: learn their name. Who does not answer is not asked again. */
  #meet(clientId) {
    if (this.#asked.has(clientId) || !may(this.#terminal.role, 'MESSAGE')) return
    if (this.#asked.size >= MOST) this.#asked.clear()
    this.#asked.add(clientId)
    const ask = () => this.#names.has(clientId) || this.#say({ to: clientId, whoAreYou: true }) || this.#asked.delete(clientId)
    setTimeout(ask, Math.random() * MOMENT)
  }

  isMe(clientId) {
    return clientId === this.#terminal.clientId
  }

  /** Whether more than a client id is known of somebody. */
  knows(clientId) {
    return this.isMe(clientId) || this.#names.has(clientId)
  }

  /** What to call who has this client id. */
  label(clientId) {
    if (this.isMe(clientId)) return T.you
    if (clientId === 'database') return T.database
    if (clientId === 'server') return T.relay
    const name = this.#names.get(clientId)
    if (!name && clientId.startsWith('client_')) return T.app(clientId.slice(-4)) // it has no name to tell
    if (!name) {
      this.#meet(clientId) // it is shown to a person, though it may change nothing now
      return T.terminal(clientId.slice(-4))
    }
    const taken = name === this.name || [...this.#names].some(([id, other]) => id !== clientId && other === name)
    return taken ? `${name} · ${clientId.slice(-4)}` : name
  }

  /** One of COLOURS, always the same for a client id. */
  colour(clientId) {
    return this.isMe(clientId) ? 'me' : String(parseInt(markOf(clientId), 36) % COLOURS)
  }
}
