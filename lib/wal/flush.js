'use strict'

// The flush of the memtable: what is in it goes to the user's own store, and then the log can
// forget it.

const { AsyncLocalStorage, AsyncResource } = require('node:async_hooks')
const { deadlock, failed } = require('../native/errors.js')

/** @typedef {import('../../index.js').WalEntry} WalEntry */

/**
 * @typedef {object} Lane what is known of the flushes of one collection
 * @property {Promise<void> | undefined} running
 * @property {Handler | undefined} handler whose function has been called
 * @property {number} failures in a row
 * @property {number} notBefore when a flush may be started in the background again
 */

/**
 * @typedef {object} Handler a call of the function that flushes
 * @property {Flusher} flusher
 * @property {string} collection
 * @property {boolean} isLive until it is over
 * @property {Set<() => Lane[]>} waits what it waits for: any of these lanes that runs
 */

/** Milliseconds after the first failure; they double, up to the limit. */
const FIRST_DELAY = 100
const LONGEST_DELAY = 60_000

/** @type {AsyncLocalStorage<Handler>} */
const storage = new AsyncLocalStorage()

class Flusher {
  #dir
  #onFlush
  #threshold
  #log
  #wal
  #context = new AsyncResource('holdfast.onFlush')
  /** @type {Map<string, Lane>} */
  #lanes = new Map()
  #isClosed = false

  /**
   * @param {string} dir
   * @param {import('../../index.js').WalFlush} onFlush
   * @param {number} threshold
   * @param {import('../../index.js').Logger | undefined} log
   * @param {object} wal
   * @param {(collection: string) => { last: bigint, memtableEntries: number }} wal.figuresOf
   * @param {(collection: string, until: bigint) => IterableIterator<WalEntry>} wal.entries
   * @param {(collection: string, upTo: bigint) => Promise<void>} wal.checkpoint
   */
  constructor(dir, onFlush, threshold, log, wal) {
    this.#dir = dir
    this.#onFlush = onFlush
    this.#threshold = threshold
    this.#log = log
    this.#wal = wal
  }

  /** @param {string} collection @returns {Lane} */
  #lane(collection) {
    let lane = this.#lanes.get(collection)
    if (!lane) {
      lane = { running: undefined, handler: undefined, failures: 0, notBefore: 0 }
      this.#lanes.set(collection, lane)
    }
    return lane
  }

  /**
   * Starts a flush in the background if the memtable has become too large.
   *
   * @param {string} collection
   * @param {number} memtableBytes
   */
  appended(collection, memtableBytes) {
    if (memtableBytes < this.#threshold || this.#isClosed) return
    const lane = this.#lane(collection)
    if (lane.running || performance.now() < lane.notBefore) return
    this.#start(collection, lane).then(
      () => (lane.failures = 0),
      (error) => {
        lane.notBefore = performance.now() + Math.min(FIRST_DELAY * 2 ** lane.failures++, LONGEST_DELAY)
        this.#report(collection, error)
      },
    )
  }

  /** @param {string} collection */
  flush(collection) {
    const lane = this.#lane(collection)
    return this.#waiting(() => [lane], 'wal flush', async () => {
      // One that runs may have begun before what is asked for; how it ends, others are told.
      while (lane.running) await lane.running.catch(() => {})
      await this.#start(collection, lane)
    })
  }

  /**
   * Closes the log, which waits for what runs.
   *
   * @param {() => Promise<void>} close
   */
  closeLog(close) {
    this.refuseInside(undefined, 'wal close')
    // Also those that have been asked for, and do not run yet.
    return this.#waiting(() => Array.from(this.#lanes.values()), 'wal close', close)
  }

  /**
   * Does what waits for these lanes; refused where one of them waits for the caller.
   *
   * @param {() => Lane[]} lanes
   * @param {string} operation
   * @param {() => Promise<void>} work
   */
  async #waiting(lanes, operation, work) {
    const inside = storage.getStore()
    if (!inside?.isLive) return work()
    // Flushes of two collections, or of two logs, may ask for each other, or for the other's end.
    if (lanes().some((lane) => waitsFor(lane, inside))) throw this.#deadlock(operation)
    inside.waits.add(lanes)
    try {
      await work()
    } finally {
      inside.waits.delete(lanes)
    }
  }

  /** Waits for what runs; nothing is started any more. */
  async close() {
    this.#isClosed = true
    await Promise.allSettled(Array.from(this.#lanes.values(), ({ running }) => running))
  }

  /**
   * A flush that is asked for by the function that flushes would wait for itself.
   *
   * @param {string | undefined} collection `undefined` for all
   * @param {string} operation
   */
  refuseInside(collection, operation) {
    const inside = storage.getStore()
    if (!inside?.isLive || inside.flusher !== this || (collection !== undefined && collection !== inside.collection)) return
    throw this.#deadlock(operation)
  }

  /** @param {string} operation */
  #deadlock(operation) {
    return failed(this.#dir, operation, deadlock('the caller is in a flush that would wait for itself'))
  }

  /** @param {string} collection @param {Lane} lane */
  #start(collection, lane) {
    const running = this.#run(collection, lane).finally(() => {
      lane.running = lane.handler = undefined
    })
    lane.running = running
    return running
  }

  /** @param {string} collection @param {Lane} lane */
  async #run(collection, lane) {
    const { last: upTo, memtableEntries } = this.#wal.figuresOf(collection)
    if (memtableEntries === 0) return
    const entries = () => this.#wal.entries(collection, upTo)
    /** @type {Handler} */
    const inside = (lane.handler = { flusher: this, collection, isLive: true, waits: new Set() })
    const flush = { collection, upTo, entries: { [Symbol.iterator]: entries } }
    try {
      await this.#context.runInAsyncScope(() => storage.run(inside, this.#onFlush, flush))
    } finally {
      inside.isLive = false
    }
    await this.#wal.checkpoint(collection, upTo)
  }

  /** @param {string} collection @param {unknown} error */
  #report(collection, error) {
    const { code: errorCode, message: errorMessage } = /** @type {NodeJS.ErrnoException} */ (error instanceof Error ? error : { message: String(error) })
    if (this.#log) {
      this.#log.error({ path: this.#dir, collection, errorCode, errorMessage, operation: 'flush' }, 'Background flush failed')
      return
    }
    process.emitWarning(`The background flush of '${collection}' in ${this.#dir} failed: ${errorMessage}`, 'HoldfastWarning')
  }
}

/**
 * Whether what runs in a lane waits, by way of others maybe, for this call. A flush that begins
 * while somebody waits in its lane waits for nothing yet, so it is enough to look whenever
 * something is asked for.
 *
 * @param {Lane} lane
 * @param {Handler} handler
 * @param {Set<Lane>} [seen]
 * @returns {boolean}
 */
function waitsFor(lane, handler, seen = new Set()) {
  if (seen.has(lane) || !lane.handler?.isLive) return false
  seen.add(lane)
  return lane.handler === handler || Array.from(lane.handler.waits).some((lanes) => lanes().some((each) => waitsFor(each, handler, seen)))
}

module.exports = { Flusher }
