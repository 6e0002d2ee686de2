'use strict'

const fs = require('node:fs')

/** How long it takes from one process giving a lock back to the other having it, in a file that both know. */
function record() {
  const bytes = Buffer.alloc(16)
  bytes.writeBigInt64LE(BigInt(process.pid), 0)
  const found = Buffer.alloc(16)
  let known = ''
  let file = -1
  /** @type {number[]} */
  let latencies = []
  /** @param {string} path */
  const open = (path) => {
    if (known === path) return
    if (file >= 0) fs.closeSync(file)
    file = fs.openSync(`${path}.left`, fs.constants.O_RDWR | fs.constants.O_CREAT)
    known = path
    latencies = []
  }
  return {
    /** @param {string} path */
    taken(path) {
      const now = process.hrtime.bigint()
      open(path)
      const isOther = fs.readSync(file, found, 0, 16, 0) === 16 && found.readBigInt64LE(0) !== BigInt(process.pid)
      if (isOther) latencies.push(Number(now - found.readBigInt64LE(8)) / 1000)
      fs.writeFileSync(`${path}.latencies-${process.pid}`, latencies.join('\n'))
    },
    /** The last thing that is done under the lock. */
    leaving() {
      bytes.writeBigInt64LE(process.hrtime.bigint(), 8)
      fs.writeSync(file, bytes, 0, 16, 0)
    },
  }
}

module.exports = { record }
