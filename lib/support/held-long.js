'use strict'

// What this thread holds, and for how long: for those who wait behind it, and for the logger.

const { basename, dirname, join } = require('node:path')
const { safeLogger } = require('./logger.js')

/** After how many milliseconds the logger is told of a lock that is still held, where the options do not say so. */
const WARN_AFTER = 5000

/**
 * @typedef {object} Held
 * @property {'lock' | 'update' | 'transaction'} what
 * @property {string} path the file, absolute
 * @property {number} since by `performance.now()`
 * @property {number} warnAfter
 * @property {import('../../index.js').Logger | null | undefined} logger
 * @property {boolean} isTold
 */

/** In the order in which they were begun. @type {Set<Held>} */
const all = new Set()

/** The one timer, while something is held that the logger has not been told of. @type {NodeJS.Timeout | undefined} */
let timer
/** When it fires, by `performance.now()`. */
let due = Infinity

/**
 * @param {Held['what']} what
 * @param {string} path
 * @param {{ warnAfter?: number | undefined, logger?: Held['logger'] }} options
 * @returns {Held}
 */
function begin(what, path, { warnAfter = WARN_AFTER, logger }) {
  const since = performance.now()
  /** @type {Held} */
  const held = { what, path, since, warnAfter, logger, isTold: false }
  all.add(held)
  if (since + warnAfter < due) set(since, since + warnAfter)
  return held
}

/** @param {Held} held */
function end(held) {
  all.delete(held)
  // A timer would keep this copy of the modules in memory, where a test runner loads them anew.
  if (all.size === 0) stop()
  if (held.isTold || held.warnAfter === Infinity) return
  // The thread may have been busy, so that no timer could fire.
  const now = performance.now()
  if (now - held.since >= held.warnAfter) tell(held, now)
}

/** @param {number} now @param {number} when */
function set(now, when) {
  clearTimeout(timer)
  due = when
  timer = setTimeout(look, Math.min(Math.max(when - now, 0), 2 ** 31 - 1))
  timer.unref?.()
}

function stop() {
  clearTimeout(timer)
  timer = undefined
  due = Infinity
}

function look() {
  stop()
  const now = performance.now()
  let next = Infinity
  for (const held of all) {
    if (held.isTold) continue
    const when = held.since + held.warnAfter
    // Timers may fire a little early.
    if (when <= now + 1) tell(held, now)
    else next = Math.min(next, when)
  }
  if (next < Infinity) set(now, next)
}

const MESSAGES = { lock: 'Lock held for long', update: 'Update takes long', transaction: 'Transaction takes long' }

/** @param {Held} held @param {number} now */
function tell(held, now) {
  held.isTold = true
  const { what, path, since, logger } = held
  safeLogger(logger)?.warn({ path, heldFor: Math.round(now - since), operation: what === 'update' ? 'update JSON' : what }, MESSAGES[what])
}

/** In words, what this thread does with a file that others wait for; nothing if that is not known. @param {string} path of the file, or of its lock file */
function inWords(path) {
  for (const { what, path: own, since } of all) {
    if (own !== path && join(dirname(own), `.${basename(own)}.lock`) !== path) continue
    const time = performance.now() - since
    const long = time < 1000 ? `${Math.round(time)} ms` : `${Math.round(time / 1000)} s`
    return what === 'lock' ? `a lock of this process that has been held for ${long}` : `${what === 'update' ? 'an update' : 'a transaction'} of this process that has run for ${long}`
  }
  return undefined
}

module.exports = { begin, end, inWords }
