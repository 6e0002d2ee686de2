'use strict'

// The channels of node:diagnostics_channel with their types. Neither the addon nor the rest of the package
// is loaded: a program may subscribe before it loads them.

const { fn, readOptions, wrongType } = require('./lib/support/arguments.js')
const { acquired, hasSubscribers, released, steps, traces } = require('./lib/support/diagnostics.js')

const checks = { start: fn, end: fn, asyncStart: fn, asyncEnd: fn, error: fn }
const EVENTS = /** @type {(keyof typeof checks)[]} */ (Object.keys(checks))

/** @param {unknown} handlers @param {string} caller */
function readHandlers(handlers, caller) {
  if (typeof handlers !== 'object' || handlers === null) throw wrongType('The "handlers" argument', 'of type object', handlers)
  return readOptions(/** @type {Record<string, unknown>} */ (handlers), checks, caller)
}

/** @param {import('node:diagnostics_channel').TracingChannel<unknown, any>} trace @returns {import('./diagnostics.js').TraceChannel<any>} */
function typed(trace) {
  const { start, end, asyncStart, asyncEnd, error } = /** @type {any} */ (trace)
  return Object.freeze({
    start, end, asyncStart, asyncEnd, error,
    get hasSubscribers() {
      return hasSubscribers(trace)
    },
    subscribe(/** @type {unknown} */ handlers) {
      const read = readHandlers(handlers, 'subscribe')
      for (const event of EVENTS) if (read[event]) trace[event].subscribe(read[event])
    },
    unsubscribe(/** @type {unknown} */ handlers) {
      const read = readHandlers(handlers, 'unsubscribe')
      let all = true
      for (const event of EVENTS) if (read[event] && !/** @type {any} */ (trace[event]).unsubscribe(read[event])) all = false
      return all
    },
  })
}

/** @type {typeof import('./diagnostics.js').channels} */
const channels = Object.freeze({
  write: typed(traces.write),
  update: typed(traces.update),
  lock: typed(traces.lock),
  backup: typed(traces.backup),
  transaction: typed(traces.transaction),
  wal: typed(traces.wal),
  writeStep: /** @type {any} */ (steps),
  lockAcquired: /** @type {any} */ (acquired),
  lockReleased: /** @type {any} */ (released),
})

module.exports = { channels }
