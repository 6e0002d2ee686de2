'use strict'

const fs = require('node:fs')
const { setTimeout: pause } = require('node:timers/promises')
const { record } = require('./record.js')

const UNBOUNDED = { timeout: Infinity }

/** What is done under the lock, by the name of the table. @param {{ what: string, readers?: number }} options */
function open({ what, readers = 1 }) {
  const { acquireLock, withLock } = /** @type {any} */ (require('../../index.js'))
  const latencies = record()
  /** @type {Record<string, (path: string) => Promise<unknown>>} */
  const all = {
    pair: async (path) => (await acquireLock(path, UNBOUNDED)).release(),
    around: (path) => withLock(path, () => {}, UNBOUNDED),
    count: (path) => withLock(path, () => countUp(path), UNBOUNDED),
    handOver: async (path) => {
      const lock = await acquireLock(path, UNBOUNDED)
      latencies.taken(path)
      // The other one asks meanwhile.
      await pause(2)
      latencies.leaving()
      await lock.release()
    },
    read: (path) => Promise.all(Array.from({ length: readers }, () => withLock(path, () => {}, { kind: 'read', ...UNBOUNDED }))),
  }
  return { increment: all[what] }
}

/** @param {string} path */
function countUp(path) {
  fs.writeFileSync(path, `${Number(fs.readFileSync(path, 'utf8')) + 1}`)
}

module.exports = { open, countUp }
