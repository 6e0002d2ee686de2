'use strict'

const { BARE_LOG, INCREMENT_REFERENCE, LOCK_REFERENCE, LOG_PEERS, LOG_REFERENCE, REFERENCE, SLOW_LOCK_REFERENCE } = require('../peers/implementations.js')
const { BYTES } = require('../peers/logs/tasks.js')

/** @typedef {import('./types.js').Tables} Tables */

/**
 * @typedef {object} Goal
 * @property {string} title
 * @property {string} disk
 * @property {number} goal
 * @property {'at least' | 'at most'} sense
 * @property {number | undefined} measured
 */

const DISKS = /** @type {const} */ (['tmpfs', 'ext4', 'flush5ms'])

/**
 * The ratios that holdfast is to reach: how many times as long the peer takes, on tmpfs,
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
  /** @param {string} disk @param {string} key @param {string} name */
  const median = (disk, key, name) =>
    tables[disk]?.find((table) => table.key === key)?.rows.find((row) => row.name === name)?.median
  /** @type {Goal[]} */
  const goals = []
  for (const [title, key, who, peer, wanted] of FASTER) {
    for (const [index, disk] of DISKS.entries()) {
      const goal = wanted[index]
      if (goal == null) continue
      const measured = quotient(median(disk, key, peer), median(disk, key, who))
      goals.push({ title: `${title}: times as fast as ${peer}`, disk, goal, sense: 'at least', measured })
    }
  }
  for (const disk of /** @type {const} */ (['tmpfs', 'ext4'])) {
    const own = median(disk, 'locks uncontended', 'holdfast acquireLock, release')
    const sections = median(disk, 'locks sections', 'holdfast withLock')
    const readers = median(disk, 'locks readers', '64 readers')
    goals.push(
      { title: 'uncontended lock, acquired and released: times as fast as proper-lockfile', disk, goal: 10, sense: 'at least', measured: quotient(median(disk, 'locks uncontended', LOCK_REFERENCE), own) },
      ...[LOCK_REFERENCE, SLOW_LOCK_REFERENCE].map((peer) => (
        { title: `8 processes, 200 critical sections: times as fast as ${peer}`, disk, goal: 30, sense: /** @type {const} */ ('at least'), measured: quotient(median(disk, 'locks sections', peer), sections) })),
      { title: 'hand-over between processes: µs above bare', disk, goal: 200, sense: 'at most', measured: median(disk, 'locks hand-over', 'holdfast, above bare') },
      { title: '64 readers in 8 processes: times as fast, in all, as one', disk, goal: 1, sense: 'at least', measured: quotient(median(disk, 'locks readers', 'one reader'), readers) },
    )
  }
  for (const disk of /** @type {const} */ (['ext4', 'flush5ms'])) {
    const batches = ['bare batch', 'bare batch, ordered'].map((name) => median(disk, 'at-once 1 KiB', name) ?? NaN)
    const measured = quotient(median(disk, 'at-once 1 KiB', 'holdfast full'), Math.min(...batches))
    goals.push({ title: 'full, 500 at once: times the best bare batch', disk, goal: 2, sense: 'at most', measured })
  }
  for (const disk of /** @type {const} */ (['tmpfs', 'ext4'])) {
    const bare = sum(median(disk, 'one-by-one 1 KiB', 'bare none'), median('once', 'trip', 'bare'))
    const measured = quotient(median(disk, 'one-by-one 1 KiB', 'holdfast none'), bare)
    goals.push({ title: 'none, one by one: times bare + an empty trip', disk, goal: 1.25, sense: 'at most', measured })
  }
  for (const disk of /** @type {const} */ (['tmpfs', 'ext4'])) {
    for (const who of ['holdfast none', 'holdfast full']) {
      const measured = median(disk, 'event-loop', who)
      goals.push({ title: `event-loop delay p99 above idle, ${who}, ms`, disk, goal: 5, sense: 'at most', measured })
    }
    const measured = median(disk, 'memory', 'holdfast full')
    goals.push({ title: 'memory for a 256 MiB Buffer, times its size', disk, goal: 1.1, sense: 'at most', measured })
  }
  goals.push(...goalsOfLog(tables))
  const startUp = median('once', 'start-up', 'holdfast, above node alone')
  goals.push({ title: 'require(\'holdfast\'), ms', disk: '', goal: 10, sense: 'at most', measured: startUp })
  const addon = tables.once?.find(({ key }) => key === 'size')?.rows[0]?.median
  goals.push({ title: 'addon, MB', disk: '', goal: 1.5, sense: 'at most', measured: addon })
  return goals
}

/**
 * @param {Tables} tables
 * @returns {Goal[]}
 */
function goalsOfLog(tables) {
  /** @type {Goal[]} */
  const goals = []
  for (const disk of ['ext4', 'flush5ms']) {
    const rowsOf = (/** @type {string} */ key) => tables[disk]?.find((table) => table.key === `wal ${key}`)?.rows
    const rowOf = (/** @type {string} */ key, /** @type {string} */ who) => rowsOf(key)?.find((row) => row.name === who)
    const median = (/** @type {string} */ key, /** @type {string} */ who) => rowOf(key, who)?.median ?? NaN
    if (!rowsOf('1')) continue
    const times = (/** @type {string} */ key, /** @type {string} */ who) => median(key, who) / median(key, 'holdfast')
    const add = (/** @type {string} */ title, /** @type {number} */ goal, /** @type {Goal['sense']} */ sense, /** @type {number} */ measured) =>
      goals.push({ title, disk, goal, sense, measured: Number.isNaN(measured) ? undefined : measured })
    const p99 = (/** @type {string} */ who) => Number(/p99 ([\d.]+)/.exec(rowOf('1', who)?.remark ?? '')?.[1] ?? NaN)
    add('log, one producer: times the bare loop', 1.3, 'at most', 1 / times('1', BARE_LOG))
    if (p99(BARE_LOG) < 2) add('log, one producer: p99, ms, where that of the bare loop is below 2', 2, 'at most', p99('holdfast'))
    add(`log, one producer: times as fast as ${LOG_REFERENCE}`, 1.4, 'at least', times('1', LOG_REFERENCE))
    add('log, 64 producers: times the batches of one', 5, 'at least', median('1', 'holdfast') / median('64', 'holdfast'))
    for (const peer of LOG_PEERS) {
      for (const key of ['1', '64']) {
        if (rowOf(key, peer)?.median !== undefined) add(`log, ${key === '1' ? 'one producer' : '64 producers'}: times as fast as ${peer}`, 1, 'at least', times(key, peer))
      }
    }
    const speed = (/** @type {string} */ who) => (BYTES * 1000) / median('scan', who)
    const fastest = Math.max(...LOG_PEERS.map(speed).filter((each) => !Number.isNaN(each)))
    add('log, read: MB/s', Number(Math.min(200, 3 * fastest).toFixed(0)), 'at least', speed('holdfast'))
  }
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
