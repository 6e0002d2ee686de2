'use strict'

// The errors that users see.

const util = require('node:util')
const { atCaller } = require('../support/caller.js')
const { hintFor, isTransient } = require('../support/hints.js')

/** @typedef {import('./binding.js').NativeError} NativeError */

/** @typedef {Partial<Pick<import('../../index.js').SessionFileError, 'code' | 'errno' | 'syscall' | 'hint' | 'holder' | 'line' | 'column' | 'damage' | 'first' | 'issues'>>} Details */

// Failures with plain fields, as the native side reports them, of what fails in JavaScript: this is
// the one place that makes them.

/** The caller has cancelled. */
const CANCELLED = Object.freeze({ kind: 'cancelled' })

/** What a function of the user's has thrown. It is passed on as it is. */
class Thrown {
  /** @param {unknown} value */
  constructor(value) {
    this.value = value
  }
}

/** @typedef {NativeError & { behind?: string, instead?: string, isForeign?: boolean, issues?: readonly import('../../index.js').SchemaIssue[] }} Failure `behind`: what in this process a call has waited for; `instead`: what the caller has to use; `isForeign`: a lock that ours does not exclude */
/** @typedef {Pick<NativeError, 'kind' | 'code' | 'message' | 'attempts' | 'committed' | 'exhausted'> & Partial<Failure>} PlainFailure */

/**
 * @param {NativeError['kind']} kind
 * @param {string} code
 * @param {string} message
 * @param {Partial<Failure>} [more]
 * @returns {PlainFailure}
 */
function plain(kind, code, message, more) {
  return { kind, code, message, attempts: 1, committed: false, exhausted: false, ...more }
}

/** What the caller asks for would wait for the caller. @param {string} message */
function deadlock(message) {
  return plain('deadlock', 'EDEADLK', message)
}

/** What is asked for in the middle of an update of the same file. */
function inUpdate() {
  return deadlock('the caller is in an update of this file, which would wait for itself')
}

/**
 * What would write past the transaction in whose function it is called.
 *
 * @param {string} instead the method of the transaction that does the same
 * @param {boolean} isLocked whether it would wait for the lock, which the transaction has
 */
function bypassed(instead, isLocked) {
  const failure = isLocked ? inUpdate() : deadlock('the file belongs to the transaction in whose function the call is made, which could not take back what is written past it')
  return { ...failure, instead }
}

/** What a call has waited for in vain, in this process. @param {string} path @param {number} waited @param {string} behind */
function locked(path, waited, behind) {
  return plain('locked', 'ELOCKED', '', { path, waited, inThisProcess: true, behind })
}

/** @param {string} path */
function missingFile(path) {
  return plain('system', 'ENOENT', `ENOENT: no such file or directory, open '${path}'`, { syscall: 'open', path })
}

/** @param {string} path */
function existingFile(path) {
  return plain('system', 'EEXIST', `EEXIST: file already exists, open '${path}'`, { syscall: 'open', path })
}

/** A file that has no content at all. */
function emptyJson() {
  return plain('json', 'EEMPTYJSON', 'the file is empty, which is not JSON')
}

/** A file that holds no JSON. @param {string} message @param {{ line: number, column: number }} [position] */
function badJson(message, position) {
  return plain('json', 'EBADJSON', message, position)
}

/**
 * A file has no backup to go back to.
 *
 * @param {string} path
 * @param {readonly { path: string, reason: string }[]} skipped those that are no good
 */
function noBackup(path, skipped) {
  const [newest] = skipped
  const why = newest
    ? `none of its ${skipped.length} backups is good (the newest, '${newest.path}': ${newest.reason})`
    : 'it has no backups'
  return plain('json', 'ENOENT', `nothing to restore '${path}' from: ${why}`)
}

/**
 * A value that the schema of a file refuses.
 *
 * @param {string} what
 * @param {readonly import('../../index.js').SchemaIssue[]} issues
 * @param {string} words
 */
function invalidJson(what, issues, words) {
  return plain('json', 'EINVALIDJSON', `${what} does not match the schema: ${words}`, { issues })
}

/** What has been tried, where the name of the operation is none that 'Failed to …' could go on with. */
const IN_WORDS = new Map([
  ['recover', 'recover from a crash'],
  ['transaction', 'carry out the transaction'],
  ['open wal', 'open the log'],
  ['wal append', 'append to the log'],
  ['wal read', 'read the log'],
  ['wal flush', 'flush the log'],
  ['wal checkpoint', 'set a checkpoint in the log'],
  ['wal close', 'close the log'],
  ['wal backup', 'back up the log'],
  ['wal consumer', 'use a consumer of the log'],
])

/** @param {string} path @param {string} operation */
const beginning = (path, operation) => `Failed to ${IN_WORDS.get(operation) ?? operation} at ${path}`

/** Whether it is an error, be it of another realm (those of the system are, where a test runner gives modules one of their own). @param {unknown} value @returns {value is Error} */
function isError(value) {
  return value instanceof Error || util.types.isNativeError(value)
}

/** What errors of this class have in each copy of the package: a process may have several, of several versions. */
const IS_SESSION_FILE_ERROR = Symbol.for('holdfast.SessionFileError')

class SessionFileError extends Error {
  /** Also errors of another copy; for a class that is made of this one only its own. @param {unknown} value */
  static [Symbol.hasInstance](value) {
    if (this !== SessionFileError) return Function.prototype[Symbol.hasInstance].call(this, value)
    return typeof value === 'object' && value !== null && IS_SESSION_FILE_ERROR in value
  }

  /**
   * @param {string} path
   * @param {string} operation
   * @param {unknown} [cause]
   */
  constructor(path, operation, cause) {
    super(`${beginning(path, operation)}: ${textOf(cause)}`)
    this.path = path
    this.operation = operation
    this.attempts = 1
    this.committed = false
    const { code, errno, syscall } = /** @type {NodeJS.ErrnoException} */ (isError(cause) ? cause : {})
    assign(this, { code, errno, syscall })
    this.transient = isTransient(code, syscall, operation)
    // As the language does it: present only when there is one, and not enumerable.
    if (cause !== undefined) hide(this, 'cause', cause)
  }
}
hide(SessionFileError.prototype, 'name', 'SessionFileError')
hide(SessionFileError.prototype, IS_SESSION_FILE_ERROR, true)
hide(SessionFileError.prototype, 'toJSON', toJSON)

class AbortError extends Error {
  /** @param {unknown} reason */
  constructor(reason) {
    super('The operation was aborted', { cause: reason })
    this.code = 'ABORT_ERR'
  }
}
hide(AbortError.prototype, 'name', 'AbortError')
hide(AbortError.prototype, 'toJSON', toJSON)

/** What JSON makes of an error: its name and message, too, which are not enumerable; sequence numbers, of which JSON knows none, as text. @this {Error} */
function toJSON() {
  return { name: this.name, message: this.message, ...require('../support/json-safe.js').toJSON.call(this) }
}

/** @param {unknown} cause */
function textOf(cause) {
  if (cause === undefined) return 'unknown error'
  if (isError(cause)) return cause.message
  try {
    return String(cause)
  } catch {
    // An object that has no text of its own.
    return 'unknown error'
  }
}

/**
 * Sets those that are known, so that an error that is printed shows no blanks.
 *
 * @param {SessionFileError} error
 * @param {{ [K in keyof Details]: Details[K] | undefined }} details
 */
function assign(error, details) {
  for (const [name, value] of Object.entries(details)) {
    if (value !== undefined) Object.assign(error, { [name]: value })
  }
}

/** @param {object} object @param {string | symbol} key @param {unknown} value */
function hide(object, key, value) {
  Object.defineProperty(object, key, { value, writable: true, configurable: true, enumerable: false })
}

/**
 * The error for a failed operation. It is made here, in the caller's async function, so
 * that its stack shows the caller, and begins there.
 *
 * @param {string} path
 * @param {string} operation
 * @param {unknown} failure what the native side reported, or what was thrown before it
 * @param {AbortSignal} [signal]
 * @returns {Error}
 */
function failed(path, operation, failure, signal) {
  return atCaller(made(path, operation, failure, signal))
}

/** @param {Parameters<typeof failed>} args */
function made(...[path, operation, failure, signal]) {
  if (isError(failure)) return new SessionFileError(path, operation, failure)
  const native = /** @type {NativeError & { value?: unknown }} */ (failure)
  if (native.kind === 'cancelled') return new AbortError(signal?.reason)
  // What a caller's function threw may be anything.
  const cause = /** @type {string} */ (native.kind) === 'thrown' ? native.value : causeOf(native)
  const error = new SessionFileError(path, operation, cause)
  if (native.exhausted && native.attempts > 1) {
    const title = operation[0]?.toUpperCase() + operation.slice(1)
    error.message = `${beginning(path, operation)}: ${title} failed after ${native.attempts} attempts: ${isError(cause) ? cause.message : String(cause)}`
  }
  const { instead } = /** @type {Failure} */ (native)
  if (instead !== undefined) error.message += `: use ${instead}`
  error.attempts = native.attempts
  error.committed = native.committed
  const holder = native.holder && toHolder(native.holder)
  assign(error, { hint: hintFor(native, operation), holder, line: native.line, column: native.column, damage: native.damage && toDamage(native.damage), first: native.first, issues: /** @type {Failure} */ (native).issues })
  return error
}

/**
 * The reason with which the signal of a lock is aborted.
 *
 * @param {string} path
 * @param {NativeError} native
 */
function lostLock(path, native) {
  const error = failed(path, 'lock', native)
  // There is no call that it is the answer to.
  error.stack = `${error.name}: ${error.message}`
  // What the system said, for those who want to pass it on.
  losses.set(error, native)
  return error
}

/** @type {WeakMap<Error, NativeError>} */
const losses = new WeakMap()

/** How a lock was lost. @param {Error} error */
function lossOf(error) {
  return losses.get(error)
}

/**
 * Who holds a lock, as users see it.
 *
 * @param {import('./binding.js').NativeHolder} holder
 */
function toHolder({ pid, hostname, since, command }) {
  return { pid, hostname, since: new Date(since), command }
}

/**
 * What is wrong with a log, as users see it.
 *
 * @param {import('./binding.js').NativeDamage} damage
 * @returns {import('../../index.js').WalDamage}
 */
function toDamage(damage) {
  const kind = /** @type {import('../../index.js').WalDamage['kind']} */ (damage.kind)
  return require('../support/json-safe.js').jsonSafe({ ...damage, kind })
}

/**
 * What happened, in one sentence.
 *
 * @param {Failure} native
 */
function messageOf(native) {
  if (native.kind === 'system') return native.message
  if (native.kind === 'lost') return `ECOMPROMISED: the lock '${native.path}' was lost: ${native.cause ?? 'somebody else has taken it'}`
  if (native.kind !== 'locked') return `${native.code}: ${native.message}`
  const { path, waited, holder } = native
  const tried = !waited ? 'The lock is not free' : `Timed out after ${waited} ms`
  if (native.behind !== undefined) return `ELOCKED: ${tried}: '${path}' is behind ${native.behind}`
  const whose = native.inThisProcess || holder?.isThisProcess ? 'this process' : undefined
  const who = holder
    ? `${whose ?? `process ${holder.pid} on ${holder.hostname}`} since ${new Date(holder.since).toISOString()} (${holder.command})`
    : (whose ?? 'another process')
  const behind = whose && require('../support/held-long.js').inWords(path ?? '')
  return `ELOCKED: ${tried}: '${path}' is held by ${who}${behind ? `, behind ${behind}` : ''}`
}

/**
 * The error behind the error: the system's, in the form that Node gives it, or ours.
 *
 * @param {NativeError} native
 */
function causeOf(native) {
  const message = messageOf(native)
  const cause = /** @type {NodeJS.ErrnoException & { dest?: string }} */ (new Error(message))
  // It comes from another thread: the frames here would only tell of the delivery.
  cause.stack = `Error: ${message}`
  if (native.kind === 'system' || native.kind === 'deadlock') cause.errno = errnoOf(native.code)
  cause.code = native.code
  if (native.syscall !== undefined) cause.syscall = native.syscall
  if (native.path !== undefined) cause.path = native.path
  if (native.dest !== undefined) cause.dest = native.dest
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
  // Hardly ever needed, and not among what Node has loaded.
  const constant = /** @type {Record<string, number>} */ (require('node:os').constants.errno)[code]
  return constant === undefined ? undefined : -constant
}

module.exports = {
  AbortError, CANCELLED, SessionFileError, Thrown,
  badJson, bypassed, causeOf, deadlock, emptyJson, errnoOf, existingFile, failed, inUpdate, invalidJson, isError, locked, lossOf, lostLock, missingFile, noBackup, toDamage, toHolder,
}
