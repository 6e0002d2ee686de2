'use strict'

// The class `LockManager` of Vectra's fork: one lock for each index directory, on a file in it.

const nodePath = require('node:path')
const { integer, milliseconds, oneOf, readOptions, toAbsolute, toPath } = require('../support/arguments.js')
const { tracedLock } = require('../support/diagnostics.js')
const { failed, lossOf } = require('../native/errors.js')
const { LONGEST_DELAY } = require('../native/limits.js')
const context = require('../support/lock-context.js')
const lock = require('../api/lock.js')
const lockfile = require('../api/lockfile.js')
const port = require('../native/port.js')

const OPERATION = 'lock'

// The lock of a file of this name is `.vectra.lock` beside it: in the index directory.
const BASENAME = 'vectra'
const LOCK = '.vectra.lock'

const RETRIES = 10
const SHORTEST = 100
const LONGEST = 1000
const STALE = 30_000

const lookChecks = { protocol: oneOf('kernel', lockfile.PROTOCOL), stale: lockfile.stale }
const checks = {
  ...lookChecks,
  retries: integer(0, 1_000_000),
  minTimeout: milliseconds(LONGEST_DELAY),
  maxTimeout: milliseconds(LONGEST_DELAY),
}

/** @typedef {{ [K in keyof typeof checks]?: ReturnType<typeof checks[K]> }} Options */

/**
 * How long all the retries take together.
 *
 * @param {Options} options
 */
function patience({ retries = RETRIES, minTimeout = SHORTEST, maxTimeout = LONGEST }) {
  let sum = 0
  for (let i = 0; i < retries; i++) {
    const wait = Math.min(minTimeout * 2 ** i, maxTimeout)
    if (wait === maxTimeout || wait === 0) return sum + (retries - i) * wait
    sum += wait
  }
  return sum
}

/**
 * A lock in the kernel or on the disk, and how many of the locks that were handed out stand on it.
 *
 * @typedef {object} Base
 * @property {import('../support/lock-context.js').HeldLock} own
 * @property {string} dir as it was given
 * @property {number} uses
 */

/** @param {Base} base */
async function leave(base) {
  base.uses--
  if (base.uses === 0) return lock.release(base.own)
  const signal = base.own.lockfile?.signal
  if (signal?.aborted) throw failed(base.dir, OPERATION, lossOf(signal.reason))
}

class ManagedLock {
  #base
  #onRelease
  /** @type {AbortController | undefined} */
  #controller
  /** @type {Promise<void> | undefined} */
  #released

  /**
   * @param {Base} base
   * @param {import('../../index.js').LockKind} kind
   * @param {(lock: ManagedLock) => void} onRelease
   */
  constructor(base, kind, onRelease) {
    this.#base = base
    this.kind = kind
    this.#onRelease = onRelease
  }

  get signal() {
    return this.#base.own.lockfile?.signal ?? (this.#controller ??= new AbortController()).signal
  }

  release() {
    if (!this.#released) {
      this.#onRelease(this)
      this.#released = leave(this.#base)
    }
    return this.#released
  }

  /** @param {number} time */
  async extend(time) {
    milliseconds(LONGEST_DELAY)(time, 'The "milliseconds" argument')
    const { dir, own } = this.#base
    if (this.#released || !own.lockfile) return
    try {
      await own.lockfile.extend(time)
    } catch (error) {
      throw failed(dir, OPERATION, error)
    }
  }

  [Symbol.asyncDispose]() {
    return this.release()
  }
}

class LockManager {
  /** The write locks of this manager, by which lock it is. @type {Map<string, Base>} */
  #writes = new Map()
  /** Those of its own who wait for a read lock, by which lock it is. @type {Map<string, Set<Pending>>} */
  #pending = new Map()
  /** All that it has handed out. @type {Set<ManagedLock>} */
  #locks = new Set()

  /** @type {import('../../index.js').LockManager['acquireWriteLock']} */
  async acquireWriteLock(dir, options) {
    const read = readOptions(options, checks, 'LockManager.acquireWriteLock')
    return this.#write(toPath(dir, 'dir'), read, patience(read))
  }

  /** @type {import('../../index.js').LockManager['tryAcquireWriteLock']} */
  async tryAcquireWriteLock(dir, options) {
    const read = readOptions(options, checks, 'LockManager.tryAcquireWriteLock')
    try {
      return await this.#write(toPath(dir, 'dir'), read, 0)
    } catch (error) {
      if (/** @type {NodeJS.ErrnoException} */ (error).code === 'ELOCKED') return null
      throw error
    }
  }

  /** @type {import('../../index.js').LockManager['acquireReadLock']} */
  async acquireReadLock(dir, options) {
    const read = readOptions(options, checks, 'LockManager.acquireReadLock')
    const target = toPath(dir, 'dir')
    try {
      const place = placeOf(target)
      const key = await keyOf(place, read)
      const own = this.#writes.get(key)
      if (own) return this.#handOut(join(own), 'read')
      return await this.#read(target, place, key, read)
    } catch (error) {
      throw error instanceof Error ? error : failed(target, OPERATION, error)
    }
  }

  /** @type {import('../../index.js').LockManager['isWriteLocked']} */
  async isWriteLocked(dir, options) {
    const read = readOptions(options, lookChecks, 'LockManager.isWriteLocked')
    const target = toPath(dir, 'dir')
    try {
      const { file, naming } = placeOf(target)
      const rules = rulesOf(read)
      if (rules) return await lockfile.isHeld(naming, rules.stale)
      /** @type {import('../native/binding.js').LockStatus} */
      const { locked } = await port.run((opened, id) => opened.inspectLock(id, file, false))
      return locked
    } catch (error) {
      // Where there is no directory there is no lock.
      if (/** @type {{ code?: string }} */ (error).code === 'ENOENT') return false
      throw failed(target, OPERATION, error)
    }
  }

  /** @type {import('../../index.js').LockManager['releaseAllLocks']} */
  async releaseAllLocks() {
    const outcomes = await Promise.allSettled([...this.#locks].map((each) => each.release()))
    for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason
  }

  /** @param {string} target @param {Options} options @param {number} timeout */
  async #write(target, options, timeout) {
    try {
      const place = placeOf(target)
      const own = await tracedTake(target, { kind: 'write' }, place, options, timeout)
      /** @type {Base} */
      const base = { own, dir: target, uses: 1 }
      try {
        const key = await keyOf(place, options)
        this.#writes.set(key, base)
        const lock = this.#handOut(base, 'write', () => {
          if (this.#writes.get(key) === base) this.#writes.delete(key)
        })
        // Whoever of this manager waits to read waits for this one, and need not.
        for (const pending of this.#pending.get(key) ?? []) pending.grant(base)
        return lock
      } catch (error) {
        await leave(base)
        throw error
      }
    } catch (error) {
      throw error instanceof Error ? error : failed(target, OPERATION, error)
    }
  }

  /** @param {string} target @param {Place} place @param {string} key @param {Options} options */
  async #read(target, place, key, options) {
    const pending = new Pending()
    const all = this.#pending.get(key) ?? new Set()
    this.#pending.set(key, all.add(pending))
    /** @type {import('../support/lock-context.js').HeldLock | undefined} */
    let own
    try {
      own = await tracedTake(target, { kind: 'read' }, place, options, patience(options), pending.signal)
    } catch (error) {
      if (!pending.granted) throw error
    } finally {
      all.delete(pending)
      if (all.size === 0) this.#pending.delete(key)
    }
    if (pending.granted) {
      if (own) await lock.release(own)
      return this.#handOut(pending.granted, 'read')
    }
    return this.#handOut({ own: /** @type {import('../support/lock-context.js').HeldLock} */ (own), dir: target, uses: 1 }, 'read')
  }

  /**
   * @param {Base} base
   * @param {import('../../index.js').LockKind} kind
   * @param {() => void} [onRelease]
   */
  #handOut(base, kind, onRelease) {
    const lock = new ManagedLock(base, kind, (released) => {
      this.#locks.delete(released)
      onRelease?.()
    })
    this.#locks.add(lock)
    return lock
  }
}

/** Somebody who waits for a read lock of his own, unless the manager gets the write lock first. */
class Pending {
  #controller = new AbortController()
  /** @type {Base | undefined} */
  granted

  get signal() {
    return this.#controller.signal
  }

  /** @param {Base} base */
  grant(base) {
    if (this.granted) return
    this.granted = join(base)
    this.#controller.abort()
  }
}

/** @param {Base} base */
function join(base) {
  base.uses++
  return base
}

/**
 * @typedef {object} Place
 * @property {string} file the file whose lock it is in the kernel's protocol
 * @property {import('../native/binding.js').LockNaming} naming which it is in the other
 */

/** @param {string} dir @returns {Place} */
function placeOf(dir) {
  const path = toAbsolute(dir)
  return {
    file: `${path}${nodePath.sep}${BASENAME}`,
    naming: { path, dir: `${path}${nodePath.sep}${LOCK}` },
  }
}

/** @param {Options} options */
function rulesOf({ protocol, stale = STALE }) {
  // The kernel's locks have no age; the option is there for the other protocol.
  return protocol === lockfile.PROTOCOL ? lockfile.rulesOf({ protocol, stale }) : undefined
}

/**
 * Which lock it is, however the directory is spelt.
 *
 * @param {Place} place
 * @param {Options} options
 */
async function keyOf({ naming }, { protocol = 'kernel' }) {
  const { key } = await lockfile.locate(naming)
  return `${protocol} ${key}`
}

/**
 * @param {string} target
 * @param {Place} place
 * @param {import('../../index.js').LockKind} kind
 * @param {Options} options
 * @param {number} timeout
 * @param {AbortSignal} [signal]
 */
async function take(target, { file, naming }, kind, options, timeout, signal) {
  const rules = rulesOf(options)
  // An index that is about to be made has no directory yet. To read there must be one.
  const makeDirs = kind === 'write'
  if (rules) {
    // It has no other locks than those that exclude everybody.
    const lockfile = await lock.acquireLockfile(target, { ...naming, makeDirs }, rules, timeout, signal)
    return { ...context.create(undefined, 'write'), lockfile }
  }
  const { hold } = await lock.waitFor(signal, (opened, id) =>
    opened.acquireLock(id, file, kind === 'write', timeout, undefined, false, makeDirs ? { makeDirs, durability: 'none' } : undefined),
  )
  return context.create(/** @type {number} */ (hold), kind)
}

const tracedTake = tracedLock(
  /** @param {string} target @param {{ kind: import('../../index.js').LockKind }} kind @param {Place} place @param {Options} options @param {number} timeout @param {AbortSignal} [signal] */
  async (target, { kind }, place, options, timeout, signal) => {
    try {
      return await take(target, place, kind, options, timeout, signal)
    } catch (error) {
      throw failed(target, OPERATION, error)
    }
  },
)

module.exports = { LockManager }
