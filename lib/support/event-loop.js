'use strict'

// A call that is answered at once gives the event loop no turn before the caller continues. A program
// that calls again and again would starve timers, sockets and signals, so from time to time an answer
// has to come through the event loop.

// The functions as they are now: a test may replace them by fake timers that never fire.
const { setImmediate } = require('node:timers')
const now = performance.now.bind(performance)

/** For how many milliseconds of one turn of the event loop calls may be answered at once. */
const AT_ONCE_LIMIT = 3

/** The time of the first such call in this turn of the event loop. @type {number | undefined} */
let firstCall

/** Whether a call may be answered at once. */
function mayAnswerAtOnce() {
  if (firstCall !== undefined) return now() - firstCall < AT_ONCE_LIMIT
  firstCall = now()
  setImmediate(() => {
    firstCall = undefined
  })
  return true
}

module.exports = { mayAnswerAtOnce }
