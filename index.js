'use strict'

const { AtomicOperations } = require('./lib/atomic-operations.js')
const { atomicWrite, atomicWriteJson, atomicWriteSync } = require('./lib/atomic-write.js')
const { cleanupBackups, createBackup, listBackups, restoreBackup } = require('./lib/backup.js')
const { SessionFileError } = require('./lib/errors.js')
const { acquireLock, isLocked, tryAcquireLock, withLock } = require('./lib/lock.js')
const { setLogger } = require('./lib/logger.js')
const { createAtomicWriteStream } = require('./lib/stream.js')
const { updateJsonFile } = require('./lib/update-json.js')
const { openWal } = require('./lib/wal.js')

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
  openWal,
  restoreBackup,
  SessionFileError,
  setLogger,
  tryAcquireLock,
  updateJsonFile,
  withLock,
}
