'use strict'

const fs = require('node:fs')
const path = require('node:path')
const { bare } = require('../bare.js')
const { Worker } = require('../crew.js')
const { interleave } = require('../rounds.js')
const { spread } = require('../statistics.js')

const name = 'locks'

/** With the best retry options that were found, and with those of most of its users. */
const PEER = 'proper-lockfile'
const SLOW_PEER = 'proper-lockfile, polling every 100 to 1000 ms'
const PROCESSES = 8
/** Critical sections of each process in a round. */
const SECTIONS = 200
const READERS = 8

/** @typedef {import('../rounds.js').Entrant & { stop: () => void }} Entrant */

let folders = 0

/** @param {import('../suite.js').Context} context */
function newFile({ disk }) {
  const dir = path.join(disk.dir, `locks-${++folders}`)
  fs.mkdirSync(dir)
  const file = path.join(dir, 'file')
  fs.writeFileSync(file, '0')
  return { file, remove: () => fs.rmSync(dir, { recursive: true }) }
}

/**
 * Processes that do the same thing on one file, each so many times and one after the other.
 *
 * @param {import('../suite.js').Context} context
 * @param {object} entrant
 * @param {string} entrant.title
 * @param {string} entrant.module In `lockers/`.
 * @param {{ what: string, readers?: number, retries?: string }} entrant.options
 * @param {number} entrant.processes
 * @param {number} entrant.each
 * @param {number} [entrant.rounds]
 * @returns {Promise<Entrant>}
 */
async function crowd(context, { title, module, options, processes, each, rounds }) {
  const workers = Array.from({ length: processes }, () => new Worker(`lockers/${module}.js`, options))
  await Promise.all(workers.map((worker) => worker.ready()))
  const { file, remove } = newFile(context)
  const reset = () => options.what === 'count' && fs.writeFileSync(file, '0')
  let expected = 0
  return {
    name: title,
    ...(rounds ? { rounds } : {}),
    async run(round) {
      const count = round === 0 ? Math.min(each, 20) : each
      reset()
      expected = count * processes
      const start = performance.now()
      await Promise.all(workers.map((worker) => worker.run({ path: file, count, increment: 'oneByOne' })))
      return ((performance.now() - start) * 1000) / (expected * (options.readers ?? 1))
    },
    verify() {
      const counted = Number(fs.readFileSync(file, 'utf8'))
      if (options.what === 'count' && counted !== expected) throw new Error(`${expected} sections, but counted ${counted}`)
    },
    stop() {
      for (const worker of workers) worker.stop()
      remove()
    },
  }
}

/**
 * @param {import('../suite.js').Context} context
 * @param {Entrant[]} entrants
 */
async function compare({ plan, disk }, entrants) {
  const rows = await interleave(entrants, plan.pace, disk.settle)
  for (const { stop } of entrants) stop()
  return rows
}

/**
 * From one process giving the lock back to the other having it, for which it has waited.
 *
 * @param {import('../suite.js').Context} context
 */
async function handOver(context) {
  const turns = context.plan.quick ? 50 : 200
  const latenciesOf = (/** @type {string} */ file) => {
    const names = fs.readdirSync(path.dirname(file)).filter((name) => name.includes('.latencies'))
    return names.flatMap((name) => fs.readFileSync(path.join(path.dirname(file), name), 'utf8').split('\n').map(Number))
  }
  const pair = await Promise.all([0, 1].map(() => new Worker('lockers/holdfast.js', { what: 'handOver' })))
  await Promise.all(pair.map((worker) => worker.ready()))
  /** @type {{ bare: number[], holdfast: number[] }} */
  const medians = { bare: [], holdfast: [] }
  for (let round = 0; round <= (context.plan.quick ? 3 : 9); round++) {
    for (const who of /** @type {const} */ (['bare', 'holdfast'])) {
      const { file, remove } = newFile(context)
      if (who === 'bare') {
        const { microseconds } = await bare('hand-over', { path: file, count: turns })
        if (round > 0) medians.bare.push(microseconds)
      } else {
        await Promise.all(pair.map((worker) => worker.run({ path: file, count: turns, increment: 'oneByOne' })))
        if (round > 0) medians.holdfast.push(spread(latenciesOf(file)).median)
      }
      remove()
    }
  }
  for (const worker of pair) worker.stop()
  const above = medians.holdfast.map((holdfast, round) => holdfast - (medians.bare[round] ?? NaN))
  return [
    { name: 'bare', ...spread(medians.bare) },
    { name: 'holdfast', ...spread(medians.holdfast) },
    { name: 'holdfast, above bare', ...spread(above) },
  ]
}

/** @type {import('../suite.js').Measurement['measure']} */
async function measure(context) {
  const { quick } = context.plan
  const one = { processes: 1, each: quick ? 200 : 1000 }
  const many = { processes: PROCESSES, each: SECTIONS }
  const entrants = (/** @type {Parameters<typeof crowd>[1][]} */ all) => Promise.all(all.map((each) => crowd(context, each)))
  return [
    {
      key: `${name} uncontended`,
      title: 'A lock that nobody else wants, taken and given back',
      unit: 'µs',
      rows: await compare(context, await entrants([
        { title: 'holdfast acquireLock, release', module: 'holdfast', options: { what: 'pair' }, ...one },
        { title: 'holdfast withLock', module: 'holdfast', options: { what: 'around' }, ...one },
        { title: PEER, module: PEER, options: { what: 'pair' }, ...one },
      ])),
    },
    {
      key: `${name} sections`,
      title: `${PROCESSES} processes, ${SECTIONS} critical sections each`,
      unit: 'µs per section',
      rows: await compare(context, await entrants([
        { title: 'holdfast withLock', module: 'holdfast', options: { what: 'count' }, ...many },
        { title: PEER, module: PEER, options: { what: 'count' }, ...many, rounds: 3 },
        { title: SLOW_PEER, module: PEER, options: { what: 'count', retries: 'slow' }, ...many, rounds: 1 },
      ])),
    },
    {
      key: `${name} hand-over`,
      title: 'From one process giving the lock back to the next having it',
      unit: 'µs',
      rows: await handOver(context),
    },
    {
      key: `${name} readers`,
      title: `Locks for reading, ${READERS * PROCESSES} readers in ${PROCESSES} processes beside one alone`,
      unit: 'µs per reading',
      rows: await compare(context, await entrants([
        { title: 'one reader', module: 'holdfast', options: { what: 'read' }, ...one },
        { title: `${READERS * PROCESSES} readers`, module: 'holdfast', options: { what: 'read', readers: READERS }, processes: PROCESSES, each: 100 },
      ])),
    },
  ]
}

module.exports = { name, measure, PEER }
