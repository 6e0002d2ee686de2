'use strict'

const { planFor } = require('./plan.js')

/**
 * @typedef {object} Table
 * @property {string} key Unique on its disk.
 * @property {string} title
 * @property {string} unit
 * @property {import('./rounds.js').Row[]} rows
 */

/**
 * @typedef {object} Context
 * @property {import('./disks.js').Disk} disk
 * @property {import('./plan.js').Plan} plan
 * @property {InstanceType<typeof import('./crew.js').Crew>} crew
 * @property {(what: string) => void} skip Says what could not be measured, and why.
 */

/** @typedef {{ name: string, measure: (context: Context) => Promise<Table[]> }} Measurement On each disk. */
/** @typedef {{ name: string, measure: (context: { quick: boolean }) => Promise<Table[]> }} Probe Once. */

/** @type {Measurement[]} */
const measurements = [
  require('./workloads/one-by-one.js'),
  require('./workloads/at-once.js'),
  require('./workloads/one-path.js'),
  require('./workloads/increments.js'),
  require('./workloads/locks.js'),
  require('./workloads/pending.js'),
  require('./workloads/folder.js'),
  require('./workloads/wal.js'),
  require('./probes/event-loop.js'),
  require('./probes/memory.js'),
  require('./probes/metrics.js'),
]

/** @type {Probe[]} */
const probes = [require('./probes/trip.js'), require('./probes/start-up.js'), require('./probes/size.js')]

/** @param {string[]} only Empty: all. */
function chosen(only) {
  const isChosen = (/** @type {{ name: string }} */ { name }) => only.length === 0 || only.includes(name)
  return { measurements: measurements.filter(isChosen), probes: probes.filter(isChosen) }
}

const names = [...measurements, ...probes].map(({ name }) => name)

module.exports = { chosen, names, planFor }
