'use strict'

// What is wrong with an argument is a TypeError or RangeError, also where only the native side
// can tell.

const { coded, outOfRange, readOptions, wrongType, wrongValue } = require('../support/arguments.js')
const { failed } = require('../native/errors.js')

/** @typedef {import('../native/binding.js').NativeError} NativeError */

const LAST_SEQUENCE = 2n ** 63n - 1n

/** @param {unknown} value @param {string} name @returns {bigint} */
function sequence(value, name) {
  if (typeof value !== 'bigint') throw wrongType(name, 'of type bigint', value)
  if (value < 0n || value > LAST_SEQUENCE) throw outOfRange(name, `>= 0n && <= ${LAST_SEQUENCE}n`, value)
  return value
}

/** @param {unknown} value @returns {string} */
function collectionName(value) {
  if (typeof value !== 'string') throw wrongType('The "collection" argument', 'of type string', value)
  return value
}

const replayChecks = { from: sequence }

/** Where a replay starts, if its caller says so. @param {unknown} options */
function replayStart(options) {
  const { from } = readOptions(options, replayChecks, 'replay')
  return from
}

/** @type {NativeError} */
const CLOSED = { kind: 'wal', code: 'EWALCLOSED', message: 'the log is closed', attempts: 1, exhausted: false, committed: false }

/** @param {string} dir @param {string} operation */
const closed = (dir, operation) => failed(dir, operation, CLOSED)

/**
 * @param {string} dir
 * @param {string} operation
 * @param {string | undefined} collection
 * @param {unknown} error what the native side reported
 * @param {AbortSignal} [signal]
 */
function walFailed(dir, operation, collection, error, signal) {
  const { code, message } = /** @type {Partial<NativeError>} */ (error)
  if (code === 'EWALNAME' && collection !== undefined) {
    return wrongValue(
      'The name of a collection must be one that a folder can have on every system: at most 100 bytes, no separators, ' +
        `no control characters, none of :*?"<>|, no dot in front. Received ${JSON.stringify(collection)}`,
    )
  }
  if (code === 'EWALAHEAD') {
    return coded(new RangeError(`The "upTo" argument is out of range: ${message}`), 'ERR_OUT_OF_RANGE')
  }
  return failed(dir, operation, error, signal)
}

module.exports = { LAST_SEQUENCE, closed, collectionName, replayStart, sequence, walFailed }
