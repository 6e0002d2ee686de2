// One implementation for both module systems.
import lock from './proper-lockfile.js'

export default lock
export const { unlock, check, lockSync, unlockSync, checkSync } = lock
export { lock }
