'use strict'

// Settings for all calls of the process.

const { oneOf, readOptions, wrongType } = require('../support/arguments.js')
const { native } = require('../native/port.js')

const checks = { cleanup: oneOf('off', 'onFirstWrite') }

/** @type {typeof import('../../index.js').setDefaults} */
function setDefaults(defaults) {
  if (typeof defaults !== 'object' || defaults === null || Array.isArray(defaults)) throw wrongType('The "defaults" argument', 'of type object', defaults)
  const { cleanup } = readOptions(defaults, checks, 'setDefaults')
  if (cleanup !== undefined) native.sweepOnFirstWrite(cleanup === 'onFirstWrite')
}

module.exports = { setDefaults }
