'use strict'

/** @typedef {ReturnType<typeof planFor>} Plan */

const KIB = 1024
const MIB = 1024 * KIB

/**
 * How much of everything, so that a complete run takes minutes: on the disk with the slow
 * flush a peer's synced write takes a hundred times as long as on tmpfs.
 *
 * @param {string} disk
 * @param {boolean} quick
 */
function planFor(disk, quick) {
  const slow = disk === 'flush5ms'
  /** @type {(counts: Record<number, number>) => Record<number, number>} */
  const pick = (counts) => (quick ? { 1: counts[1] ?? 1, 100: counts[100] ?? 1 } : counts)
  return {
    quick,
    slow,
    budget: quick
      ? { most: 5, least: 1, seconds: 0.8 }
      : { most: 15, least: 3, seconds: slow ? 8 : 4 },
    sizes: quick ? [KIB] : [KIB, 100 * KIB, 10 * MIB],
    /** Files, by size. */
    oneByOne: slow ? { [KIB]: 20, [100 * KIB]: 10, [10 * MIB]: 3 } : { [KIB]: 200, [100 * KIB]: 50, [10 * MIB]: 4 },
    atOnce: { [KIB]: quick && slow ? 200 : 500, [100 * KIB]: 100, [10 * MIB]: 8 },
    onePath: quick && slow ? 100 : 300,
    /** How many writes are pending, and how many are made in all. */
    pending: slow ? pick({ 1: 20, 10: 60, 100: 300, 1000: 1000 }) : pick({ 1: 100, 10: 300, 100: 600, 1000: 2000 }),
    /** Other files in the directory. */
    otherFiles: quick ? [10, 50000] : [10, 1000, 50000],
    processes: 8,
    /** How long one round of increments by all processes takes. */
    incrementSeconds: quick ? 0.3 : 0.6,
    /** Increments at once in one process. */
    calls: quick ? (slow ? 50 : 200) : 2000,
  }
}

/** Writes before the first round: enough to compile the code and start the threads. */
const WARM_UP = 50

module.exports = { planFor, WARM_UP, KIB, MIB }
