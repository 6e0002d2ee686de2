/**
 * `holdfast/diagnostics`: the channels of `node:diagnostics_channel` on which holdfast publishes, with their types. To load it
 * loads neither the addon nor `holdfast`. While a channel has no subscriber nothing is built for it.
 *
 * @example
 * ```js
 * import { channels } from 'holdfast/diagnostics'
 *
 * channels.write.subscribe({
 *   error: ({ path, error }) => console.error(path, error),
 *   asyncEnd: ({ path, size }) => console.log(path, size),
 * })
 * ```
 */

import type {
  BackupTrace, LockAcquired, LockReleased, LockTrace, TransactionTrace, UpdateTrace, WalTrace, WriteStep, WriteTrace,
} from './index.js'

/** The functions that hear of the events of a call, each with the same object, which must not be changed. */
export interface TraceHandlers<Context> {
  /** The call begins. */
  start?: ((context: Context) => void) | undefined
  /** The synchronous part of the call has ended; of a synchronous call all of it. */
  end?: ((context: Context) => void) | undefined
  /** What the call promises has been settled. */
  asyncStart?: ((context: Context) => void) | undefined
  /** The call is over. A synchronous call ends with `end`. */
  asyncEnd?: ((context: Context) => void) | undefined
  /** The call has failed, with `context.error`; before `asyncStart`, or `end` of a synchronous call. */
  error?: ((context: Context & { readonly error: unknown }) => void) | undefined
}

/** A channel of one event: that of Node, with the type of its messages. */
export interface EventChannel<Message> {
  readonly name: string | symbol
  readonly hasSubscribers: boolean
  /** What `listener` throws is reported as an uncaught exception and does not disturb the work. */
  subscribe(listener: (message: Message, name: string | symbol) => void): void
  /** Says whether `listener` was subscribed. */
  unsubscribe(listener: (message: Message, name: string | symbol) => void): boolean
  /** Has an `AsyncLocalStorage` hold what `transform` makes of the message, while the call runs. */
  bindStore<Store>(store: { getStore(): Store | undefined }, transform?: (message: Message) => Store): void
  /** Says whether it was bound. */
  unbindStore(store: { getStore(): unknown }): boolean
}

/** A channel for the events of calls. */
export interface TraceChannel<Context> {
  /** Whether any event has a subscriber. */
  readonly hasSubscribers: boolean
  /**
   * Subscribes the functions that are given; a name that is no event is refused (`TypeError`). What they throw is reported as
   * an uncaught exception and does not disturb the call.
   */
  subscribe(handlers: TraceHandlers<Context>): void
  /** Takes them off, as the same functions. Says whether all of them were subscribed. */
  unsubscribe(handlers: TraceHandlers<Context>): boolean
  readonly start: EventChannel<Context>
  readonly end: EventChannel<Context>
  readonly asyncStart: EventChannel<Context>
  readonly asyncEnd: EventChannel<Context>
  readonly error: EventChannel<Context & { readonly error: unknown }>
}

/** All channels. Their names in `node:diagnostics_channel` are `holdfast:write` and so on. */
export const channels: {
  readonly write: TraceChannel<WriteTrace>
  readonly update: TraceChannel<UpdateTrace>
  readonly lock: TraceChannel<LockTrace>
  readonly backup: TraceChannel<BackupTrace>
  readonly transaction: TraceChannel<TransactionTrace>
  readonly wal: TraceChannel<WalTrace>
  /** `holdfast:write:step` */
  readonly writeStep: EventChannel<WriteStep>
  /** `holdfast:lock:acquired` */
  readonly lockAcquired: EventChannel<LockAcquired>
  /** `holdfast:lock:released` */
  readonly lockReleased: EventChannel<LockReleased>
}
