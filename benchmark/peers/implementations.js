'use strict'

/** @typedef {import('../harness/types.js').Implementation} Implementation */

/** The peer that each guarantee is compared with. */
const REFERENCE = { none: 'write-file-atomic, no fsync', file: 'write-file-atomic', full: 'write-file-atomic' }

/** All that write files, by what an acknowledged write is worth. @type {Implementation[]} */
const implementations = [
  { name: 'holdfast none', guarantee: 'none', module: 'holdfast', options: { durability: 'none' }, ordered: true },
  { name: REFERENCE.none, guarantee: 'none', module: 'write-file-atomic', options: { fsync: false }, ordered: true },
  { name: 'steno', guarantee: 'none', module: 'steno', ordered: true },
  { name: 'bare none', guarantee: 'none', bare: oneByOne('none', 0) },
  { name: 'bare none, locked', guarantee: 'none', bare: oneByOne('none', 1) },
  { name: 'holdfast file', guarantee: 'file', module: 'holdfast', options: { durability: 'file' }, ordered: true },
  { name: REFERENCE.file, guarantee: 'file', module: 'write-file-atomic', options: { fsync: true }, ordered: true },
  { name: 'atomically', guarantee: 'file', module: 'atomically', ordered: true },
  { name: 'fast-write-atomic', guarantee: 'file', module: 'fast-write-atomic' },
  { name: 'bare file', guarantee: 'file', bare: oneByOne('file', 0) },
  { name: 'holdfast full', guarantee: 'full', module: 'holdfast', options: { durability: 'full' }, ordered: true },
  { name: 'bare full', guarantee: 'full', bare: oneByOne('full', 0) },
  { name: 'bare batch', guarantee: 'full', bare: { atOnce: ['batch', { form: 'textbook' }] } },
  { name: 'bare batch, ordered', guarantee: 'full', bare: { atOnce: ['batch', { form: 'ordered' }] } },
]

/**
 * @param {string} sync
 * @param {number} lock
 * @returns {NonNullable<Implementation['bare']>}
 */
function oneByOne(sync, lock) {
  return { oneByOne: ['one-by-one', { sync, lock }] }
}

const INCREMENT_REFERENCE = 'proper-lockfile + write-file-atomic'

/** The ways to increment a number in a JSON file under a lock; the modules are in `peers/increments/`. */
const incrementers = [
  { name: 'holdfast updateJsonFile', module: 'update-json-file' },
  { name: 'holdfast withLock + atomicWrite', module: 'with-lock' },
  { name: INCREMENT_REFERENCE, module: 'proper-lockfile' },
]

/** proper-lockfile with the best retry options that were found, and with the ones that most of its users have. */
const LOCK_REFERENCE = 'proper-lockfile'
const SLOW_LOCK_REFERENCE = 'proper-lockfile, polling every 100 to 1000 ms'

/** The logs that holdfast's is compared with, all with the same durability: what is acknowledged is on the disk. */
const LOG_PEERS = ['better-sqlite3', 'classic-level', 'lmdb']
const LOG_REFERENCE = 'better-sqlite3'
const BARE_LOG = 'bare write + fdatasync'

/** @param {string} name */
function implementationNamed(name) {
  const found = implementations.find((implementation) => implementation.name === name)
  if (!found) throw new Error(`no implementation is called ${name}`)
  return found
}

module.exports = {
  BARE_LOG, implementationNamed, implementations, INCREMENT_REFERENCE, incrementers, LOCK_REFERENCE, LOG_PEERS, LOG_REFERENCE, REFERENCE,
  SLOW_LOCK_REFERENCE,
}
