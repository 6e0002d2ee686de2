'use strict'

// The API of the package `proper-lockfile`: its functions, arguments, error codes and messages, built
// on holdfast's locks of the same protocol.

const nodeFs = require('node:fs')
const nodePath = require('node:path')
const { LONGEST_DELAY, toAbsolute, toPath, wrongType, wrongValue } = require('../lib/support/arguments.js')
const { causeOf, errnoOf, isError, lossOf } = require('../lib/native/errors.js')
const { acquireLockfile } = require('../lib/api/lock.js')
const { HeldLockfile, LEAST_STALE, LEAST_UPDATE, STALE, isHeld, isHeldSync, locate, locateSync } = require('../lib/api/lockfile.js')

const checks = {
  stale: (/** @type {unknown} */ value, /** @type {string} */ name) => (value ? number(value, name) : 0),
  update: (/** @type {unknown} */ value, /** @type {string} */ name) => (value === null ? undefined : value ? number(value, name) : 0),
  retries,
  realpath: Boolean,
  // An empty value means no path.
  lockfilePath: (/** @type {unknown} */ value) => (value ? nodePath.resolve(toPath(value, 'lockfilePath')) : undefined),
  onCompromised: callback,
  fs: nodeFileSystem,
}

const retryChecks = {
  retries: number,
  factor: number,
  minTimeout: number,
  maxTimeout: number,
  maxRetryTime: number,
  randomize: Boolean,
  forever: Boolean,
  unref: Boolean,
}

/**
 * The options of a call, without those that are unknown, as the package ignores them.
 *
 * @template {Record<string, (value: any, name: string) => any>} C
 * @param {unknown} options
 * @param {C} known
 * @returns {{ [K in keyof C]?: ReturnType<C[K]> }} what is set
 */
function readKnown(options, known) {
  const given = /** @type {Record<string, unknown>} */ (typeof options === 'object' && options !== null ? options : {})
  const read = Object.entries(known).map(([name, check]) => [name, given[name] === undefined ? undefined : check(given[name], `The "${name}" option`)])
  return /** @type {any} */ (Object.fromEntries(read.filter(([, value]) => value !== undefined)))
}

/** A number, in digits too. @param {unknown} value @param {string} name @returns {number} */
function number(value, name) {
  const read = typeof value === 'string' || typeof value === 'boolean' ? Number(value) : value
  if (typeof read !== 'number' || Number.isNaN(read)) throw wrongType(name, 'of type number', value)
  return read
}

/** @typedef {{ [K in keyof typeof retryChecks]?: ReturnType<typeof retryChecks[K]> } & { pauses?: number[] }} Retries */

/** @param {unknown} value @param {string} name @returns {Retries} */
function retries(value, name) {
  if (!value) return { retries: 0 }
  if (Array.isArray(value)) return { pauses: value.map((pause) => number(pause, name)) }
  if (typeof value === 'number') return { retries: number(value, name) }
  // The package makes the usual attempts of anything else that is no object, digits included.
  return readKnown(value, retryChecks)
}

/** @param {unknown} value @param {string} name @returns {((error: Error) => void) | undefined} */
function callback(value, name) {
  if (!value) return undefined
  if (typeof value !== 'function') throw wrongType(name, 'of type function', value)
  return /** @type {(error: Error) => void} */ (value)
}

/** The calls by which the package makes, refreshes and removes a lock. `graceful-fs`, its default, has Node's. @type {('mkdir' | 'rmdir' | 'utimes')[]} */
const LOCK_CALLS = ['mkdir', 'rmdir', 'utimes']

/** @param {any} value @param {string} name */
function nodeFileSystem(value, name) {
  if (!value) return undefined
  const given = value.default ?? value
  if (!LOCK_CALLS.every((call) => given[call] === nodeFs[call])) {
    throw wrongValue(`${name} must be node:fs or graceful-fs, or be left out: locks are taken on threads without JavaScript, which call no other file system, and the file would be locked on the wrong one`)
  }
  return nodeFs
}

/** @typedef {{ [K in keyof typeof checks]?: ReturnType<typeof checks[K]> | undefined }} Options */

/** @param {Options} options */
function rulesOf(options) {
  const stale = Math.min(Math.max(options.stale || 0, LEAST_STALE), LONGEST_DELAY)
  const update = options.update === undefined ? stale / 2 : options.update || 0
  return { stale, update: Math.max(Math.min(update, stale / 2), LEAST_UPDATE) }
}

/**
 * Which lock the arguments name, and its file if no look-up is needed.
 *
 * @param {unknown} file
 * @param {Options} options
 * @returns {{ naming: import('../lib/native/binding.js').LockNaming, own: import('../lib/native/binding.js').LockNaming, file?: string }}
 *   `own` names the lock beside the file, wherever the lock directory is
 */
function lockNamed(file, { realpath = true, lockfilePath }) {
  const dir = lockfilePath === undefined ? {} : { dir: lockfilePath }
  if (realpath) {
    const own = { path: toAbsolute(toPath(file, 'file')), mustExist: true }
    return { naming: { ...own, ...dir }, own }
  }
  const resolved = nodePath.resolve(toPath(file, 'file'))
  const own = { path: resolved, followSymlinks: false }
  return { naming: { ...own, ...dir }, own, file: resolved }
}

/**
 * A lock that a call of this thread has acquired.
 *
 * @typedef {object} AcquiredLock
 * @property {InstanceType<typeof HeldLockfile>} lockfile
 * @property {boolean} isReleased
 */

/** The locks that this thread holds, by the path of their file. @type {Map<string, AcquiredLock>} */
const locks = new Map()

/**
 * @param {InstanceType<typeof HeldLockfile>} lockfile
 * @param {string} file
 * @param {(error: Error) => void} onCompromised
 */
function register(lockfile, file, onCompromised) {
  /** @type {AcquiredLock} */
  const own = { lockfile, isReleased: false }
  locks.set(file, own)
  const onLoss = () => {
    if (own.isReleased) return
    unregister(file, own)
    // The lock is already free: this releases the native handle.
    lockfile.release().catch(() => {})
    onCompromised(compromised(lossOf(lockfile.signal.reason)))
  }
  // The lock may have been lost before its acquisition was reported to JavaScript.
  if (lockfile.signal.aborted) queueMicrotask(onLoss)
  else lockfile.signal.addEventListener('abort', onLoss, { once: true })
  return own
}

/** @param {string} file @param {AcquiredLock} own */
function unregister(file, own) {
  own.isReleased = true
  if (locks.get(file) === own) locks.delete(file)
}

/** @param {Error} error */
function throwIt(error) {
  throw error
}

/** The error for a lost lock: the system's, or that another process has taken it. @param {import('../lib/native/binding.js').NativeError | undefined} loss */
function compromised(loss) {
  const { cause, syscall, path } = loss ?? {}
  if (cause === undefined) return coded('Unable to update lock within the stale threshold', 'ECOMPROMISED')
  return Object.assign(coded(cause, 'ECOMPROMISED'), { errno: errnoOf(/^\w*/.exec(cause)?.[0] ?? ''), syscall, path })
}

/** @param {string} message @param {string} code */
function coded(message, code) {
  return Object.assign(new Error(message), { code })
}

/**
 * The error that the package would report.
 *
 * @param {any} failure
 * @param {string} file
 */
function translated(failure, file) {
  if (isError(failure)) return failure
  if (isLocked(failure)) return Object.assign(coded('Lock file is already being held', 'ELOCKED'), { file })
  if (failure.kind === 'lost') return compromised(failure)
  return causeOf(failure)
}

const alreadyReleased = () => coded('Lock is already released', 'ERELEASED')
const notAcquired = () => coded('Lock is not acquired/owned by you', 'ENOTACQUIRED')

/** Whether another caller holds the lock. @param {any} failure */
const isLocked = (failure) => failure.kind === 'locked'

/** Whether the file could not be found, which the package does not try again. @param {any} failure */
const isFileMissing = (failure) => failure.syscall === 'realpath'

/** Whether even the directory that would hold the lock is missing. @param {any} failure */
const isDirMissing = (failure) => failure.code === 'ENOENT' && failure.syscall === 'open'

/** Whether the lock directory to be released was missing, and no other process had taken the lock. @param {any} failure */
const isGone = (failure) => failure.kind === 'lost' && failure.cause !== undefined

/**
 * The pauses between attempts, the shortest first.
 *
 * @param {Retries} options
 */
function pausesOf({ pauses, retries = 10, factor = 2, minTimeout = 1000, maxTimeout = Infinity, randomize = false, forever = false }) {
  if (pauses) return pauses
  if (minTimeout > maxTimeout) throw new Error('minTimeout is greater than maxTimeout')
  const count = retries === 0 && forever ? 1 : retries
  const all = Array.from({ length: count }, (_, i) => {
    const factorOfChance = randomize ? 1 + Math.random() : 1
    return Math.min(Math.round(factorOfChance * minTimeout * factor ** i), maxTimeout)
  })
  return all.sort((a, b) => a - b)
}

/**
 * Acquires a lock in as many attempts as the caller allows. Where the package would pause between attempts, a
 * native thread waits, so the lock is acquired as soon as it is free.
 *
 * @param {Retries} options
 * @param {(timeout: number) => Promise<InstanceType<typeof HeldLockfile>>} attempt
 */
async function acquireWithRetries(options, attempt) {
  const { forever = false, unref = false, maxRetryTime = Infinity } = options
  const all = pausesOf(options)
  const start = performance.now()
  for (let i = 0; ; i++) {
    const rest = forever ? Infinity : all.slice(i).reduce((sum, pause) => sum + pause, 0)
    const timeout = Math.max(0, Math.min(rest, maxRetryTime - (performance.now() - start)))
    try {
      // A native wait keeps the process alive, and `unref` forbids that.
      return await attempt(unref ? 0 : timeout)
    } catch (error) {
      const isLast = timeout === 0 || isFileMissing(error) || (!unref && isLocked(error))
      if (isLast) throw error
      const pause = all[forever ? i % all.length : i] ?? 0
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, pause)
        if (unref) timer.unref()
      })
    }
  }
}

/**
 * @param {string} file
 * @param {object} [options]
 */
async function lock(file, options) {
  const { onCompromised = throwIt, ...read } = readKnown(options, checks)
  const rules = rulesOf({ stale: STALE, ...read })
  const named = lockNamed(file, read)
  try {
    const lockfile = await acquireWithRetries(read.retries ?? { retries: 0 }, (timeout) => acquireLockfile(file, named.naming, rules, timeout))
    const real = lockfile.file ?? named.naming.path
    const own = register(lockfile, real, onCompromised)
    return async () => {
      if (own.isReleased) throw alreadyReleased()
      await release(own, real)
    }
  } catch (error) {
    throw translated(error, named.file ?? (isLocked(error) ? await realPathOf(named) : named.naming.path))
  }
}

/** @typedef {import('../lib/native/binding.js').LockNaming} LockNaming */

/**
 * The real path of the file, by which its lock is registered.
 *
 * @param {{ own: LockNaming, naming: LockNaming }} named
 */
async function realPathOf({ own, naming }) {
  try {
    return (await locate(own)).text ?? naming.path
  } catch (error) {
    throw translated(error, naming.path)
  }
}

/** @param {AcquiredLock} own @param {string} file */
async function release(own, file) {
  unregister(file, own)
  try {
    await own.lockfile.release()
  } catch (error) {
    if (!isGone(error)) throw translated(error, file)
  }
}

/**
 * @param {string} file
 * @param {object} [options]
 */
async function unlock(file, options) {
  const read = readKnown(options, checks)
  const named = lockNamed(file, read)
  const real = named.file ?? (await realPathOf(named))
  const own = locks.get(real)
  if (!own) throw notAcquired()
  await release(own, real)
}

/**
 * @param {string} file
 * @param {object} [options]
 */
async function check(file, options) {
  const read = readKnown(options, checks)
  const { naming } = lockNamed(file, read)
  try {
    return await isHeld(naming, rulesOf({ stale: STALE, ...read }).stale)
  } catch (error) {
    if (isDirMissing(error)) return false
    throw translated(error, naming.path)
  }
}

/** @param {Options} read */
function refuseRetries({ retries }) {
  if (retries !== undefined && (retries.retries ?? 0) > 0) throw coded('Cannot use retries with the sync api', 'ESYNC')
}

/**
 * @param {string} file
 * @param {object} [options]
 */
function lockSync(file, options) {
  const { onCompromised = throwIt, ...read } = readKnown(options, checks)
  refuseRetries(read)
  const named = lockNamed(file, read)
  try {
    const lockfile = HeldLockfile.acquireSync(file, named.naming, rulesOf({ stale: STALE, ...read }))
    const real = lockfile.file ?? named.naming.path
    const own = register(lockfile, real, onCompromised)
    return () => {
      if (own.isReleased) throw alreadyReleased()
      releaseSync(own, real)
    }
  } catch (error) {
    throw translated(error, named.file ?? (isLocked(error) ? realPathSync(named) : named.naming.path))
  }
}

/** @param {{ own: LockNaming, naming: LockNaming }} named */
function realPathSync({ own, naming }) {
  try {
    return locateSync(own).text ?? naming.path
  } catch (error) {
    throw translated(error, naming.path)
  }
}

/** @param {AcquiredLock} own @param {string} file */
function releaseSync(own, file) {
  unregister(file, own)
  try {
    own.lockfile.releaseSync()
  } catch (error) {
    if (!isGone(error)) throw translated(error, file)
  }
}

/**
 * @param {string} file
 * @param {object} [options]
 */
function unlockSync(file, options) {
  const read = readKnown(options, checks)
  refuseRetries(read)
  const named = lockNamed(file, read)
  const real = named.file ?? realPathSync(named)
  const own = locks.get(real)
  if (!own) throw notAcquired()
  releaseSync(own, real)
}

/**
 * @param {string} file
 * @param {object} [options]
 */
function checkSync(file, options) {
  const read = readKnown(options, checks)
  refuseRetries(read)
  const { naming } = lockNamed(file, read)
  try {
    return isHeldSync(naming, rulesOf({ stale: STALE, ...read }).stale)
  } catch (error) {
    if (isDirMissing(error)) return false
    throw translated(error, naming.path)
  }
}

module.exports = Object.assign(lock, { lock, unlock, check, lockSync, unlockSync, checkSync })
