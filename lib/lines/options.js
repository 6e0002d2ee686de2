'use strict'

// The options of all that appends lines.

const { milliseconds, oneOf } = require('../support/arguments.js')
const writeOptions = require('../support/write-options.js')

const { newFileMode, makeDirs, signal, logger } = writeOptions.checks

const checks = { durability: oneOf('none', 'file', 'full'), newFileMode, makeDirs, logger, timeout: milliseconds(Infinity) }

/**
 * @param {{ [K in keyof typeof checks]?: any }} read
 * @param {boolean} json
 * @returns {import('./appender.js').Settings}
 */
function settingsOf({ durability = 'full', newFileMode = 0o644, makeDirs = false, timeout, logger }, json) {
  return { durable: durability !== 'none', json, mode: newFileMode, makeDirs, timeout, logger }
}

module.exports = { checks, settingsOf, signal }
