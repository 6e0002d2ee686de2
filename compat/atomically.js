'use strict'

// The API of the package `atomically`: its functions and options, on holdfast's writes. Reads are those of Node.

const fs = require('node:fs')
const { setTimeout: wait } = require('node:timers/promises')
const { atomicWrite, atomicWriteSync } = require('../index.js')
const { NEW_FILE_MODE, encoded, nativeForm, ownerOf, pathOf, permissionsOf, permissionsOfNew } = require('../lib/api/drop-in.js')

const TIMEOUT = 7500
const TIMEOUT_SYNC = 1000

/** The first pause between two attempts to write, in milliseconds; each is twice as long as the one before. */
const DELAY = 50

/** Between two attempts to read. */
const READ_PAUSE = 20

/** Errors of a read that may pass. On Windows a file that is being replaced cannot be opened for a moment. */
const PASSING = new Set(['EMFILE', 'ENFILE', 'EAGAIN', 'EBUSY', ...(process.platform === 'win32' ? ['EACCES', 'EPERM'] : [])])

/** @param {any} options @returns {Record<string, any>} */
function optionsOf(options) {
  return typeof options === 'string' ? { encoding: options } : (options ?? {})
}

/** How many attempts there are if the pauses between them are no longer than the timeout altogether. @param {number} timeout */
function attemptsIn(timeout) {
  return Math.min(1 + Math.floor(Math.log2(Math.max(0, timeout) / DELAY + 1)), 1_000_000)
}

/** @param {unknown} mode */
function modeOf(mode) {
  // With these two the package calls no `chmod`, so the umask has its way.
  return !mode || mode === NEW_FILE_MODE ? permissionsOfNew() : permissionsOf(mode)
}

/**
 * Our options for those of the package. No defaults of the program apply but the logger's.
 *
 * @param {Record<string, any>} options
 * @param {number} timeout in milliseconds, if the options have none
 * @returns {import('../index.js').AtomicWriteSyncOptions}
 */
function settingsOf({ fsync, tmpCreate, tmpCreated, mode, chown, timeout: given }, timeout) {
  if (tmpCreate) warnOnce()
  return {
    durability: fsync === false ? 'none' : 'file',
    newFileMode: NEW_FILE_MODE,
    makeDirs: true,
    retries: attemptsIn(given ?? timeout),
    retryDelay: DELAY,
    lock: false,
    ...(mode !== undefined && { mode: modeOf(mode) }),
    ...(chown !== undefined && { chown: chown ? ownerOf(chown) : false }),
    // Nothing waits for what it returns.
    ...(tmpCreated && { onTempFile: (tempPath) => void tmpCreated(tempPath) }),
  }
}

let hasWarned = false

/** A name that the caller makes up would be unknown to recovery, but who relies on it has to know. */
function warnOnce() {
  if (hasWarned) return
  hasWarned = true
  process.emitWarning('The option tmpCreate is not called: temp files have names by which holdfast finds them after a crash. tmpCreated is told each', { code: 'HOLDFAST_TMP_CREATE' })
}

/** @param {any} data @param {{ encoding?: unknown }} options */
function dataOf(data, { encoding }) {
  if (data === undefined) return ''
  return typeof data === 'string' ? encoded(data, encoding) : data
}

/**
 * @param {string} filePath
 * @param {any} data
 * @param {any} [options]
 * @param {(error?: unknown) => void} [callback]
 * @returns {Promise<void>}
 */
function writeFile(filePath, data, options, callback) {
  if (typeof options === 'function') return writeFile(filePath, data, undefined, options)
  const promise = write(filePath, data, optionsOf(options))
  if (callback) promise.then(callback, callback)
  return promise
}

/** @param {string} filePath @param {any} data @param {Record<string, any>} options */
async function write(filePath, data, options) {
  const dispose = options.schedule && (await options.schedule(filePath))
  try {
    await atomicWrite(pathOf(filePath), dataOf(data, options), settingsOf(options, TIMEOUT))
  } catch (error) {
    throw nativeForm(error)
  } finally {
    if (dispose) dispose()
  }
}

/**
 * @param {string} filePath
 * @param {any} data
 * @param {any} [options]
 */
function writeFileSync(filePath, data, options) {
  try {
    const read = optionsOf(options)
    atomicWriteSync(pathOf(filePath), dataOf(data, read), settingsOf(read, TIMEOUT_SYNC))
  } catch (error) {
    throw nativeForm(error)
  }
}

/** @param {any} error @param {number} end */
function isWorthwhile(error, end) {
  return PASSING.has(error?.code) && performance.now() < end
}

/**
 * @param {string} filePath
 * @param {any} [options]
 * @returns {Promise<any>} text with an encoding, otherwise bytes
 */
async function readFile(filePath, options) {
  const { encoding, timeout = TIMEOUT } = optionsOf(options)
  const end = performance.now() + timeout
  for (;;) {
    try {
      return await fs.promises.readFile(filePath, { encoding })
    } catch (error) {
      if (!isWorthwhile(error, end)) throw error
    }
    await wait(READ_PAUSE)
  }
}

/**
 * @param {string} filePath
 * @param {any} [options]
 * @returns {any} text with an encoding, otherwise bytes
 */
function readFileSync(filePath, options) {
  const { encoding, timeout = TIMEOUT_SYNC } = optionsOf(options)
  const end = performance.now() + timeout
  for (;;) {
    try {
      return fs.readFileSync(filePath, { encoding })
    } catch (error) {
      if (!isWorthwhile(error, end)) throw error
    }
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, READ_PAUSE)
  }
}

module.exports = { readFile, readFileSync, writeFile, writeFileSync }
