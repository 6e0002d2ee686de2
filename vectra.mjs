// One implementation for both module systems, so that `instanceof` holds across them.
import vectra from './vectra.js'

export const { AtomicFileStorage, AtomicOperations, LockManager, lockManager } = vectra
