'use strict'

// Read-modify-write of a JSON file on the calling thread, for programs that cannot wait for a promise: an exit
// handler, a short command.

const { DEFAULT_LOCK_TIMEOUT, coded, readOptions, toAbsolute, toPath, wrongType } = require('../support/arguments.js')
const { hasSubscribers, tracedSync, traces } = require('../support/diagnostics.js')
const { Thrown, failed, missingFile } = require('../native/errors.js')
const context = require('../support/lock-context.js')
const heldLong = require('../support/held-long.js')
const { observer } = require('../support/logger.js')
const port = require('../native/port.js')
const writeOptions = require('../support/write-options.js')
const { checkNotInSyncHook, syncHook } = require('./temp-file-hook.js')
const { checkDefault, checkMade, formOf, inForm, untouched, valueOf } = require('./json-text.js')
const { heldFor, releaseNumber } = require('./lock.js')
const { OPERATION, checks: asyncChecks, describe, isOfWait, isThenable } = require('./update-json.js')

const { native } = port

const { signal: _signal, ...checks } = asyncChecks

/** @typedef {{ [K in keyof typeof checks]?: ReturnType<typeof checks[K]> }} Options */
/** @typedef {import('../native/binding.js').NativeError} NativeError */

const ATTEMPTS = 3
const DELAY = 100

/** @type {typeof import('../../index.js').updateJsonFileSync} */
function updateJsonFileSync(/** @type {any} */ path, /** @type {any} */ update, /** @type {any} */ options) {
  const read = readOptions(options, checks, 'updateJsonFileSync')
  const target = toPath(path)
  if (typeof update !== 'function') throw wrongType('The "update" argument', 'of type function', update)
  checkDefault(read)
  /** @type {{ value?: any }} */
  const made = {}
  tracedUpdate(target, update, read, made)
  return made.value
}

// What is made is not published: it is the content of a user's file.
const tracedUpdate = tracedSync(
  traces.update,
  (/** @type {string} */ target, /** @type {(data: any) => unknown} */ update, /** @type {Options} */ options, /** @type {{ value?: any }} */ made) => {
    made.value = updateOnce(target, update, options)
  },
  describe,
)

/** @param {string} target @param {(data: any) => unknown} update @param {Options} options */
function updateOnce(target, update, options) {
  try {
    const path = toAbsolute(target)
    writeOptions.beforeWrite(path, 'tx.updateJson', options.lock !== false)
    checkNotInSyncHook()
    const text = perform(path, target, update, options)
    const { parse = JSON.parse, reviver } = options
    return parse(text, reviver)
  } catch (error) {
    if (error instanceof Thrown) throw error.value
    throw failed(target, OPERATION, error)
  }
}

/**
 * Makes attempts. Between two of them other processes may have the lock: then the file is read again, and
 * if they have changed it the function runs again.
 *
 * @param {string} path
 * @param {string} target
 * @param {(data: any) => unknown} update
 * @param {Options} options
 * @returns {string} the text that the file holds then
 */
function perform(path, target, update, options) {
  const { retries = ATTEMPTS, retryDelay = DELAY } = options
  const observe = observer(options.logger, target)
  /** @type {{ read: string | undefined, text: string } | undefined} */
  let before
  for (let attempt = 1; ; attempt++) {
    const { lock, isBorrowed, text: read, syncFailed } = beginTraced(path, target, options)
    // A borrowed lock is the caller's for all attempts.
    const settings = writeOptions.toNative(isBorrowed ? options : { ...options, retries: 1 })
    /** @type {string} */
    let text
    try {
      text = before && before.read === read ? before.text : textAfter(path, lock, read, update, options)
    } catch (error) {
      if (lock !== undefined) releaseNumber(lock)?.catch(() => {})
      native.countUpdateBatch(0, 1, false)
      throw error
    }
    const isUnchanged = !syncFailed && text === read
    const write = () => written(path, text, settings, lock, observe !== undefined, options.onTempFile)
    const { error, events } = isUnchanged ? synced(path, settings, lock) : writeTraced(target, text, options, write)
    const isFollowed = error?.exhausted === true && !isBorrowed && !error.committed && attempt < retries
    const delay = retryDelay * 2 ** (attempt - 1)
    for (const event of events) {
      if (isFollowed && event.name === 'failed') observe?.({ ...event, name: 'retrying', attempt: attempt + 1, duration: delay })
      else observe?.(event)
    }
    if (!error) {
      native.countUpdateBatch(1, 0, isUnchanged)
      return text
    }
    if (!isFollowed) {
      native.countUpdateBatch(0, 1, false)
      throw isBorrowed ? error : { ...error, attempts: attempt }
    }
    before = { read, text }
    sleep(delay)
  }
}

/** The same as `begin`, with the wait for the lock told to subscribers. @param {string} path @param {string} target @param {Options} options */
function beginTraced(path, target, options) {
  if (options.lock === false || !hasSubscribers(traces.lock)) return begin(path, options)
  /** @type {{ started?: import('../native/binding.js').JsonUpdateStart, failure?: unknown }} */
  const made = {}
  try {
    traces.lock.traceSync(() => {
      try {
        made.started = begin(path, options)
      } catch (failure) {
        made.failure = failure
        if (isOfWait(failure)) throw failed(target, 'lock', failure)
      }
    }, { operation: 'lock', path: target, kind: 'write' })
  } catch (error) {
    if (made.failure === undefined) throw error
  }
  if (made.failure !== undefined) throw made.failure
  return /** @type {import('../native/binding.js').JsonUpdateStart} */ (made.started)
}

/** A write, told to subscribers. @param {string} target @param {string} text @param {Options} options @param {() => Attempted} write @returns {Attempted} */
function writeTraced(target, text, { durability = 'full' }, write) {
  if (!hasSubscribers(traces.write)) return write()
  /** @type {Attempted | undefined} */
  let attempted
  try {
    traces.write.traceSync(() => {
      attempted = write()
      if (attempted.error) throw failed(target, 'atomic write', attempted.error)
    }, { operation: 'atomic write', path: target, size: Buffer.byteLength(text), durability, updates: 1 })
  } catch (error) {
    if (!attempted) throw error
  }
  return /** @type {Attempted} */ (attempted)
}

/** @param {string} path @param {Options} options */
function begin(path, { lock, timeout = DEFAULT_LOCK_TIMEOUT, defaultValue, ...options }) {
  const held = heldFor(path)
  const isNeeded = defaultValue === undefined
  const { started, error } = port.open().beginJsonUpdateNow(path, writeOptions.toNative(options), lock === false ? undefined : timeout, held, isNeeded)
  const failure = error ?? (isNeeded && started?.lock === undefined && started?.text === undefined ? missingFile(path) : undefined)
  if (failure) {
    native.countUpdateBatch(0, 1, false)
    throw failure
  }
  return /** @type {import('../native/binding.js').JsonUpdateStart} */ (started)
}

/**
 * What the function makes of the text.
 *
 * @param {string} path
 * @param {number | undefined} lock
 * @param {string | undefined} read
 * @param {(data: any) => unknown} update
 * @param {Options} options
 */
function textAfter(path, lock, read, update, options) {
  const data = valueOf({ path, text: read }, options)
  const form = formOf(read)
  const inside = context.create(lock, 'write', path)
  const running = heldLong.begin('update', path, options)
  try {
    const before = read === undefined ? undefined : untouched(data, options, form)
    const made = context.run([inside], () => update(data))
    if (isThenable(made)) {
      Promise.resolve(made).catch(() => {})
      throw coded(new TypeError('The "update" function of updateJsonFileSync must not return a promise: use updateJsonFile'), 'ERR_INVALID_RETURN_VALUE')
    }
    checkMade(data, made, options.allowPrimitive)
    const text = inForm(made === undefined ? data : made, options, form, 'What the "update" function returns')
    return read !== undefined && text === before ? read : text
  } catch (error) {
    throw new Thrown(error)
  } finally {
    heldLong.end(running)
    inside.isLive = false
  }
}

/** @typedef {{ error: NativeError | undefined, events: import('../native/binding.js').NativeEvent[] }} Attempted */

/**
 * @param {string} path
 * @param {import('../native/binding.js').WriteOptions | undefined} settings
 * @param {number | undefined} lock
 * @returns {Attempted}
 */
function synced(path, settings, lock) {
  return { error: port.open().syncUnchangedNow(path, settings, lock) ?? undefined, events: [] }
}

/**
 * @param {string} path
 * @param {string} text
 * @param {import('../native/binding.js').WriteOptions | undefined} settings
 * @param {number | undefined} lock
 * @param {boolean} isObserved
 * @param {((tempPath: string) => unknown) | undefined} onTempFile
 * @returns {Attempted}
 */
function written(path, text, settings, lock, isObserved, onTempFile) {
  const hook = syncHook(onTempFile)
  const reports = port.open().writeSyncUnder(path, Buffer.from(text), settings, isObserved, lock, hook.call)
  const thrown = hook.thrown()
  if (thrown) {
    native.countUpdateBatch(0, 1, false)
    throw new Thrown(thrown.value)
  }
  return { error: reports.find(({ error }) => error)?.error, events: reports.flatMap(({ event }) => event ?? []) }
}

/** Blocks the thread. @param {number} time in milliseconds */
function sleep(time) {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, time)
}

module.exports = { updateJsonFileSync }
