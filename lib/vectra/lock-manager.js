'use strict'

// The class `LockManager` of Vectra's fork: one lock for each index directory, on a file in it.

const nodePath = require('node:path')
const { LONGEST_DELAY, integer, milliseconds, oneOf, readOwnOptions, toAbsolute, toPath } = require('../support/arguments.js')
const { tracedLock } = require('../support/diagnostics.js')
const { failed, isError, lossOf } = require('../native/errors.js')
const context = require('../support/lock-context.js')
const locks = require('../api/lock.js')
const lockfile = require('../api/lockfile.js')
const port = require('../native/port.js')

const OPERATION = 'lock'

// The lock of a file of this name is `.vectra.lock` beside it: in the index directory.
const BASENAME = 'vectra'
const LOCK = '.vectra.lock'

const RETRIES = 10
const FIRST_DELAY = 100
const MAX_DELAY = 1000
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
function totalDelay({ retries = RETRIES, minTimeout = FIRST_DELAY, maxTimeout = MAX_DELAY }) {
  let sum = 0
  for (let i = 0; i < retries; i++) {
    const wait = Math.min(minTimeout * 2 ** i, maxTimeout)
    if (wait === maxTimeout || wait === 0) return sum + (retries - i) * wait
    sum += wait
  }
  return sum
}

/**
 * A lock in the kernel or on the disk, and how many managed locks share it.
 *
 * @typedef {object} SharedLock
 * @property {import('../support/lock-context.js').HeldLock} own
 * @property {string} dir as it was given
 * @property {number} uses
 */

/** @param {SharedLock} shared */
async function release(shared) {
  shared.uses--
  if (shared.uses === 0) return locks.release(shared.own)
  const signal = shared.own.lockfile?.signal
  if (signal?.aborted) throw failed(shared.dir, OPERATION, lossOf(signal.reason))
}

class ManagedLock {
  #shared
  #onRelease
  /** @type {AbortController | undefined} */
  #controller
  /** @type {Promise<void> | undefined} */
  #released

  /**
   * @param {SharedLock} shared
   * @param {import('../../index.js').LockKind} kind
   * @param {(lock: ManagedLock) => void} onRelease
   */
  constructor(shared, kind, onRelease) {
    this.#shared = shared
    this.kind = kind
    this.#onRelease = onRelease
  }

  get signal() {
    return this.#shared.own.lockfile?.signal ?? (this.#controller ??= new AbortController()).signal
  }

  release() {
    if (!this.#released) {
      this.#onRelease(this)
      this.#released = release(this.#shared)
    }
    return this.#released
  }

  /** @param {number} time */
  async extend(time) {
    milliseconds(LONGEST_DELAY)(time, 'The "milliseconds" argument')
    const { dir, own } = this.#shared
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
  /** The write locks of this manager, by which lock it is. @type {Map<string, SharedLock>} */
  #writes = new Map()
  /** The calls of this manager that wait for a read lock, by which lock it is. @type {Map<string, Set<PendingRead>>} */
  #pending = new Map()
  /** The locks that callers of this manager hold. @type {Set<ManagedLock>} */
  #locks = new Set()

  /** @type {import('../../index.js').LockManager['acquireWriteLock']} */
  async acquireWriteLock(dir, options) {
    const read = readOwnOptions(options, checks, 'LockManager.acquireWriteLock')
    return this.#write(toPath(dir, 'dir', 'dir'), read, totalDelay(read))
  }

  /** @type {import('../../index.js').LockManager['tryAcquireWriteLock']} */
  async tryAcquireWriteLock(dir, options) {
    const read = readOwnOptions(options, checks, 'LockManager.tryAcquireWriteLock')
    try {
      return await this.#write(toPath(dir, 'dir', 'dir'), read, 0)
    } catch (error) {
      if (/** @type {NodeJS.ErrnoException} */ (error).code === 'ELOCKED') return null
      throw error
    }
  }

  /** @type {import('../../index.js').LockManager['acquireReadLock']} */
  async acquireReadLock(dir, options) {
    const read = readOwnOptions(options, checks, 'LockManager.acquireReadLock')
    const target = toPath(dir, 'dir', 'dir')
    try {
      const location = locate(target)
      const key = await keyOf(location, read)
      const own = this.#writes.get(key)
      if (own) return this.#handOut(share(own), 'read')
      return await this.#read(target, location, key, read)
    } catch (error) {
      throw isError(error) ? error : failed(target, OPERATION, error)
    }
  }

  /** @type {import('../../index.js').LockManager['isWriteLocked']} */
  async isWriteLocked(dir, options) {
    const read = readOwnOptions(options, lookChecks, 'LockManager.isWriteLocked')
    const target = toPath(dir, 'dir', 'dir')
    try {
      const { file, naming } = locate(target)
      const rules = rulesOf(read)
      if (rules) return await lockfile.isHeld(naming, rules.stale)
      return (await isHeld(naming.path, true)) || (await isHeld(file, false))
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
      const location = locate(target)
      const own = await tracedTake(target, { kind: 'write' }, location, options, timeout)
      /** @type {SharedLock} */
      const shared = { own, dir: target, uses: 1 }
      try {
        const key = await keyOf(location, options)
        this.#writes.set(key, shared)
        const lock = this.#handOut(shared, 'write', () => {
          if (this.#writes.get(key) === shared) this.#writes.delete(key)
        })
        // Calls of this manager that wait to read wait for this lock, and can share it.
        for (const pending of this.#pending.get(key) ?? []) pending.grant(shared)
        return lock
      } catch (error) {
        await release(shared)
        throw error
      }
    } catch (error) {
      throw isError(error) ? error : failed(target, OPERATION, error)
    }
  }

  /** @param {string} target @param {LockLocation} location @param {string} key @param {Options} options */
  async #read(target, location, key, options) {
    const pending = new PendingRead()
    const all = this.#pending.get(key) ?? new Set()
    this.#pending.set(key, all.add(pending))
    /** @type {import('../support/lock-context.js').HeldLock | undefined} */
    let own
    try {
      own = await tracedTake(target, { kind: 'read' }, location, options, totalDelay(options), pending.signal)
    } catch (error) {
      if (!pending.granted) throw error
    } finally {
      all.delete(pending)
      if (all.size === 0) this.#pending.delete(key)
    }
    if (pending.granted) {
      if (own) await locks.release(own)
      return this.#handOut(pending.granted, 'read')
    }
    return this.#handOut({ own: /** @type {import('../support/lock-context.js').HeldLock} */ (own), dir: target, uses: 1 }, 'read')
  }

  /**
   * @param {SharedLock} shared
   * @param {import('../../index.js').LockKind} kind
   * @param {() => void} [onRelease]
   */
  #handOut(shared, kind, onRelease) {
    const lock = new ManagedLock(shared, kind, (released) => {
      this.#locks.delete(released)
      onRelease?.()
    })
    this.#locks.add(lock)
    return lock
  }
}

/** A call that waits for a read lock of its own, unless the manager gets the write lock first. */
class PendingRead {
  #controller = new AbortController()
  /** @type {SharedLock | undefined} */
  granted

  get signal() {
    return this.#controller.signal
  }

  /** @param {SharedLock} shared */
  grant(shared) {
    if (this.granted) return
    this.granted = share(shared)
    this.#controller.abort()
  }
}

/** @param {SharedLock} shared */
function share(shared) {
  shared.uses++
  return shared
}

/**
 * @typedef {object} LockLocation
 * @property {string} file the file whose lock it is in the kernel's protocol
 * @property {import('../native/binding.js').LockNaming} naming which it is in the other
 */

/** @param {string} dir @returns {LockLocation} */
function locate(dir) {
  const path = toAbsolute(dir)
  return {
    file: `${path}${nodePath.sep}${BASENAME}`,
    naming: { path, dir: `${path}${nodePath.sep}${LOCK}` },
  }
}

/** @param {Options} options */
function rulesOf({ protocol, stale = STALE }) {
  // Only locks of the other protocol have an age.
  return protocol === lockfile.PROTOCOL ? lockfile.rulesOf({ protocol, stale }) : undefined
}

/**
 * Which lock it is, however the directory is spelt.
 *
 * @param {LockLocation} location
 * @param {Options} options
 */
async function keyOf({ naming }, { protocol = 'kernel' }) {
  const { key } = await lockfile.locate(naming)
  return `${protocol} ${key}`
}

/**
 * @param {string} target
 * @param {LockLocation} location
 * @param {import('../../index.js').LockKind} kind
 * @param {Options} options
 * @param {number} timeout
 * @param {AbortSignal} [signal]
 */
async function take(target, { file, naming }, kind, options, timeout, signal) {
  const rules = rulesOf(options)
  // An index that is about to be made has no directory yet. A reader needs one.
  const makeDirs = kind === 'write'
  if (rules) {
    // This protocol has no locks for reading.
    const lockfile = await locks.acquireLockfile(target, { ...naming, makeDirs }, rules, timeout, signal)
    return { ...context.create(undefined, 'write'), lockfile }
  }
  /** @type {import('../native/binding.js').WriteOptions | undefined} */
  const settings = makeDirs ? { makeDirs, durability: 'none' } : undefined
  const since = performance.now()
  /** @type {import('../native/binding.js').TakenLock} */
  const { lock } = await again(naming.path, timeout, since, signal, (left) => locks.waitFor(signal, (opened, id) =>
    opened.acquireLock(id, file, kind === 'write', left, undefined, false, settings),
  ))
  try {
    const around = await takeAround(naming.path, kind, timeLeft(timeout, since), signal, settings, lock)
    return { ...context.create(lock, kind), ...(around !== undefined && { around }) }
  } catch (error) {
    await locks.releaseNumber(lock)
    throw error
  }
}

/** @param {number} timeout @param {number} since */
function timeLeft(timeout, since) {
  return Math.max(0, Math.ceil(timeout - (performance.now() - since)))
}

/** With these codes the system refuses to make or use a lock file beside the index, or has no locks there. */
const NOT_AROUND = new Set(['EACCES', 'EPERM', 'EROFS', 'ENOSPC', 'EDQUOT', 'EISDIR', 'ENOLCK', 'ENOSYS', 'ENOTSUP', 'EINVAL'])

/**
 * Takes the lock around an index. The one in its directory goes with that when its holder deletes the
 * index and makes it anew; this one stays, so nobody has the new one beside him. Who may not write beside the directory takes it for reading, and who can do neither has
 * the other lock only.
 *
 * @param {string} dir
 * @param {import('../../index.js').LockKind} kind
 * @param {number} timeout
 * @param {AbortSignal} [signal]
 * @param {import('../native/binding.js').WriteOptions} [settings]
 * @param {number} [inside] the lock in the directory, of one who has it
 * @returns {Promise<number | undefined>}
 */
async function takeAround(dir, kind, timeout, signal, settings, inside) {
  const under = inside === undefined ? undefined : { lendable: [], updating: [], around: [inside] }
  for (const isWrite of kind === 'write' ? [true, false] : [false]) {
    try {
      /** @type {import('../native/binding.js').TakenLock} */
      const { lock } = await locks.waitFor(signal, (opened, id) =>
        opened.acquireLock(id, dir, isWrite, timeout, under, false, settings, true),
      )
      return lock
    } catch (error) {
      if (!NOT_AROUND.has(/** @type {NodeJS.ErrnoException} */ (error).code ?? '')) throw error
    }
  }
  return undefined
}

/** How often a lock is asked for whose directory is deleted and made anew meanwhile. */
const ATTEMPTS = 5

/**
 * Runs a call again whose lock was in a directory that is not there any more, or not yet, when it is over
 * what is being done to the index under the lock around it.
 *
 * @template T
 * @param {string} dir
 * @param {number} timeout
 * @param {number} since
 * @param {AbortSignal | undefined} signal
 * @param {(timeLeft: number) => Promise<T>} call
 * @returns {Promise<T>}
 */
async function again(dir, timeout, since, signal, call) {
  for (let attempt = 1; ; attempt++) {
    try {
      return await call(attempt === 1 ? timeout : timeLeft(timeout, since))
    } catch (error) {
      if (attempt === ATTEMPTS || /** @type {NodeJS.ErrnoException} */ (error).code !== 'ENOENT') throw error
    }
    const around = await takeAround(dir, 'read', timeLeft(timeout, since), signal)
    if (around !== undefined) await locks.releaseNumber(around)
  }
}

/** @param {string} path @param {boolean} around */
async function isHeld(path, around) {
  try {
    /** @type {import('../native/binding.js').LockStatus} */
    const { locked } = await port.run((opened, id) => opened.inspectLock(id, path, false, around))
    return locked
  } catch (error) {
    // Where the process may not look it holds, and finds, the other lock only.
    if (around && NOT_AROUND.has(/** @type {NodeJS.ErrnoException} */ (error).code ?? '')) return false
    throw error
  }
}

const tracedTake = tracedLock(
  /** @param {string} target @param {{ kind: import('../../index.js').LockKind }} kind @param {LockLocation} location @param {Options} options @param {number} timeout @param {AbortSignal} [signal] */
  async (target, { kind }, location, options, timeout, signal) => {
    try {
      return await take(target, location, kind, options, timeout, signal)
    } catch (error) {
      throw failed(target, OPERATION, error)
    }
  },
)

module.exports = { LockManager }
