'use strict'

const { abortSignal, milliseconds, oneOf, readOptions, toAbsolute, toPath, wrongType } = require('./arguments.js')
const { failed, toHolder } = require('./errors.js')
const held = require('./held.js')
const port = require('./port.js')

const OPERATION = 'lock'
const PATIENCE = 10_000

const checks = {
  kind: oneOf('write'),
  timeout: milliseconds(Infinity),
  signal: abortSignal,
}
const { timeout: _timeout, ...tryChecks } = checks

/** @typedef {import('../index.js').Lock} PublicLock */

/** @implements {PublicLock} */
class Lock {
  #held
  /** @type {Promise<void> | undefined} */
  #released
  #controller = new AbortController()

  /** @param {import('./held.js').Held} own */
  constructor(own) {
    this.#held = own
    this.kind = own.kind
  }

  get signal() {
    return this.#controller.signal
  }

  release() {
    return (this.#released ??= release(this.#held))
  }

  [Symbol.asyncDispose]() {
    return this.release()
  }
}

/** @param {import('./held.js').Held} own */
async function release(own) {
  own.isLive = false
  // What was started under the lock is finished under it.
  await own.last
  await port.run((opened, id) => opened.releaseLock(id, /** @type {number} */ (own.hold)))
}

/** @type {typeof import('../index.js').withLock} */
async function withLock(path, fn, options) {
  const read = readOptions(options, checks, 'withLock')
  const target = toPath(path)
  if (typeof fn !== 'function') throw wrongType('The "fn" argument', 'of type function', fn)
  const own = await acquire(target, read, held.current())
  const lock = new Lock(own)
  try {
    return await held.run(own, () => fn(lock))
  } finally {
    await lock.release()
  }
}

/** @type {typeof import('../index.js').acquireLock} */
async function acquireLock(path, options) {
  const read = readOptions(options, checks, 'acquireLock')
  return new Lock(await acquire(toPath(path), read, []))
}

/** @type {typeof import('../index.js').tryAcquireLock} */
async function tryAcquireLock(path, options) {
  const read = readOptions(options, tryChecks, 'tryAcquireLock')
  const target = toPath(path)
  try {
    return new Lock(await acquire(target, { ...read, timeout: 0 }, []))
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code === 'ELOCKED') return null
    throw error
  }
}

/** @type {typeof import('../index.js').isLocked} */
async function isLocked(path, options) {
  readOptions(options, {}, 'isLocked')
  const target = toPath(path)
  try {
    const absolute = toAbsolute(target)
    /** @type {import('./binding.js').NativeValue} */
    const { locked, holder } = await port.run((opened, id) => opened.inspectLock(id, absolute))
    return { locked: locked === true, ...(holder && { holder: toHolder(holder) }) }
  } catch (error) {
    throw failed(target, OPERATION, error)
  }
}

/**
 * @param {string} target
 * @param {{ kind?: import('../index.js').LockKind, timeout?: number, signal?: AbortSignal }} options
 * @param {readonly import('./held.js').Held[]} inside
 */
async function acquire(target, { kind = 'write', timeout = PATIENCE, signal }, inside) {
  try {
    const path = toAbsolute(target)
    const hold = await waitFor(signal, (opened, id) =>
      opened.acquireLock(id, path, kind === 'write', timeout, held.numbers(inside)),
    )
    return held.create(/** @type {number} */ (hold.hold), kind)
  } catch (error) {
    throw failed(target, OPERATION, error, signal)
  }
}

/**
 * Runs an operation that waits for a lock, and can be cancelled while it does.
 *
 * @param {AbortSignal | undefined} signal
 * @param {(port: import('./binding.js').Port, id: number) => import('./binding.js').LockWaiter | null} start
 * @returns {Promise<import('./binding.js').NativeValue>}
 */
async function waitFor(signal, start) {
  if (signal?.aborted) throw { kind: 'cancelled' }
  /** @type {import('./binding.js').LockWaiter | null} */
  let waiter = null
  const cancel = () => waiter?.cancel()
  signal?.addEventListener('abort', cancel, { once: true })
  try {
    return await port.run((opened, id) => {
      waiter = start(opened, id)
    })
  } finally {
    signal?.removeEventListener('abort', cancel)
  }
}

module.exports = { PATIENCE, acquire, acquireLock, isLocked, release, tryAcquireLock, waitFor, withLock }
