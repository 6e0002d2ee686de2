'use strict'

// Backups of files: made, restored, listed.

const { basename } = require('node:path')
const { inspect } = require('node:util')
const { DEFAULT_LOCK_TIMEOUT, boolean, integer, milliseconds, readOptions, readOwnOptions, toAbsolute, toPath, wrongType, wrongValue } = require('../support/arguments.js')
const { traced, tracedSync, traces } = require('../support/diagnostics.js')
const { failed } = require('../native/errors.js')
const { heldFor, waitFor } = require('./lock.js')
const { observer } = require('../support/logger.js')
const port = require('../native/port.js')
const writeOptions = require('../support/write-options.js')

const { native } = port

const OPERATION = 'create backup'

const { encoding: _encoding, newFileMode: _newFileMode, ...restoreChecks } = { ...writeOptions.checks, lock: boolean, timeout: milliseconds(Infinity) }

const count = integer(1, 1_000_000)
const periodChecks = { last: count, hourly: count, daily: count, weekly: count }

/** How many backups are kept, as the native side takes it. @param {unknown} value @param {string} name @returns {import('../native/binding.js').NativeRetention} */
function toRetention(value, name) {
  if (typeof value === 'number') return { last: count(value, name) }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw wrongType(name, 'of type number or an object with last, hourly, daily or weekly', value)
  }
  const read = readOwnOptions(value, periodChecks, 'keep')
  if (Object.keys(read).length === 0) throw wrongValue(`${name} must say how many are kept: last, hourly, daily or weekly. Received ${inspect(value)}`)
  return read
}

const { durability, retries, retryDelay, signal, validate, logger } = writeOptions.checks
const createChecks = { durability, retries, retryDelay, signal, validate, logger, keep: toRetention, onlyIfChanged: boolean, minInterval: milliseconds(Infinity) }
const { signal: _signal, ...createSyncChecks } = createChecks

/** @typedef {{ [K in keyof typeof createChecks]?: ReturnType<typeof createChecks[K]> }} CreateOptions */
/** @typedef {{ [K in keyof typeof restoreChecks]?: ReturnType<typeof restoreChecks[K]> }} RestoreOptions */

/** @type {typeof import('../../index.js').createBackup} */
async function createBackup(path, options) {
  const read = readOptions(options, createChecks, 'createBackup')
  return await tracedCreate(toPath(path), read)
}

/** @param {string} source @param {CreateOptions} options */
async function create(source, { keep, onlyIfChanged, minInterval, ...read }) {
  try {
    const from = toAbsolute(source)
    const settings = writeOptions.toNative(read)
    const now = Date.now()
    const observe = observer(read.logger, `${source}.${now}.backup`)
    const control = new native.Control()
    /** @param {import('../native/binding.js').Port} opened @param {number} id */
    const start = (opened, id) => {
      opened.createBackup(id, from, now, settings, toHistory({ keep, onlyIfChanged, minInterval }), observe !== undefined, control)
      return null
    }
    /** @type {string} */
    const name = await waitFor(read.signal, start, control, observe)
    return beside(source, name)
  } catch (error) {
    throw failed(source, OPERATION, error, read.signal)
  }
}

/** @param {string} path @param {CreateOptions} options */
function describeCreate(path, { durability = 'full' }) {
  return { operation: OPERATION, path, durability }
}

const tracedCreate = traced(traces.backup, create, describeCreate)

/** @type {typeof import('../../index.js').createBackupSync} */
function createBackupSync(path, options) {
  const read = readOptions(options, createSyncChecks, 'createBackupSync')
  return tracedCreateSync(toPath(path), read)
}

/** @param {string} source @param {Omit<CreateOptions, 'signal'>} options */
function createSync(source, { keep, onlyIfChanged, minInterval, ...read }) {
  /** @type {import('../native/binding.js').BackupNow} */
  let made
  const now = Date.now()
  const observe = observer(read.logger, `${source}.${now}.backup`)
  try {
    const settings = writeOptions.toNative(read)
    made = native.createBackupNow(toAbsolute(source), now, settings, toHistory({ keep, onlyIfChanged, minInterval }), observe !== undefined)
  } catch (error) {
    throw failed(source, OPERATION, error)
  }
  for (const { event, error } of made.reports) {
    if (event) observe?.(event)
    if (error) throw failed(source, OPERATION, error)
  }
  return beside(source, /** @type {string} */ (made.name))
}

const tracedCreateSync = tracedSync(traces.backup, createSync, describeCreate)

/** @param {{ [K in 'keep' | 'onlyIfChanged' | 'minInterval']: CreateOptions[K] | undefined }} options @returns {import('../native/binding.js').NativeHistory | undefined} */
function toHistory({ keep, onlyIfChanged, minInterval }) {
  if (keep === undefined && onlyIfChanged === undefined && minInterval === undefined) return undefined
  return {
    ...(keep !== undefined && { keep }),
    ...(onlyIfChanged !== undefined && { onlyIfChanged }),
    ...(minInterval !== undefined && { minInterval }),
  }
}

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

/**
 * A backup as users see it.
 *
 * @param {string} source the path of its file, as it was given
 * @param {import('../native/binding.js').NativeBackup} backup
 * @returns {import('../../index.js').Backup}
 */
function toBackup(source, { name, time, size }) {
  return { path: beside(source, name), createdAt: new Date(time), size }
}

/** @type {typeof import('../../index.js').listBackups} */
async function listBackups(path) {
  const source = toPath(path, 'path', 'read')
  try {
    const absolute = toAbsolute(source)
    /** @type {import('../native/binding.js').NativeBackup[]} */
    const backups = await port.run((opened, id) => opened.listBackups(id, absolute))
    return backups.map((backup) => toBackup(source, backup))
  } catch (error) {
    throw failed(source, 'list backups', error)
  }
}

module.exports = { beside, createBackup, createBackupSync, listBackups, restoreBackup, restoreChecks, toBackup, tracedRestore, toRetention }
