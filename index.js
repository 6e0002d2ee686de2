'use strict'

// The public API. This module loads the addon at once, so that a missing one shows at start-up and not at
// the first save, and the writes, which must work in an exit handler and when no more files can be
// opened. Everything else is loaded by its first call: few programs use much of it.

const { atomicWrite, atomicWriteJson, atomicWriteSync } = require('./lib/api/atomic-write.js')
const { SessionFileError } = require('./lib/native/errors.js')
const { forVectra } = require('./lib/support/defaults.js')
const { strict } = require('./lib/support/strict.js')
const { setLogger } = require('./lib/support/logger.js')

/** @typedef {typeof import('./index.js')} Contract */

/**
 * @template T
 * @param {() => T} load
 * @returns {() => T} loads it on the first call
 */
function atFirstUse(load) {
  /** @type {T | undefined} */
  let loaded
  return () => (loaded ??= load())
}

const backups = atFirstUse(() => require('./lib/api/backup.js'))
const lines = atFirstUse(() => require('./lib/lines/append.js'))
const cleanups = atFirstUse(() => require('./lib/api/cleanup-backups.js'))
const locks = atFirstUse(() => require('./lib/api/lock.js'))
const updates = atFirstUse(() => require('./lib/api/update-json.js'))
const vectra = atFirstUse(() => require('./lib/vectra/atomic-operations.js'))

/** @type {Contract['createAtomicWriteStream']} */
function createAtomicWriteStream(path, options) {
  return require('./lib/api/stream.js').createAtomicWriteStream(path, options)
}

/** @type {Contract['updateJsonFile']} */
async function updateJsonFile(path, update, options) {
  return await updates().updateJsonFile(path, update, options)
}

/** @type {Contract['updateJsonFileSync']} */
function updateJsonFileSync(/** @type {any} */ path, /** @type {any} */ update, /** @type {any} */ options) {
  return require('./lib/api/update-json-sync.js').updateJsonFileSync(path, update, options)
}

/** @type {Contract['readJsonFile']} */
async function readJsonFile(/** @type {any} */ path, /** @type {any} */ options) {
  return await require('./lib/api/read-json.js').readJsonFile(path, options)
}

/** @type {Contract['readJsonFileSync']} */
function readJsonFileSync(/** @type {any} */ path, /** @type {any} */ options) {
  return require('./lib/api/read-json.js').readJsonFileSync(path, options)
}

/** @type {Contract['jsonFile']} */
function jsonFile(/** @type {any} */ path, /** @type {any} */ options) {
  return require('./lib/api/json-file.js').jsonFile(path, options)
}

/** @type {Contract['createBackup']} */
async function createBackup(path, options) {
  return await backups().createBackup(path, options)
}

/** @type {Contract['createBackupSync']} */
function createBackupSync(path, options) {
  return backups().createBackupSync(path, options)
}

/** @type {Contract['restoreBackup']} */
async function restoreBackup(backupPath, targetPath, options) {
  await backups().restoreBackup(backupPath, targetPath, options)
}

/** @type {Contract['listBackups']} */
async function listBackups(path) {
  return await backups().listBackups(path)
}

/** @type {Contract['cleanupBackups']} */
async function cleanupBackups(/** @type {[any, any]} */ ...args) {
  return await cleanups().cleanupBackups(...args)
}

/** @type {Contract['restoreLatest']} */
async function restoreLatest(path, options) {
  return await require('./lib/api/restore-latest.js').restoreLatest(path, options)
}

/** @type {Contract['recoverFromCrash']} */
async function recoverFromCrash(pathOrDir, options) {
  return await require('./lib/api/recover.js').recoverFromCrash(pathOrDir, options)
}

/** @type {Contract['transaction']} */
async function transaction(paths, fn, options) {
  return await require('./lib/api/transaction.js').transaction(paths, fn, options)
}

/** @type {Contract['withLock']} */
async function withLock(path, fn, options) {
  return await locks().withLock(path, fn, options)
}

/** @type {Contract['withLockSync']} */
function withLockSync(/** @type {any} */ path, /** @type {any} */ fn, /** @type {any} */ options) {
  return require('./lib/api/lock-sync.js').withLockSync(path, fn, options)
}

/** @type {Contract['removeFile']} */
async function removeFile(/** @type {any} */ path, /** @type {any} */ options) {
  return await require('./lib/api/remove-file.js').removeFile(path, options)
}

/** @type {Contract['acquireLock']} */
async function acquireLock(path, options) {
  return await locks().acquireLock(path, options)
}

/** @type {Contract['tryAcquireLock']} */
async function tryAcquireLock(path, options) {
  return await locks().tryAcquireLock(path, options)
}

/** @type {Contract['isLocked']} */
async function isLocked(path, options) {
  return await locks().isLocked(path, options)
}

/** @type {Contract['openWal']} */
async function openWal(/** @type {any} */ dir, /** @type {any} */ options) {
  return await require('./lib/wal/open.js').openWal(dir, options)
}

/** @type {Contract['appendJsonLines']} */
async function appendJsonLines(path, values, options) {
  await lines().appendJsonLines(path, values, options)
}

/** @type {Contract['appendLines']} */
async function appendLines(path, text, options) {
  await lines().appendLines(path, text, options)
}

/** @type {Contract['openJsonLines']} */
async function openJsonLines(/** @type {any} */ path, /** @type {any} */ options) {
  return await require('./lib/lines/open.js').openJsonLines(path, options)
}

/** @type {Contract['metrics']} */
function metrics(...args) {
  return require('./lib/api/metrics.js').metrics(...args)
}

/** @type {Contract['resetMetrics']} */
function resetMetrics(...args) {
  return require('./lib/api/metrics.js').resetMetrics(...args)
}

/** @type {Contract['setDefaults']} */
function setDefaults(defaults) {
  require('./lib/api/set-defaults.js').setDefaults(defaults)
}

/** @type {Contract['createHoldfast']} */
function createHoldfast(defaults) {
  return require('./lib/api/create-holdfast.js').createHoldfast(module.exports, parameters, defaults)
}

/** Vectra's class of the same name. */
class AtomicOperations {
  /** @type {Contract['AtomicOperations']['cleanupBackups']} */
  static async cleanupBackups(/** @type {[any, any]} */ ...args) {
    return await cleanups().cleanupAllBackups(...args)
  }

  /** @type {Contract['AtomicOperations']['writeFile']} */
  static async writeFile(path, data, options) {
    await atomicWrite(path, data, forVectra(options))
  }

  /** @type {Contract['AtomicOperations']['createBackup']} */
  static async createBackup(path, options) {
    return await createBackup(path, forVectra(options))
  }

  /** @type {Contract['AtomicOperations']['restoreBackup']} */
  static async restoreBackup(backupPath, targetPath, options) {
    await restoreBackup(backupPath, targetPath, forVectra(options))
  }

  /** @type {Contract['AtomicOperations']['readFile']} */
  static async readFile(path, options) {
    return await vectra().readFile(path, forVectra(options))
  }

  /** @type {Contract['AtomicOperations']['updateJsonFile']} */
  static async updateJsonFile(path, updater, options) {
    return await vectra().updateJsonFile(path, updater, forVectra(options))
  }
}

/** @typedef {import('./index.js').LockManager} PublicLockManager */

/**
 * The class of the same name of Vectra's fork.
 *
 * @implements {PublicLockManager}
 */
class LockManager {
  #locks = atFirstUse(() => new (require('./lib/vectra/lock-manager.js').LockManager)())

  /** @type {PublicLockManager['acquireWriteLock']} */
  async acquireWriteLock(dir, options) {
    return await this.#locks().acquireWriteLock(dir, options)
  }

  /** @type {PublicLockManager['acquireReadLock']} */
  async acquireReadLock(dir, options) {
    return await this.#locks().acquireReadLock(dir, options)
  }

  /** @type {PublicLockManager['tryAcquireWriteLock']} */
  async tryAcquireWriteLock(dir, options) {
    return await this.#locks().tryAcquireWriteLock(dir, options)
  }

  /** @type {PublicLockManager['isWriteLocked']} */
  async isWriteLocked(dir, options) {
    return await this.#locks().isWriteLocked(dir, options)
  }

  /** @type {PublicLockManager['releaseAllLocks']} */
  async releaseAllLocks() {
    await this.#locks().releaseAllLocks()
  }
}

const functions = {
  acquireLock, appendJsonLines, appendLines, atomicWrite, atomicWriteJson, cleanupBackups, createAtomicWriteStream, createBackup, createBackupSync, createHoldfast,
  isLocked, jsonFile, listBackups, openJsonLines, openWal, readJsonFile, readJsonFileSync, recoverFromCrash, removeFile, restoreBackup, restoreLatest, setDefaults, setLogger, transaction,
  tryAcquireLock, updateJsonFile, updateJsonFileSync, withLock, withLockSync,
}

/** What each function takes. */
const parameters = {
  acquireLock: 'path options',
  appendJsonLines: 'path values options',
  appendLines: 'path lines options',
  atomicWrite: 'path data options',
  atomicWriteJson: 'path value options',
  atomicWriteSync: 'path data options',
  cleanupBackups: 'dir pattern maxAge options',
  createAtomicWriteStream: 'path options',
  createBackup: 'path options',
  createBackupSync: 'path options',
  createHoldfast: 'defaults',
  isLocked: 'path options',
  jsonFile: 'path options',
  listBackups: 'path',
  openJsonLines: 'path options',
  openWal: 'dir options',
  readJsonFile: 'path options',
  readJsonFileSync: 'path options',
  recoverFromCrash: 'pathOrDir options',
  removeFile: 'path options',
  restoreBackup: 'backupPath targetPath options',
  restoreLatest: 'path options',
  setDefaults: 'defaults',
  setLogger: 'logger',
  transaction: 'paths fn options',
  tryAcquireLock: 'path options',
  updateJsonFile: 'path update options',
  updateJsonFileSync: 'path update options',
  withLock: 'path fn options',
  withLockSync: 'path fn options',
}

module.exports = {
  ...strict(functions, parameters),
  AtomicOperations,
  // They see to that themselves.
  atomicWriteSync,
  LockManager,
  lockManager: new LockManager(),
  metrics,
  resetMetrics,
  SessionFileError,
}
