// One implementation for both module systems, so that `instanceof` holds across them.
import holdfast from './index.js'

export const {
  acquireLock,
  atomicWrite,
  atomicWriteJson,
  atomicWriteSync,
  isLocked,
  SessionFileError,
  setLogger,
  tryAcquireLock,
  updateJsonFile,
  withLock,
} = holdfast
