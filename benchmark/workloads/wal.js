'use strict'

const fs = require('node:fs')
const path = require('node:path')
const { bare } = require('../bare.js')
const { Worker } = require('../crew.js')
const { BATCH, BYTES } = require('../logs/log.js')
const { whyNot } = require('../logs/peers.js')
const { interleave } = require('../rounds.js')
const { spread } = require('../statistics.js')

const name = 'wal'

const HOLDFAST = 'holdfast'
const BARE = 'bare write + fdatasync'
/** All of them at the same durability: what is acknowledged is on the disk. */
const PEERS = ['better-sqlite3', 'classic-level', 'lmdb']

/** What a batch of ours has on the disk, about. */
const BATCH_ON_DISK = BATCH * (BYTES + 28)

/** @typedef {import('../rounds.js').Entrant & { stop: () => void }} Entrant */

/** @type {import('../suite.js').Measurement['measure']} */
async function measure(context) {
  const { plan, disk, skip } = context
  const counts = plan.slow ? { 1: 60, 64: 320 } : { 1: plan.quick ? 150 : 400, 64: plan.quick ? 640 : 1280 }
  const fill = plan.quick ? 500 : 1500
  const peers = PEERS.filter((peer) => {
    const reason = whyNot(peer)
    if (reason !== undefined) skip(`${disk.title}: ${peer}, which cannot be installed here (${reason})`)
    return reason === undefined
  })
  const tables = []
  for (const producers of /** @type {const} */ ([1, 64])) {
    const entrants = [HOLDFAST, ...peers].map((module) => producing(disk, module, producers, counts[producers]))
    if (producers === 1) entrants.push(bareLog(disk, counts[1]))
    tables.push({
      key: `${name} ${producers}`,
      title: `A log: batches of ${BATCH} entries of ${BYTES} bytes, ${producers === 1 ? 'one producer' : `${producers} producers`}`,
      unit: 'µs per batch',
      rows: await compare(entrants, context),
    })
  }
  const scanning = [HOLDFAST, ...peers].map((module) => scans(disk, module, fill))
  tables.push({ key: `${name} scan`, title: `A log of ${(fill * BATCH).toLocaleString('en')} entries, read`, unit: 'ns per entry', rows: await compare(scanning, context) })
  return tables
}

/** @param {Entrant[]} entrants @param {import('../suite.js').Context} context */
async function compare(entrants, { plan, disk }) {
  // A round is short here, and some differences are small.
  const pace = { ...plan.pace, atLeast: Math.max(plan.pace.atLeast, plan.quick ? 3 : 7) }
  const rows = await interleave(entrants, pace, disk.settle)
  for (const { stop } of entrants) stop()
  return rows
}

let folders = 0

/** @param {import('../disks.js').Disk} disk */
const newFolder = (disk) => path.join(disk.dir, `log-${++folders}`)

/**
 * @param {import('../disks.js').Disk} disk
 * @param {string} module
 * @param {number} producers
 * @param {number} batches
 * @returns {Entrant}
 */
function producing(disk, module, producers, batches) {
  const worker = new Worker('logs/log.js', { module })
  const ready = worker.ready()
  const dir = newFolder(disk)
  /** @type {number[]} */
  const p99s = []
  return {
    name: module,
    async run(round) {
      await ready
      const { milliseconds, p99 } = await worker.ask({ log: 'produce', dir, producers, batches })
      if (round > 0) p99s.push(p99)
      return (milliseconds * 1000) / batches
    },
    verify: () => remarkOf(p99s),
    stop: () => worker.stop(),
  }
}

/**
 * @param {import('../disks.js').Disk} disk
 * @param {number} batches
 * @returns {Entrant}
 */
function bareLog(disk, batches) {
  /** @type {number[]} */
  const p99s = []
  return {
    name: BARE,
    async run(round) {
      const file = path.join(disk.dir, 'bare-log')
      const { milliseconds, p99 } = await bare('wal', { file, count: batches, size: BATCH_ON_DISK, round })
      fs.rmSync(file)
      if (round > 0) p99s.push(p99 / 1000)
      return (milliseconds * 1000) / batches
    },
    verify: () => remarkOf(p99s),
    stop() {},
  }
}

/** @param {number[]} p99s */
const remarkOf = (p99s) => `p99 ${spread(p99s).median.toFixed(2)} ms`

/**
 * @param {import('../disks.js').Disk} disk
 * @param {string} module
 * @param {number} batches
 * @returns {Entrant}
 */
function scans(disk, module, batches) {
  const worker = new Worker('logs/log.js', { module })
  const ready = worker.ready()
  const dir = newFolder(disk)
  /** @type {number[]} */
  const samples = []
  return {
    name: module,
    async run(round) {
      await ready
      if (round === 0) await worker.ask({ log: 'fill', dir, batches })
      const { milliseconds } = await worker.ask({ log: 'scan', dir, batches })
      const nanoseconds = (milliseconds * 1e6) / (batches * BATCH)
      if (round > 0) samples.push(nanoseconds)
      return nanoseconds
    },
    verify: () => `${((BYTES * 1000) / spread(samples).median).toFixed(0)} MB/s`,
    stop() {
      worker.stop()
      fs.rmSync(dir, { recursive: true, force: true })
    },
  }
}

/**
 * What the log is to reach. `times` is how many times as long `who` takes as holdfast.
 *
 * @param {import('../goals.js').Tables} tables
 * @returns {import('../goals.js').Goal[]}
 */
function goalsOfLog(tables) {
  /** @type {import('../goals.js').Goal[]} */
  const goals = []
  for (const place of ['ext4', 'flush5ms']) {
    const rowsOf = (/** @type {string} */ key) => tables[place]?.find((table) => table.key === `${name} ${key}`)?.rows
    const median = (/** @type {string} */ key, /** @type {string} */ who) => rowsOf(key)?.find((row) => row.name === who)?.median
    if (!rowsOf('1')) continue
    const times = (/** @type {string} */ key, /** @type {string} */ who) => (median(key, who) ?? NaN) / (median(key, HOLDFAST) ?? NaN)
    const goal = (/** @type {string} */ title, /** @type {number} */ goal, /** @type {'at least' | 'at most'} */ sense, /** @type {number} */ measured) =>
      goals.push({ title, place, goal, sense, measured: Number.isNaN(measured) ? undefined : measured })
    const p99 = (/** @type {string} */ who) => Number(/p99 ([\d.]+)/.exec(rowsOf('1')?.find((row) => row.name === who)?.remark ?? '')?.[1] ?? NaN)
    goal('log, one producer: times the bare loop', 1.3, 'at most', 1 / times('1', BARE))
    if (p99(BARE) < 2) goal('log, one producer: p99, ms, where that of the bare loop is below 2', 2, 'at most', p99(HOLDFAST))
    goal('log, one producer: times as fast as better-sqlite3', 1.4, 'at least', times('1', 'better-sqlite3'))
    goal('log, 64 producers: times the batches of one', 5, 'at least', (median('1', HOLDFAST) ?? NaN) / (median('64', HOLDFAST) ?? NaN))
    for (const peer of PEERS) {
      for (const key of ['1', '64']) {
        if (median(key, peer) !== undefined) goal(`log, ${key === '1' ? 'one producer' : '64 producers'}: times as fast as ${peer}`, 1, 'at least', times(key, peer))
      }
    }
    const speed = (/** @type {string} */ who) => (BYTES * 1000) / (median('scan', who) ?? NaN)
    const fastest = Math.max(...PEERS.map(speed).filter((each) => !Number.isNaN(each)))
    goal('log, read: MB/s', Number(Math.min(200, 3 * fastest).toFixed(0)), 'at least', speed(HOLDFAST))
  }
  return goals
}

module.exports = { name, measure, goalsOfLog }
