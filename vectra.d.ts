/**
 * `holdfast/vectra`: the classes that the fork of Vectra has in `AtomicOperations.ts` and `LockManager.ts`.
 *
 * @example
 * ```js
 * import { AtomicOperations, lockManager } from 'holdfast/vectra'
 *
 * const lock = await lockManager.acquireWriteLock('my-index')
 * try {
 *   await AtomicOperations.writeFile('my-index/index.json', '{"items":[]}')
 * } finally {
 *   await lock.release()
 * }
 * ```
 */
export { AtomicOperations, LockManager, lockManager } from './index.js'
export type { LockManagerOptions, ManagedLock } from './index.js'
