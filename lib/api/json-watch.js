'use strict'

// The values of a JSON file, as they are and as they become, whoever changes it.

const { isDeepStrictEqual } = require('node:util')
const { onAbort } = require('../support/abort.js')
const { CANCELLED, failed } = require('../native/errors.js')
const { OpenFile } = require('./open-file.js')

/** Changes within so many milliseconds come as one. */
const DEBOUNCE = 50

/** How long what is not a value may be there: an editor may be writing the file in place. In milliseconds. */
const PATIENCE = 1000

/** Codes of what is there while a program writes the file in place. */
const UNFINISHED = new Set(['EBADJSON', 'EEMPTYJSON', 'EINVALIDJSON'])

/** The reason of an end that its user has asked for. */
const ENDED = Symbol('ended')

/** @typedef {{ text: string | undefined, value: unknown }} Found the text of the file, and what it is to its user */

/**
 * @param {object} file
 * @param {string} file.path absolute
 * @param {(signal: AbortSignal) => Promise<Found>} file.read
 * @param {{ signal?: AbortSignal | undefined, debounce?: number | undefined }} options
 */
function watchJson({ path, read }, { signal, debounce = DEBOUNCE }) {
  // Ends a wait when the iteration ends, whoever ends it.
  const end = new AbortController()
  const stop = signal ? onAbort(signal, () => end.abort(signal.reason)) : () => {}
  if (signal?.aborted) end.abort(signal.reason)
  const values = watched({ path, read }, end.signal, debounce, stop)
  return {
    async next() {
      return await values.next()
    },
    async return() {
      end.abort(ENDED)
      stop()
      await values.return(undefined)
      return /** @type {const} */ ({ done: true, value: undefined })
    },
    [Symbol.asyncIterator]() {
      return this
    },
    async [Symbol.asyncDispose]() {
      await this.return()
    },
  }
}

/**
 * @param {Parameters<typeof watchJson>[0]} file
 * @param {AbortSignal} signal
 * @param {number} debounce
 * @param {() => void} stop
 * @returns {AsyncGenerator<unknown, void, undefined>}
 */
async function* watched({ path, read }, signal, debounce, stop) {
  /** @type {Found | undefined} */
  let last
  try {
    for (;;) {
      const file = new OpenFile(path)
      const stopClosing = onAbort(signal, () => file.close())
      try {
        // Opened before it is read: what comes in between is a change.
        const isThere = await file.open()
        const before = isThere ? await file.stamp() : ''
        if (signal.aborted) throw CANCELLED
        const found = await valueOf(read, signal, isThere)
        if (found && !(last && isSame(last.text, found.text))) {
          last = found
          yield found.value
        }
        // Where its name stood for something else already there is no need to wait, and nothing to wait with.
        if (!isThere) await file.appearance(signal)
        else if (before.endsWith(' same')) await file.change(before)
      } finally {
        stopClosing()
        file.close()
      }
      await pause(debounce, signal)
    }
  } catch (error) {
    if (signal.reason !== ENDED) throw signal.aborted ? failed(path, 'read JSON', CANCELLED, signal) : error
  } finally {
    stop()
  }
}

/**
 * What is in the file; nothing while there is none, and no default.
 *
 * @param {(signal: AbortSignal) => Promise<Found>} read
 * @param {AbortSignal} signal
 * @param {boolean} isThere
 * @returns {Promise<Found | undefined>}
 */
async function valueOf(read, signal, isThere) {
  for (const begun = performance.now(); ;) {
    try {
      return await read(signal)
    } catch (error) {
      const { code } = /** @type {{ code?: string }} */ (error)
      // Removed, or put aside by a recovery: it may come again.
      if (code === 'ENOENT') return undefined
      if (!isThere || !UNFINISHED.has(code ?? '') || performance.now() - begun > PATIENCE) throw error
      await pause(DEBOUNCE, signal)
    }
  }
}

/** Whether two texts are of one value, whatever their form. @param {string | undefined} a @param {string | undefined} b */
function isSame(a, b) {
  if (a === b || a === undefined || b === undefined) return a === b
  try {
    return isDeepStrictEqual(JSON.parse(a), JSON.parse(b)) && !/\d{16}/.test(a + b)
  } catch {
    // In a language of the user's own.
    return false
  }
}

/** @param {number} milliseconds @param {AbortSignal} signal */
async function pause(milliseconds, signal) {
  if (signal.aborted) throw CANCELLED
  await new Promise((resolve) => {
    const stop = onAbort(signal, () => (clearTimeout(timer), resolve(undefined)))
    const timer = setTimeout(() => (stop(), resolve(undefined)), milliseconds)
  })
  if (signal.aborted) throw CANCELLED
}

module.exports = { watchJson }
