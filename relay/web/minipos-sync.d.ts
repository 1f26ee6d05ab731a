/** A terminal for pages and Node. docs/terminals.md explains what this file lists. */

export type Row = { id: string; version: number; [field: string]: unknown }

/** Everything a terminal shows. Rows are by id; in `orderHistory` the last changed stands at the end. */
export interface State {
  readonly tables: ReadonlyMap<string, Row>
  readonly menuItems: ReadonlyMap<string, Row>
  readonly orderHistory: ReadonlyMap<string, Row>
  readonly categories: readonly string[]
  readonly settings: Readonly<Record<string, unknown>>
}

/** Seconds. */
export interface Timing {
  /** Before it connects again: anything from 0 to this, doubled each time. 0.5 */
  firstDelay?: number
  /** And never more than anything from 0 to this. 30 */
  lastDelay?: number
  /** From one heartbeat to the next; as WELCOME says where it is missing. */
  heartbeat?: number
  /** For an answer, before it asks again; for a state only when something else is heard. 30 */
  answer?: number
  /** From one checksum to the next. 300 */
  check?: number
}

export interface Batch {
  /** Remove every key that begins with `row/` first. */
  clear: boolean
  /** Somebody waits until it is on the disk itself. */
  urgent: boolean
  /** A value of undefined removes its key. */
  values: [key: string, value: unknown][]
}

/** Where a terminal keeps what must survive it. */
export interface Store {
  /** Everything that was written. */
  load(): Promise<Iterable<[key: string, value: any]>>
  /** Write all of a batch or nothing. Not called again before it is done. */
  write(batch: Batch): Promise<void>
}

export interface Refusal {
  code: string
  message: string
  /** What a person or a program can do about it. */
  todo: string
  field?: string
  /** The row as it is now, on CONFLICT. */
  current?: Row | null
  /** On ORDER_ID_TAKEN. */
  suggestedId?: string
}

export interface Mutation {
  readonly id: string
  readonly clientId: string
  readonly type: string
  readonly data: any
  readonly ifVersion: number | null
  /** The ids of those it builds on. */
  readonly after: readonly string[]
  readonly state: 'pending' | 'acknowledged' | 'refused'
  /** The data of its ACK. */
  readonly answer: { revision: number; version?: number; orderId?: string } | null
  readonly error: Refusal | null
}

export interface Status {
  state: 'connecting' | 'catching-up' | 'live' | 'offline' | 'refused'
  why: string
  todo: string
  /** Until it connects again by itself; null where it does not, or is connected. */
  retryInSeconds: number | null
}

/** A change or a MESSAGE as the relay sent it. */
export interface Message {
  type: string
  data: any
  timestamp: number
  clientId: string
  revision?: number
}

export interface Heard {
  /** What it shows is another. */
  view: null
  state: Status
  role: Terminal['role']
  change: Message
  /** The reason of a snapshot that replaced everything. */
  snapshot: string
  acknowledged: Mutation
  refused: Mutation
  message: Message
  /** What no relay should do; for its author. */
  fault: string
}

export interface Options {
  /** A slug; without it, the default restaurant. */
  restaurant?: string
  /** For people. */
  name?: string
  token?: string
  /** Without one everything is forgotten with the page. */
  store?: Store
  timing?: Timing
  /** Where there is none by itself, as in Node 20 without --experimental-websocket. */
  WebSocket?: new (url: any) => any
}

export interface ChangeOptions {
  /** Only if the row still has this version; 0: only if there is none. */
  ifVersion?: number
  /** What it builds on: should one of these be refused, it is not sent but refused too, as NOT_SENT. */
  after?: readonly Mutation[]
}

export class Terminal {
  constructor(url: string | URL, options?: Options)
  start(): Promise<void>
  stop(): Promise<void>

  readonly status: Status
  readonly state: Status['state']
  readonly clientId: string
  /** What the relay has told last, also before a restart; null: none, and it may ask for everything. */
  readonly role: 'display' | 'terminal' | 'manager' | null
  readonly epoch: string | null
  /** -1 before the first snapshot. */
  readonly revision: number
  /** The newest revision it has heard of. */
  readonly head: number
  /** What it shows: `confirmed` with what is pending done to it. */
  readonly view: State
  readonly confirmed: State
  readonly tables: ReadonlyMap<string, Row>
  readonly menu: ReadonlyMap<string, Row>
  readonly orders: ReadonlyMap<string, Row>
  /** What has no answer yet, in order. */
  readonly pending: readonly Mutation[]
  /** What was refused and not dismissed yet, also from before a restart. */
  readonly refused: readonly Mutation[]

  on<What extends keyof Heard>(what: What, listener: (detail: Heard[What]) => void): () => void

  change(type: string, data: object, options?: ChangeOptions): Promise<Mutation>
  table(action: string, row: object, options?: ChangeOptions): Promise<Mutation>
  dish(action: string, row: object, options?: ChangeOptions): Promise<Mutation>
  order(action: string, row?: object, options?: ChangeOptions): Promise<Mutation>
  settings(settings: object): Promise<Mutation>
  /** Fails where this terminal may not ask for one. */
  nextOrderId(): Promise<string>
  answered(mutation: Mutation): Promise<Mutation>
  dismiss(mutation: Mutation): void
  say(data: object): boolean
}

export function checksum(state: State, orders: number): number
export function memoryStore(): Store
/** A database of the page's origin. */
export function indexedDbStore(name?: string): Store
/** A file, in Node. */
export function fileStore(path: string): Store
