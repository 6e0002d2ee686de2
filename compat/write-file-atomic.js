'use strict'

// The API of the package `write-file-atomic`: its functions, options and errors, on holdfast's writes.

const { atomicWrite, atomicWriteSync } = require('../index.js')
const { NEW_FILE_MODE, encoded, nativeForm, ownerOf, pathOf, permissionsOf, permissionsOfNew } = require('../lib/api/drop-in.js')

/** @param {any} data @param {{ encoding?: unknown }} options @returns {ArrayBufferView} */
function bytesOf(data, { encoding }) {
  if (ArrayBuffer.isView(data)) return data
  return encoded(data === undefined || data === null ? '' : String(data), encoding)
}

/** @param {any} options @returns {Record<string, any>} */
function optionsOf(options) {
  return typeof options === 'string' ? { encoding: options } : (options ?? {})
}

/**
 * Our options for those of the package. No defaults of the program apply but the logger's.
 *
 * @param {Record<string, any>} options
 * @returns {import('../index.js').AtomicWriteSyncOptions}
 */
function settingsOf({ fsync, tmpfileCreated, mode, chown }) {
  return {
    durability: fsync === false ? 'none' : 'file',
    newFileMode: NEW_FILE_MODE,
    retries: 1,
    lock: false,
    ...(mode !== undefined && mode !== null && { mode: mode === false ? permissionsOfNew() : permissionsOf(mode) }),
    ...(chown !== undefined && chown !== null && { chown: ownerOf(chown) }),
    ...(tmpfileCreated && { onTempFile: (/** @type {string} */ tempPath) => tmpfileCreated(tempPath) }),
  }
}

/**
 * @param {string} filename
 * @param {unknown} data
 * @param {any} [options]
 * @param {(error?: unknown) => unknown} [callback]
 */
async function writeFile(filename, data, options, callback) {
  const done = typeof options === 'function' ? options : callback
  /** @type {unknown} */
  let failure
  try {
    const read = optionsOf(typeof options === 'function' ? undefined : options)
    await atomicWrite(pathOf(filename), bytesOf(data, read), settingsOf(read))
  } catch (error) {
    failure = nativeForm(error)
    if (!done) throw failure
  }
  // Outside the `try`: what the callback throws is not reported to it.
  return done?.(failure)
}

/**
 * @param {string} filename
 * @param {unknown} data
 * @param {any} [options]
 */
function sync(filename, data, options) {
  try {
    const { mode, chown, tmpfileCreated, ...read } = optionsOf(options)
    // Here every empty value stands for what the file has.
    const settings = settingsOf({ ...read, mode: mode || undefined, chown: chown || undefined })
    // Nothing waits for what it returns.
    if (tmpfileCreated) settings.onTempFile = (tempPath) => void tmpfileCreated(tempPath)
    atomicWriteSync(pathOf(filename), /** @type {any} */ (bytesOf(data, read)), settings)
  } catch (error) {
    throw nativeForm(error)
  }
}

module.exports = Object.assign(writeFile, { sync })
