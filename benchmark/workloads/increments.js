'use strict'

const fs = require('node:fs')
const path = require('node:path')
const { interleave } = require('../harness/interleave.js')
const { verifyCount } = require('../harness/verify.js')
const { startWorkers } = require('../harness/worker-pool.js')
const { incrementers } = require('../peers/implementations.js')
const { newDir, removeDir } = require('./files.js')

const name = 'increments'

/** Increments of each process before the first round. */
const WARM_UP = 5

/** @typedef {import('../harness/types.js').Candidate} Candidate */
/** @typedef {import('../harness/types.js').Context} Context */

/** @type {import('../harness/types.js').Measurement['measure']} */
async function measure(context) {
  const { plan } = context
  const processes = await Promise.all(incrementers.map((incrementer) => acrossProcesses(context, incrementer)))
  const processRows = await interleave(context, processes)
  const calls = await Promise.all(callVariants(plan.calls).map((variant) => inOneProcess(context, variant)))
  const callRows = await interleave(context, calls)
  return [
    {
      key: `${name} processes`,
      title: `Locked increments of one file, ${plan.processes} processes`,
      unit: 'µs per increment',
      rows: processRows,
    },
    {
      key: `${name} calls`,
      title: `${plan.calls.toLocaleString('en')} locked increments at once in one process`,
      unit: 'µs per increment',
      rows: callRows,
    },
  ]
}

/**
 * Each process makes its increments one after the other; all start together.
 *
 * @param {Context} context
 * @param {{ name: string, module: string }} incrementer
 * @returns {Promise<Candidate>}
 */
async function acrossProcesses(context, { name, module }) {
  const { plan } = context
  const workers = await startWorkers(plan.processes, `peers/increments/${module}.js`, { retries: 'processes' })
  const counter = newCounter(context)
  let each = WARM_UP
  return {
    name,
    async run(round) {
      const total = counter.reset(each * workers.length)
      const start = performance.now()
      await Promise.all(workers.map((worker) => worker.run({ path: counter.file, count: each, schedule: 'oneByOne' })))
      const seconds = (performance.now() - start) / 1000
      // The warm-up decides how many make a round: enough that its beginning and end do not matter.
      if (round === 0) each = Math.min(Math.max(Math.round((plan.incrementSeconds / seconds) * each), WARM_UP), 1000)
      return (seconds * 1e6) / total
    },
    verify: () => counter.verify(),
    close: () => [...workers, counter].forEach((each) => each.stop()),
  }
}

/**
 * @typedef {object} CallVariant
 * @property {string} title
 * @property {string} module
 * @property {object} options
 * @property {number} total
 * @property {number} [rounds]
 */

/** @param {number} calls @returns {CallVariant[]} */
function callVariants(calls) {
  return incrementers.flatMap(({ name, module }) => {
    const options = { retries: 'calls' }
    if (module !== 'proper-lockfile') return [{ title: name, module, options, total: calls }]
    return [
      // One round of it takes half a minute.
      { title: name, module, options, total: calls, rounds: 1 },
      // As its users call it who know that it polls. One call runs after the other, so fewer will do.
      { title: `${name}, queued by the caller`, module, options: { retries: 'processes', queue: true }, total: calls / 10 },
    ]
  })
}

/**
 * @param {Context} context
 * @param {CallVariant} variant
 * @returns {Promise<Candidate>}
 */
async function inOneProcess(context, { title, module, options, total, rounds }) {
  const workers = await startWorkers(1, `peers/increments/${module}.js`, options)
  const counter = newCounter(context)
  return {
    name: title,
    ...(rounds ? { rounds } : {}),
    async run(round) {
      const count = counter.reset(round === 0 ? 10 : total)
      const milliseconds = await workers[0]?.run({ path: counter.file, count, schedule: 'atOnce' })
      return ((milliseconds ?? NaN) * 1000) / count
    },
    verify: () => counter.verify(),
    close: () => [...workers, counter].forEach((each) => each.stop()),
  }
}

/** @param {Context} context */
function newCounter(context) {
  const dir = newDir(context, 'counter')
  const file = path.join(dir, 'counter.json')
  let expected = 0
  return {
    file,
    /** @param {number} count how often it will be incremented */
    reset(count) {
      fs.writeFileSync(file, '{"count":0}')
      return (expected = count)
    },
    verify: () => verifyCount(file, expected),
    stop: () => removeDir(dir),
  }
}

module.exports = { name, measure }
