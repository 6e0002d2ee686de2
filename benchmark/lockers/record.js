'use strict'

const fs = require('node:fs')

/** How long it takes from one process giving a lock back to the other having it, in a file that both know. */
function record() {
  const bytes = Buffer.alloc(16)
  /** @param {string} path */
  const leaving = (path) => {
    const file = fs.openSync(`${path}.left`, 'w')
    bytes.writeBigInt64LE(BigInt(process.pid), 0)
    bytes.writeBigInt64LE(process.hrtime.bigint(), 8)
    fs.writeSync(file, bytes, 0, 16, 0)
    fs.closeSync(file)
  }
  /** @param {string} path */
  const taken = (path) => {
    const now = process.hrtime.bigint()
    if (!fs.existsSync(`${path}.left`)) return
    const left = fs.readFileSync(`${path}.left`)
    if (left.length < 16 || left.readBigInt64LE(0) === BigInt(process.pid)) return
    fs.appendFileSync(`${path}.latencies`, `${Number(now - left.readBigInt64LE(8)) / 1000}\n`)
  }
  return { leaving, taken }
}

module.exports = { record }
