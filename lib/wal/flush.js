'use strict'

// The flush of the memtable: what is in it goes to the user's own store, and then the log can
// forget it.

const { AsyncLocalStorage, AsyncResource } = require('node:async_hooks')
const { deadlock, failed, isError } = require('../native/errors.js')

/** @typedef {import('../../index.js').WalEntry} WalEntry */

/**
 * @typedef {object} CollectionFlushes what is known of the flushes of one collection
 * @property {Promise<void> | undefined} running
 * @property {FlushCall | undefined} call the call of the user's function that runs
 * @property {number} failures in a row
 * @property {number} notBefore when a flush may be started in the background again
 */

/**
 * @typedef {object} FlushCall a call of the user's function
 * @property {Flusher} flusher
 * @property {string} collection
 * @property {boolean} isLive until it is over
 * @property {Set<() => CollectionFlushes[]>} waitsFor what it waits for: any of these that runs
 */

/** Milliseconds after the first failure; they double, up to the limit. */
const FIRST_RETRY_DELAY = 100
const MAX_RETRY_DELAY = 60_000

/** @type {AsyncLocalStorage<FlushCall>} */
const storage = new AsyncLocalStorage()

class Flusher {
  #dir
  #onFlush
  #threshold
  #log
  #wal
  #context = new AsyncResource('holdfast.onFlush')
  /** @type {Map<string, CollectionFlushes>} */
  #collections = new Map()
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

  /** @param {string} collection @returns {CollectionFlushes} */
  #flushesOf(collection) {
    let flushes = this.#collections.get(collection)
    if (!flushes) {
      flushes = { running: undefined, call: undefined, failures: 0, notBefore: 0 }
      this.#collections.set(collection, flushes)
    }
    return flushes
  }

  /**
   * Starts a flush in the background if the memtable has become too large.
   *
   * @param {string} collection
   * @param {number} memtableBytes
   */
  appended(collection, memtableBytes) {
    if (memtableBytes < this.#threshold || this.#isClosed) return
    const flushes = this.#flushesOf(collection)
    if (flushes.running || performance.now() < flushes.notBefore) return
    this.#start(collection, flushes).then(
      () => (flushes.failures = 0),
      (error) => {
        flushes.notBefore = performance.now() + Math.min(FIRST_RETRY_DELAY * 2 ** flushes.failures++, MAX_RETRY_DELAY)
        this.#report(collection, error)
      },
    )
  }

  /** @param {string} collection */
  flush(collection) {
    const flushes = this.#flushesOf(collection)
    return this.#waitFor(() => [flushes], 'wal flush', async () => {
      // One that runs may have begun before what is asked for; its own caller is told how it ends.
      while (flushes.running) await flushes.running.catch(() => {})
      await this.#start(collection, flushes)
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
    return this.#waitFor(() => Array.from(this.#collections.values()), 'wal close', close)
  }

  /**
   * Does work that waits for the flushes of these collections. Refused where one of them waits
   * for the caller.
   *
   * @param {() => CollectionFlushes[]} targets
   * @param {string} operation
   * @param {() => Promise<void>} work
   */
  async #waitFor(targets, operation, work) {
    const inside = storage.getStore()
    if (!inside?.isLive) return work()
    // Flushes of two collections, or of two logs, may ask for each other, or for the other's end.
    if (targets().some((flushes) => waitsForCall(flushes, inside))) throw this.#deadlock(operation)
    inside.waitsFor.add(targets)
    try {
      await work()
    } finally {
      inside.waitsFor.delete(targets)
    }
  }

  /** Waits for what runs; nothing is started any more. */
  async close() {
    this.#isClosed = true
    await Promise.allSettled(Array.from(this.#collections.values(), ({ running }) => running))
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

  /** @param {string} collection @param {CollectionFlushes} flushes */
  #start(collection, flushes) {
    const running = this.#run(collection, flushes).finally(() => {
      flushes.running = flushes.call = undefined
    })
    flushes.running = running
    return running
  }

  /** @param {string} collection @param {CollectionFlushes} flushes */
  async #run(collection, flushes) {
    const { last: upTo, memtableEntries } = this.#wal.figuresOf(collection)
    if (memtableEntries === 0) return
    const entries = () => this.#wal.entries(collection, upTo)
    /** @type {FlushCall} */
    const inside = (flushes.call = { flusher: this, collection, isLive: true, waitsFor: new Set() })
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
    const { code: errorCode, message: errorMessage } = /** @type {NodeJS.ErrnoException} */ (isError(error) ? error : { message: String(error) })
    if (this.#log) {
      this.#log.error({ path: this.#dir, collection, errorCode, errorMessage, err: error, operation: 'wal flush' }, 'Background flush failed')
      return
    }
    process.emitWarning(`The background flush of '${collection}' in ${this.#dir} failed: ${errorMessage}`, 'HoldfastWarning')
  }
}

/**
 * Whether the flush of a collection that runs waits for this call, maybe by way of others. A flush
 * that begins while another is waiting for it waits for nothing yet, so it is enough to look
 * whenever a flush or the end of a log is asked for.
 *
 * @param {CollectionFlushes} flushes
 * @param {FlushCall} call
 * @param {Set<CollectionFlushes>} [seen]
 * @returns {boolean}
 */
function waitsForCall(flushes, call, seen = new Set()) {
  if (seen.has(flushes) || !flushes.call?.isLive) return false
  seen.add(flushes)
  return flushes.call === call || Array.from(flushes.call.waitsFor).some((targets) => targets().some((each) => waitsForCall(each, call, seen)))
}

module.exports = { Flusher }
