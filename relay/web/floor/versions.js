// Which version a row will have when what is pending here is done to it, and which mutations that counts on.

/** The lists whose rows have versions, by message type. */
export const LIST_OF = { UPDATE_TABLE: 'tables', UPDATE_MENU: 'menuItems', UPDATE_ORDER: 'orderHistory' }

/** The key of the row that a mutation or change is about; null where it is about none. */
export function rowKeyOf({ type, data }) {
  const id = data?.data?.id
  return LIST_OF[type] && typeof id === 'string' ? `${LIST_OF[type]}/${id}` : null
}

export class Versions {
  #terminal
  #people
  // An ACK and the change it is about come in either order.
  #acknowledged = new Map() // by row: the version that it has once the change has come
  #landed = new Set() // mutations whose change has come, and whose ACK has not

  constructor(terminal, people) {
    this.#terminal = terminal
    this.#people = people
    terminal.on('acknowledged', (mutation) => {
      const key = rowKeyOf(mutation)
      if (!this.#landed.delete(mutation.id) && key && mutation.answer.version) {
        this.#acknowledged.set(key, mutation.answer.version)
      }
    })
    terminal.on('refused', ({ id }) => this.#landed.delete(id))
    terminal.on('change', (change) => this.#land(change))
    terminal.on('snapshot', () => {
      this.#acknowledged.clear()
      this.#landed.clear()
    })
  }

  #land(change) {
    const key = rowKeyOf(change)
    const version = change.data.data?.version
    const awaited = this.#acknowledged.get(key)
    if (awaited <= version) this.#acknowledged.delete(key)
    if (key === null || awaited >= version || !this.#people.isMe(change.clientId)) return
    const sent = this.#pendingOf(key).find(({ id }) => !this.#landed.has(id))
    if (sent) this.#landed.add(sent.id)
  }

  #pendingOf(key) {
    return this.#terminal.pending.filter((one) => rowKeyOf(one) === key)
  }

  /**
   * What makes a mutation be done after all that is pending of a row, and only to the row as it is then: each of them adds
   * one to the version. Should one of them be refused, another's change may make it that version all the same.
   */
  next(list, id) {
    const key = `${list}/${id}`
    const held = this.#terminal.confirmed[list].get(id)?.version ?? 0
    const pending = this.#pendingOf(key)
    const coming = pending.filter((one) => !this.#landed.has(one.id)).length
    return { ifVersion: Math.max(held, this.#acknowledged.get(key) ?? 0) + coming, after: pending.slice(-1) }
  }
}
