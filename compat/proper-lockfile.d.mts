import lock from './proper-lockfile.js'

export default lock
export { lock }
export type CheckOptions = lock.CheckOptions
export type FindOptions = lock.FindOptions
export type LockOptions = lock.LockOptions
export type LockSyncOptions = lock.LockSyncOptions
export type RetryOptions = lock.RetryOptions
export const unlock: typeof lock.unlock
export const check: typeof lock.check
export const lockSync: typeof lock.lockSync
export const unlockSync: typeof lock.unlockSync
export const checkSync: typeof lock.checkSync
