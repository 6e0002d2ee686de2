'use strict'

// The removal of a file for good, with what belongs to it.

const { DEFAULT_LOCK_TIMEOUT, boolean, milliseconds, readOptions, toAbsolute, toPath, wrongType } = require('../support/arguments.js')
const { boundLike } = require('../support/defaults.js')
const { CANCELLED, failed } = require('../native/errors.js')
const port = require('../native/port.js')
const writeOptions = require('../support/write-options.js')
const { createBackup } = require('./backup.js')
const { lockFor, releaseNumber } = require('./lock.js')
const { recoverFromCrash } = require('./recover.js')

const OPERATION = 'remove file'

const { durability, followSymlinks, signal, logger } = writeOptions.checks
const checks = { durability, followSymlinks, signal, logger, lock: boolean, timeout: milliseconds(Infinity), backup, force: boolean }

/** @param {unknown} value @param {string} name @returns {boolean | object} the options of `createBackup` are checked there */
function backup(value, name) {
  if (typeof value !== 'boolean' && (typeof value !== 'object' || value === null)) throw wrongType(name, 'of type boolean or object', value)
  return value
}

/** @type {typeof import('../../index.js').removeFile} */
async function removeFile(/** @type {any} */ path, /** @type {any} */ options) {
  const read = readOptions(options, checks, 'removeFile')
  const target = toPath(path)
  const { signal, backup, force, lock: isLocked, timeout = DEFAULT_LOCK_TIMEOUT } = read
  /** @type {any} */
  let kept
  try {
    const absolute = toAbsolute(target)
    writeOptions.beforeWrite(absolute, 'tx.remove', isLocked !== false)
    if (signal?.aborted) throw CANCELLED
    const settings = writeOptions.toNative(read)
    let { lock } = isLocked === false ? { lock: undefined } : await lockFor(absolute, { signal, timeout })
    try {
      if (backup) kept = await createBackup(target, boundLike({ durability: read.durability, signal, logger: read.logger, ...(backup === true ? {} : backup) }, options))
      if (signal?.aborted) throw CANCELLED
      const number = lock
      // From the call on the native side releases the lock, whatever comes of it.
      lock = undefined
      await port.run((opened, id) => opened.removeFile(id, absolute, settings, number))
    } finally {
      if (lock !== undefined) await releaseNumber(lock)
    }
  } catch (error) {
    const made = /** @type {any} */ (failed(target, OPERATION, error, signal))
    if (force && made.code === 'ENOENT') return kept
    if (made.committed) made.hint = 'The file is gone, but its removal could not be made durable: a power cut may bring it back.'
    throw made
  }
  try {
    await removeRemains(target, read)
  } catch (error) {
    throw Object.assign(failed(target, OPERATION, error), { committed: true, hint: 'The file is gone, but a temp file that a killed process has left of it is not: recoverFromCrash says more.' })
  }
  return kept
}

/**
 * Removes the temp files that a killed process has left of the file: a recovery would take them for it. Those of
 * live processes are locked, so this needs no lock.
 *
 * @param {string} target
 * @param {{ logger?: import('../../index.js').Logger | null }} options
 */
async function removeRemains(target, { logger }) {
  const { actions } = await recoverFromCrash(target, { promote: false, validate: false, lock: false, logger })
  const problem = actions.find(({ error }) => error)
  if (problem) throw problem.error
}

module.exports = { backup, removeFile }
