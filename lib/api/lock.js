'use strict'

// Locks of files, in one of two protocols, and how operations get the lock that they need.

const { onAbort } = require('../support/abort.js')
const { DEFAULT_LOCK_TIMEOUT, abortSignal, boolean, milliseconds, oneOf, readOptions, toAbsolute, toPath, wrongType } = require('../support/arguments.js')
const { lockReleased, tracedLock } = require('../support/diagnostics.js')
const { CANCELLED, failed, inUpdate, toHolder } = require('../native/errors.js')
const { mayAnswerAtOnce } = require('../support/event-loop.js')
const heldLong = require('../support/held-long.js')
const context = require('../support/lock-context.js')
const lockfiles = require('./lockfile.js')
const { safeLogger } = require('../support/logger.js')
const port = require('../native/port.js')

const OPERATION = 'lock'

const checks = {
  kind: oneOf('write', 'read'),
  timeout: milliseconds(Infinity),
  signal: abortSignal,
  warnAfter: milliseconds(Infinity),
  protocol: oneOf('kernel', lockfiles.PROTOCOL),
  stale: lockfiles.stale,
  update: lockfiles.update,
  strictProtocol: boolean,
}
const { timeout: _timeout, ...tryChecks } = checks
/** The default that holds for what is told of a lock. @type {['logger']} */
const LOGGER = ['logger']
const lookChecks = { kind: checks.kind, protocol: checks.protocol, stale: checks.stale }

/** @typedef {import('../../index.js').Lock} PublicLock */

/** @implements {PublicLock} */
class Lock {
  #held
  /** @type {Promise<void> | undefined} */
  #released
  /** @type {AbortController | undefined} */
  #controller

  /** @param {import('../support/lock-context.js').HeldLock} own */
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

/**
 * Releases a lock, after what was started under it.
 *
 * @param {import('../support/lock-context.js').HeldLock} own
 */
async function release(own) {
  own.isLive = false
  if (own.watched) heldLong.end(own.watched)
  if (own.lockfile) await releaseLockfile(own.lockfile)
  else await releaseNumber(/** @type {number} */ (own.number))
  if (own.around !== undefined) await releaseNumber(own.around)
  lockReleased(own)
}

/**
 * The same by the number that the native side knows the lock by. `undefined` when it is done.
 *
 * @param {number} number
 * @returns {Promise<void> | undefined}
 */
function releaseNumber(number) {
  return port.offer((opened, id) => opened.releaseLock(id, number))
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
  const read = readOptions(options, checks, 'withLock', LOGGER)
  const target = toPath(path)
  if (typeof fn !== 'function') throw wrongType('The "fn" argument', 'of type function', fn)
  const own = await tracedAcquire(target, read, context.current())
  const lock = new Lock(own)
  let value
  try {
    value = await context.run([own], () => fn(lock))
  } catch (error) {
    // The error of the function comes first. Its signal has told it if the lock was lost.
    await lock.release().catch(() => {})
    throw error
  }
  await lock.release()
  return value
}

/** @type {typeof import('../../index.js').acquireLock} */
async function acquireLock(path, options) {
  const read = readOptions(options, checks, 'acquireLock', LOGGER)
  return new Lock(await tracedAcquire(toPath(path), read, [], context.current()))
}

/** @type {typeof import('../../index.js').tryAcquireLock} */
async function tryAcquireLock(path, options) {
  const read = readOptions(options, tryChecks, 'tryAcquireLock', LOGGER)
  const target = toPath(path)
  try {
    return new Lock(await tracedAcquire(target, { ...read, timeout: 0 }, [], context.current()))
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
  const target = toPath(path, 'path', 'read')
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
 * @param {{ kind?: import('../../index.js').LockKind, timeout?: number, signal?: AbortSignal, protocol?: string, stale?: number, update?: number, warnAfter?: number, strictProtocol?: boolean, logger?: import('../../index.js').Logger | null }} options
 * @param {readonly import('../support/lock-context.js').HeldLock[]} inside those that the caller holds, which it must not wait for
 * @param {readonly import('../support/lock-context.js').HeldLock[]} [around] those under which it is called
 */
async function acquire(target, options, inside, around = []) {
  const rules = lockfiles.rulesOf(options)
  const { kind = 'write', timeout = DEFAULT_LOCK_TIMEOUT, signal } = options
  try {
    const path = toAbsolute(target)
    if (rules) return { ...context.create(undefined, kind), lockfile: await acquireLockfile(target, { path }, rules, timeout, signal, inside) }
    const held = context.toNative(inside) ?? context.aroundToNative(around)
    const taken = !signal?.aborted && mayAnswerAtOnce() && port.open().takeLock(path, kind === 'write', held)
    if (taken) return context.create(taken, kind)
    const { lock } = await waitFor(signal, (opened, id) =>
      opened.acquireLock(id, path, kind === 'write', timeout, held, false),
    )
    return context.create(lock, kind)
  } catch (error) {
    throw failed(target, OPERATION, error, signal)
  }
}

/**
 * Releases a lock again, and fails, if another program holds the file by a lock of the other protocol. Not before the
 * lock is held: calls get it in their order.
 *
 * @param {import('../support/lock-context.js').HeldLock} own
 * @param {string} target
 */
async function refuseOthers(own, target) {
  try {
    await require('./foreign-lock.js').refuse(toAbsolute(target))
  } catch (error) {
    await release(own)
    throw failed(target, OPERATION, error)
  }
}

/** @param {Parameters<typeof acquire>} args */
async function acquireWatched(...args) {
  const [target, options] = args
  const own = await acquire(...args)
  if (options.strictProtocol && !own.lockfile) await refuseOthers(own, target)
  const path = toAbsolute(target)
  own.watched = heldLong.begin('lock', path, options)
  // Nobody waits for what only a logger hears.
  const logger = own.lockfile ? undefined : safeLogger(options.logger)
  if (logger) void require('./foreign-lock.js').tell(path, logger)
  return own
}

const tracedAcquire = tracedLock(acquireWatched)

/**
 * Takes a lock in the protocol of `proper-lockfile`.
 *
 * @param {string} target the path as it was given
 * @param {import('../native/binding.js').LockNaming} naming
 * @param {import('../native/binding.js').LockRules} rules
 * @param {number} timeout
 * @param {AbortSignal} [signal]
 * @param {readonly import('../support/lock-context.js').HeldLock[]} [inside]
 */
async function acquireLockfile(target, naming, rules, timeout, signal, inside = []) {
  const lockfile = new lockfiles.HeldLockfile(target)
  try {
    lockfile.acquired(await waitFor(signal, (opened, id) => {
      lockfile.watch(id)
      return opened.acquireLockfile(id, naming, rules, timeout, context.lockfileNumbers(inside))
    }))
    return lockfile
  } catch (error) {
    lockfile.unwatch()
    throw error
  }
}

/**
 * The caller's locks for an operation on these files. Calls of `updateJsonFile` wait in queues by
 * path, which are JavaScript's, with or without a lock: that one of them would wait for itself is
 * known by the path. All else is decided by the native side.
 *
 * @param {string[]} paths
 */
function heldFor(...paths) {
  const all = context.current()
  if (all.some(({ updates }) => updates !== undefined && paths.includes(updates))) throw inUpdate()
  return context.toNative(all)
}

/**
 * Takes the lock of a file for an operation, or borrows it from the caller, who holds it, when what
 * was started under it before is over.
 *
 * @param {string} path
 * @param {{ signal?: AbortSignal | undefined, timeout?: number | undefined }} options
 * @param {import('../native/binding.js').WriteOptions} [settings]
 * @returns {Promise<import('../native/binding.js').TakenLock>} the operation has to release the lock, whatever comes of it
 */
async function lockFor(path, { signal, timeout = DEFAULT_LOCK_TIMEOUT }, settings) {
  const held = heldFor(path)
  return waitFor(signal, (opened, id) => opened.acquireLock(id, path, true, timeout, held, true, settings))
}

/**
 * Runs an operation that waits for a lock, and can be cancelled while it does.
 *
 * @template [T=import('../native/binding.js').TakenLock]
 * @param {AbortSignal | undefined} signal
 * @param {(port: import('../native/binding.js').Port, id: number) => import('../native/binding.js').LockWaiter | import('../native/binding.js').LockfileWaiter | import('../native/binding.js').WalWaiter | null} start
 * @param {import('../native/binding.js').Control} [control] cancels it when it does not wait any more
 * @param {(event: import('../native/binding.js').NativeEvent) => void} [observe]
 * @returns {Promise<T>}
 */
async function waitFor(signal, start, control, observe) {
  if (signal?.aborted) throw CANCELLED
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

module.exports = { acquireLock, acquireLockfile, heldFor, isLocked, lockFor, release, releaseNumber, tryAcquireLock, waitFor, withLock }
