'use strict'

// What the process of one log does: producers append batches of a hundred entries of 200 bytes,
// each waiting for its batch, or all entries are read.

const fs = require('node:fs')

/** @typedef {{ id: string, op: 'insert', payload: Buffer }} LogEntry */

/**
 * @typedef {object} LogTask
 * @property {'produce' | 'fill' | 'scan'} log
 * @property {string} dir
 * @property {number} producers
 * @property {number} batches In all.
 */

/** @typedef {{ append: (batch: LogEntry[]) => unknown, scan: (visit: (payload: Uint8Array) => void) => Promise<void>, close: () => unknown, release?: () => Promise<number> }} LogStore `release` resolves with how many entries it removed. */

const BATCH = 100
const BYTES = 200
/** Batches before the clock starts: by then a log has space that it can reuse. */
const WARM_UP = 800
/** Batches of the warm-up that are appended as one. */
const WARM_UP_GROUP = 20

/**
 * The payloads are Buffers as `Buffer.from` makes them, many in one slab: the next allocation
 * would pay for a hundred thousand separate pieces that the warm-up had freed.
 *
 * @param {number} first @param {number} [count] @returns {LogEntry[]}
 */
function batchFrom(first, count = BATCH) {
  return Array.from({ length: count }, (_, i) => ({
    id: `id-${first + i}`,
    op: /** @type {const} */ ('insert'),
    payload: Buffer.allocUnsafe(BYTES).fill(`${first + i} `),
  }))
}

/** @param {{ module: string }} options */
function open({ module }) {
  /** @type {{ open: (dir: string) => Promise<LogStore> }} */
  const peer = require(`./${module}.js`)
  /** Logs that were filled, to be scanned. @type {Map<string, LogStore>} */
  const filled = new Map()
  return {
    /** @param {LogTask} task */
    async produce({ dir, producers, batches }) {
      fs.rmSync(dir, { recursive: true, force: true })
      fs.mkdirSync(dir, { recursive: true })
      const log = await peer.open(dir)
      for (let i = 0; i < WARM_UP; i += WARM_UP_GROUP) await log.append(batchFrom(i * BATCH, WARM_UP_GROUP * BATCH))
      const released = (await log.release?.()) ?? 0
      const work = Array.from({ length: batches }, (_, i) => batchFrom((WARM_UP + i) * BATCH))
      /** @type {number[]} */
      const latencies = []
      global.gc?.()
      const start = performance.now()
      await Promise.all(Array.from({ length: producers }, async () => {
        for (let batch = work.pop(); batch; batch = work.pop()) {
          const called = performance.now()
          await log.append(batch)
          latencies.push(performance.now() - called)
        }
      }))
      const milliseconds = performance.now() - start
      await check(log, (WARM_UP + batches) * BATCH - released)
      await log.close()
      fs.rmSync(dir, { recursive: true })
      latencies.sort((a, b) => a - b)
      return { milliseconds, p99: latencies[Math.floor(latencies.length * 0.99)] }
    },

    /** @param {LogTask} task */
    async fill({ dir, batches }) {
      fs.mkdirSync(dir, { recursive: true })
      const log = await peer.open(dir)
      for (let i = 0; i < batches; i++) await log.append(batchFrom(i * BATCH))
      filled.set(dir, log)
      return { milliseconds: 0 }
    },

    /** @param {LogTask} task */
    async scan({ dir, batches }) {
      const log = filled.get(dir)
      if (!log) throw new Error(`the log ${dir} was not filled`)
      global.gc?.()
      const start = performance.now()
      await check(log, batches * BATCH)
      return { milliseconds: performance.now() - start }
    },
  }
}

/** @param {LogStore} log @param {number} expected */
async function check(log, expected) {
  let count = 0
  let bytes = 0
  await log.scan((payload) => {
    count++
    bytes += payload.length
  })
  if (count !== expected || bytes !== expected * BYTES) throw new Error(`${count} entries with ${bytes} bytes instead of ${expected} entries`)
}

module.exports = { BATCH, BYTES, WARM_UP, open }
