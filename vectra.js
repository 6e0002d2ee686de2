'use strict'

// What Vectra's fork has in its files of these names.

const { AtomicOperations, LockManager, lockManager } = require('./index.js')

module.exports = { AtomicOperations, LockManager, lockManager }
