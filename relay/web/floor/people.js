// Who makes changes: a name and a colour for a client id. Terminals tell each other their names in a MESSAGE, once a minute
// while they change things; who has not been told shows the client id's end.

import { T } from './texts.js'
import { markOf } from './identity.js'

const MOST = 500
const AGAIN = 60_000
const LONGEST = 40
export const COLOURS = 8

export class People {
  #names = new Map()
  #said = -Infinity
  #terminal
  name

  constructor(terminal, name) {
    this.#terminal = terminal
    this.name = name
    terminal.on('message', ({ clientId, data }) => {
      if (typeof data?.terminalName !== 'string' || clientId === terminal.clientId) return
      const name = data.terminalName.replace(/\s+/g, ' ').trim().slice(0, LONGEST)
      if ([T.you, T.database, T.relay].includes(name)) return // nobody passes for these
      if (this.#names.size >= MOST) this.#names.delete(this.#names.keys().next().value)
      if (name) this.#names.set(clientId, name)
    })
  }

  /** Tell the others this terminal's name, unless they were told lately. */
  introduce(anew = false) {
    if (!anew && performance.now() - this.#said < AGAIN) return
    if (this.#terminal.say({ terminalName: this.name })) this.#said = performance.now()
  }

  isMe(clientId) {
    return clientId === this.#terminal.clientId
  }

  /** What to call who has this client id. */
  label(clientId) {
    if (this.isMe(clientId)) return T.you
    if (clientId === 'database') return T.database
    if (clientId === 'server') return T.relay
    const name = this.#names.get(clientId)
    if (!name) return clientId.startsWith('client_') ? T.app(clientId.slice(-4)) : T.terminal(clientId.slice(-4))
    const taken = name === this.name || [...this.#names].some(([id, other]) => id !== clientId && other === name)
    return taken ? `${name} · ${clientId.slice(-4)}` : name
  }

  /** One of COLOURS, always the same for a client id. */
  colour(clientId) {
    return this.isMe(clientId) ? 'me' : String(parseInt(markOf(clientId), 36) % COLOURS)
  }
}
