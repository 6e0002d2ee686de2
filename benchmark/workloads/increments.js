'use strict'

const fs = require('node:fs')
const path = require('node:path')
const { incrementers } = require('../contestants.js')
const { Worker } = require('../crew.js')
const { interleave } = require('../rounds.js')
const { verifyCount } = require('../verify.js')

const name = 'increments'

/** Increments of each process before the first round. */
const WARM_UP = 5

/** @typedef {import('../rounds.js').Entrant & { stop: () => void }} Entrant */

/** @type {import('../suite.js').Measurement['measure']} */
async function measure(context) {
  const { plan } = context
  return [
    {
      key: `${name} processes`,
      title: `Guarded increments of one file, ${plan.processes} processes`,
      unit: 'µs per increment',
      rows: await compare(context, await entrantsOf(context, amongProcesses)),
    },
    {
      key: `${name} calls`,
      title: `${plan.calls.toLocaleString('en')} guarded increments at once in one process`,
      unit: 'µs per increment',
      rows: await compare(context, await entrantsOf(context, amongCalls)),
    },
  ]
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
 * @param {import('../suite.js').Context} context
 * @param {typeof amongProcesses | typeof amongCalls} kind
 */
async function entrantsOf(context, kind) {
  const entrants = []
  for (const incrementer of incrementers) {
    const found = await kind(context, incrementer)
    if (found.length === 0) context.skip(`${context.disk.title}: ${incrementer.name} (not exported yet)`)
    entrants.push(...found)
  }
  return entrants
}

/**
 * Each process makes its increments one after the other; all begin together.
 *
 * @param {import('../suite.js').Context} context
 * @param {import('../contestants.js').Incrementer} incrementer
 * @returns {Promise<Entrant[]>}
 */
async function amongProcesses({ plan, disk }, { name, module }) {
  const workers = await workersOf(plan.processes, module, { among: 'processes' })
  if (workers.length === 0) return []
  const counter = counterIn(disk.dir)
  let each = WARM_UP
  return [{
    name,
    async run(round) {
      counter.reset()
      counter.expected = each * workers.length
      const start = performance.now()
      await Promise.all(workers.map((worker) => worker.run({ path: counter.file, count: each, increment: 'oneByOne' })))
      const seconds = (performance.now() - start) / 1000
      // The warm-up tells how many make a round: enough that beginning and end do not count.
      if (round === 0) each = Math.min(Math.max(Math.round((plan.incrementSeconds / seconds) * each), WARM_UP), 1000)
      return (seconds * 1e6) / counter.expected
    },
    verify: () => counter.verify(),
    stop: () => [...workers, counter].forEach((one) => one.stop()),
  }]
}

/**
 * @param {import('../suite.js').Context} context
 * @param {import('../contestants.js').Incrementer} incrementer
 * @returns {Promise<Entrant[]>}
 */
async function amongCalls({ plan, disk }, { name, module }) {
  /** @type {{ title: string, options: object, total: number, rounds?: number }[]} */
  const variants = [{ title: name, options: { among: 'calls' }, total: plan.calls }]
  if (module === 'proper-lockfile') {
    // One round of it takes half a minute.
    Object.assign(variants[0] ?? {}, { rounds: 1 })
    // What its users do who know that it polls. One call after the other, so fewer will do.
    variants.push({ title: `${name}, queued by the caller`, options: { among: 'processes', queue: true }, total: plan.calls / 10 })
  }
  const entrants = []
  for (const { title, options, total, rounds } of variants) {
    const [worker] = await workersOf(1, module, options)
    if (!worker) continue
    const counter = counterIn(disk.dir)
    entrants.push({
      name: title,
      ...(rounds ? { rounds } : {}),
      async run(/** @type {number} */ round) {
        const count = round === 0 ? 10 : total
        counter.reset()
        counter.expected = count
        return ((await worker.run({ path: counter.file, count, increment: 'atOnce' })) * 1000) / count
      },
      verify: () => counter.verify(),
      stop: () => [worker, counter].forEach((one) => one.stop()),
    })
  }
  return entrants
}

/**
 * @param {number} count
 * @param {string} module
 * @param {object} options
 * @returns {Promise<InstanceType<typeof Worker>[]>} None where holdfast does not have it.
 */
async function workersOf(count, module, options) {
  const workers = Array.from({ length: count }, () => new Worker(`incrementers/${module}.js`, options))
  const ready = await Promise.all(workers.map((worker) => worker.ready()))
  if (ready.every(Boolean)) return workers
  for (const worker of workers) worker.stop()
  return []
}

let counters = 0

/** @param {string} parent */
function counterIn(parent) {
  const dir = path.join(parent, `counter-${++counters}`)
  fs.mkdirSync(dir)
  const file = path.join(dir, 'counter.json')
  return {
    file,
    expected: 0,
    reset: () => fs.writeFileSync(file, '{"count":0}'),
    verify() {
      verifyCount(file, this.expected)
    },
    stop: () => fs.rmSync(dir, { recursive: true }),
  }
}

module.exports = { name, measure }
