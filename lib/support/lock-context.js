'use strict'

// Which locks the code that is running holds. They go along with every operation that it starts:
// the native side finds out whether the lock that the operation needs is one of them, lends it, and
// refuses what would wait for its own caller.

const { AsyncLocalStorage } = require('node:async_hooks')

/**
 * @typedef {object} HeldLock
 * @property {number | undefined} number by which the native side knows it; none where there is no lock
 * @property {InstanceType<typeof import('../api/lockfile.js').HeldLockfile>} [lockfile] instead of `number`: a lock of the other protocol
 * @property {number} [around] that of a second lock, which was taken before it and is released after it
 * @property {import('../../index.js').LockKind} kind
 * @property {boolean} isLive until it is released
 * @property {import('./held-long.js').Held} [watched] while it is held
 * @property {readonly string[]} [files] those of the transaction in whose function the code runs, absolute
 * @property {string | undefined} updates the path of the file that the code updates at this moment; empty if only the lock counts
 */

/** @typedef {import('../native/binding.js').HeldNumbers} HeldNumbers */

/** @type {AsyncLocalStorage<readonly HeldLock[]>} */
const storage = new AsyncLocalStorage()

/** @type {readonly HeldLock[]} */
const NONE = []

/** The locks that the caller holds, the one that was taken last at the end. */
function current() {
  const all = storage.getStore()
  return all === undefined ? NONE : all.filter((held) => held.isLive)
}

/**
 * Runs a function as the holder of further locks.
 *
 * @template T
 * @param {readonly HeldLock[]} locks
 * @param {() => T} fn
 * @returns {T}
 */
function run(locks, fn) {
  return storage.run([...current(), ...locks], fn)
}

/**
 * @param {number | undefined} number
 * @param {import('../../index.js').LockKind} kind
 * @param {string} [updates]
 * @returns {HeldLock}
 */
function create(number, kind, updates) {
  return { number, kind, isLive: true, updates }
}

/**
 * The locks as an operation takes them along; `undefined` if there are none.
 *
 * @param {readonly HeldLock[]} all
 * @returns {HeldNumbers | undefined}
 */
function toNative(all) {
  if (all.length === 0) return undefined
  /** @type {HeldNumbers} */
  const numbers = { lendable: [], updating: [] }
  for (const { number, updates } of all) {
    if (number !== undefined) (updates === undefined ? numbers.lendable : numbers.updating).push(number)
  }
  return numbers.lendable.length + numbers.updating.length > 0 ? numbers : undefined
}

/**
 * The same for an operation that may wait for these locks like any other, and comes under them.
 *
 * @param {readonly HeldLock[]} all
 * @returns {HeldNumbers | undefined}
 */
function aroundToNative(all) {
  const around = all.flatMap(({ number }) => number ?? [])
  return around.length > 0 ? { lendable: [], updating: [], around } : undefined
}

/** The numbers of the locks of the other protocol. @param {readonly HeldLock[]} all */
function lockfileNumbers(all) {
  return all.flatMap(({ lockfile }) => lockfile?.number ?? [])
}

module.exports = { aroundToNative, create, current, lockfileNumbers, run, toNative }
