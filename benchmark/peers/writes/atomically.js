'use strict'

async function open() {
  const { writeFile } = await import('atomically')
  return {
    /** @param {string} path @param {Buffer} data */
    write: (path, data) => writeFile(path, data),
  }
}

module.exports = { open }
