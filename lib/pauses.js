'use strict'

// What can be answered at once is: no turn of the event loop passes between the call and what
// comes after it. A program that asks again and again would keep timers, sockets and signals from
// being seen to, so from time to time an answer comes after everybody else has had his turn.

/** How long nobody else has a turn, in milliseconds. */
const LONGEST = 1

/** When the first answer of this turn of the event loop was asked for. @type {number | undefined} */
let began

/** Whether the event loop has to have a turn first. */
function mustPause() {
  if (began !== undefined) return performance.now() - began > LONGEST
  began = performance.now()
  setImmediate(() => {
    began = undefined
  })
  return false
}

/** Until the event loop has had a turn. */
function pause() {
  return new Promise((resolve) => void setImmediate(resolve))
}

module.exports = { mustPause, pause }
