'use strict'

const fs = require('node:fs/promises')

/** With the default durability, `'full'`: more than the peer's. */
function open() {
  const { withLock, atomicWriteJson } = require('../../../index.js')
  return {
    /** @param {string} path */
    operate: (path) => withLock(path, async () => {
      const data = JSON.parse(await fs.readFile(path, 'utf8'))
      data.count++
      await atomicWriteJson(path, data)
    }, { timeout: Infinity }),
  }
}

module.exports = { open }
