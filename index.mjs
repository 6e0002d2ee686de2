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
  openWal,
  restoreBackup,
  SessionFileError,
  setLogger,
  tryAcquireLock,
  updateJsonFile,
  withLock,
} = holdfast
