'use strict'

// What is answered at once leaves no turn of the event loop between the call and what comes
// after it. A program that asks again and again would keep timers, sockets and signals from being
// seen to, so from time to time the answer has to come by way of the event loop.

// As they are now: a test may put clocks of its own in their place, which nobody winds.
const { setImmediate } = require('node:timers')
const now = performance.now.bind(performance)

/** How long answers may come at once, in milliseconds. */
const LONGEST = 3

/** When the first of them was asked for in this turn of the event loop. @type {number | undefined} */
let began

/** Whether an answer may come at once. */
function mayAnswerAtOnce() {
  if (began !== undefined) return now() - began < LONGEST
  began = now()
  setImmediate(() => {
    began = undefined
  })
  return true
}

module.exports = { mayAnswerAtOnce }
