'use strict'

const fs = require('node:fs')

/** Measures the time from one process releasing a lock to the other having it, by way of a file that both know. */
function handOverClock() {
  const bytes = Buffer.alloc(16)
  bytes.writeBigInt64LE(BigInt(process.pid), 0)
  const read = Buffer.alloc(16)
  let known = ''
  let file = -1
  /** @type {number[]} */
  let latencies = []
  /** @param {string} path */
  const open = (path) => {
    if (known === path) return
    if (file >= 0) fs.closeSync(file)
    file = fs.openSync(`${path}.released-at`, fs.constants.O_RDWR | fs.constants.O_CREAT)
    known = path
    latencies = []
  }
  return {
    /** @param {string} path */
    acquired(path) {
      const now = process.hrtime.bigint()
      open(path)
      const wasOther = fs.readSync(file, read, 0, 16, 0) === 16 && read.readBigInt64LE(0) !== BigInt(process.pid)
      if (wasOther) latencies.push(Number(now - read.readBigInt64LE(8)) / 1000)
      fs.writeFileSync(`${path}.latencies-${process.pid}`, latencies.join('\n'))
    },
    /** To be called last under the lock. */
    releasing() {
      bytes.writeBigInt64LE(process.hrtime.bigint(), 8)
      fs.writeSync(file, bytes, 0, 16, 0)
    },
  }
}

module.exports = { handOverClock }
