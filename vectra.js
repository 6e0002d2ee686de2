'use strict'

// What Vectra's fork has in its files of these names, and the storage of the package `vectra`.

const { AtomicOperations, LockManager, lockManager } = require('./index.js')
const { AtomicFileStorage } = require('./lib/vectra/file-storage.js')

module.exports = { AtomicFileStorage, AtomicOperations, LockManager, lockManager }
