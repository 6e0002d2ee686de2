'use strict'

/** @type {import('./harness/types.js').Measurement[]} */
const measurements = [
  require('./workloads/one-by-one.js'),
  require('./workloads/at-once.js'),
  require('./workloads/one-path.js'),
  require('./workloads/increments.js'),
  require('./workloads/locks.js'),
  require('./workloads/pending.js'),
  require('./workloads/directory.js'),
  require('./workloads/wal.js'),
  require('./probes/event-loop.js'),
  require('./probes/memory.js'),
  require('./probes/metrics.js'),
]

/** @type {import('./harness/types.js').Probe[]} */
const probes = [require('./probes/trip.js'), require('./probes/start-up.js'), require('./probes/size.js')]

/** @param {string[]} only Empty: all. */
function select(only) {
  const isSelected = (/** @type {{ name: string }} */ { name }) => only.length === 0 || only.includes(name)
  return { measurements: measurements.filter(isSelected), probes: probes.filter(isSelected) }
}

const names = [...measurements, ...probes].map(({ name }) => name)

module.exports = { names, select }
