'use strict'

/** With the default durability, `'full'`: more than the peer promises. */
function open() {
  const { updateJsonFile } = /** @type {any} */ (require('../../index.js'))
  if (!updateJsonFile) return undefined
  return {
    /** @param {string} path */
    increment: (path) => updateJsonFile(path, (/** @type {{ count: number }} */ data) => void data.count++, { timeout: Infinity }),
  }
}

module.exports = { open }
