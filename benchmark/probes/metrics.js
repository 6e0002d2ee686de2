'use strict'

// What the metrics cost, and what listeners cost.

const { execFileSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const { implementationNamed } = require('../peers/implementations.js')
const { build } = require('../../scripts/crates.js')
const { summarize } = require('../harness/statistics.js')
const { measureInChild } = require('./child.js')

const name = 'metrics'

const LISTENERS = /** @type {const} */ ({
  none: 'no listener',
  snapshots: 'metrics() after each tenth write',
  traces: 'a subscriber to tracingChannel(\'holdfast:write\')',
  steps: 'a subscriber to holdfast:write:step',
})

const COUNTED_OPERATIONS = /** @type {const} */ ({
  write: 'a write',
  writeOnFourThreads: 'a write, on four threads at once',
  sync: 'a sync',
  lock: 'an uncontended lock',
})

/** @type {import('../harness/types.js').Measurement['measure']} */
async function measure({ disk, plan }) {
  // Where a write is cheapest.
  if (disk.name !== 'tmpfs') return []
  const dir = path.join(disk.dir, name)
  fs.mkdirSync(dir)
  /** @type {Record<string, number[]>} */
  const writes = {}
  /** @type {Record<string, number[]>} */
  const counts = {}
  const program = build('metrics-cost')
  for (let round = 0; round < (plan.quick ? 5 : 15); round++) {
    const listeners = Object.keys(LISTENERS)
    for (let index = 0; index < listeners.length; index++) {
      const listener = /** @type {keyof typeof LISTENERS} */ (listeners[(index + round) % listeners.length])
      const { microseconds } = await measureInChild('metrics.js', implementationNamed('holdfast none'), dir, listener, plan.quick ? 2000 : 5000)
      ;(writes[LISTENERS[listener]] ??= []).push(microseconds)
    }
    const costs = JSON.parse(execFileSync(program, { encoding: 'utf8' }))
    for (const [field, title] of Object.entries(COUNTED_OPERATIONS)) (counts[title] ??= []).push(costs[field])
  }
  fs.rmSync(dir, { recursive: true })
  const rows = (/** @type {Record<string, number[]>} */ samples) =>
    Object.entries(samples).map(([title, values]) => ({ name: title, ...summarize(values) }))
  return [
    { key: `${name} counting`, title: 'What the metrics cost', unit: 'ns', rows: rows(counts) },
    { key: name, title: 'One by one, 1 KiB, nothing synced', unit: 'µs per write', rows: rows(writes) },
  ]
}

module.exports = { name, measure }
