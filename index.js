'use strict'

const { AtomicOperations } = require('./lib/atomic-operations.js')
const { atomicWrite, atomicWriteJson, atomicWriteSync } = require('./lib/atomic-write.js')
const { cleanupBackups, createBackup, listBackups, restoreBackup } = require('./lib/backup.js')
const { setDefaults } = require('./lib/defaults.js')
const { SessionFileError } = require('./lib/errors.js')
const { acquireLock, isLocked, tryAcquireLock, withLock } = require('./lib/lock.js')
const { LockManager, lockManager } = require('./lib/lock-manager.js')
const { setLogger } = require('./lib/logger.js')
const { metrics, resetMetrics } = require('./lib/metrics.js')
const { recoverFromCrash } = require('./lib/recover.js')
const { transaction } = require('./lib/transaction.js')
const { updateJsonFile } = require('./lib/update-json.js')
const { openWal } = require('./lib/wal.js')

/**
 * Loaded when it is first used: Node's streams take longer to load than most of this package.
 *
 * @type {typeof import('./index.js').createAtomicWriteStream}
 */
function createAtomicWriteStream(path, options) {
  return require('./lib/stream.js').createAtomicWriteStream(path, options)
}

module.exports = {
  acquireLock,
  AtomicOperations,
  atomicWrite,
  atomicWriteJson,
  atomicWriteSync,
  cleanupBackups,
  createAtomicWriteStream,
  createBackup,
  isLocked,
  listBackups,
  LockManager,
  lockManager,
  metrics,
  recoverFromCrash,
  resetMetrics,
  openWal,
  restoreBackup,
  SessionFileError,
  setDefaults,
  setLogger,
  transaction,
  tryAcquireLock,
  updateJsonFile,
  withLock,
}
