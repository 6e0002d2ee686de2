'use strict'

// What is wrong with an argument is a TypeError or RangeError, also where only the native side
// can tell.

const { wrongValue } = require('../support/arguments.js')
const { failed } = require('../native/errors.js')

/**
 * @param {string} dir
 * @param {string} operation
 * @param {string | undefined} collection
 * @param {unknown} error what the native side reported
 */
function walFailed(dir, operation, collection, error) {
  const { code, message } = /** @type {Partial<import('../native/binding.js').NativeError>} */ (error)
  if (code === 'EWALNAME' && collection !== undefined) {
    return wrongValue(
      'The name of a collection must be one that a folder can have on every system: at most 100 bytes, no separators, ' +
        `no control characters, none of :*?"<>|, no dot in front. Received ${JSON.stringify(collection)}`,
    )
  }
  if (code === 'EWALAHEAD') {
    return Object.assign(new RangeError(`The "upTo" argument is out of range: ${message}`), { code: 'ERR_OUT_OF_RANGE' })
  }
  return failed(dir, operation, error)
}

module.exports = { walFailed }
