'use strict'

/** @param {{ fsync: boolean }} options */
function open({ fsync }) {
  const writeFileAtomic = require('write-file-atomic')
  return {
    // A new options object each time, as callers write it: the package keeps what it finds
    // out about the file in it.
    /** @param {string} path @param {Buffer} data */
    write: (path, data) => writeFileAtomic(path, data, { fsync }),
  }
}

module.exports = { open }
