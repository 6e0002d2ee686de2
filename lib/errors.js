'use strict'

// The errors that users see.

const os = require('node:os')
const util = require('node:util')
const { hintFor } = require('./hints.js')

/** @typedef {import('./binding.js').NativeError} NativeError */

class SessionFileError extends Error {
  /**
   * @param {string} path
   * @param {string} operation
   * @param {unknown} [cause]
   */
  constructor(path, operation, cause) {
    const reason = cause instanceof Error ? cause.message : cause === undefined ? undefined : String(cause)
    super(`Failed to ${operation} at ${path}: ${reason ?? 'unknown error'}`)
    this.path = path
    this.operation = operation
    const system = /** @type {NodeJS.ErrnoException} */ (cause instanceof Error ? cause : {})
    /** @type {string | undefined} */
    this.code = system.code
    /** @type {number | undefined} */
    this.errno = system.errno
    /** @type {string | undefined} */
    this.syscall = system.syscall
    this.attempts = 1
    this.committed = false
    /** @type {string | undefined} */
    this.hint = undefined
    // As the language does it: present only when there is one, and not enumerable.
    if (cause !== undefined) hide(this, 'cause', cause)
  }
}
hide(SessionFileError.prototype, 'name', 'SessionFileError')

class AbortError extends Error {
  /** @param {unknown} reason */
  constructor(reason) {
    super('The operation was aborted', { cause: reason })
    this.code = 'ABORT_ERR'
  }
}
hide(AbortError.prototype, 'name', 'AbortError')

/** @param {object} object @param {string} key @param {unknown} value */
function hide(object, key, value) {
  Object.defineProperty(object, key, { value, writable: true, configurable: true, enumerable: false })
}

/**
 * The error for a failed operation. It is made here, in the caller's async function, so
 * that its stack shows the caller.
 *
 * @param {string} path
 * @param {string} operation
 * @param {unknown} failure what the native side reported, or what was thrown before it
 * @param {AbortSignal} [signal]
 * @returns {Error}
 */
function failed(path, operation, failure, signal) {
  if (failure instanceof Error) return new SessionFileError(path, operation, failure)
  const native = /** @type {NativeError} */ (failure)
  if (native.kind === 'cancelled') return new AbortError(signal?.reason)
  const cause = systemError(native)
  const error = new SessionFileError(path, operation, cause)
  if (native.exhausted && native.attempts > 1) {
    const title = operation[0]?.toUpperCase() + operation.slice(1)
    error.message = `Failed to ${operation} at ${path}: ${title} failed after ${native.attempts} attempts: ${cause.message}`
  }
  error.attempts = native.attempts
  error.committed = native.committed
  error.hint = hintFor(native)
  return error
}

/**
 * The system's error, in the form that Node gives it.
 *
 * @param {NativeError} native
 */
function systemError(native) {
  const cause = /** @type {NodeJS.ErrnoException & { dest?: string }} */ (new Error(native.message))
  // It comes from another thread: the frames here would only tell of the delivery.
  cause.stack = `Error: ${native.message}`
  if (native.kind === 'system') {
    cause.errno = errnoOf(native.code)
    cause.code = native.code
    if (native.syscall !== undefined) cause.syscall = native.syscall
    if (native.path !== undefined) cause.path = native.path
    if (native.dest !== undefined) cause.dest = native.dest
  } else {
    cause.code = native.code
  }
  return cause
}

/** @type {Map<string, number> | undefined} */
let numbers

/**
 * Node's number for an error: negative, and on Windows not the system's.
 *
 * @param {string} code
 */
function errnoOf(code) {
  numbers ??= new Map(Array.from(util.getSystemErrorMap(), ([number, [name]]) => [name, number]))
  const known = numbers.get(code)
  if (known !== undefined) return known
  const constant = /** @type {Record<string, number>} */ (os.constants.errno)[code]
  return constant === undefined ? undefined : -constant
}

module.exports = { SessionFileError, AbortError, failed }
