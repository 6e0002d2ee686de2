'use strict'

// What has been counted, as users see it.

const { readOptions } = require('./arguments.js')
const native = require('./binding.js')

/** @type {typeof import('../index.js').metrics} */
function metrics() {
  readOptions(arguments[0], {}, 'metrics')
  return told(native.readMetrics(false))
}

/** @type {typeof import('../index.js').resetMetrics} */
function resetMetrics() {
  readOptions(arguments[0], {}, 'resetMetrics')
  return told(native.readMetrics(true))
}

/**
 * @param {import('./binding.js').NativeMetrics} counted
 * @returns {import('../index.js').Metrics}
 */
function told({ writes, syncs, updates, backups, locks }) {
  const { none, file, full, rounds, shared } = writes
  return frozen({
    writes: {
      acknowledged: { none: none.count, file: file.count, full: full.count },
      failed: byCode(writes.failed),
      merged: writes.merged,
      attempts: writes.attempts,
      retries: writes.retries,
      bytes: writes.bytes,
      sharedSyncs: { rounds, writes: shared },
      latency: { none, file, full },
    },
    syncs,
    updates,
    backups: { ...backups, failed: byCode(backups.failed) },
    locks: {
      acquired: { read: locks.readWaits.count, write: locks.writeWaits.count },
      contended: locks.contended,
      timedOut: locks.timedOut,
      refused: locks.refused,
      failed: byCode(locks.failed),
      wait: { read: locks.readWaits, write: locks.writeWaits },
      hold: { read: locks.readHolds, write: locks.writeHolds },
      contention: locks.contention.map(({ path, count, uncertainty, waited }) => ({
        path, contended: count, uncertainty, waited,
      })),
    },
  })
}

/** @param {import('./binding.js').NativeFailures[]} failures */
function byCode(failures) {
  return Object.fromEntries(failures.map(({ code, count }) => [code, count]))
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
