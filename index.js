'use strict'

const { atomicWrite, atomicWriteJson, atomicWriteSync } = require('./lib/atomic-write.js')
const { SessionFileError } = require('./lib/errors.js')
const { setLogger } = require('./lib/logger.js')

module.exports = { atomicWrite, atomicWriteJson, atomicWriteSync, SessionFileError, setLogger }
