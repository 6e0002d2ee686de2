'use strict'

const fs = require('node:fs')
const path = require('node:path')
const { summarize } = require('./statistics.js')

const TIMES = 20
const BLOCK = 4096

/**
 * What a sync costs on a block device, and how many flushes of the device it makes
 * (counted by the kernel): one for bytes overwritten in place, two when it commits the
 * journal.
 *
 * @param {string} dir
 * @returns {{ milliseconds: number, text: string }} The cost of syncing overwritten bytes.
 */
function measureSyncCost(dir) {
  const file = path.join(dir, 'sync-cost')
  const bytes = Buffer.alloc(BLOCK, 1)
  const descriptor = fs.openSync(file, 'w+')
  fs.writeSync(descriptor, Buffer.alloc(BLOCK * TIMES), 0, BLOCK * TIMES, 0)
  fs.fsyncSync(descriptor)
  const overwrite = repeat(dir, (index) => {
    fs.writeSync(descriptor, bytes, 0, BLOCK, index * BLOCK)
    fs.fdatasyncSync(descriptor)
  })
  const append = repeat(dir, (index) => {
    fs.writeSync(descriptor, bytes, 0, BLOCK, (TIMES + index) * BLOCK)
    fs.fsyncSync(descriptor)
  })
  fs.closeSync(descriptor)
  fs.unlinkSync(file)
  const text = `a sync of overwritten bytes takes ${describe(overwrite)}, of appended bytes ${describe(append)}`
  return { milliseconds: overwrite.milliseconds, text }
}

/**
 * @param {string} dir
 * @param {(index: number) => void} step
 */
function repeat(dir, step) {
  const before = flushes(dir)
  const samples = Array.from({ length: TIMES }, (_, index) => {
    const start = performance.now()
    step(index)
    return performance.now() - start
  })
  return { milliseconds: summarize(samples).median, flushes: (flushes(dir) - before) / TIMES }
}

/**
 * Flushes that the device of a directory has finished: field 16 of its `stat`.
 *
 * @param {string} dir
 */
function flushes(dir) {
  const { dev } = fs.statSync(dir)
  // As in the C library's major() and minor(), for numbers that fit the old form.
  const number = `${(dev >> 8) & 0xfff}:${(dev & 0xff) | ((dev >> 12) & 0xfff00)}`
  try {
    return Number(fs.readFileSync(`/sys/dev/block/${number}/stat`, 'utf8').trim().split(/\s+/)[15])
  } catch {
    return NaN
  }
}

/** @param {{ milliseconds: number, flushes: number }} cost */
function describe({ milliseconds, flushes }) {
  const count = Number(flushes.toFixed(1))
  const flushed = Number.isNaN(count) ? '' : ` (${count} ${count === 1 ? 'flush' : 'flushes'})`
  return `${milliseconds.toFixed(2)} ms${flushed}`
}

module.exports = { measureSyncCost }
