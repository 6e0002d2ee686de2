'use strict'

const fs = require('node:fs/promises')

/** With the default durability, `'full'`: more than the peer promises. */
function open() {
  const { withLock, atomicWriteJson } = /** @type {any} */ (require('../../index.js'))
  if (!withLock) return undefined
  return {
    /** @param {string} path */
    increment: (path) => withLock(path, async () => {
      const data = JSON.parse(await fs.readFile(path, 'utf8'))
      data.count++
      await atomicWriteJson(path, data)
    }, { timeout: Infinity }),
  }
}

module.exports = { open }
