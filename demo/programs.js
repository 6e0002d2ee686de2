'use strict'

// What the child programs have in common.

const fs = require('node:fs')

/** Tells the parent something. When it returns the parent will get it, even if this process is killed. */
function tell(...words) {
  fs.writeSync(1, `${words.join(' ')}\n`)
}

/** @param {() => void} stop is called when the parent wants this program to end, or has ended itself */
function whenAsked(stop) {
  process.stdin.resume().on('end', stop).on('error', stop)
}

module.exports = { tell, whenAsked }
