'use strict'

// Write-ahead logs.

const {
  abortSignal, boolean, integer, milliseconds, oneOf, outOfRange, readOptions, toAbsolute, toPath, wrongType, wrongValue,
} = require('../support/arguments.js')
const { hasSubscribers, traced, traces } = require('../support/diagnostics.js')
const { failed, toDamage } = require('../native/errors.js')
const { waitFor } = require('../api/lock.js')
const logger = require('../support/logger.js')
const port = require('../native/port.js')
const { Unpacker, pack } = require('./entries.js')
const { walFailed } = require('./errors.js')
const { Flusher } = require('./flush.js')
const { WalReplay } = require('./replay.js')

/** @typedef {import('../../index.js').WalEntry} WalEntry */
/** @typedef {import('../../index.js').WalEntryInput} WalEntryInput */
/** @typedef {import('../../index.js').Wal} PublicWal */
/** @typedef {import('../../index.js').WalReader} PublicReader */
/** @typedef {import('../native/binding.js').NativeValue} NativeValue */
/** @typedef {import('../native/binding.js').NativeError} NativeError */
/** @typedef {import('../native/port.js').Appended} Appended */

const MiB = 1024 * 1024
const LONGEST_DELAY = 2 ** 31 - 1
const FLUSH_THRESHOLD = 64 * MiB
const LAST_SEQUENCE = 2n ** 63n - 1n
/** From so many entries on it takes about as long to pack them as to wake a thread. */
const LONG_BATCH = 16
/** How many bytes of the memtable are looked at in one go. */
const PIECE = 256 * 1024

const SYNC_MODES = { always: 0, perBatch: 1, periodic: 2, never: 3 }
const RECOVERIES = { strict: 0, tolerateTail: 1, skipCorrupt: 2 }

const readerChecks = {
  readOnly: boolean,
  recovery: oneOf('strict', 'tolerateTail', 'skipCorrupt'),
}

const checks = {
  ...readerChecks,
  syncMode: oneOf('always', 'perBatch', 'periodic', 'never'),
  syncInterval: integer(1, LONGEST_DELAY),
  segmentSize: integer(4096, 2 ** 32),
  segmentAge: integer(1, Number.MAX_SAFE_INTEGER),
  memtable: boolean,
  onFlush: aFunction,
  flushThreshold: integer(1, Number.MAX_SAFE_INTEGER),
  highWaterMark: integer(1, 2 ** 30),
  timeout: milliseconds(Infinity),
  signal: abortSignal,
  logger: logger.check,
}

const appendChecks = { durable: boolean }
const replayChecks = { from: sequence }
const entriesChecks = { deletions: boolean }

/** @typedef {{ [K in keyof typeof checks]?: ReturnType<typeof checks[K]> }} Options */

/** @param {unknown} value @param {string} name */
function aFunction(value, name) {
  if (typeof value !== 'function') throw wrongType(name, 'of type function', value)
  return /** @type {import('../../index.js').WalFlush} */ (value)
}

/** @param {unknown} value @param {string} name @returns {bigint} */
function sequence(value, name) {
  if (typeof value !== 'bigint') throw wrongType(name, 'of type bigint', value)
  if (value < 0n || value > LAST_SEQUENCE) throw outOfRange(name, `>= 0n && <= ${LAST_SEQUENCE}n`, value)
  return value
}

/** @param {unknown} value @returns {string} */
function collectionName(value) {
  if (typeof value !== 'string') throw wrongType('The "collection" argument', 'of type string', value)
  return value
}

/**
 * What goes together and what does not, so that no option is ignored in silence.
 *
 * @param {Options} read
 */
function checkTogether(read) {
  const { syncMode = 'perBatch', syncInterval, memtable, onFlush, flushThreshold } = read
  if (read.readOnly) {
    const other = Object.keys(read).find((name) => !Object.hasOwn(readerChecks, name))
    if (other !== undefined) throw wrongValue(`The "${other}" option has no meaning with "readOnly": a reader changes nothing`)
  }
  if (syncInterval !== undefined && syncMode !== 'periodic') {
    throw wrongValue(`The "syncInterval" option needs "syncMode" to be 'periodic'`)
  }
  if (flushThreshold !== undefined && !onFlush) throw wrongValue('The "flushThreshold" option needs "onFlush"')
  if (onFlush && memtable === false) throw wrongValue('The "onFlush" option needs the memtable')
}

/** @type {typeof import('../../index.js').openWal} */
const openWal = async function openWal(/** @type {any} */ dir, /** @type {any} */ options) {
  const read = readOptions(options, checks, 'openWal')
  const target = toPath(dir, 'dir')
  checkTogether(read)
  const path = toAbsolute(target).replace(/(?<=[^\\/])[\\/]+$/, '')
  return /** @type {any} */ (read.readOnly ? openToRead(target, path, read) : tracedOpen(target, path, read))
}

/** @param {string} target @param {string} path @param {Options} options */
async function openToRead(target, path, options) {
  const reader = new WalReader(target, path, options)
  // A path that leads nowhere is no log without entries.
  await reader.collections()
  return reader
}

/** @param {string} target @param {string} path @param {Options} options */
async function openToAppend(target, path, options) {
  const { syncMode, syncInterval, recovery, segmentSize, segmentAge, memtable, highWaterMark, timeout, signal } = options
  /** @type {import('../native/binding.js').WalOptions} */
  const settings = {
    ...(syncMode !== undefined && { syncMode: SYNC_MODES[syncMode] }),
    ...(syncInterval !== undefined && { syncInterval }),
    ...(recovery !== undefined && { recovery: RECOVERIES[recovery] }),
    ...(segmentSize !== undefined && { segmentSize }),
    ...(segmentAge !== undefined && { segmentAge }),
    ...(memtable !== undefined && { memtable }),
    ...(highWaterMark !== undefined && { queueBytes: highWaterMark }),
    ...(timeout !== undefined && { timeout }),
  }
  try {
    /** @type {NativeValue} */
    const opened = await waitFor(signal, (opened, id) => opened.openWal(id, path, settings))
    return new Wal(target, opened, options)
  } catch (error) {
    throw failed(target, 'open wal', error, signal)
  }
}

const tracedOpen = traced(traces.wal, openToAppend, (dir) => ({ operation: 'open wal', dir }))

/** @type {<T>(run: () => Promise<T>, describe: () => import('../../index.js').WalTrace) => Promise<T>} */
const tracedWork = traced(
  traces.wal,
  (/** @type {() => Promise<any>} */ run, /** @type {() => object} */ _describe) => run(),
  (_run, describe) => describe(),
)

/**
 * A log that another process may have open.
 *
 * @implements {PublicReader}
 */
class WalReader {
  #dir
  #path
  #recovery
  #isClosed = false

  /** @param {string} dir @param {string} path @param {Options} options */
  constructor(dir, path, { recovery = 'tolerateTail' }) {
    this.#dir = dir
    this.#path = path
    this.#recovery = RECOVERIES[recovery]
  }

  async collections() {
    if (this.#isClosed) throw failed(this.#dir, 'wal read', CLOSED)
    try {
      /** @type {NativeValue} */
      const { names = [] } = await port.run((opened, id) => opened.readWalIn(id, this.#path))
      return names
    } catch (error) {
      throw failed(this.#dir, 'open wal', error)
    }
  }

  /** @param {string} collection @param {unknown} [options] */
  replay(collection, options) {
    const { from = 1n } = readOptions(options, replayChecks, 'replay')
    const name = collectionName(collection)
    if (this.#isClosed) throw failed(this.#dir, 'wal read', CLOSED)
    return new WalReplay(this.#dir, name, (opened, id) => opened.replayWalIn(id, this.#path, name, from, this.#recovery))
  }

  async close() {
    this.#isClosed = true
  }

  [Symbol.asyncDispose]() {
    return this.close()
  }
}

/** @type {NativeError} */
const CLOSED = { kind: 'wal', code: 'EWALCLOSED', message: 'the log is closed', attempts: 1, exhausted: false, committed: false }

/**
 * A log that is open for appending.
 *
 * @implements {PublicWal}
 */
class Wal {
  #dir
  #wal
  #canRefuseSync
  #flusher
  /** Appends that the queue has no room for, in the order of the calls. @type {(() => boolean)[]} */
  #waiting = []
  /** @type {Promise<void> | undefined} */
  #closed
  /** What close waits for. */
  #pending = 0
  /** @type {(() => void) | undefined} */
  #onIdle

  /** @param {string} dir @param {NativeValue} opened @param {Options} options */
  constructor(dir, { wal, damage = [] }, options) {
    const { syncMode = 'perBatch', onFlush, flushThreshold = FLUSH_THRESHOLD } = options
    this.#dir = dir
    this.#wal = /** @type {number} */ (wal)
    this.#canRefuseSync = syncMode === 'periodic' || syncMode === 'never'
    this.damage = damage.map(toDamage)
    const own = logger.safeLogger(options.logger)
    for (const each of this.damage) own?.warn({ path: dir, ...each }, 'The write-ahead log was damaged')
    this.#flusher = onFlush && new Flusher(dir, onFlush, flushThreshold, own, {
      figuresOf: (collection) => this.#figuresOf(collection),
      entries: (collection, until) => this.#entries(collection, until, true),
      checkpoint: (collection, upTo) => this.#checkpoint(collection, upTo),
    })
    if (this.#flusher) {
      // What was there before may be more than the threshold allows.
      for (const { name, memtableBytes } of this.stats().collections) this.#flusher.appended(name, memtableBytes)
    }
  }

  /** @param {string} collection @param {readonly WalEntryInput[]} entries @param {unknown} [options] */
  async append(collection, entries, options) {
    const { durable } = this.#appendOptions(options, 'append')
    const name = collectionName(collection)
    if (!Array.isArray(entries)) throw wrongType('The "entries" argument', 'an instance of Array', entries)
    const shared = this.#pack(name, entries, Date.now())
    // Whoever is told of the beginning may append something himself.
    const packed = hasSubscribers(traces.wal) ? Buffer.from(shared) : shared
    return tracedWork(
      () => this.#appendOne(name, packed, durable),
      () => ({ operation: 'wal append', dir: this.#dir, collections: [name], entries: entries.length }),
    )
  }

  /** @param {string} collection @param {Buffer} packed @param {boolean} durable */
  async #appendOne(collection, packed, durable) {
    if (this.#closed) throw failed(this.#dir, 'wal append', CLOSED)
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
    /** @type {Map<string, { entries: WalEntryInput[], places: number[] }>} */
    const groups = new Map()
    for (const [place, entry] of entries.entries()) {
      if (entry === null || typeof entry !== 'object') throw wrongType(`The "entries[${place}]" argument`, 'of type object', entry)
      if (typeof entry.collection !== 'string') {
        throw wrongType(`The "entries[${place}].collection" property`, 'of type string', entry.collection)
      }
      const group = groups.get(entry.collection)
      if (group) {
        group.entries.push(entry)
        group.places.push(place)
      } else groups.set(entry.collection, { entries: [entry], places: [place] })
    }
    // All of it is checked before any of it is appended.
    const now = Date.now()
    pack(entries, now)
    return tracedWork(
      () => this.#appendGroups(groups, entries.length, now, durable),
      () => ({ operation: 'wal append', dir: this.#dir, collections: [...groups.keys()], entries: entries.length }),
    )
  }

  /** @param {Map<string, { entries: WalEntryInput[], places: number[] }>} groups @param {number} count @param {number} now @param {boolean} durable */
  async #appendGroups(groups, count, now, durable) {
    if (this.#closed) throw failed(this.#dir, 'wal append', CLOSED)
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
      else group.places.forEach((place, index) => (sequences[place] = outcome.value[index]))
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
    if (this.#pending === 0 && entries.length >= LONG_BATCH) port.open().standByWal(this.#wal, collection)
    return pack(entries, now)
  }

  /**
   * @param {string} collection
   * @param {Buffer} packed it is copied before the call returns
   * @param {boolean} durable
   * @returns {Promise<bigint[]>}
   */
  #append(collection, packed, durable) {
    this.#pending++
    // Who waits keeps the order.
    const started = this.#waiting.length === 0 ? this.#offer(collection, packed, durable) : undefined
    return this.#appended(collection, started ?? this.#wait(collection, Buffer.from(packed), durable))
  }

  /** @param {string} collection @param {Buffer} packed @param {boolean} durable @returns {Promise<Appended> | undefined} */
  #offer(collection, packed, durable) {
    return port.offer((opened, id) => opened.appendWal(id, this.#wal, collection, packed, durable))
  }

  /**
   * Waits for room in the queue.
   *
   * @param {string} collection @param {Buffer} packed @param {boolean} durable
   * @returns {Promise<Appended>}
   */
  #wait(collection, packed, durable) {
    return new Promise((resolve) => {
      const offer = () => {
        const started = this.#offer(collection, packed, durable)
        if (started) resolve(started)
        return started !== undefined
      }
      this.#waiting.push(offer)
    })
  }

  /** @param {string} collection @param {Promise<Appended>} started */
  async #appended(collection, started) {
    try {
      const { first, count, memtableBytes } = await started
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
      // There is room now.
      while (this.#waiting[0]?.()) this.#waiting.shift()
      this.#ended()
    }
  }

  /** @param {string} collection @param {string} id @returns {WalEntry | undefined} */
  get(collection, id) {
    const name = collectionName(collection)
    if (typeof id !== 'string') throw wrongType('The "id" argument', 'of type string', id)
    const { packed } = this.#read(name, port.open().getWal(this.#wal, name, id))
    return packed && new Unpacker(name, packed).next()
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
      for (let entry = piece?.next(); entry; entry = piece?.next()) yield entry
      after = next
    }
  }

  /** @param {string} collection @param {import('../native/binding.js').WalRead} outcome */
  #read(collection, outcome) {
    if (outcome.error) throw walFailed(this.#dir, 'wal read', collection, outcome.error)
    return outcome
  }

  /** @param {string} collection @param {unknown} [options] */
  replay(collection, options) {
    const { from = 1n } = readOptions(options, replayChecks, 'replay')
    const name = collectionName(collection)
    if (this.#closed) throw failed(this.#dir, 'wal read', CLOSED)
    return new WalReplay(this.#dir, name, (opened, id) => opened.replayWal(id, this.#wal, name, from))
  }

  /** @param {string} [collection] */
  async flush(collection) {
    const name = collection === undefined ? undefined : collectionName(collection)
    if (this.#closed) throw failed(this.#dir, 'wal flush', CLOSED)
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
    if (this.#closed) throw failed(this.#dir, 'wal checkpoint', CLOSED)
    this.#pending++
    try {
      await this.#checkpoint(name, upTo)
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
    await this.#during('wal checkpoint', collection, (opened, id) => opened.checkpointWal(id, this.#wal, collection, upTo))
  }

  /** @param {import('../../index.js').WalTrace['operation']} operation @param {string | undefined} collection @param {(port: import('../native/binding.js').Port, id: number) => void} start */
  #during(operation, collection, start) {
    const run = async () => {
      try {
        await port.run(start)
      } catch (error) {
        throw walFailed(this.#dir, operation, collection, error)
      }
    }
    return tracedWork(run, () => ({ operation, dir: this.#dir, ...(collection !== undefined && { collections: [collection] }) }))
  }

  /** @returns {import('../../index.js').WalStats} */
  stats() {
    const stats = port.open().statsWal(this.#wal)
    if (!stats) throw failed(this.#dir, 'wal read', CLOSED)
    const { poisoned, ...figures } = stats
    return { ...figures, waiting: this.#waiting.length, ...(poisoned != null && { poisoned }) }
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
    await this.#during('wal close', undefined, (opened, id) => opened.closeWal(id, this.#wal))
  }

  [Symbol.asyncDispose]() {
    return this.close()
  }
}

module.exports = { openWal }
