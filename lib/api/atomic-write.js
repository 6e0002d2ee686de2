'use strict'

// Writes of whole files: the old content or the new one, never half of either.

const { onAbort } = require('../support/abort.js')
const { DEFAULT_LOCK_TIMEOUT, boolean, coded, detachedData, fn, integer, isPieces, readOptions, toAbsolute, toBytes, toPath, withEncoding, wrongType, wrongValue } = require('../support/arguments.js')
const { surplusOf } = require('../support/strict.js')
const { traced, tracedSync, traces } = require('../support/diagnostics.js')
const { CANCELLED, failed } = require('../native/errors.js')
const { observer } = require('../support/logger.js')
const port = require('../native/port.js')
const writeOptions = require('../support/write-options.js')

const { native } = port

const OPERATION = 'atomic write'

const checks = { ...writeOptions.checks, lock: boolean, onTempFile: fn }
const { signal: _signal, ...syncChecks } = checks
/** Of the text of a JSON file. */
const textChecks = { indent, finalNewline: boolean, stringify: fn, replacer }
const { encoding: _encoding, ...jsonChecks } = { ...checks, ...textChecks }

/** The default that holds for the wait for the lock. @type {['timeout']} */
const TIMEOUT = ['timeout']

/** @typedef {{ [K in keyof typeof checks]?: ReturnType<typeof checks[K]> } & { timeout?: number }} Options */

/** @type {typeof import('../../index.js').atomicWrite} */
async function atomicWrite(path, data, options) {
  const read = readOptions(withEncoding(options), checks, 'atomicWrite', TIMEOUT)
  const target = toPath(path)
  if (isPieces(data)) {
    await require('./pieces.js').tracedWrite(target, data, read)
    return
  }
  const bytes = toBytes(data, read.encoding ?? 'utf8', ', or an iterable, stream or Blob of them')
  await tracedWrite(target, bytes, read)
}

/** @type {typeof import('../../index.js').atomicWriteJson} */
async function atomicWriteJson(path, value, options) {
  const { indent: wanted, finalNewline, stringify, replacer, ...read } = readOptions(options, jsonChecks, 'atomicWriteJson', TIMEOUT)
  // A default may be meant for updates.
  const indent = wanted === 'keep' ? undefined : wanted
  const target = toPath(path)
  const text = textOf(value, { indent, finalNewline, stringify, replacer }, 'The "value" argument')
  await tracedWrite(target, Buffer.from(text), read)
}

/** @type {typeof import('../../index.js').atomicWriteSync} */
function atomicWriteSync(path, data, options) {
  // Here, and not in a function around it: the stack of an error shows the caller.
  const surplus = arguments.length > 3 && surplusOf('atomicWriteSync', arguments, ['path', 'data', 'options'], false)
  if (surplus) throw surplus
  const read = readOptions(withEncoding(options), syncChecks, 'atomicWriteSync', TIMEOUT)
  const target = toPath(path)
  const bytes = toBytes(data, read.encoding ?? 'utf8')
  tracedWriteSync(target, bytes, read)
}

/** Loaded by the first call that has one. @type {typeof import('./temp-file-hook.js') | undefined} */
let hooks

/**
 * @param {string} target
 * @param {Uint8Array} bytes
 * @param {Options} options
 */
function writeSync(target, bytes, options) {
  if (options.onTempFile) hooks ??= require('./temp-file-hook.js')
  const observe = observer(options.logger, target)
  /** @type {import('../native/binding.js').Report[]} */
  let messages
  const hook = hooks?.syncHook(options.onTempFile)
  try {
    const path = toAbsolute(target)
    writeOptions.beforeWrite(path, 'tx.write', options.lock === true)
    hooks?.checkNotInSyncHook()
    const settings = writeOptions.toNative(options)
    messages = options.lock
      ? writeLocked(path, bytes, settings, observe !== undefined, options.timeout, hook?.call)
      : native.writeSync(path, bytes, settings, observe !== undefined, hook?.call)
  } catch (error) {
    throw failed(target, OPERATION, error)
  }
  for (const { event, error } of messages) {
    if (event) observe?.(event)
    const thrown = error && hook?.thrown()
    if (thrown) throw thrown.value
    if (error) throw failed(target, OPERATION, error)
  }
}

/**
 * Writes on this thread, under the lock of the file.
 *
 * @param {string} path
 * @param {Uint8Array} bytes
 * @param {import('../native/binding.js').WriteOptions | undefined} settings
 * @param {boolean} isObserved
 * @param {number} [timeout]
 * @param {(tempPath: string) => boolean} [hook]
 */
function writeLocked(path, bytes, settings, isObserved, timeout = DEFAULT_LOCK_TIMEOUT, hook) {
  const { heldFor } = require('./lock.js')
  return port.open().writeSyncLocked(path, bytes, settings, isObserved, heldFor(path), timeout, hook)
}

/**
 * @param {string} target
 * @param {Uint8Array} bytes
 * @param {Options} options
 */
async function write(target, bytes, options) {
  if (options.onTempFile) return await require('./pieces.js').writeBytes(target, bytes, options)
  const { signal } = options
  let stop = () => {}
  try {
    const path = toAbsolute(target)
    writeOptions.beforeWrite(path, 'tx.write', options.lock === true)
    const observe = observer(options.logger, target)
    const settings = writeOptions.toNative(options)
    const control = signal && new native.Control()
    if (signal?.aborted) throw CANCELLED
    if (control) stop = onAbort(signal, () => control.cancel())
    const { length } = bytes
    // Loaded by the calls that need it.
    const lock = options.lock ? (await require('./lock.js').lockFor(path, options, settings)).lock : undefined
    if (bytes.length !== length) {
      // It was detached while the call waited for the lock. The file would become empty.
      if (lock !== undefined) await require('./lock.js').releaseNumber(lock)
      throw detachedData()
    }
    await port.run((opened, id) => opened.write(id, path, bytes, settings, observe !== undefined, control, lock), bytes, observe)
  } catch (error) {
    throw failed(target, OPERATION, error, signal)
  } finally {
    stop()
  }
}

/** @param {string} path @param {Uint8Array} bytes @param {Options} options */
function describe(path, bytes, { durability = 'full' }) {
  return { operation: OPERATION, path, size: bytes.length, durability }
}

const tracedWrite = traced(traces.write, write, describe)
const tracedWriteSync = tracedSync(traces.write, writeSync, describe)

const spaces = integer(0, 10)

/** @param {unknown} value @param {string} name */
function indent(value, name) {
  if (typeof value === 'number') return spaces(value, name)
  if (typeof value !== 'string') throw wrongType(name, 'of type number or string', value)
  if (value.length > 10 || /[^ \t\n\r]/.test(value)) {
    throw wrongValue(`${name} must be at most 10 characters of white space, or the text would not be JSON`)
  }
  return value
}

/** @param {unknown} value @param {string} name @returns {any} a function, or the names of properties */
function replacer(value, name) {
  if (typeof value !== 'function' && !Array.isArray(value)) throw wrongType(name, 'of type function or an instance of Array', value)
  return value
}

/**
 * The JSON text of a value.
 *
 * @param {unknown} value
 * @param {{ [K in keyof typeof textChecks]?: ReturnType<typeof textChecks[K]> | undefined }} options
 * @param {string} what the value, for the error if it has no text
 * @returns {string}
 */
function textOf(value, { stringify = JSON.stringify, replacer, indent, finalNewline }, what) {
  const text = stringify(value, replacer, indent)
  if (text === undefined) throw wrongType(what, 'a value that has a JSON text', value)
  if (typeof text !== 'string') throw coded(new TypeError(`The "stringify" option must return a string. It returned a value of type ${typeof text}`), 'ERR_INVALID_RETURN_VALUE')
  return finalNewline ? text + '\n' : text
}

module.exports = { atomicWrite, atomicWriteJson, atomicWriteSync, textChecks, textOf }
