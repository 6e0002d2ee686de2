'use strict'

// What is logged, in which words.

const { AsyncResource } = require('node:async_hooks')
const { wrongType } = require('./arguments.js')
const { stepper } = require('./diagnostics.js')

/** @typedef {import('../../index.js').Logger} Logger */
/** @typedef {import('../native/binding.js').NativeEvent} NativeEvent */

/** @type {Logger | null} */
let globalLogger = null

/** @type {typeof import('../../index.js').setLogger} */
function setLogger(logger) {
  globalLogger = check(logger, 'The "logger" argument')
}

/**
 * @param {unknown} value
 * @param {string} name
 * @returns {Logger | null}
 */
function check(value, name) {
  if (value === null) return null
  const methods = /** @type {Record<string, unknown>} */ (value)
  const isLogger =
    typeof value === 'object' && ['debug', 'warn', 'error'].every((method) => typeof methods[method] === 'function')
  if (!isLogger) throw wrongType(name, 'an object with the methods debug, warn and error, or null', value)
  return /** @type {Logger} */ (/** @type {unknown} */ (value))
}

/**
 * What takes the events of one write to the logger, and to those who have subscribed to them;
 * `undefined` when there is nobody.
 *
 * @param {Logger | null | undefined} own that of the call; `undefined` means the global one
 * @param {string} targetPath
 * @returns {((event: NativeEvent) => void) | undefined}
 */
function observer(own, targetPath) {
  const logger = own === undefined ? globalLogger : own
  const publish = stepper(targetPath)
  if (logger === null && publish === undefined) return undefined
  // Events arrive in the middle of nowhere; the logger is called in the context of the
  // call that they belong to (AsyncLocalStorage).
  const context = new AsyncResource('holdfast')
  return (event) => {
    if (publish) context.runInAsyncScope(publish, undefined, event)
    if (logger === null) return
    try {
      context.runInAsyncScope(entry, undefined, logger, targetPath, event)
    } catch {
      // A logger that throws does not disturb the write: SPEC of `setLogger`.
    }
  }
}

/**
 * The logger of a call, whose failures disturb nobody; `undefined` without a logger.
 *
 * @param {Logger | null | undefined} own that of the call; `undefined` means the global one
 * @returns {Logger | undefined}
 */
function harmless(own) {
  const logger = own === undefined ? globalLogger : own
  if (logger === null) return undefined
  /** @param {'debug' | 'warn' | 'error'} level */
  const method = (level) => (/** @type {object} */ fields, /** @type {string} */ message) => {
    try {
      logger[level](fields, message)
    } catch {
      // A logger that throws does not disturb the operation: SPEC of `setLogger`.
    }
  }
  return { debug: method('debug'), warn: method('warn'), error: method('error') }
}

/**
 * @param {Logger} logger
 * @param {string} targetPath
 * @param {NativeEvent} event
 */
function entry(logger, targetPath, event) {
  const { tempPath, size, duration } = event
  switch (event.name) {
    case 'starting':
      return logger.debug({ targetPath, tempPath, size, operation: 'atomicWrite' }, 'Starting atomic write')
    case 'written':
      return logger.debug({ tempPath, size, duration, operation: 'writeFile' }, 'Temp file written')
    case 'renamed':
      return logger.debug({ tempPath, targetPath, duration, operation: 'rename' }, 'Temp file renamed to target')
    case 'completed':
      return logger.debug({ targetPath, size, totalDuration: duration }, 'Atomic write completed successfully')
    case 'failed':
      return logger.error(
        { targetPath, tempPath, errorCode: event.code, errorMessage: event.message, operation: 'atomicWrite' },
        'Atomic write failed',
      )
    case 'cleanedUp':
      return logger.debug({ tempPath, operation: 'cleanup' }, 'Temp file cleaned up')
    case 'cleanupFailed':
      return logger.warn({ tempPath, cleanupErrorCode: event.code }, 'Failed to clean up temp file')
    case 'merged':
      return logger.debug({ targetPath, size }, 'Write merged into a newer one')
    case 'retrying':
      return logger.warn(
        { targetPath, attempt: event.attempt, delay: duration, errorCode: event.code },
        'Retrying atomic write',
      )
  }
}

/**
 * Logs what a recovery has done.
 *
 * @param {Logger | null | undefined} own that of the call; `undefined` means the global one
 * @param {import('../../index.js').RecoveryAction[]} actions
 */
function recovered(own, actions) {
  const logger = own === undefined ? globalLogger : own
  if (logger === null) return
  for (const { path, action, reason, to, error } of actions) {
    const fields = { path, action, reason, ...(to !== undefined && { to }), operation: 'recover' }
    try {
      if (error) logger.error({ ...fields, errorCode: error.code, errorMessage: error.message }, 'Recovery failed')
      else if (action === 'removed' || action === 'left') logger.debug(fields, 'Left after a crash')
      else logger.warn(fields, 'Recovered after a crash')
    } catch {
      // A logger that throws does not disturb the recovery.
    }
  }
}

/**
 * Logs what became of the files of a transaction that had not been finished.
 *
 * @param {Logger | null | undefined} own that of the call; `undefined` means the global one
 * @param {import('../native/binding.js').NativeDecision[]} decisions
 */
function settled(own, decisions) {
  const logger = own === undefined ? globalLogger : own
  if (logger === null) return
  for (const { path, verdict, reason } of decisions) {
    const message = verdict === 'conflict' ? 'Unfinished transaction: changed file left as it is' : 'Unfinished transaction settled'
    try {
      logger.warn({ targetPath: path, action: verdict, reason, operation: 'transaction' }, message)
    } catch {
      // A logger that throws disturbs nothing: SPEC of `setLogger`.
    }
  }
}

module.exports = { check, harmless, observer, recovered, setLogger, settled }
