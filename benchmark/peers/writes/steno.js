'use strict'

async function open() {
  const { Writer } = await import('steno')
  /** One writer per file, kept: it merges what waits for the same file. */
  const writers = new Map()
  return {
    /** @param {string} path @param {Buffer} data */
    write(path, data) {
      let writer = writers.get(path)
      if (!writer) writers.set(path, (writer = new Writer(path)))
      return writer.write(data)
    },
  }
}

module.exports = { open }
