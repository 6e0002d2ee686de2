'use strict'

const { atomicWrite, atomicWriteJson, atomicWriteSync } = require('./lib/atomic-write.js')
const { SessionFileError } = require('./lib/errors.js')
const { acquireLock, isLocked, tryAcquireLock, withLock } = require('./lib/lock.js')
const { setLogger } = require('./lib/logger.js')
const { updateJsonFile } = require('./lib/update-json.js')

module.exports = {
  acquireLock,
  atomicWrite,
  atomicWriteJson,
  atomicWriteSync,
  isLocked,
  SessionFileError,
  setLogger,
  tryAcquireLock,
  updateJsonFile,
  withLock,
}
