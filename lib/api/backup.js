'use strict'

// Backups of files: made, restored, listed, removed.

const { types } = require('node:util')
const { basename } = require('node:path')
const { DEFAULT_LOCK_TIMEOUT, boolean, integer, milliseconds, readOptions, toAbsolute, toPath, wrongType } = require('../support/arguments.js')
const { traced, traces } = require('../support/diagnostics.js')
const { failed } = require('../native/errors.js')
const { heldFor, waitFor } = require('./lock.js')
const { observer } = require('../support/logger.js')
const port = require('../native/port.js')
const writeOptions = require('../support/write-options.js')

const { native } = port

const WEEK = 7 * 24 * 60 * 60 * 1000

const { encoding: _encoding, newFileMode: _newFileMode, ...restoreChecks } = { ...writeOptions.checks, lock: boolean, timeout: milliseconds(Infinity) }

const { durability, retries, retryDelay, signal, validate, logger } = writeOptions.checks
const createChecks = { durability, retries, retryDelay, signal, validate, logger, keep: integer(1, 1_000_000) }

const cleanupChecks = { anyName: boolean }

/** @typedef {{ [K in keyof typeof createChecks]?: ReturnType<typeof createChecks[K]> }} CreateOptions */
/** @typedef {{ [K in keyof typeof restoreChecks]?: ReturnType<typeof restoreChecks[K]> }} RestoreOptions */

/** @type {typeof import('../../index.js').createBackup} */
async function createBackup(path, options) {
  const read = readOptions(options, createChecks, 'createBackup')
  return await tracedCreate(toPath(path), read)
}

/** @param {string} source @param {CreateOptions} options */
async function create(source, { keep, ...read }) {
  try {
    const from = toAbsolute(source)
    const settings = writeOptions.toNative(read)
    const now = Date.now()
    const observe = observer(read.logger, `${source}.${now}.backup`)
    const control = new native.Control()
    /** @param {import('../native/binding.js').Port} opened @param {number} id */
    const start = (opened, id) => {
      opened.createBackup(id, from, now, settings, keep, observe !== undefined, control)
      return null
    }
    /** @type {string} */
    const name = await waitFor(read.signal, start, control, observe)
    return beside(source, name)
  } catch (error) {
    throw failed(source, 'create backup', error, read.signal)
  }
}

const tracedCreate = traced(traces.backup, create, (path, { durability = 'full' }) => ({ operation: 'create backup', path, durability }))

/**
 * The path of a file in the same directory, spelt as the caller has spelt that.
 *
 * @param {string} path
 * @param {string} name
 */
function beside(path, name) {
  return path.slice(0, path.length - basename(path).length) + name
}

/** @type {typeof import('../../index.js').restoreBackup} */
async function restoreBackup(backupPath, targetPath, options) {
  const read = readOptions(options, restoreChecks, 'restoreBackup')
  const backup = toPath(backupPath, 'backupPath', 'read')
  await tracedRestore(toPath(targetPath, 'targetPath'), backup, read)
}

/** @param {string} target @param {string} backup @param {RestoreOptions} read */
async function restore(target, backup, read) {
  try {
    const [from, to] = [toAbsolute(backup), toAbsolute(target)]
    writeOptions.beforeWrite(to, 'tx.write', read.lock !== false)
    const settings = writeOptions.toNative(read)
    const observe = observer(read.logger, target)
    const control = new native.Control()
    const timeout = read.lock === false ? undefined : (read.timeout ?? DEFAULT_LOCK_TIMEOUT)
    const held = timeout === undefined ? undefined : heldFor(to)
    await waitFor(
      read.signal,
      (opened, id) => opened.restoreBackup(id, from, to, settings, timeout, held, observe !== undefined, control),
      control,
      observe,
    )
  } catch (error) {
    throw failed(target, 'restore backup', error, read.signal)
  }
}

const tracedRestore = traced(traces.backup, restore, (path, backup, { durability = 'full' }) => ({ operation: 'restore backup', path, backup, durability }))

/** @type {typeof import('../../index.js').listBackups} */
async function listBackups(path) {
  const source = toPath(path, 'path', 'read')
  try {
    const absolute = toAbsolute(source)
    /** @type {import('../native/binding.js').NativeBackup[]} */
    const backups = await port.run((opened, id) => opened.listBackups(id, absolute))
    return backups.map(({ name, time, size }) => ({ path: beside(source, name), createdAt: new Date(time), size }))
  } catch (error) {
    throw failed(source, 'list backups', error)
  }
}

/** @type {typeof import('../../index.js').cleanupBackups} */
async function cleanupBackups(dir, pattern, maxAge = WEEK, options) {
  const target = toPath(dir, 'dir', 'dir')
  if (!types.isRegExp(pattern)) throw wrongType('The "pattern" argument', 'an instance of RegExp', pattern)
  const age = milliseconds(Infinity)(maxAge, 'The "maxAge" argument')
  const { anyName = false } = readOptions(options, cleanupChecks, 'cleanupBackups')
  try {
    const absolute = toAbsolute(target)
    const now = Date.now()
    const limit = now - age
    /** @type {import('../native/binding.js').NativeCandidate[]} */
    const candidates = await port.run((opened, id) => opened.listCandidates(id, absolute, anyName, now))
    const isOld = (/** @type {number | undefined} */ time) => anyName || (time !== undefined && time <= limit)
    const chosen = candidates.filter(({ name, time }) => isOld(time) && matches(pattern, name)).map(({ name }) => name)
    // A negative limit is older than any time.
    if (chosen.length === 0 || limit < 0) return []
    // Every file is of an age of 0, also one that was changed when the clock was ahead.
    return await port.run((opened, id) => opened.removeFiles(id, absolute, chosen, anyName && age > 0 ? limit : undefined))
  } catch (error) {
    throw failed(target, 'clean up backups', error)
  }
}

/**
 * Whether a name matches. A pattern with the flag g or y continues where its last match ended; here
 * each name is matched from its beginning, and the pattern stays as it was.
 *
 * @param {RegExp} pattern
 * @param {string} name
 */
function matches(pattern, name) {
  const { lastIndex } = pattern
  pattern.lastIndex = 0
  try {
    return pattern.test(name)
  } finally {
    pattern.lastIndex = lastIndex
  }
}

module.exports = { cleanupBackups, createBackup, listBackups, restoreBackup }
