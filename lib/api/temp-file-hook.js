'use strict'

// `onTempFile`: the user's function that is shown a temp file before anything is written to it.

const { forNode } = require('../support/byte-paths.js')
const { setTimeout: wait } = require('node:timers/promises')
const { onAbort } = require('../support/abort.js')
const { coded, wrongType } = require('../support/arguments.js')
const { CANCELLED, Thrown, deadlock, isError } = require('../native/errors.js')
const context = require('../support/lock-context.js')
const { safeLogger, withError } = require('../support/logger.js')
const port = require('../native/port.js')

const { native } = port

const ATTEMPTS = 3
const DELAY = 100

/**
 * Waits for the function, or until the caller cancels: then its outcome is ignored.
 *
 * @param {(tempPath: string) => unknown} hook
 * @param {string} tempPath
 * @param {AbortSignal | undefined} signal
 */
async function runHook(hook, tempPath, signal) {
  if (signal?.aborted) throw CANCELLED
  let stop = () => {}
  const cancelled = new Promise((_, reject) => {
    stop = onAbort(signal, () => reject(CANCELLED))
  })
  const running = (async () => hook(/** @type {string} */ (forNode(tempPath))))()
  try {
    await Promise.race([running, cancelled])
  } catch (error) {
    running.catch(() => {})
    throw error === CANCELLED ? error : new Thrown(error || withoutReason(error))
  } finally {
    stop()
  }
}

/** What stands for a rejection with nothing, which streams would take for a success. @param {unknown} reason */
function withoutReason(reason) {
  return coded(new Error(`The "onTempFile" function rejected with ${reason}`), 'ERR_UNHANDLED_REJECTION')
}

/** Whether the function of a synchronous write runs. */
let isInSyncHook = false

/** Refuses a synchronous write that might be one of the same file, and would wait for the one that waits for it. */
function checkNotInSyncHook() {
  if (isInSyncHook) throw deadlock('the "onTempFile" function of a synchronous write cannot make another one, which might wait for it')
}

/**
 * The function in the form of the native side, which asks whether to go on, and the way to learn what it has thrown.
 *
 * @param {((tempPath: string) => unknown) | undefined} hook
 */
function syncHook(hook) {
  /** @type {{ value: unknown } | undefined} */
  let thrown
  const call = hook && ((/** @type {string} */ tempPath) => {
    isInSyncHook = true
    try {
      const made = hook(/** @type {string} */ (forNode(tempPath)))
      if (typeof (/** @type {any} */ (made)?.then) === 'function') {
        Promise.resolve(made).catch(() => {})
        throw coded(wrongType('What the "onTempFile" function of a synchronous write returns', 'no promise', made), 'ERR_INVALID_RETURN_VALUE')
      }
      return true
    } catch (error) {
      thrown = { value: error }
      return false
    } finally {
      isInSyncHook = false
    }
  })
  return { call, thrown: () => thrown }
}

/**
 * Replaces a file in one attempt, with the function between making and writing the temp file.
 *
 * @param {object} write
 * @param {string} write.path absolute
 * @param {Uint8Array} write.bytes
 * @param {import('../native/binding.js').WriteOptions | undefined} write.settings
 * @param {((event: import('../native/binding.js').NativeEvent) => void) | undefined} write.observe
 * @param {number | undefined} write.lock that of the file, which is released when the new content is in place
 * @param {(tempPath: string) => unknown} write.hook
 * @param {AbortSignal | undefined} write.signal
 * @param {() => void} write.passOn is told when the native side releases the lock, whatever comes of it
 */
async function writeWithHook({ path, bytes, settings, observe, lock, hook, signal, passOn }) {
  if (signal?.aborted) throw CANCELLED
  const control = new native.Control()
  const isObserved = observe !== undefined
  const own = lock === undefined ? [] : [context.create(lock, 'write')]
  const held = context.toNative([...context.current(), ...own])
  /** @type {number | undefined} */
  let stream
  const stop = onAbort(signal, () => control.cancel())
  try {
    /** @type {import('../native/binding.js').OpenedStream} */
    const { tempPath } = await port.run((opened, id) => {
      stream = opened.openStream(id, path, settings, control, isObserved, held)
    }, undefined, observe)
    await runHook(hook, tempPath, signal)
    const number = /** @type {number} */ (stream)
    await port.run((opened, id) => opened.writeStream(id, path, number, bytes, control, isObserved), bytes, observe)
    await port.run((opened, id) => {
      opened.commitStream(id, path, number, settings, control, isObserved, lock)
      stream = undefined
      passOn()
    }, undefined, observe)
  } catch (error) {
    const number = stream
    if (number !== undefined) await port.run((opened, id) => opened.discardStream(id, path, number, control, isObserved), undefined, observe)
    throw error
  } finally {
    stop()
  }
}

/**
 * Makes attempts until one succeeds, none is left, or one fails for a reason that a retry does not cure.
 *
 * @template T
 * @param {string} target
 * @param {{ retries?: number, retryDelay?: number, signal?: AbortSignal, logger?: import('../../index.js').Logger | null }} options
 * @param {(number: number) => Promise<T>} attempt rejects with plain fields
 * @param {() => boolean} [canRepeat]
 * @returns {Promise<T>}
 */
async function attempts(target, { retries = ATTEMPTS, retryDelay = DELAY, signal, logger }, attempt, canRepeat = () => true) {
  for (let number = 1; ; number++) {
    if (signal?.aborted) throw CANCELLED
    try {
      return await attempt(number)
    } catch (error) {
      const { exhausted, committed, code, message } = /** @type {import('../native/binding.js').NativeError} */ (error ?? {})
      if (isError(error) || error instanceof Thrown || !exhausted || committed) throw error
      if (number >= retries || !canRepeat()) throw { .../** @type {any} */ (error), attempts: number }
      const delay = retryDelay * 2 ** (number - 1)
      safeLogger(logger)?.warn(withError({ targetPath: target, attempt: number + 1, delay, errorCode: code }, { code, message }), 'Retrying atomic write')
      // An abort ends the wait, and the next round tells.
      await wait(Math.min(delay, 2 ** 31 - 1), undefined, signal && { signal }).catch(() => {})
    }
  }
}

module.exports = { attempts, checkNotInSyncHook, runHook, syncHook, writeWithHook }
