'use strict'

// A log that is open for appending.

const { boolean, readOptions, toAbsolute, toPath, wrongType, wrongValue } = require('../support/arguments.js')
const { strictMethods } = require('../support/strict.js')
const { hasSubscribers, traced, traces } = require('../support/diagnostics.js')
const { toDamage } = require('../native/errors.js')
const logger = require('../support/logger.js')
const port = require('../native/port.js')
const { LAST_SEQUENCE, closed, collectionName, replayStart, sequence, walFailed } = require('./checks.js')
const { codecOf, telling } = require('./codec.js')
const { Unpacker, pack } = require('./entries.js')
const { jsonSafe } = require('../support/json-safe.js')

/** @typedef {import('../../index.js').WalEntry} WalEntry */
/** @typedef {import('../../index.js').WalEntryInput} WalEntryInput */
/** @typedef {import('../../index.js').Wal} PublicWal */
/** @typedef {import('../native/binding.js').OpenedWal} OpenedWal */
/** @typedef {import('../native/port.js').Appended} Appended */

/**
 * @typedef {object} WalOptions
 * @property {'always' | 'perBatch' | 'periodic' | 'never' | undefined} syncMode
 * @property {import('../../index.js').WalFlush | undefined} onFlush
 * @property {number} flushThreshold
 * @property {import('../../index.js').Logger | null | undefined} logger
 * @property {'json' | undefined} codec
 * @property {string} path the directory of the log, absolute
 * @property {number | undefined} consumerTimeout how long its consumers wait for their lock, if their options do not say so
 */

/** @typedef {{ entries: WalEntryInput[], indexes: number[] }} Group what a batch has for one collection, and where */

/** From this many entries on it takes about as long to pack them as to wake a thread. */
const LONG_BATCH = 16
/** How many bytes of the memtable are read in one go. */
const PIECE = 256 * 1024

const appendChecks = { durable: boolean }
const entriesChecks = { deletions: boolean }

/** @type {<T>(run: () => Promise<T>, describe: () => import('../../index.js').WalTrace) => Promise<T>} */
const tracedWork = traced(
  traces.wal,
  (/** @type {() => Promise<any>} */ run, /** @type {() => object} */ _describe) => run(),
  (_run, describe) => describe(),
)

/**
 * A log that is open for appending.
 *
 * @implements {PublicWal}
 */
class Wal {
  #dir
  #wal
  #path
  #canRefuseSync
  #codec
  #consumerTimeout
  /** Its consumers that are open here. @type {Set<any>} */
  #consumers = new Set()
  /** @type {InstanceType<typeof import('./flush.js').Flusher> | undefined} */
  #flusher
  /** @type {Promise<void> | undefined} */
  #closed
  /** What close waits for. */
  #pending = 0
  /** @type {(() => void) | undefined} */
  #onIdle

  /** @param {string} dir @param {OpenedWal} opened @param {WalOptions} options */
  constructor(dir, { wal, damage }, options) {
    const { syncMode, onFlush, flushThreshold } = options
    this.#dir = dir
    this.#wal = wal
    this.#path = options.path
    this.#consumerTimeout = options.consumerTimeout
    this.#codec = codecOf(options.codec)
    this.#canRefuseSync = syncMode === 'periodic' || syncMode === 'never'
    this.damage = damage.map(toDamage)
    const log = logger.safeLogger(options.logger)
    for (const each of this.damage) log?.warn({ path: dir, ...each, operation: 'open wal' }, 'The write-ahead log was damaged')
    if (!onFlush) return
    const { Flusher } = require('./flush.js')
    this.#flusher = new Flusher(dir, onFlush, flushThreshold, log, {
      figuresOf: (collection) => this.#figuresOf(collection),
      entries: (collection, until) => this.#entries(collection, until, true),
      checkpoint: async (collection, upTo) => void (await this.#checkpoint(collection, upTo)),
    })
    // What was there before may be more than the threshold allows.
    for (const { name, memtableBytes } of this.stats().collections) this.#flusher.appended(name, memtableBytes)
  }

  /** @param {string} collection @param {readonly WalEntryInput[]} entries @param {unknown} [options] */
  async append(collection, entries, options) {
    const { durable } = this.#appendOptions(options, 'append')
    const name = collectionName(collection)
    if (!Array.isArray(entries)) throw wrongType('The "entries" argument', 'an instance of Array', entries)
    const shared = this.#pack(name, this.#codec.encode(entries), Date.now())
    // A subscriber that is told of the beginning may append something itself.
    const packed = hasSubscribers(traces.wal) ? Buffer.from(shared) : shared
    return tracedWork(
      () => this.#appendOne(name, packed, durable),
      () => ({ operation: 'wal append', dir: this.#dir, collections: [name], entries: entries.length }),
    )
  }

  /** @param {string} collection @param {Buffer} packed @param {boolean} durable */
  async #appendOne(collection, packed, durable) {
    if (this.#closed) throw closed(this.#dir, 'wal append')
    try {
      return await this.#append(collection, packed, durable)
    } catch (error) {
      throw walFailed(this.#dir, 'wal append', collection, error)
    }
  }

  /** @param {readonly (WalEntryInput & { collection: string })[]} entries @param {unknown} [options] */
  async writeBatch(entries, options) {
    const { durable } = this.#appendOptions(options, 'writeBatch')
    if (!Array.isArray(entries)) throw wrongType('The "entries" argument', 'an instance of Array', entries)
    entries = this.#codec.encode(entries)
    /** @type {Map<string, Group>} */
    const groups = new Map()
    for (const [index, entry] of entries.entries()) {
      if (entry === null || typeof entry !== 'object') throw wrongType(`The "entries[${index}]" argument`, 'of type object', entry)
      if (typeof entry.collection !== 'string') {
        throw wrongType(`The "entries[${index}].collection" property`, 'of type string', entry.collection)
      }
      const group = groups.get(entry.collection)
      if (group) {
        group.entries.push(entry)
        group.indexes.push(index)
      } else groups.set(entry.collection, { entries: [entry], indexes: [index] })
    }
    // All of it is checked before any of it is appended.
    const now = Date.now()
    pack(entries, now)
    return tracedWork(
      () => this.#appendGroups(groups, entries.length, now, durable),
      () => ({ operation: 'wal append', dir: this.#dir, collections: [...groups.keys()], entries: entries.length }),
    )
  }

  /** @param {Map<string, Group>} groups @param {number} count @param {number} now @param {boolean} durable */
  async #appendGroups(groups, count, now, durable) {
    if (this.#closed) throw closed(this.#dir, 'wal append')
    for (const name of groups.keys()) {
      const { error } = port.open().entriesWal(this.#wal, name, 0n, 0n, 1, false)
      if (error?.code === 'EWALNAME') throw walFailed(this.#dir, 'wal append', name, error)
    }
    const outcomes = await Promise.allSettled(
      Array.from(groups, ([name, group]) => this.#append(name, this.#pack(name, group.entries, now), durable)),
    )
    /** @type {(bigint | undefined)[]} */
    const sequences = new Array(count).fill(undefined)
    /** @type {{ name: string, reason: unknown } | undefined} */
    let failure
    for (const [name, group] of groups) {
      const outcome = /** @type {PromiseSettledResult<bigint[]>} */ (outcomes.shift())
      if (outcome.status === 'rejected') failure ??= { name, reason: outcome.reason }
      else group.indexes.forEach((index, i) => (sequences[index] = outcome.value[i]))
    }
    if (failure) throw Object.assign(walFailed(this.#dir, 'wal append', failure.name, failure.reason), { sequences })
    return /** @type {bigint[]} */ (sequences)
  }

  /** @param {unknown} options @param {string} caller */
  #appendOptions(options, caller) {
    const { durable } = readOptions(options, appendChecks, caller)
    if (durable === false && !this.#canRefuseSync) {
      throw wrongValue(`The "durable" option must not be false where "syncMode" is 'always' or 'perBatch'`)
    }
    return { durable: durable === true }
  }

  /**
   * Packs what will be appended. While nothing is on its way there may be no thread awake for it.
   *
   * @param {string} collection @param {readonly WalEntryInput[]} entries @param {number} now
   */
  #pack(collection, entries, now) {
    if (this.#pending === 0 && entries.length >= LONG_BATCH) port.open().expectWalBatch(this.#wal, collection)
    return pack(entries, now)
  }

  /**
   * @param {string} collection
   * @param {Buffer} packed it is copied before the call returns
   * @param {boolean} durable
   * @returns {Promise<bigint[]>}
   */
  async #append(collection, packed, durable) {
    this.#pending++
    try {
      /** @type {Appended} */
      const { first, count, memtableBytes } = await port.run((opened, id) => opened.appendWal(id, this.#wal, collection, packed, durable))
      this.#flusher?.appended(collection, memtableBytes)
      const sequences = new Array(count)
      let next = first
      for (let i = 0; i < count; i++) {
        sequences[i] = next
        // All of them fit, and an engine that knows it adds five times as fast.
        next = BigInt.asIntN(64, next + 1n)
      }
      return sequences
    } finally {
      this.#ended()
    }
  }

  /** @param {string} collection @param {string} id @returns {WalEntry | undefined} */
  get(collection, id) {
    const name = collectionName(collection)
    if (typeof id !== 'string') throw wrongType('The "id" argument', 'of type string', id)
    const { packed } = this.#read(name, port.open().getWal(this.#wal, name, id))
    const entry = packed && new Unpacker(name, packed).next()
    return entry && this.#decode(name, entry)
  }

  /** @param {string} collection @param {unknown} [options] @returns {IterableIterator<WalEntry>} */
  entries(collection, options) {
    const { deletions = false } = readOptions(options, entriesChecks, 'entries')
    const name = collectionName(collection)
    // What cannot be read is told at once.
    this.#read(name, port.open().entriesWal(this.#wal, name, 0n, 0n, 1, false))
    return this.#entries(name, LAST_SEQUENCE, deletions)
  }

  /** @param {string} collection @param {bigint} until @param {boolean} deletions @returns {IterableIterator<WalEntry>} */
  *#entries(collection, until, deletions) {
    /** @type {bigint | undefined} */
    let after = 0n
    while (after !== undefined) {
      const { packed, next } = this.#read(collection, port.open().entriesWal(this.#wal, collection, after, until, PIECE, deletions))
      const piece = packed && new Unpacker(collection, packed)
      for (let entry = piece?.next(); entry; entry = piece?.next()) yield this.#decode(collection, entry)
      after = next
    }
  }

  /** @param {string} collection @param {WalEntry} entry @returns {WalEntry} */
  #decode(collection, entry) {
    try {
      return this.#codec.decode(entry)
    } catch (error) {
      throw walFailed(this.#dir, 'wal read', collection, error)
    }
  }

  /** @param {string} collection @param {import('../native/binding.js').WalRead} outcome */
  #read(collection, outcome) {
    if (outcome.error) throw walFailed(this.#dir, 'wal read', collection, outcome.error)
    return outcome
  }

  /** @param {string} collection @param {unknown} [options] */
  replay(collection, options) {
    const from = replayStart(options)
    const name = collectionName(collection)
    if (this.#closed) throw closed(this.#dir, 'wal read')
    const { WalReplay } = require('./replay.js')
    return new WalReplay(this.#dir, name, this.#codec, (opened, id) => opened.replayWal(id, this.#wal, name, from))
  }

  /** @param {string} collection @param {unknown} [options] */
  follow(collection, options) {
    return this.#follow(collection, options, this.#codec)
  }

  /** @param {string} collection @param {unknown} options @param {import('./codec.js').Codec} codec */
  #follow(collection, options, codec) {
    const { WalFollow, followOptions } = require('./follow.js')
    const { from, signal } = followOptions(options)
    const name = collectionName(collection)
    if (this.#closed) throw closed(this.#dir, 'wal read')
    return new WalFollow(this.#dir, name, codec, signal, (opened, id) => opened.followWal(id, this.#wal, name, from))
  }

  /** @param {string} name @param {string} collection @param {unknown} [options] */
  async consumer(name, collection, options) {
    if (this.#closed) throw closed(this.#dir, 'wal consumer')
    const { openConsumer } = require('./consumer.js')
    /** @type {import('./consumer.js').Follow} */
    const follow = (collection, options, onGiven) => this.#follow(collection, options, telling(this.#codec, onGiven))
    const look = async () => {
      if (this.#closed) return
      // Only the figures are late if that fails: each call for them looks again.
      await port.run((opened, id) => opened.lookAtConsumers(id, this.#wal)).catch(() => {})
    }
    return await openConsumer(this.#dir, this.#path, name, collection, options, this.#consumerTimeout, follow, this.#consumers, look)
  }

  /** @param {string} collection @returns {bigint} */
  first(collection) {
    const name = collectionName(collection)
    return /** @type {bigint} */ (this.#read(name, port.open().firstWal(this.#wal, name)).next)
  }

  /** @param {string} [collection] */
  async flush(collection) {
    const name = collection === undefined ? undefined : collectionName(collection)
    if (this.#closed) throw closed(this.#dir, 'wal flush')
    this.#flusher?.refuseInside(name, 'wal flush')
    this.#pending++
    try {
      await this.#during('wal flush', name, (opened, id) => opened.syncWal(id, this.#wal, name))
      if (!this.#flusher) return
      const names = name === undefined ? this.stats().collections.map((each) => each.name) : [name]
      // One after the other: together they would need the memory of all.
      for (const each of names) await this.#flusher.flush(each)
    } finally {
      this.#ended()
    }
  }

  /** @param {string} collection @param {bigint} upTo */
  async checkpoint(collection, upTo) {
    const name = collectionName(collection)
    sequence(upTo, 'The "upTo" argument')
    if (this.#closed) throw closed(this.#dir, 'wal checkpoint')
    this.#pending++
    try {
      return await this.#checkpoint(name, upTo)
    } finally {
      this.#ended()
    }
  }

  /** @param {string | URL} dir */
  async backup(dir) {
    const target = toAbsolute(toPath(dir, 'dir', 'dir')).replace(/(?<=[^\\/])[\\/]+$/, '')
    if (this.#closed) throw closed(this.#dir, 'wal backup')
    this.#pending++
    try {
      await this.#during('wal backup', undefined, (opened, id) => opened.backupWal(id, this.#wal, target))
    } finally {
      this.#ended()
    }
  }

  /** Something is over that close waits for. */
  #ended() {
    this.#pending--
    if (this.#pending === 0) this.#onIdle?.()
  }

  /** @param {string} collection @param {bigint} upTo */
  async #checkpoint(collection, upTo) {
    /** @type {bigint} */
    const released = await this.#during('wal checkpoint', collection, (opened, id) => opened.checkpointWal(id, this.#wal, collection, upTo))
    return released
  }

  /** @param {import('../../index.js').WalTrace['operation']} operation @param {string | undefined} collection @param {(port: import('../native/binding.js').Port, id: number) => void} start */
  #during(operation, collection, start) {
    const run = async () => {
      try {
        return /** @type {any} */ (await port.run(start))
      } catch (error) {
        throw walFailed(this.#dir, operation, collection, error)
      }
    }
    return tracedWork(run, () => ({ operation, dir: this.#dir, ...(collection !== undefined && { collections: [collection] }) }))
  }

  /** @returns {import('../../index.js').WalStats} */
  stats() {
    const stats = port.open().statsWal(this.#wal)
    if (!stats) throw closed(this.#dir, 'wal read')
    const { poisoned, collections, ...figures } = stats
    const { withLag } = require('./consumer.js')
    return jsonSafe({
      ...figures,
      ...(poisoned != null && { poisoned }),
      collections: collections.map((each) => ({ ...each, consumers: withLag(each, this.#consumers) })),
    })
  }

  /** @param {string} collection */
  #figuresOf(collection) {
    return this.stats().collections.find(({ name }) => name === collection) ?? { last: 0n, memtableEntries: 0 }
  }

  async close() {
    const close = () => (this.#closed ??= this.#close())
    await (this.#flusher ? this.#flusher.closeLog(close) : close())
  }

  async #close() {
    // What was asked for before is done before.
    if (this.#pending > 0) await new Promise((resolve) => (this.#onIdle = () => resolve(undefined)))
    await this.#flusher?.close()
    await Promise.all(Array.from(this.#consumers, (each) => each.close()))
    await this.#during('wal close', undefined, (opened, id) => opened.closeWal(id, this.#wal))
  }

  [Symbol.asyncDispose]() {
    return this.close()
  }
}

strictMethods(Wal, {
  append: 'collection entries options', writeBatch: 'entries options', get: 'collection id', entries: 'collection options',
  replay: 'collection options', follow: 'collection options', consumer: 'name collection options', first: 'collection',
  flush: 'collection', checkpoint: 'collection upTo', backup: 'dir',
})

module.exports = { Wal }
