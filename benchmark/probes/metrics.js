'use strict'

// What it costs to count, and what it costs that somebody listens.

const { execFileSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const { contestant } = require('../contestants.js')
const { build } = require('../../scripts/crates.js')
const { spread } = require('../statistics.js')
const { measureInChild } = require('./child.js')

const name = 'metrics'

const LISTENERS = /** @type {const} */ ({
  nothing: 'nobody listens',
  figures: 'metrics() after each tenth write',
  traces: 'a subscriber to tracingChannel(\'holdfast:write\')',
  steps: 'a subscriber to holdfast:write:step',
})

const COUNTED = /** @type {const} */ ({
  write: 'a write',
  crowd: 'a write, on four threads at once',
  sync: 'a sync',
  lock: 'a lock that is free',
})

/** @type {import('../suite.js').Measurement['measure']} */
async function measure({ disk, plan }) {
  // Where a write is cheapest.
  if (disk.name !== 'tmpfs') return []
  const dir = path.join(disk.dir, name)
  fs.mkdirSync(dir)
  /** @type {Record<string, number[]>} */
  const writes = {}
  /** @type {Record<string, number[]>} */
  const counts = {}
  const program = build('counting')
  for (let round = 0; round < (plan.quick ? 5 : 15); round++) {
    const listeners = Object.keys(LISTENERS)
    for (let index = 0; index < listeners.length; index++) {
      const listener = /** @type {keyof typeof LISTENERS} */ (listeners[(index + round) % listeners.length])
      const { microseconds } = await measureInChild('metrics.js', contestant('holdfast none'), dir, listener, plan.quick ? 2000 : 5000)
      ;(writes[LISTENERS[listener]] ??= []).push(microseconds)
    }
    const cost = JSON.parse(execFileSync(program, { encoding: 'utf8' }))
    for (const [field, title] of Object.entries(COUNTED)) (counts[title] ??= []).push(cost[field])
  }
  fs.rmSync(dir, { recursive: true })
  const rows = (/** @type {Record<string, number[]>} */ samples) =>
    Object.entries(samples).map(([title, values]) => ({ name: title, ...spread(values) }))
  return [
    { key: `${name} counting`, title: 'What it costs to count', unit: 'ns', rows: rows(counts) },
    { key: name, title: 'One by one, 1 KiB, nothing synced', unit: 'µs per write', rows: rows(writes) },
  ]
}

module.exports = { name, measure }
