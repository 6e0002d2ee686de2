'use strict'

const fs = require('node:fs')
const path = require('node:path')
const { bare } = require('../harness/bare.js')
const { interleave } = require('../harness/interleave.js')
const { summarize } = require('../harness/statistics.js')
const { startWorkers } = require('../harness/worker-pool.js')
const { LOCK_REFERENCE, SLOW_LOCK_REFERENCE } = require('../peers/implementations.js')
const { newDir, removeDir } = require('./files.js')

const name = 'locks'

const PROCESSES = 8
/** Critical sections of each process in a round. */
const SECTIONS = 200
const READERS = 8

/** @typedef {import('../harness/types.js').Context} Context */

/** @param {Context} context */
function newFile(context) {
  const file = path.join(newDir(context, 'locks'), 'file')
  fs.writeFileSync(file, '0')
  return file
}

/**
 * Processes that lock one file, each so many times and one after the other.
 *
 * @param {Context} context
 * @param {object} candidate
 * @param {string} candidate.title
 * @param {string} candidate.module In `peers/locks/`.
 * @param {{ section: string, readers?: number, retries?: string }} candidate.options
 * @param {number} candidate.processes
 * @param {number} candidate.each
 * @param {number} [candidate.rounds]
 * @returns {Promise<import('../harness/types.js').Candidate>}
 */
async function locker(context, { title, module, options, processes, each, rounds }) {
  const workers = await startWorkers(processes, `peers/locks/${module}.js`, options)
  const file = newFile(context)
  const counts = options.section === 'count'
  let expected = 0
  return {
    name: title,
    ...(rounds ? { rounds } : {}),
    async run(round) {
      const count = round === 0 ? Math.min(each, 20) : each
      if (counts) fs.writeFileSync(file, '0')
      expected = count * processes
      const start = performance.now()
      await Promise.all(workers.map((worker) => worker.run({ path: file, count, schedule: 'oneByOne' })))
      return ((performance.now() - start) * 1000) / (expected * (options.readers ?? 1))
    },
    verify() {
      const counted = Number(fs.readFileSync(file, 'utf8'))
      if (counts && counted !== expected) throw new Error(`${expected} sections, but counted ${counted}`)
    },
    close() {
      for (const worker of workers) worker.stop()
      removeDir(path.dirname(file))
    },
  }
}

/**
 * The time from one process releasing the lock to another, which waits for it, having it.
 *
 * @param {Context} context
 */
async function handOver(context) {
  const count = context.plan.quick ? 50 : 200
  const latenciesOf = (/** @type {string} */ file) => {
    const names = fs.readdirSync(path.dirname(file)).filter((name) => name.includes('.latencies'))
    return names.flatMap((name) => fs.readFileSync(path.join(path.dirname(file), name), 'utf8').split('\n').map(Number))
  }
  const pair = await startWorkers(2, 'peers/locks/holdfast.js', { section: 'handOver' })
  /** @type {{ bare: number[], holdfast: number[] }} */
  const medians = { bare: [], holdfast: [] }
  for (let round = 0; round <= (context.plan.quick ? 3 : 9); round++) {
    for (const who of /** @type {const} */ (['bare', 'holdfast'])) {
      const file = newFile(context)
      if (who === 'bare') {
        const { microseconds } = await bare('hand-over', { path: file, count })
        if (round > 0) medians.bare.push(microseconds)
      } else {
        await Promise.all(pair.map((worker) => worker.run({ path: file, count, schedule: 'oneByOne' })))
        if (round > 0) medians.holdfast.push(summarize(latenciesOf(file)).median)
      }
      removeDir(path.dirname(file))
    }
  }
  for (const worker of pair) worker.stop()
  const above = medians.holdfast.map((holdfast, round) => holdfast - (medians.bare[round] ?? NaN))
  return [
    { name: 'bare', ...summarize(medians.bare) },
    { name: 'holdfast', ...summarize(medians.holdfast) },
    { name: 'holdfast, above bare', ...summarize(above) },
  ]
}

/** @type {import('../harness/types.js').Measurement['measure']} */
async function measure(context) {
  const { quick } = context.plan
  const one = { processes: 1, each: quick ? 200 : 1000 }
  const many = { processes: PROCESSES, each: SECTIONS }
  const compare = async (/** @type {Parameters<typeof locker>[1][]} */ all) =>
    interleave(context, await Promise.all(all.map((each) => locker(context, each))))
  return [
    {
      key: `${name} uncontended`,
      title: 'An uncontended lock, acquired and released',
      unit: 'µs',
      rows: await compare([
        { title: 'holdfast acquireLock, release', module: 'holdfast', options: { section: 'acquireRelease' }, ...one },
        { title: 'holdfast withLock', module: 'holdfast', options: { section: 'withLock' }, ...one },
        { title: LOCK_REFERENCE, module: 'proper-lockfile', options: { section: 'acquireRelease' }, ...one },
      ]),
    },
    {
      key: `${name} sections`,
      title: `${PROCESSES} processes, ${SECTIONS} critical sections each`,
      unit: 'µs per section',
      rows: await compare([
        { title: 'holdfast withLock', module: 'holdfast', options: { section: 'count' }, ...many },
        { title: LOCK_REFERENCE, module: 'proper-lockfile', options: { section: 'count' }, ...many, rounds: 3 },
        { title: SLOW_LOCK_REFERENCE, module: 'proper-lockfile', options: { section: 'count', retries: 'slow' }, ...many, rounds: 1 },
      ]),
    },
    {
      key: `${name} hand-over`,
      title: 'From one process releasing the lock to the next having it',
      unit: 'µs',
      rows: await handOver(context),
    },
    {
      key: `${name} readers`,
      title: `Read locks, ${READERS * PROCESSES} readers in ${PROCESSES} processes beside one alone`,
      unit: 'µs per reading',
      rows: await compare([
        { title: 'one reader', module: 'holdfast', options: { section: 'read' }, ...one },
        { title: `${READERS * PROCESSES} readers`, module: 'holdfast', options: { section: 'read', readers: READERS }, processes: PROCESSES, each: 100 },
      ]),
    },
  ]
}

module.exports = { name, measure }
