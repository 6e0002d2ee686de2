'use strict'

const path = require('node:path')

/**
 * The bytes of file number `index` in round `round`: the same as in `../bare/src/payload.rs`.
 *
 * @param {number} round
 * @param {number} index
 * @param {number} size
 */
function payload(round, index, size) {
  const bytes = Buffer.alloc(size, 97 + (index % 26))
  bytes.write(`${round}:${index}\n`, 'latin1')
  return bytes
}

/**
 * @param {string} dir
 * @param {number} index
 * @param {string} [prefix]
 */
function filePath(dir, index, prefix = '') {
  return path.join(dir, `${prefix}file-${index}.json`)
}

module.exports = { payload, filePath }
