'use strict'

const fs = require('node:fs')
const path = require('node:path')
const { bare } = require('../harness/bare.js')
const { interleave } = require('../harness/interleave.js')
const { summarize } = require('../harness/statistics.js')
const { WorkerProcess } = require('../harness/worker-pool.js')
const { BARE_LOG, LOG_PEERS } = require('../peers/implementations.js')
const { BATCH, BYTES } = require('../peers/logs/tasks.js')
const { whyUnavailable } = require('../peers/native.js')
const { newDir, removeDir } = require('./files.js')

const name = 'wal'

/** About as many bytes as a batch of holdfast's has on the disk. */
const BATCH_ON_DISK = BATCH * (BYTES + 28)

/** @typedef {import('../harness/types.js').Candidate} Candidate */
/** @typedef {import('../harness/types.js').Context} Context */

/** @type {import('../harness/types.js').Measurement['measure']} */
async function measure(context) {
  const { plan, disk, skip } = context
  const counts = plan.slow ? { 1: 60, 64: 320 } : { 1: plan.quick ? 150 : 400, 64: plan.quick ? 640 : 1280 }
  const scanned = plan.quick ? 500 : 1500
  const peers = LOG_PEERS.filter((peer) => {
    const reason = whyUnavailable(peer)
    if (reason !== undefined) skip(`${disk.title}: ${peer}, which cannot be installed here (${reason})`)
    return reason === undefined
  })
  const modules = ['holdfast', ...peers]
  // A round is short here, and some differences are small.
  const budget = { ...plan.budget, least: Math.max(plan.budget.least, plan.quick ? 3 : 7) }
  const tables = []
  for (const producers of /** @type {const} */ ([1, 64])) {
    const candidates = modules.map((module) => appender(context, module, producers, counts[producers]))
    if (producers === 1) candidates.push(bareAppender(context, counts[1]))
    tables.push({
      key: `${name} ${producers}`,
      title: `A log: batches of ${BATCH} entries of ${BYTES} bytes, ${producers === 1 ? 'one producer' : `${producers} producers`}`,
      unit: 'µs per batch',
      rows: await interleave(context, candidates, budget),
    })
  }
  const scanners = modules.map((module) => scanner(context, module, scanned))
  tables.push({
    key: `${name} scan`,
    title: `A log of ${(scanned * BATCH).toLocaleString('en')} entries, read`,
    unit: 'ns per entry',
    rows: await interleave(context, scanners, budget),
  })
  return tables
}

/**
 * @param {Context} context
 * @param {string} module
 * @param {number} producers
 * @param {number} batches
 * @returns {Candidate}
 */
function appender(context, module, producers, batches) {
  const worker = new WorkerProcess('peers/logs/tasks.js', { module })
  const dir = newDir(context, 'log')
  /** @type {number[]} */
  const p99s = []
  return {
    name: module,
    async run(round) {
      await worker.ready
      const { milliseconds, p99 } = await worker.ask({ log: 'produce', dir, producers, batches })
      if (round > 0) p99s.push(p99)
      return (milliseconds * 1000) / batches
    },
    verify: () => remarkOf(p99s),
    close: () => worker.stop(),
  }
}

/**
 * @param {Context} context
 * @param {number} batches
 * @returns {Candidate}
 */
function bareAppender({ disk }, batches) {
  /** @type {number[]} */
  const p99s = []
  return {
    name: BARE_LOG,
    async run(round) {
      const file = path.join(disk.dir, 'bare-log')
      const { milliseconds, p99 } = await bare('wal', { file, count: batches, size: BATCH_ON_DISK, round })
      fs.rmSync(file)
      if (round > 0) p99s.push(p99 / 1000)
      return (milliseconds * 1000) / batches
    },
    verify: () => remarkOf(p99s),
  }
}

/** @param {number[]} p99s */
const remarkOf = (p99s) => `p99 ${summarize(p99s).median.toFixed(2)} ms`

/**
 * @param {Context} context
 * @param {string} module
 * @param {number} batches
 * @returns {Candidate}
 */
function scanner(context, module, batches) {
  const worker = new WorkerProcess('peers/logs/tasks.js', { module })
  const dir = newDir(context, 'log')
  /** @type {number[]} */
  const samples = []
  return {
    name: module,
    async run(round) {
      await worker.ready
      if (round === 0) await worker.ask({ log: 'fill', dir, batches })
      const { milliseconds } = await worker.ask({ log: 'scan', dir, batches })
      const nanoseconds = (milliseconds * 1e6) / (batches * BATCH)
      if (round > 0) samples.push(nanoseconds)
      return nanoseconds
    },
    verify: () => `${((BYTES * 1000) / summarize(samples).median).toFixed(0)} MB/s`,
    close() {
      worker.stop()
      removeDir(dir)
    },
  }
}

module.exports = { name, measure }
