'use strict'

/** With the default durability, `'full'`: more than the peer's. */
function open() {
  const { updateJsonFile } = require('../../../index.js')
  return {
    /** @param {string} path */
    operate: (path) => updateJsonFile(path, (/** @type {any} */ data) => void data.count++, { timeout: Infinity }),
  }
}

module.exports = { open }
