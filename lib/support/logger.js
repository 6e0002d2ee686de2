'use strict'

// What is logged, and in which words.

const { AsyncResource } = require('node:async_hooks')
const { wrongType } = require('./arguments.js')
const { stepPublisher } = require('./diagnostics.js')

/** @typedef {import('../../index.js').Logger} Logger */
/** @typedef {import('../native/binding.js').NativeEvent} NativeEvent */
/** @typedef {import('../native/binding.js').NativeLimitation} NativeLimitation */

/** @type {Logger | null} */
let globalLogger = null

/** @type {typeof import('../../index.js').setLogger} */
function setLogger(logger) {
  globalLogger = check(logger, 'The "logger" argument')
  if (globalLogger) logUnsaid(globalLogger)
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
 * The logger of a call, `undefined` without one. What it throws disturbs no operation, as `setLogger` promises.
 *
 * @param {Logger | null | undefined} own the call's option; `undefined` means the global logger
 * @returns {Logger | undefined}
 */
function safeLogger(own) {
  const logger = own === undefined ? globalLogger : own
  if (logger === null) return undefined
  if (own) lastOwn = own
  const safe = protect(logger)
  if (unsaid.length > 0) logUnsaid(logger)
  return safe
}

/** @param {Logger} logger @returns {Logger} */
function protect(logger) {
  /** @param {'debug' | 'warn' | 'error'} level */
  const method = (level) => (/** @type {object} */ fields, /** @type {string} */ message) => {
    try {
      logger[level](fields, message)
    } catch {
      // See above.
    }
  }
  return { debug: method('debug'), warn: method('warn'), error: method('error') }
}

/**
 * Passes the events of one write to the logger and to the subscribers of the write's steps;
 * `undefined` when there are neither.
 *
 * @param {Logger | null | undefined} own the call's option; `undefined` means the global logger
 * @param {string} targetPath
 * @returns {((event: NativeEvent) => void) | undefined}
 */
function observer(own, targetPath) {
  const logger = safeLogger(own)
  const publish = stepPublisher(targetPath)
  if (logger === undefined && publish === undefined) return undefined
  // Events arrive outside any call; both are called in the context (AsyncLocalStorage) of the
  // call that the events belong to.
  const context = new AsyncResource('holdfast')
  return (event) => {
    if (publish) context.runInAsyncScope(publish, undefined, event)
    if (logger) context.runInAsyncScope(logEvent, undefined, logger, targetPath, event)
  }
}

/**
 * @param {Logger} logger
 * @param {string} targetPath
 * @param {NativeEvent} event
 */
function logEvent(logger, targetPath, event) {
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
      // The caller is told by a rejection, or the next entry by a retry. A disk that fails concerns other files, too.
      return logger[event.code === 'EIO' ? 'error' : 'debug'](
        withError({ targetPath, tempPath, errorCode: event.code, errorMessage: event.message, operation: 'atomicWrite' }, event),
        'Atomic write failed',
      )
    case 'cleanedUp':
      return logger.debug({ tempPath, operation: 'cleanup' }, 'Temp file cleaned up')
    case 'cleanupFailed':
      return logger.warn(withError({ tempPath, cleanupErrorCode: event.code }, event), 'Failed to clean up temp file')
    case 'merged':
      return logger.debug({ targetPath, size }, 'Write merged into a newer one')
    case 'retrying':
      return logger.warn(
        withError({ targetPath, attempt: event.attempt, delay: duration, errorCode: event.code }, event),
        'Retrying atomic write',
      )
  }
}

/**
 * The fields of a write's entry, with the error as `err`. What is printed of these entries is fixed, so it
 * is not enumerable: a logger that wants it takes it by its name.
 *
 * @template {object} F
 * @param {F} fields
 * @param {{ code?: string | undefined, message?: string | undefined }} failure
 * @returns {F}
 */
function withError(fields, { code, message = `${code}` }) {
  const err = Object.assign(new Error(message), { code })
  // It comes from another thread.
  err.stack = `Error: ${message}`
  return Object.defineProperty(fields, 'err', { value: err, configurable: true, writable: true })
}

/** The logger that a call was given last: it hears of limitations where there is no global one. @type {Logger | undefined} */
let lastOwn
/** Limitations that no logger has heard of yet. @type {NativeLimitation[]} */
const unsaid = []
/** Their numbers, so that each is logged once. @type {Set<number>} */
const told = new Set()

/** @type {Record<NativeLimitation['name'], string>} */
const LIMITATIONS = {
  lockFiles: 'The file system has no locks of whole files: recovery tells by its age alone whether a temp file is still being written',
  setPermissions: 'The file system does not let the permission bits of a file be changed: each is made with those that it is to have, and what the umask takes cannot be given back',
  syncDirectory: 'The file system cannot sync directories: a power cut may undo the last renames',
}

/**
 * Logs what a file system cannot do and holdfast does without: once for each file system, as soon as there is a logger.
 *
 * @param {NativeLimitation} limitation
 */
function logLimitation(limitation) {
  if (told.has(limitation.number)) return
  told.add(limitation.number)
  unsaid.push(limitation)
  const logger = globalLogger ?? lastOwn
  if (logger) logUnsaid(logger)
}

/** @param {Logger} logger */
function logUnsaid(logger) {
  for (const { name, dir } of unsaid.splice(0)) protect(logger).warn({ limitation: name, path: dir }, LIMITATIONS[name])
}

/**
 * Logs what a recovery has done.
 *
 * @param {Logger | null | undefined} own the call's option; `undefined` means the global logger
 * @param {import('../../index.js').RecoveryAction[]} actions
 * @param {Set<unknown>} undone those of the actions that say what is left to do
 */
function logRecovery(own, actions, undone) {
  const logger = safeLogger(own)
  if (!logger) return
  for (const said of actions) {
    const { path, action, reason, to, error } = said
    const fields = { path, action, reason, ...(to !== undefined && { to }), operation: 'recover' }
    if (error) logger.error({ ...fields, errorCode: error.code, errorMessage: error.message, err: error }, 'Recovery failed')
    else if (undone.has(said)) logger.warn(fields, 'Unfinished transaction: something is left to do')
    else if (action === 'removed' || action === 'left') logger.debug(fields, 'Left after a crash')
    else logger.warn(fields, 'Recovered after a crash')
  }
}

/**
 * Logs how the files of an unfinished transaction were settled.
 *
 * @param {Logger | null | undefined} own the call's option; `undefined` means the global logger
 * @param {import('../native/binding.js').NativeDecision[]} decisions
 */
function logDecisions(own, decisions) {
  const logger = safeLogger(own)
  for (const { path, verdict, reason } of decisions) {
    const message = verdict === 'conflict' ? 'Unfinished transaction: changed file left as it is' : 'Unfinished transaction settled'
    logger?.warn({ targetPath: path, action: verdict, reason, operation: 'transaction' }, message)
  }
}

module.exports = { check, logDecisions, logLimitation, logRecovery, observer, safeLogger, setLogger, withError }
