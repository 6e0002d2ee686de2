'use strict'

const { INCREMENT_REFERENCE, REFERENCE } = require('./contestants.js')
const { goalsOfLog } = require('./workloads/wal.js')

/** @typedef {Record<string, import('./suite.js').Table[]>} Tables By disk; `once` for what no disk matters to. */

/**
 * @typedef {object} Goal
 * @property {string} title
 * @property {string} place
 * @property {number} goal
 * @property {'at least' | 'at most'} sense
 * @property {number | undefined} measured
 */

const PLACES = /** @type {const} */ (['tmpfs', 'ext4', 'flush5ms'])

/**
 * The ratios that holdfast is to reach: how many times the peer takes as long, on tmpfs,
 * ext4 and the disk with the slow flush; `null` where there is no goal.
 *
 * @type {[title: string, key: string, who: string, peer: string, goals: (number | null)[]][]}
 */
const FASTER = [
  ['none, one by one', 'one-by-one 1 KiB', 'holdfast none', REFERENCE.none, [8, 4, null]],
  ['none, 500 at once', 'at-once 1 KiB', 'holdfast none', REFERENCE.none, [6, 2, null]],
  ['file, one by one', 'one-by-one 1 KiB', 'holdfast file', REFERENCE.file, [null, 1.2, 0.95]],
  ['file, 500 at once', 'at-once 1 KiB', 'holdfast file', REFERENCE.file, [null, 3, 30]],
  ['full, one by one', 'one-by-one 1 KiB', 'holdfast full', REFERENCE.full, [null, 1.3, 0.95]],
  ['full, 500 at once', 'at-once 1 KiB', 'holdfast full', REFERENCE.full, [null, 3, 30]],
  ['full, 300 writes to one path', 'one-path', 'holdfast full', REFERENCE.full, [50, 50, 100]],
  ['increments, 8 processes', 'increments processes', 'holdfast updateJsonFile', INCREMENT_REFERENCE, [10, 10, 3]],
  ['increments, 2000 calls', 'increments calls', 'holdfast updateJsonFile', INCREMENT_REFERENCE, [50, 50, 100]],
]

/**
 * @param {Tables} tables
 * @returns {Goal[]}
 */
function goalsOf(tables) {
  /** @param {string} place @param {string} key @param {string} name */
  const median = (place, key, name) =>
    tables[place]?.find((table) => table.key === key)?.rows.find((row) => row.name === name)?.median
  /** @type {Goal[]} */
  const goals = []
  for (const [title, key, who, peer, wanted] of FASTER) {
    for (const [index, place] of PLACES.entries()) {
      const goal = wanted[index]
      if (goal == null) continue
      const measured = quotient(median(place, key, peer), median(place, key, who))
      goals.push({ title: `${title}: times as fast as ${peer}`, place, goal, sense: 'at least', measured })
    }
  }
  for (const place of /** @type {const} */ (['tmpfs', 'ext4'])) {
    const own = median(place, 'locks uncontended', 'holdfast acquireLock, release')
    const sections = median(place, 'locks sections', 'holdfast withLock')
    const readers = median(place, 'locks readers', '64 readers')
    goals.push(
      { title: 'lock taken and given back: times as fast as proper-lockfile', place, goal: 10, sense: 'at least', measured: quotient(median(place, 'locks uncontended', 'proper-lockfile'), own) },
      ...['proper-lockfile', 'proper-lockfile, polling every 100 to 1000 ms'].map((peer) => (
        { title: `8 processes, 200 critical sections: times as fast as ${peer}`, place, goal: 30, sense: /** @type {const} */ ('at least'), measured: quotient(median(place, 'locks sections', peer), sections) })),
      { title: 'hand-over between processes: µs above bare', place, goal: 200, sense: 'at most', measured: median(place, 'locks hand-over', 'holdfast, above bare') },
      { title: '64 readers in 8 processes: times as fast, in all, as one', place, goal: 1, sense: 'at least', measured: quotient(median(place, 'locks readers', 'one reader'), readers) },
    )
  }
  for (const place of /** @type {const} */ (['ext4', 'flush5ms'])) {
    const batches = ['bare batch', 'bare batch, ordered'].map((name) => median(place, 'at-once 1 KiB', name) ?? NaN)
    const measured = quotient(median(place, 'at-once 1 KiB', 'holdfast full'), Math.min(...batches))
    goals.push({ title: 'full, 500 at once: times the best bare batch', place, goal: 2, sense: 'at most', measured })
  }
  for (const place of /** @type {const} */ (['tmpfs', 'ext4'])) {
    const bare = sum(median(place, 'one-by-one 1 KiB', 'bare none'), median('once', 'trip', 'bare'))
    const measured = quotient(median(place, 'one-by-one 1 KiB', 'holdfast none'), bare)
    goals.push({ title: 'none, one by one: times bare + an empty trip', place, goal: 1.25, sense: 'at most', measured })
  }
  for (const place of /** @type {const} */ (['tmpfs', 'ext4'])) {
    for (const who of ['holdfast none', 'holdfast full']) {
      const measured = median(place, 'event-loop', who)
      goals.push({ title: `event-loop delay p99 above idle, ${who}, ms`, place, goal: 5, sense: 'at most', measured })
    }
    const measured = median(place, 'memory', 'holdfast full')
    goals.push({ title: 'memory for a 256 MiB Buffer, times its size', place, goal: 1.1, sense: 'at most', measured })
  }
  goals.push(...goalsOfLog(tables))
  const startUp = median('once', 'start-up', 'holdfast, above node alone')
  goals.push({ title: 'require(\'holdfast\'), ms', place: '', goal: 10, sense: 'at most', measured: startUp })
  const addon = tables.once?.find(({ key }) => key === 'size')?.rows[0]?.median
  goals.push({ title: 'addon, MB', place: '', goal: 1.5, sense: 'at most', measured: addon })
  return goals
}

/** @param {number | undefined} a @param {number | undefined} b */
function quotient(a, b) {
  return a === undefined || b === undefined || Number.isNaN(a / b) ? undefined : a / b
}

/** @param {number | undefined} a @param {number | undefined} b */
function sum(a, b) {
  return a === undefined || b === undefined ? undefined : a + b
}

/** @param {Goal} goal */
function isMet({ goal, sense, measured }) {
  if (measured === undefined) return undefined
  return sense === 'at least' ? measured >= goal : measured <= goal
}

module.exports = { goalsOf, isMet }
