'use strict'

// What is published on `node:diagnostics_channel`. Nothing is built, and nothing asked of the
// native side, while nobody listens. What a subscriber throws is reported by Node as an
// uncaught exception, and does not come here.

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
function isWatched({ start, end, asyncStart, asyncEnd, error }) {
  return start.hasSubscribers || end.hasSubscribers || asyncStart.hasSubscribers || asyncEnd.hasSubscribers || error.hasSubscribers
}

/**
 * The same function, traced when somebody listens. What it resolves with is not told: it may be
 * what is in a user's file.
 *
 * @template {any[]} A
 * @template T
 * @param {TracingChannel} trace
 * @param {(...args: A) => Promise<T>} run
 * @param {(...args: A) => object} describe what subscribers are told of a call
 * @returns {(...args: A) => Promise<T>}
 */
function traced(trace, run, describe) {
  return (...args) => (isWatched(trace) ? watch(trace, () => run(...args), describe(...args)) : run(...args))
}

/**
 * @template T
 * @param {TracingChannel} trace
 * @param {() => Promise<T>} run
 * @param {object} context
 * @returns {Promise<T>}
 */
async function watch(trace, run, context) {
  /** @type {T[]} */
  const results = []
  await trace.tracePromise(async () => void results.push(await run()), context)
  return /** @type {T} */ (results[0])
}

/**
 * The same for a function that is not asynchronous.
 *
 * @template {any[]} A
 * @param {TracingChannel} trace
 * @param {(...args: A) => void} run
 * @param {(...args: A) => object} describe
 * @returns {(...args: A) => void}
 */
function tracedSync(trace, run, describe) {
  return (...args) => (isWatched(trace) ? trace.traceSync(() => run(...args), describe(...args)) : run(...args))
}

/**
 * Whom to tell of the life of something that ends after the call that has made it.
 *
 * @typedef {object} Life
 * @property {any} context what subscribers are told of it
 * @property {(error?: unknown) => void} ended the first word counts
 */

/**
 * The same for a function that makes something which ends later, and says so itself.
 *
 * @template {any[]} A
 * @template T
 * @param {TracingChannel} trace
 * @param {(life: Life | undefined, ...args: A) => T} make
 * @param {(...args: A) => object} describe
 * @returns {(...args: A) => T}
 */
function tracedLife(trace, make, describe) {
  return (...args) => {
    if (!isWatched(trace)) return make(undefined, ...args)
    const context = describe(...args)
    /** @type {T[]} */
    const made = []
    const told = trace.tracePromise(() => {
      /** @type {Life['ended']} */
      let ended = () => {}
      /** @type {Promise<void>} */
      const life = new Promise((resolve, reject) => {
        ended = (error) => (error === undefined ? resolve() : reject(error))
      })
      made.push(make({ context, ended }, ...args))
      return life
    }, context)
    // Whoever made it hears of a failure from itself.
    told.catch(() => {})
    return /** @type {T} */ (made[0])
  }
}

/** @typedef {import('./lock-context.js').Held} Held */

/**
 * Locks of which is told when they are given back.
 *
 * @type {WeakMap<Held, { path: string, since: number }>}
 */
const lives = new WeakMap()

/**
 * The same function, which takes a lock, traced when somebody listens.
 *
 * @template {[path: string, options: { kind?: import('../../index.js').LockKind }, ...rest: any[]]} A
 * @param {(...args: A) => Promise<Held>} acquire
 * @returns {(...args: A) => Promise<Held>}
 */
function tracedLock(acquire) {
  const asked = traced(traces.lock, acquire, (...[path, { kind = 'write' }]) => ({ operation: 'lock', path, kind }))
  return (...args) => (acquired.hasSubscribers || released.hasSubscribers ? watchLock(args[0], asked(...args)) : asked(...args))
}

/** @param {string} path @param {Promise<Held>} asked */
async function watchLock(path, asked) {
  const begun = performance.now()
  const held = await asked
  const since = performance.now()
  lives.set(held, { path, since })
  if (acquired.hasSubscribers) acquired.publish({ path, kind: held.kind, waited: since - begun })
  return held
}

/** A lock has been given back. @param {Held} held */
function lockReleased(held) {
  if (!released.hasSubscribers) return
  const life = lives.get(held)
  if (life) released.publish({ path: life.path, kind: held.kind, held: performance.now() - life.since })
}

/**
 * What takes the events of one write to the subscribers; `undefined` when there are none.
 *
 * @param {string} path
 * @returns {((event: import('../native/binding.js').NativeEvent) => void) | undefined}
 */
function stepper(path) {
  if (!steps.hasSubscribers) return undefined
  return ({ name, duration, ...fields }) => {
    const time = duration !== undefined && (name === 'retrying' ? { delay: duration } : { duration })
    steps.publish({ path, step: name, ...fields, ...time })
  }
}

module.exports = { isWatched, lockReleased, stepper, traced, tracedLife, tracedLock, tracedSync, traces }
