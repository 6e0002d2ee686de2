'use strict'

// Recovery after a crash.

const { abortSignal, boolean, milliseconds, oneOf, readOptions, toAbsolute, toPath, wrongValue } = require('../support/arguments.js')
const { failed } = require('../native/errors.js')
const { lockFor, waitFor } = require('./lock.js')
const logger = require('../support/logger.js')
const { native } = require('../native/port.js')

const OPERATION = 'recover'

const json = oneOf('json')

/** @param {unknown} value @param {string} name @returns {'json' | false} */
function jsonOrFalse(value, name) {
  if (value === true) throw wrongValue(`${name} must be 'json' or false. Received true`)
  return value === false ? value : json(value, name)
}

const checks = {
  legacy: boolean,
  promote: boolean,
  minAge: milliseconds(Infinity),
  recursive: boolean,
  dryRun: boolean,
  validate: jsonOrFalse,
  backups: boolean,
  lock: boolean,
  timeout: milliseconds(Infinity),
  signal: abortSignal,
  logger: logger.check,
}

/** @typedef {{ [K in keyof typeof checks]?: ReturnType<typeof checks[K]> }} Options */

/** @type {typeof import('../../index.js').recoverFromCrash} */
async function recoverFromCrash(pathOrDir, options) {
  const read = readOptions(options, checks, 'recoverFromCrash')
  const target = toPath(pathOrDir, 'pathOrDir', 'tree')
  try {
    const done = await recover(toAbsolute(target), read)
    const actions = done.map(({ path, action, to, reason, error }) => ({
      path,
      action,
      reason,
      ...(to !== undefined && { to }),
      ...(error && { error: /** @type {import('../../index.js').SessionFileError} */ (failed(path, OPERATION, error)) }),
    }))
    const undone = new Set(actions.filter((_, number) => done[number]?.isUndone))
    if (!read.dryRun) logger.logRecovery(read.logger, actions, undone)
    return { actions, complete: undone.size === 0 }
  } catch (error) {
    throw failed(target, OPERATION, error, read.signal)
  }
}

/**
 * @param {string} path
 * @param {Options} options
 * @returns {Promise<import('../native/binding.js').NativeAction[]>}
 */
async function recover(path, { lock = true, timeout, signal, ...options }) {
  const settings = toNative(options)
  const control = new native.Control()
  /**
   * @param {(opened: import('../native/binding.js').Port, id: number) => void} start
   * @returns {Promise<import('../native/binding.js').RecoveryReport>}
   */
  const run = (start) =>
    waitFor(
      signal,
      (opened, id) => {
        start(opened, id)
        return null
      },
      control,
    )
  // A dry run changes nothing, so it needs no lock.
  const withoutLock = !lock || options.dryRun === true
  const { actions: done, needsLock } = await run((opened, id) => opened.recover(id, path, settings, withoutLock, control))
  if (!needsLock) return done
  const { lock: number } = await lockFor(path, { signal, timeout })
  const recovered = await run((opened, id) => opened.recoverInOrder(id, path, settings, number, control))
  return [...done, ...recovered.actions]
}

/** @param {Options} options @returns {import('../native/binding.js').RecoveryOptions} */
function toNative({ legacy, promote, minAge, recursive, dryRun, validate, backups }) {
  return {
    ...(legacy !== undefined && { legacy }),
    ...(promote !== undefined && { promote }),
    ...(minAge !== undefined && { minAge }),
    ...(recursive !== undefined && { recursive }),
    ...(dryRun !== undefined && { dryRun }),
    ...(backups !== undefined && { backups }),
    ...(validate !== undefined && { isJson: validate !== false }),
  }
}

module.exports = { recoverFromCrash }
