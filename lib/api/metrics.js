'use strict'

// What has been counted, as users see it.

const { readOptions } = require('../support/arguments.js')
const native = require('../native/binding.js')

/** @type {typeof import('../../index.js').metrics} */
function metrics() {
  readOptions(arguments[0], {}, 'metrics')
  return told(native.readMetrics(false))
}

/** @type {typeof import('../../index.js').resetMetrics} */
function resetMetrics() {
  readOptions(arguments[0], {}, 'resetMetrics')
  return told(native.readMetrics(true))
}

/**
 * The figures by their names: `writes.latency.full` is `full` of `latency` of `writes`.
 *
 * @param {import('../native/binding.js').NativeMetrics} counted
 * @returns {import('../../index.js').Metrics}
 */
function told({ figures, contention }) {
  /** @type {any} */
  const all = {
    writes: { failed: {} }, backups: { failed: {} }, transactions: { failed: {} }, wal: { failed: {} }, locks: { failed: {}, contention },
  }
  for (const { name, count, durations } of figures) {
    const path = name.split('.')
    const last = /** @type {string} */ (path.pop())
    const section = path.reduce((inner, part) => (inner[part] ??= {}), all)
    section[last] = durations ? histogram(count, durations) : count
  }
  return frozen(all)
}

/** @param {number} count @param {number[]} durations */
function histogram(count, [min, max, mean, p50, p90, p99, p999]) {
  return { count, min, max, mean, p50, p90, p99, p999 }
}

/**
 * @template T
 * @param {T} value
 * @returns {T}
 */
function frozen(value) {
  if (typeof value !== 'object' || value === null) return value
  for (const inner of Object.values(value)) frozen(inner)
  return Object.freeze(value)
}

module.exports = { metrics, resetMetrics }
