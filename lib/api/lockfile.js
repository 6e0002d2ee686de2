'use strict'

// Locks in the protocol of the package `proper-lockfile`: directories whose modification time their holder
// keeps fresh.

const { LONGEST_DELAY, milliseconds, outOfRange, wrongValue } = require('../support/arguments.js')
const { lostLock } = require('../native/errors.js')
const port = require('../native/port.js')

const PROTOCOL = 'proper-lockfile'
const STALE = 10_000
const LEAST_STALE = 2000
const LEAST_UPDATE = 1000

/** @param {number} least */
function atLeast(least) {
  const check = milliseconds(LONGEST_DELAY)
  /** @param {unknown} value @param {string} name */
  return (value, name) => {
    const time = check(value, name)
    if (time < least) throw outOfRange(name, `>= ${least} && <= ${LONGEST_DELAY} (milliseconds)`, value)
    return time
  }
}

const stale = atLeast(LEAST_STALE)
const update = atLeast(LEAST_UPDATE)

/**
 * The rules of a lock of this protocol; `undefined` for one of the kernel's, which has none.
 *
 * @param {{ protocol?: string, kind?: string, stale?: number, update?: number }} options
 * @returns {import('../native/binding.js').LockRules | undefined}
 */
function rulesOf({ protocol, kind, stale, update }) {
  if (protocol !== PROTOCOL) {
    for (const [name, value] of Object.entries({ stale, update })) {
      if (value !== undefined) throw wrongValue(`The "${name}" option has a meaning only with protocol: '${PROTOCOL}'`)
    }
    return undefined
  }
  if (kind === 'read') throw wrongValue(`The "kind" option must be 'write' with protocol: '${PROTOCOL}', which has no other locks`)
  const age = stale ?? STALE
  if (update !== undefined && update > age / 2) {
    throw outOfRange('The "update" option', `>= ${LEAST_UPDATE} && <= ${age / 2} (half of "stale")`, update)
  }
  return { stale: age, update: update ?? age / 2 }
}

/** A lock of this protocol that a caller holds, or is about to. */
class HeldLockfile {
  #controller = new AbortController()
  /** @type {number} */
  number = 0
  /** The file's real path, if the file must exist. @type {string | undefined} */
  file
  /** The lock's identity. @type {string | undefined} */
  key
  /** The operation under which the native side reports its loss. @type {number} */
  #id = 0

  /** @param {string} target the path as it was given */
  constructor(target) {
    this.target = target
  }

  get signal() {
    return this.#controller.signal
  }

  /** From now on the signal is aborted when the lock is lost. @param {number} id */
  watch(id) {
    this.#id = id
    port.onLoss(id, (lost) => this.#controller.abort(lostLock(this.target, lost)))
  }

  /** @param {import('../native/binding.js').TakenLockfile} lock */
  acquired({ lock, text, key }) {
    this.number = lock
    this.file = text
    this.key = key
  }

  unwatch() {
    port.onLoss(this.#id, undefined)
  }

  /**
   * Acquires a lock on this thread, if it is free.
   *
   * @param {string} target
   * @param {import('../native/binding.js').LockNaming} naming
   * @param {import('../native/binding.js').LockRules} rules
   */
  static acquireSync(target, naming, rules) {
    const lockfile = new HeldLockfile(target)
    const id = port.nextId()
    lockfile.watch(id)
    try {
      lockfile.acquired(valueOf(port.open().acquireLockfileNow(id, naming, rules)))
      return lockfile
    } catch (error) {
      lockfile.unwatch()
      throw error
    }
  }

  releaseSync() {
    this.unwatch()
    const error = port.open().releaseLockfileNow(this.number)
    if (error) throw error
  }

  async release() {
    this.unwatch()
    await port.run((opened, id) => opened.releaseLockfile(id, this.number))
  }

  /** @param {number} time */
  async extend(time) {
    await port.run((opened, id) => opened.extendLockfile(id, this.number, time))
  }
}

/** @param {import('../native/binding.js').LockNaming} naming @param {number} stale */
async function isHeld(naming, stale) {
  /** @type {import('../native/binding.js').LockfileStatus} */
  const { locked } = await port.run((opened, id) => opened.inspectLockfile(id, naming, stale))
  return locked
}

/** @param {import('../native/binding.js').LockNaming} naming @param {number} stale */
function isHeldSync(naming, stale) {
  return valueOf(port.open().inspectLockfileNow(naming, stale)).locked
}

/**
 * The identity of a lock: its key, and the file's real path if the file must exist.
 *
 * @param {import('../native/binding.js').LockNaming} naming
 * @returns {Promise<import('../native/binding.js').LocatedLockfile>}
 */
function locate(naming) {
  return port.run((opened, id) => opened.locateLockfile(id, naming))
}

/** @param {import('../native/binding.js').LockNaming} naming */
function locateSync(naming) {
  return valueOf(port.open().locateLockfileNow(naming))
}

/**
 * The outcome of a call on this thread, or its error.
 *
 * @template {object} T
 * @param {T | import('../native/binding.js').FailedNow} outcome
 * @returns {T}
 */
function valueOf(outcome) {
  if ('error' in outcome) throw outcome.error
  return outcome
}

module.exports = { HeldLockfile, LEAST_STALE, LEAST_UPDATE, PROTOCOL, STALE, isHeld, isHeldSync, locate, locateSync, rulesOf, stale, update }
