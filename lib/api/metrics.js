'use strict'

// The metrics in the form of the public contract.

const { readOptions } = require('../support/arguments.js')
const { native } = require('../native/port.js')

/** @type {typeof import('../../index.js').metrics} */
function metrics() {
  readOptions(arguments[0], {}, 'metrics')
  return fromNative(native.readMetrics(false))
}

/** @type {typeof import('../../index.js').resetMetrics} */
function resetMetrics() {
  readOptions(arguments[0], {}, 'resetMetrics')
  return fromNative(native.readMetrics(true))
}

/**
 * Nests the values by their dotted names: `writes.latency.full` is `full` of `latency` of `writes`.
 *
 * @param {import('../native/binding.js').NativeMetrics} snapshot
 * @returns {import('../../index.js').Metrics}
 */
function fromNative({ figures, contention }) {
  /** @type {any} */
  const all = {
    writes: { failed: {} }, backups: { failed: {} }, transactions: { failed: {} }, wal: { failed: {} }, locks: { failed: {}, contention },
  }
  for (const { name, count, durations } of figures) {
    const path = name.split('.')
    const last = /** @type {string} */ (path.pop())
    const section = path.reduce((inner, part) => (inner[part] ??= {}), all)
    section[last] = durations ? toHistogram(count, durations) : count
  }
  return deepFreeze(all)
}

/** The bounds of the buckets, in milliseconds. @type {number[] | undefined} */
let bounds

/** @param {number} count @param {import('../native/binding.js').NativeDurations} durations @returns {import('../../index.js').Histogram} */
function toHistogram(count, { upTo, ...durations }) {
  bounds ??= native.readDurationBounds()
  return { count, ...durations, buckets: bounds.map((le, index) => ({ le, count: upTo[index] ?? 0 })) }
}

/**
 * @template T
 * @param {T} value
 * @returns {T}
 */
function deepFreeze(value) {
  if (typeof value !== 'object' || value === null) return value
  for (const inner of Object.values(value)) deepFreeze(inner)
  return Object.freeze(value)
}

module.exports = { metrics, resetMetrics }
