'use strict'

// The package `proper-lockfile`: its functions, arguments, codes and messages, on holdfast's
// locks of the same protocol.

const nodeFs = require('node:fs')
const nodePath = require('node:path')
const { boolean, readOptions, toAbsolute, toPath, wrongType, wrongValue } = require('../lib/support/arguments.js')
const { causeOf, errnoOf, lossOf } = require('../lib/native/errors.js')
const { acquireLockfile } = require('../lib/api/lock.js')
const { HeldLockfile, LEAST_STALE, LEAST_UPDATE, STALE, isHeld, isHeldNow, locate, locateNow } = require('../lib/api/lockfile.js')

const LONGEST = 2 ** 31 - 1

const checks = {
  stale: (/** @type {unknown} */ value, /** @type {string} */ name) => (value === null ? 0 : number(value, name)),
  update: (/** @type {unknown} */ value, /** @type {string} */ name) => (value === null ? undefined : number(value, name)),
  retries,
  realpath: boolean,
  // Nothing is the same as none.
  lockfilePath: (/** @type {unknown} */ value) =>
    value === null || value === '' || value === false ? undefined : nodePath.resolve(toPath(value, 'lockfilePath')),
  onCompromised: callback,
  fs: nodeFileSystem,
}

const retryChecks = {
  retries: number,
  factor: number,
  minTimeout: number,
  maxTimeout: number,
  maxRetryTime: number,
  randomize: boolean,
  forever: boolean,
  unref: boolean,
}

/** @param {unknown} value @param {string} name @returns {number} */
function number(value, name) {
  if (typeof value !== 'number' || Number.isNaN(value)) throw wrongType(name, 'of type number', value)
  return value
}

/** @typedef {{ [K in keyof typeof retryChecks]?: ReturnType<typeof retryChecks[K]> } & { pauses?: number[] }} Retries */

/** @param {unknown} value @param {string} name @returns {Retries} */
function retries(value, name) {
  if (value === null || value === false) return { retries: 0 }
  if (Array.isArray(value)) return { pauses: value.map((pause) => number(pause, name)) }
  if (typeof value === 'number') return { retries: number(value, name) }
  if (typeof value !== 'object') throw wrongType(name, 'of type number or object', value)
  return readOptions(value, retryChecks, 'the "retries" option')
}

/** @param {unknown} value @param {string} name @returns {(error: Error) => void} */
function callback(value, name) {
  if (typeof value !== 'function') throw wrongType(name, 'of type function', value)
  return /** @type {(error: Error) => void} */ (value)
}

/** @param {unknown} value @param {string} name */
function nodeFileSystem(value, name) {
  if (value !== nodeFs && /** @type {{ default?: unknown }} */ (value)?.default !== nodeFs) {
    throw wrongValue(`${name} must be node:fs itself, or be left out: locks are taken on threads without JavaScript, which call no other file system`)
  }
  return nodeFs
}

/** @typedef {{ [K in keyof typeof checks]?: ReturnType<typeof checks[K]> | undefined }} Options */

/** @param {Options} options */
function rulesOf(options) {
  const stale = Math.min(Math.max(options.stale || 0, LEAST_STALE), LONGEST)
  const update = options.update === undefined ? stale / 2 : options.update || 0
  return { stale, update: Math.max(Math.min(update, stale / 2), LEAST_UPDATE) }
}

/**
 * Which lock is meant, and what its file is called if that is known already.
 *
 * @param {unknown} file
 * @param {Options} options
 * @returns {{ naming: import('../lib/native/binding.js').LockNaming, own: import('../lib/native/binding.js').LockNaming, file?: string }}
 *   `own` is the one of this name, wherever the lock directory is
 */
function find(file, { realpath = true, lockfilePath }) {
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
 * A lock that is held.
 *
 * @typedef {object} Held
 * @property {InstanceType<typeof HeldLockfile>} hold
 * @property {boolean} isReleased
 */

/** The locks that this thread holds, by the path of their file. @type {Map<string, Held>} */
const locks = new Map()

/**
 * @param {InstanceType<typeof HeldLockfile>} hold
 * @param {string} file
 * @param {(error: Error) => void} onCompromised
 */
function keep(hold, file, onCompromised) {
  /** @type {Held} */
  const own = { hold, isReleased: false }
  locks.set(file, own)
  const onLoss = () => {
    if (own.isReleased) return
    forget(file, own)
    // The lock itself is free: what is left is to be tidied up.
    hold.release().catch(() => {})
    onCompromised(lost(lossOf(hold.signal.reason)))
  }
  // It may have been lost before JavaScript was told that it is had.
  if (hold.signal.aborted) queueMicrotask(onLoss)
  else hold.signal.addEventListener('abort', onLoss, { once: true })
  return own
}

/** @param {string} file @param {Held} own */
function forget(file, own) {
  own.isReleased = true
  if (locks.get(file) === own) locks.delete(file)
}

/** @param {Error} error */
function throwIt(error) {
  throw error
}

/** A lock that was lost: the system's error, or that somebody else has it. @param {import('../lib/native/binding.js').NativeError | undefined} loss */
function lost(loss) {
  const { cause, syscall, path } = loss ?? {}
  if (cause === undefined) return coded('Unable to update lock within the stale threshold', 'ECOMPROMISED')
  return Object.assign(coded(cause, 'ECOMPROMISED'), { errno: errnoOf(/^\w*/.exec(cause)?.[0] ?? ''), syscall, path })
}

/** @param {string} message @param {string} code */
function coded(message, code) {
  return Object.assign(new Error(message), { code })
}

/**
 * What went wrong, in the package's terms.
 *
 * @param {any} failure
 * @param {string} file
 */
function translated(failure, file) {
  if (failure instanceof Error) return failure
  if (failure.kind === 'locked') return Object.assign(coded('Lock file is already being held', 'ELOCKED'), { file })
  if (failure.kind === 'lost') return lost(failure)
  return causeOf(failure)
}

const alreadyReleased = () => coded('Lock is already released', 'ERELEASED')
const notAcquired = () => coded('Lock is not acquired/owned by you', 'ENOTACQUIRED')

/** Whether there is nothing where the lock would be, not even a directory. @param {any} failure */
const isNowhere = (failure) => failure.code === 'ENOENT' && failure.syscall === 'open'

/** Whether a lock that was to be given back was not there any more, and nobody else's was. @param {any} failure */
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
 * Takes a lock, as often as is asked for. Between attempts that found it held it is waited for
 * without JavaScript, so it is had as soon as it is free.
 *
 * @param {Retries} options
 * @param {(timeout: number) => Promise<InstanceType<typeof HeldLockfile>>} attempt
 */
async function persist(options, attempt) {
  const { forever = false, unref = false, maxRetryTime = Infinity } = options
  const all = pausesOf(options)
  const begun = performance.now()
  for (let i = 0; ; i++) {
    const rest = forever ? Infinity : all.slice(i).reduce((sum, pause) => sum + pause, 0)
    const patience = Math.max(0, Math.min(rest, maxRetryTime - (performance.now() - begun)))
    try {
      // To wait keeps the process alive, which `unref` says it should not.
      return await attempt(unref ? 0 : patience)
    } catch (error) {
      const isOver = patience === 0 || (!unref && /** @type {any} */ (error).kind === 'locked')
      if (isOver) throw error
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
  const { onCompromised = throwIt, ...read } = readOptions(options ?? undefined, checks, 'lock')
  const rules = rulesOf({ stale: STALE, ...read })
  const found = find(file, read)
  let real = found.file ?? found.naming.path
  try {
    if (!found.file) real = (await locateInTurn(found.own)).text ?? real
    const hold = await persist(read.retries ?? { retries: 0 }, (timeout) => acquireLockfile(file, found.naming, rules, timeout))
    return releaser(keep(hold, real, onCompromised), real)
  } catch (error) {
    throw translated(error, real)
  }
}

/**
 * Where the locks are looked for that calls of this thread ask for, by the path as it was spelt.
 * They are looked for on several threads: who called first must not have his answer last.
 *
 * @type {Map<string, Promise<unknown>>}
 */
const lookingFor = new Map()

/** @param {import('../lib/native/binding.js').LockNaming} own */
async function locateInTurn(own) {
  const found = locate(own)
  const turn = Promise.allSettled([lookingFor.get(own.path), found])
  lookingFor.set(own.path, turn)
  await turn
  if (lookingFor.get(own.path) === turn) lookingFor.delete(own.path)
  return found
}

/** @param {Held} own @param {string} file */
function releaser(own, file) {
  return async () => {
    if (own.isReleased) throw alreadyReleased()
    await giveBack(own, file)
  }
}

/** @param {Held} own @param {string} file */
async function giveBack(own, file) {
  forget(file, own)
  try {
    await own.hold.release()
  } catch (error) {
    if (!isGone(error)) throw translated(error, file)
  }
}

/**
 * @param {string} file
 * @param {object} [options]
 */
async function unlock(file, options) {
  const read = readOptions(options ?? undefined, checks, 'unlock')
  const found = find(file, read)
  let real = found.file ?? found.naming.path
  try {
    if (!found.file) real = (await locate(found.own)).text ?? real
  } catch (error) {
    throw translated(error, real)
  }
  const own = locks.get(real)
  if (!own) throw notAcquired()
  await giveBack(own, real)
}

/**
 * @param {string} file
 * @param {object} [options]
 */
async function check(file, options) {
  const read = readOptions(options ?? undefined, checks, 'check')
  const { naming } = find(file, read)
  try {
    return await isHeld(naming, rulesOf({ stale: STALE, ...read }).stale)
  } catch (error) {
    if (isNowhere(error)) return false
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
  const { onCompromised = throwIt, ...read } = readOptions(options ?? undefined, checks, 'lockSync')
  refuseRetries(read)
  const found = find(file, read)
  let real = found.file ?? found.naming.path
  try {
    if (!found.file) real = locateNow(found.own).text ?? real
    const own = keep(HeldLockfile.takeNow(file, found.naming, rulesOf({ stale: STALE, ...read })), real, onCompromised)
    return () => {
      if (own.isReleased) throw alreadyReleased()
      giveBackNow(own, real)
    }
  } catch (error) {
    throw translated(error, real)
  }
}

/** @param {Held} own @param {string} file */
function giveBackNow(own, file) {
  forget(file, own)
  try {
    own.hold.releaseNow()
  } catch (error) {
    if (!isGone(error)) throw translated(error, file)
  }
}

/**
 * @param {string} file
 * @param {object} [options]
 */
function unlockSync(file, options) {
  const read = readOptions(options ?? undefined, checks, 'unlockSync')
  refuseRetries(read)
  const found = find(file, read)
  let real = found.file ?? found.naming.path
  try {
    if (!found.file) real = locateNow(found.own).text ?? real
  } catch (error) {
    throw translated(error, real)
  }
  const own = locks.get(real)
  if (!own) throw notAcquired()
  giveBackNow(own, real)
}

/**
 * @param {string} file
 * @param {object} [options]
 */
function checkSync(file, options) {
  const read = readOptions(options ?? undefined, checks, 'checkSync')
  refuseRetries(read)
  const { naming } = find(file, read)
  try {
    return isHeldNow(naming, rulesOf({ stale: STALE, ...read }).stale)
  } catch (error) {
    if (isNowhere(error)) return false
    throw translated(error, naming.path)
  }
}

module.exports = Object.assign(lock, { lock, unlock, check, lockSync, unlockSync, checkSync })
