'use strict'

// Which locks the code that is running holds, so that asking for one of them again is an
// error and not an endless wait, and so that work inside a lock can use it.

const { AsyncLocalStorage } = require('node:async_hooks')

/**
 * @typedef {object} Held
 * @property {number | undefined} hold the native side's number; none where there is no lock
 * @property {InstanceType<typeof import('../api/lockfile.js').HeldLockfile>} [lockfile] instead of `hold`: a lock of the other protocol
 * @property {import('../../index.js').LockKind} kind
 * @property {boolean} isLive until it is given back
 * @property {string | undefined} updates the JSON file whose update the code is part of
 * @property {Promise<unknown>} last the last piece of work under this lock; they run one after another
 */

/** @type {AsyncLocalStorage<readonly Held[]>} */
const storage = new AsyncLocalStorage()

/** @type {readonly Held[]} */
const NONE = []

/** The locks that the caller holds. */
function current() {
  const all = storage.getStore()
  return all === undefined ? NONE : all.filter((held) => held.isLive)
}

/**
 * Runs a function as the holder of a lock.
 *
 * @template T
 * @param {Held} held
 * @param {() => T} fn
 * @returns {T}
 */
function run(held, fn) {
  return storage.run([...current(), held], fn)
}

/**
 * Runs a function as the holder of several locks.
 *
 * @template T
 * @param {readonly Held[]} all
 * @param {() => T} fn
 * @returns {T}
 */
function runWithAll(all, fn) {
  return storage.run([...current(), ...all], fn)
}

/**
 * @param {number | undefined} hold
 * @param {import('../../index.js').LockKind} kind
 * @param {string} [updates]
 * @returns {Held}
 */
function create(hold, kind, updates) {
  return { hold, kind, isLive: true, updates, last: Promise.resolve() }
}

/**
 * Takes a place behind what was started under these locks before, until it is known which of
 * them the work is for. A lock is not given back before the places under it are left.
 *
 * @param {readonly Held[]} all
 */
function reserve(all) {
  const places = all.map((held) => {
    const before = held.last
    let leave = () => {}
    /** @type {Promise<void>} */
    const left = new Promise((resolve) => {
      leave = resolve
    })
    held.last = before.then(() => left)
    return { held, before, leave }
  })
  return {
    /** Settles when it is the turn of the work. @param {Held} held */
    turn: (held) => places.find((place) => place.held === held)?.before,
    /** @param {Held} [but] */
    leave(but) {
      for (const place of places) if (place.held !== but) place.leave()
    },
    /** @param {ReadonlySet<Held>} but */
    leaveOthers(but) {
      for (const place of places) if (!but.has(place.held)) place.leave()
    },
  }
}

/** @param {readonly Held[]} all */
function numbers(all) {
  return all.flatMap((held) => held.hold ?? [])
}

/** @param {readonly Held[]} all */
function lockfileNumbers(all) {
  return all.flatMap((held) => held.lockfile?.number ?? [])
}

module.exports = { create, current, lockfileNumbers, numbers, reserve, run, runWithAll }
