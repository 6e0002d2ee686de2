'use strict'

// The process of one log: batches of a hundred entries of 200 bytes, appended by producers of
// which each waits for its batch, or all of them read again.

const fs = require('node:fs')

/** @typedef {{ id: string, op: 'insert', payload: Buffer }} Entry */

/**
 * @typedef {object} Task
 * @property {'produce' | 'fill' | 'scan'} log
 * @property {string} dir
 * @property {number} producers
 * @property {number} batches In all.
 */

/** @typedef {{ append: (batch: Entry[]) => unknown, scan: (take: (payload: Uint8Array) => void) => Promise<void>, close: () => unknown, release?: () => Promise<number> }} Log `release` says how many entries are gone. */

const BATCH = 100
const BYTES = 200
/** Batches before the clock starts: by then a log has had the space that it uses again. */
const WARM_UP = 800
/** Of these, how many are appended as one. */
const AT_ONCE = 20

/**
 * The payloads are Buffers as `Buffer.from` makes them, many in one piece of memory: a hundred
 * thousand pieces that the warm-up leaves would be sorted by whoever next asks for memory.
 *
 * @param {number} first @param {number} [count] @returns {Entry[]}
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
  /** @type {{ open: (dir: string) => Promise<Log> }} */
  const kind = require(`./${module}.js`)
  /** Those that were filled, and are read. @type {Map<string, Log>} */
  const filled = new Map()
  return {
    /** @param {Task} task */
    async produce({ dir, producers, batches }) {
      fs.rmSync(dir, { recursive: true, force: true })
      fs.mkdirSync(dir, { recursive: true })
      const log = await kind.open(dir)
      for (let i = 0; i < WARM_UP; i += AT_ONCE) await log.append(batchFrom(i * BATCH, AT_ONCE * BATCH))
      const released = (await log.release?.()) ?? 0
      const work = Array.from({ length: batches }, (_, i) => batchFrom((WARM_UP + i) * BATCH))
      /** @type {number[]} */
      const waits = []
      global.gc?.()
      const begun = performance.now()
      await Promise.all(Array.from({ length: producers }, async () => {
        for (let batch = work.pop(); batch; batch = work.pop()) {
          const asked = performance.now()
          await log.append(batch)
          waits.push(performance.now() - asked)
        }
      }))
      const milliseconds = performance.now() - begun
      await check(log, (WARM_UP + batches) * BATCH - released)
      await log.close()
      fs.rmSync(dir, { recursive: true })
      waits.sort((a, b) => a - b)
      return { milliseconds, p99: waits[Math.floor(waits.length * 0.99)] }
    },

    /** @param {Task} task */
    async fill({ dir, batches }) {
      fs.mkdirSync(dir, { recursive: true })
      const log = await kind.open(dir)
      for (let i = 0; i < batches; i++) await log.append(batchFrom(i * BATCH))
      filled.set(dir, log)
      return { milliseconds: 0 }
    },

    /** @param {Task} task */
    async scan({ dir, batches }) {
      const log = filled.get(dir)
      if (!log) throw new Error('it was not filled')
      global.gc?.()
      const begun = performance.now()
      await check(log, batches * BATCH)
      return { milliseconds: performance.now() - begun }
    },
  }
}

/** @param {Log} log @param {number} expected */
async function check(log, expected) {
  let count = 0
  let bytes = 0
  await log.scan((payload) => {
    count++
    bytes += payload.length
  })
  if (count !== expected || bytes !== expected * BYTES) throw new Error(`there are ${count} entries with ${bytes} bytes, of ${expected}`)
}

module.exports = { BATCH, BYTES, WARM_UP, open }
