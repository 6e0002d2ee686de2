'use strict'

// The methods of Vectra's class `AtomicOperations` that retry by rules of their own.

const { setTimeout: wait } = require('node:timers/promises')
const { LONGEST_DELAY, integer, milliseconds, readOptions, toAbsolute, toPath, wrongType } = require('../support/arguments.js')
const { traced, traces } = require('../support/diagnostics.js')
const { CANCELLED, failed, isError, missingFile, Thrown } = require('../native/errors.js')
const port = require('../native/port.js')
const update = require('../api/update-json.js')

const readChecks = { retries: integer(1, 1_000_000), retryDelay: milliseconds(LONGEST_DELAY) }

const ATTEMPTS = 3
const DELAY = 100

/** @type {typeof import('../../index.js').AtomicOperations.readFile} */
async function readFile(path, options) {
  const read = readOptions(options, readChecks, 'AtomicOperations.readFile')
  const target = toPath(path, 'path', 'read')
  try {
    const absolute = toAbsolute(target)
    return await retry(read, async () => {
      /** @type {import('../native/binding.js').FileText} */
      const { text } = await port.run((opened, id) => opened.readText(id, absolute))
      if (text === undefined) throw missingFile(absolute)
      return text
    })
  } catch (error) {
    throw failed(target, 'read file', error)
  }
}

/** @type {typeof import('../../index.js').AtomicOperations.updateJsonFile} */
async function updateJsonFile(path, updater, options) {
  const read = readOptions(options, update.checks, 'AtomicOperations.updateJsonFile')
  const target = toPath(path)
  if (typeof updater !== 'function') throw wrongType('The "updater" argument', 'of type function', updater)
  return await tracedUpdate(target, updater, read)
}

/**
 * @param {string} target
 * @param {(data: any) => unknown} updater
 * @param {Parameters<typeof update.perform>[3]} options
 */
async function updateWithRetries(target, updater, { retries, retryDelay, ...read }) {
  try {
    const absolute = toAbsolute(target)
    return await retry({ retries, retryDelay, signal: read.signal }, () =>
      // Its class writes whatever the function returns.
      update.perform(absolute, target, updater, { allowPrimitive: true, ...read, retries: 1 }),
    )
  } catch (error) {
    throw failed(target, update.OPERATION, error, read.signal)
  }
}

const tracedUpdate = traced(traces.update, updateWithRetries, update.describe)

/**
 * Makes attempts until one succeeds, none is left, or one fails for a reason that a retry does not
 * cure. What the caller's function throws is always retried.
 *
 * @template T
 * @param {{ retries?: number | undefined, retryDelay?: number | undefined, signal?: AbortSignal | undefined }} options
 * @param {() => Promise<T>} attempt
 * @returns {Promise<T>}
 */
async function retry({ retries = ATTEMPTS, retryDelay = DELAY, signal }, attempt) {
  for (let number = 1; ; number++) {
    if (signal?.aborted) throw CANCELLED
    /** @type {any} */
    let failure
    try {
      return await attempt()
    } catch (error) {
      failure = error instanceof Thrown ? thrown(error.value) : error
    }
    if (isError(failure)) throw failure
    if (!failure.exhausted || number >= retries) throw { ...failure, attempts: number }
    // An abort ends the wait and is reported by the next iteration.
    await wait(retryDelay * 2 ** (number - 1), undefined, signal && { signal }).catch(() => {})
  }
}

/**
 * What the caller's function threw, in the form of a native failure.
 *
 * @param {unknown} value
 */
function thrown(value) {
  return { kind: 'thrown', value, exhausted: true, committed: false }
}

module.exports = { readFile, updateJsonFile }
