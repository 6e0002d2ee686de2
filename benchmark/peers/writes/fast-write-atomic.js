'use strict'

function open() {
  const { promise } = require('fast-write-atomic')
  return {
    /** @param {string} path @param {Buffer} data */
    write: (path, data) => promise(path, data),
  }
}

module.exports = { open }
