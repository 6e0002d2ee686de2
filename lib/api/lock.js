'use strict'

const { onAbort } = require('../support/abort.js')
const { abortSignal, milliseconds, oneOf, readOptions, toAbsolute, toPath, wrongType } = require('../support/arguments.js')
const { lockReleased, tracedLock } = require('../support/diagnostics.js')
const { failed, toHolder } = require('../native/errors.js')
const { mayAnswerAtOnce } = require('../support/event-loop.js')
const held = require('../support/lock-context.js')
const lockfiles = require('./lockfile.js')
const port = require('../native/port.js')

const OPERATION = 'lock'
const PATIENCE = 10_000

const checks = {
  kind: oneOf('write', 'read'),
  timeout: milliseconds(Infinity),
  signal: abortSignal,
  protocol: oneOf('kernel', lockfiles.PROTOCOL),
  stale: lockfiles.stale,
  update: lockfiles.update,
}
const { timeout: _timeout, ...tryChecks } = checks
const lookChecks = { kind: checks.kind, protocol: checks.protocol, stale: checks.stale }

/** @typedef {import('../../index.js').Lock} PublicLock */

/** @implements {PublicLock} */
class Lock {
  #held
  /** @type {Promise<void> | undefined} */
  #released
  /** @type {AbortController | undefined} */
  #controller

  /** @param {import('../support/lock-context.js').Held} own */
  constructor(own) {
    this.#held = own
    this.kind = own.kind
  }

  get signal() {
    return this.#held.lockfile?.signal ?? (this.#controller ??= new AbortController()).signal
  }

  release() {
    return (this.#released ??= release(this.#held))
  }

  [Symbol.asyncDispose]() {
    return this.release()
  }
}

/** @param {import('../support/lock-context.js').Held} own */
async function release(own) {
  own.isLive = false
  // What was started under the lock is finished under it.
  await own.last
  if (own.lockfile) await releaseLockfile(own.lockfile)
  else await giveBack(/** @type {number} */ (own.hold))
  lockReleased(own)
}

/**
 * Gives a lock back, by the number that the native side knows it by. `undefined` when it is done.
 *
 * @param {number} hold
 * @returns {Promise<void> | undefined}
 */
function giveBack(hold) {
  return port.offer((opened, id) => opened.releaseLock(id, hold))
}

/** @param {InstanceType<typeof lockfiles.HeldLockfile>} lockfile */
async function releaseLockfile(lockfile) {
  try {
    await lockfile.release()
  } catch (error) {
    throw failed(lockfile.target, OPERATION, error)
  }
}

/** @type {typeof import('../../index.js').withLock} */
async function withLock(path, fn, options) {
  const read = readOptions(options, checks, 'withLock')
  const target = toPath(path)
  if (typeof fn !== 'function') throw wrongType('The "fn" argument', 'of type function', fn)
  const own = await tracedAcquire(target, read, held.current())
  const lock = new Lock(own)
  let value
  try {
    value = await held.run(own, () => fn(lock))
  } catch (error) {
    // What the function has met comes first. It is told of the loss of a lock by its signal.
    await lock.release().catch(() => {})
    throw error
  }
  await lock.release()
  return value
}

/** @type {typeof import('../../index.js').acquireLock} */
async function acquireLock(path, options) {
  const read = readOptions(options, checks, 'acquireLock')
  return new Lock(await tracedAcquire(toPath(path), read, []))
}

/** @type {typeof import('../../index.js').tryAcquireLock} */
async function tryAcquireLock(path, options) {
  const read = readOptions(options, tryChecks, 'tryAcquireLock')
  const target = toPath(path)
  try {
    return new Lock(await tracedAcquire(target, { ...read, timeout: 0 }, []))
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code === 'ELOCKED') return null
    throw error
  }
}

/** @type {typeof import('../../index.js').isLocked} */
async function isLocked(path, options) {
  const read = readOptions(options, lookChecks, 'isLocked')
  const rules = lockfiles.rulesOf(read)
  const { kind = 'write' } = read
  const target = toPath(path)
  try {
    const absolute = toAbsolute(target)
    if (rules) return { locked: await lockfiles.isHeld({ path: absolute }, rules.stale) }
    /** @type {import('../native/binding.js').LockStatus} */
    const { locked, holder } = await port.run((opened, id) => opened.inspectLock(id, absolute, kind === 'write'))
    return { locked, ...(holder && { holder: toHolder(holder) }) }
  } catch (error) {
    throw failed(target, OPERATION, error)
  }
}

/**
 * @param {string} target
 * @param {{ kind?: import('../../index.js').LockKind, timeout?: number, signal?: AbortSignal, protocol?: string, stale?: number, update?: number }} options
 * @param {readonly import('../support/lock-context.js').Held[]} inside
 */
async function acquire(target, options, inside) {
  const rules = lockfiles.rulesOf(options)
  const { kind = 'write', timeout = PATIENCE, signal } = options
  try {
    const path = toAbsolute(target)
    if (rules) return { ...held.create(undefined, kind), lockfile: await acquireLockfile(target, { path }, rules, timeout, signal, inside) }
    const numbers = inside.length > 0 ? held.numbers(inside) : undefined
    const taken = !signal?.aborted && mayAnswerAtOnce() && port.open().takeLock(path, kind === 'write', numbers)
    if (taken) return held.create(taken, kind)
    const { hold } = await waitFor(signal, (opened, id) =>
      opened.acquireLock(id, path, kind === 'write', timeout, numbers ?? []),
    )
    return held.create(/** @type {number} */ (hold), kind)
  } catch (error) {
    throw failed(target, OPERATION, error, signal)
  }
}

const tracedAcquire = tracedLock(acquire)

/**
 * Takes a lock in the protocol of `proper-lockfile`.
 *
 * @param {string} target the path as it was given
 * @param {import('../native/binding.js').LockNaming} naming
 * @param {import('../native/binding.js').LockRules} rules
 * @param {number} timeout
 * @param {AbortSignal} [signal]
 * @param {readonly import('../support/lock-context.js').Held[]} [inside]
 */
async function acquireLockfile(target, naming, rules, timeout, signal, inside = []) {
  const lockfile = new lockfiles.HeldLockfile(target)
  try {
    lockfile.acquired(await waitFor(signal, (opened, id) => {
      lockfile.watch(id)
      return opened.acquireLockfile(id, naming, rules, timeout, held.lockfileNumbers(inside))
    }))
    return lockfile
  } catch (error) {
    lockfile.unwatch()
    throw error
  }
}

/**
 * Does a piece of work under the lock of a file that the caller holds, in the order of the
 * calls under that lock; or something else if it holds none.
 *
 * @template T
 * @param {string} path
 * @param {boolean} locks whether the work wants a lock at all
 * @param {(outer: import('../support/lock-context.js').Held) => Promise<T>} work
 * @param {() => Promise<T>} otherwise
 * @returns {Promise<T>}
 */
async function underHeld(path, locks, work, otherwise) {
  const inside = held.current()
  const before = lookingUp.get(path)
  if (inside.length === 0 && !before) return otherwise()
  const places = held.reserve(inside)
  const found = findOuter(path, inside, locks)
  // Whoever comes later, and has its answer sooner, waits for those before it.
  const turn = Promise.allSettled([before, found])
  lookingUp.set(path, turn)
  try {
    await turn
    if (lookingUp.get(path) === turn) lookingUp.delete(path)
    const outer = await found
    if (!outer) {
      places.leave()
      return await otherwise()
    }
    places.leave(outer)
    await places.turn(outer)
    return await work(outer)
  } finally {
    places.leave()
  }
}

/**
 * Calls of which it is not known yet whether their lock is held, by the path as it was spelt.
 *
 * @type {Map<string, Promise<unknown>>}
 */
const lookingUp = new Map()

/**
 * Which of the locks that the caller holds is that of this file, if any.
 *
 * @param {string} path
 * @param {readonly import('../support/lock-context.js').Held[]} inside
 * @param {boolean} locks
 */
async function findOuter(path, inside, locks) {
  let outer = inside.find((candidate) => candidate.updates === path)
  if (!outer && locks && inside.length > 0) {
    /** @type {Promise<import('../native/binding.js').FoundLock>} */
    const finding = port.run((opened, id) => opened.findLock(id, path, held.numbers(inside)))
    // A path that leads nowhere leads to no lock that is held. What is done next will say why.
    const { hold } = await finding.catch(() => NOTHING)
    outer = inside.findLast((candidate) => candidate.hold !== undefined && candidate.hold === hold)
  }
  if (outer?.updates !== undefined) throw IN_UPDATE
  if (outer?.kind === 'read') throw FOR_READING
  return outer
}

/** @type {import('../native/binding.js').FoundLock} */
const NOTHING = {}

/** What is asked for in the middle of an update of the same file would wait for itself. */
const IN_UPDATE = {
  kind: 'deadlock',
  code: 'EDEADLK',
  message: 'the caller is in an update of this file, which would wait for itself',
  attempts: 1,
  committed: false,
}

/** A lock for reading does not become one for writing: two that wanted this would wait for each other. */
const FOR_READING = {
  ...IN_UPDATE,
  message: 'the caller holds the lock of this file for reading, and a write would wait for that',
}

/**
 * Does a piece of work that can give a lock back: under a lock that the caller holds, or one
 * that is taken for it.
 *
 * @template T
 * @param {string} path
 * @param {{ signal?: AbortSignal }} options
 * @param {import('../native/binding.js').WriteOptions | undefined} settings
 * @param {(hold: number | undefined) => Promise<T>} work gets the number of the lock that it has to
 *   give back, whatever comes of it
 * @returns {Promise<T>}
 */
function underLock(path, { signal }, settings, work) {
  return underHeld(path, true, () => work(undefined), async () => {
    const { hold } = await waitFor(signal, (opened, id) =>
      opened.acquireLock(id, path, true, PATIENCE, [], settings),
    )
    return work(hold)
  })
}

/**
 * Runs an operation that waits for a lock, and can be cancelled while it does.
 *
 * @template [T=import('../native/binding.js').TakenLock]
 * @param {AbortSignal | undefined} signal
 * @param {(port: import('../native/binding.js').Port, id: number) => import('../native/binding.js').LockWaiter | import('../native/binding.js').LockfileWaiter | null} start
 * @param {import('../native/binding.js').Control} [control] cancels it when it does not wait any more
 * @param {(event: import('../native/binding.js').NativeEvent) => void} [observe]
 * @returns {Promise<T>}
 */
async function waitFor(signal, start, control, observe) {
  if (signal?.aborted) throw { kind: 'cancelled' }
  /** @type {ReturnType<typeof start>} */
  let waiter = null
  const stop = onAbort(signal, () => {
    control?.cancel()
    waiter?.cancel()
  })
  try {
    return await port.run((opened, id) => {
      waiter = start(opened, id)
    }, undefined, observe)
  } finally {
    stop()
  }
}

module.exports = {
  IN_UPDATE, PATIENCE, acquire, acquireLockfile, acquireLock, findOuter, giveBack, isLocked, release, tryAcquireLock, underHeld, underLock, waitFor, withLock,
}
