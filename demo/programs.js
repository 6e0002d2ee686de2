'use strict'

// What the child programs have in common.

const fs = require('node:fs')

/** Sends a line to the parent, which gets it even if this process is killed after the call. */
function tell(...words) {
  fs.writeSync(1, `${words.join(' ')}\n`)
}

/** @param {() => void} stop called when the parent asks this program to end, or has ended itself */
function onStop(stop) {
  process.stdin.resume().on('end', stop).on('error', stop)
}

module.exports = { onStop, tell }
