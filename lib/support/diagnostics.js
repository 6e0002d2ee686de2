'use strict'

// Publishes on `node:diagnostics_channel`. Without subscribers no message is built and the native side
// reports no events. Node reports what a subscriber throws as an uncaught exception; it does not
// reach this code.

const { channel, tracingChannel } = require('node:diagnostics_channel')

/** @typedef {import('node:diagnostics_channel').TracingChannel<unknown, any>} TracingChannel */

const traces = {
  write: tracingChannel('holdfast:write'),
  update: tracingChannel('holdfast:update'),
  lock: tracingChannel('holdfast:lock'),
  backup: tracingChannel('holdfast:backup'),
  transaction: tracingChannel('holdfast:transaction'),
  wal: tracingChannel('holdfast:wal'),
}
const steps = channel('holdfast:write:step')
const acquired = channel('holdfast:lock:acquired')
const released = channel('holdfast:lock:released')

/** @param {TracingChannel} trace */
function hasSubscribers({ start, end, asyncStart, asyncEnd, error }) {
  return start.hasSubscribers || end.hasSubscribers || asyncStart.hasSubscribers || asyncEnd.hasSubscribers || error.hasSubscribers
}

/**
 * The same function, traced when there are subscribers. Its result is not published: it may be the
 * content of a user's file.
 *
 * @template {any[]} A
 * @template T
 * @param {TracingChannel} trace
 * @param {(...args: A) => Promise<T>} run
 * @param {(...args: A) => object} describe the context that subscribers get for a call
 * @returns {(...args: A) => Promise<T>}
 */
function traced(trace, run, describe) {
  return (...args) => (hasSubscribers(trace) ? traceCall(trace, () => run(...args), describe(...args)) : run(...args))
}

/**
 * @template T
 * @param {TracingChannel} trace
 * @param {() => Promise<T>} run
 * @param {object} context
 * @returns {Promise<T>}
 */
async function traceCall(trace, run, context) {
  /** @type {T[]} */
  const results = []
  await trace.tracePromise(async () => void results.push(await run()), context)
  return /** @type {T} */ (results[0])
}

/**
 * The same for a synchronous function.
 *
 * @template {any[]} A
 * @template T
 * @param {TracingChannel} trace
 * @param {(...args: A) => T} run
 * @param {(...args: A) => object} describe
 * @returns {(...args: A) => T}
 */
function tracedSync(trace, run, describe) {
  return (...args) => (hasSubscribers(trace) ? trace.traceSync(() => run(...args), describe(...args)) : run(...args))
}

/**
 * Reports the end of an object that outlives the call which made it.
 *
 * @typedef {object} Lifetime
 * @property {any} context the context that subscribers get
 * @property {(error?: unknown) => void} end only the first call counts
 */

/**
 * The same for a function that makes an object which reports its own end.
 *
 * @template {any[]} A
 * @template T
 * @param {TracingChannel} trace
 * @param {(lifetime: Lifetime | undefined, ...args: A) => T} make
 * @param {(...args: A) => object} describe
 * @returns {(...args: A) => T}
 */
function tracedLifetime(trace, make, describe) {
  return (...args) => {
    if (!hasSubscribers(trace)) return make(undefined, ...args)
    const context = describe(...args)
    /** @type {T[]} */
    const made = []
    const traced = trace.tracePromise(() => {
      /** @type {Lifetime['end']} */
      let end = () => {}
      /** @type {Promise<void>} */
      const ended = new Promise((resolve, reject) => {
        end = (error) => (error === undefined ? resolve() : reject(error))
      })
      made.push(make({ context, end }, ...args))
      return ended
    }, context)
    // The caller learns of a failure from the object.
    traced.catch(() => {})
    return /** @type {T} */ (made[0])
  }
}

/** @typedef {import('./lock-context.js').HeldLock} Held */

/**
 * The locks whose release is to be published.
 *
 * @type {WeakMap<Held, { path: string, since: number }>}
 */
const acquisitions = new WeakMap()

/**
 * The same function, which acquires a lock, traced when there are subscribers.
 *
 * @template {[path: string, options: { kind?: import('../../index.js').LockKind }, ...rest: any[]]} A
 * @param {(...args: A) => Promise<Held>} acquire
 * @returns {(...args: A) => Promise<Held>}
 */
function tracedLock(acquire) {
  const tracedAcquire = traced(traces.lock, acquire, (...[path, { kind = 'write' }]) => ({ operation: 'lock', path, kind }))
  return (...args) => (acquired.hasSubscribers || released.hasSubscribers ? publishLock(args[0], tracedAcquire(...args)) : tracedAcquire(...args))
}

/** @param {string} path @param {Promise<Held>} acquiring */
async function publishLock(path, acquiring) {
  const start = performance.now()
  const held = await acquiring
  const since = performance.now()
  acquisitions.set(held, { path, since })
  if (acquired.hasSubscribers) acquired.publish({ path, kind: held.kind, waited: since - start })
  return held
}

/** Publishes that a lock was released. @param {Held} held */
function lockReleased(held) {
  if (!released.hasSubscribers) return
  const acquisition = acquisitions.get(held)
  if (acquisition) released.publish({ path: acquisition.path, kind: held.kind, held: performance.now() - acquisition.since })
}

/**
 * Passes the events of one write to the subscribers; `undefined` when there are none.
 *
 * @param {string} path
 * @returns {((event: import('../native/binding.js').NativeEvent) => void) | undefined}
 */
function stepPublisher(path) {
  if (!steps.hasSubscribers) return undefined
  return ({ name, duration, ...fields }) => {
    const time = duration !== undefined && (name === 'retrying' ? { delay: duration } : { duration })
    steps.publish({ path, step: name, ...fields, ...time })
  }
}

/**
 * What an operation waits for within it, as a trace of its own in the async context of the operation.
 *
 * @param {TracingChannel} trace
 * @param {import('node:async_hooks').AsyncResource} resource the operation's
 * @param {() => object} describe
 * @returns {((error?: unknown) => Promise<void>) | undefined} ends the trace, and resolves when the subscribers know of it; none without subscribers
 */
function traceWithin(trace, resource, describe) {
  if (!hasSubscribers(trace)) return undefined
  /** @type {(error?: unknown) => void} */
  let settle = () => {}
  /** @type {Promise<void>} */
  const settled = new Promise((resolve, reject) => {
    settle = (error) => (error === undefined ? resolve() : reject(error))
  })
  const told = resource.runInAsyncScope(() => traceCall(trace, () => settled, describe()))
  // The caller learns of a failure from the operation.
  const over = told.catch(() => {})
  return (error) => (settle(error), over)
}

module.exports = { acquired, hasSubscribers, lockReleased, released, stepPublisher, steps, traced, tracedLifetime, tracedLock, tracedSync, traceWithin, traces }
