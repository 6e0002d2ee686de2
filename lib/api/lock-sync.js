'use strict'

// Locks on the calling thread.

const { DEFAULT_LOCK_TIMEOUT, coded, milliseconds, oneOf, readOptions, toAbsolute, toPath, wrongType } = require('../support/arguments.js')
const { tracedSync, traces } = require('../support/diagnostics.js')
const { failed } = require('../native/errors.js')
const context = require('../support/lock-context.js')
const heldLong = require('../support/held-long.js')
const port = require('../native/port.js')
const { releaseNumber } = require('./lock.js')

const checks = { kind: oneOf('write', 'read'), timeout: milliseconds(Infinity), warnAfter: milliseconds(Infinity) }

/** @type {typeof import('../../index.js').withLockSync} */
function withLockSync(/** @type {any} */ path, /** @type {any} */ fn, /** @type {any} */ options) {
  const read = readOptions(options, checks, 'withLockSync', ['logger'])
  const target = toPath(path)
  if (typeof fn !== 'function') throw wrongType('The "fn" argument', 'of type function', fn)
  const { kind = 'write' } = read
  /** @type {{ own?: import('../support/lock-context.js').HeldLock }} */
  const taken = {}
  tracedAcquire(target, read, taken)
  const own = /** @type {import('../support/lock-context.js').HeldLock} */ (taken.own)
  const watched = heldLong.begin('lock', toAbsolute(target), read)
  try {
    const value = context.run([own], () => fn())
    if (typeof value?.then === 'function') {
      Promise.resolve(value).catch(() => {})
      throw coded(new TypeError(`The "fn" function of withLockSync must not return a promise: the lock ('${kind}') is released when it returns. Use withLock`), 'ERR_INVALID_RETURN_VALUE')
    }
    return value
  } finally {
    own.isLive = false
    heldLong.end(watched)
    // It is free when the call returns, unless a write that was started under it is still under way.
    releaseNumber(/** @type {number} */ (own.number))?.catch(() => {})
  }
}

const tracedAcquire = tracedSync(
  traces.lock,
  (/** @type {string} */ target, /** @type {{ kind?: 'read' | 'write', timeout?: number }} */ { kind = 'write', timeout = DEFAULT_LOCK_TIMEOUT }, /** @type {{ own?: object }} */ taken) => {
    try {
      const held = context.toNative(context.current())
      const { lock, error } = port.open().acquireLockNow(toAbsolute(target), kind === 'write', timeout, held)
      if (error) throw error
      taken.own = context.create(lock, kind)
    } catch (error) {
      throw failed(target, 'lock', error)
    }
  },
  (target, { kind = 'write' }) => ({ operation: 'lock', path: target, kind }),
)

module.exports = { withLockSync }
