'use strict'

// Reads of JSON files, with the errors of updates.

const { onAbort } = require('../support/abort.js')
const { abortSignal, boolean, readOptions, toAbsolute, toPath } = require('../support/arguments.js')
const { CANCELLED, Thrown, failed } = require('../native/errors.js')
const port = require('../native/port.js')
const { checkDefault, readChecks, valueOf } = require('./json-text.js')

const { native } = port

const OPERATION = 'read JSON'

/** @param {unknown} value */
const anything = (value) => value

const syncChecks = { defaultValue: anything, followSymlinks: boolean, ...readChecks }
const checks = { ...syncChecks, signal: abortSignal }

/** @typedef {{ [K in keyof typeof checks]?: ReturnType<typeof checks[K]> }} Options */

/** @type {typeof import('../../index.js').readJsonFile} */
async function readJsonFile(/** @type {any} */ path, /** @type {any} */ options) {
  return (await readJson(path, options)).value
}

/**
 * The value, and the text that it is made of; there is none where the default is the value.
 *
 * @param {unknown} path
 * @param {any} options
 * @returns {Promise<{ text: string | undefined, value: any }>}
 */
async function readJson(path, options) {
  const { followSymlinks = true, signal, ...read } = readOptions(options, checks, 'readJsonFile')
  const target = toPath(path, 'path', 'read')
  checkDefault(read)
  try {
    const absolute = toAbsolute(target)
    if (signal?.aborted) throw CANCELLED
    /** @type {Promise<import('../native/binding.js').FileText>} */
    const reading = port.run((opened, id) => opened.readJsonText(id, absolute, followSymlinks))
    const { text } = await orAborted(reading, signal)
    return { text: text ?? undefined, value: valueOf({ path: absolute, text }, read) }
  } catch (error) {
    throw outcome(target, error, signal)
  }
}

/** @type {typeof import('../../index.js').readJsonFileSync} */
function readJsonFileSync(/** @type {any} */ path, /** @type {any} */ options) {
  const { followSymlinks = true, ...read } = readOptions(options, syncChecks, 'readJsonFileSync')
  const target = toPath(path, 'path', 'read')
  checkDefault(read)
  try {
    const absolute = toAbsolute(target)
    const { text, error } = native.readJsonTextNow(absolute, followSymlinks)
    if (error) throw error
    return /** @type {any} */ (valueOf({ path: absolute, text }, read))
  } catch (error) {
    throw outcome(target, error)
  }
}

/** @param {string} target @param {unknown} error @param {AbortSignal} [signal] */
function outcome(target, error, signal) {
  return error instanceof Thrown ? error.value : failed(target, OPERATION, error, signal)
}

/**
 * A read cannot be interrupted, but who cancels does not wait for it.
 *
 * @template T
 * @param {Promise<T>} reading
 * @param {AbortSignal | undefined} signal
 * @returns {Promise<T>}
 */
async function orAborted(reading, signal) {
  if (!signal) return reading
  let stop = () => {}
  const cancelled = new Promise((_, reject) => {
    stop = onAbort(signal, () => reject(CANCELLED))
  })
  try {
    return await Promise.race([reading, cancelled])
  } finally {
    reading.catch(() => {})
    stop()
  }
}

module.exports = { readJson, readJsonFile, readJsonFileSync }
