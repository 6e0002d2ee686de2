// One implementation for both module systems, so that `instanceof` holds across them.
import holdfast from './index.js'

export const {
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
} = holdfast
