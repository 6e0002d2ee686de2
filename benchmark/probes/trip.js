'use strict'

const { randomBytes } = require('node:crypto')
const { bare } = require('../harness/bare.js')
const { summarize } = require('../harness/statistics.js')

const name = 'trip'
const COUNT = 2000

/** Node's own cheapest way to its threads and back: one random byte. */
async function nodeTrip() {
  const once = () => new Promise((resolve) => randomBytes(1, resolve))
  for (let index = 0; index < COUNT / 10; index++) await once()
  const start = performance.now()
  for (let index = 0; index < COUNT; index++) await once()
  return ((performance.now() - start) * 1000) / COUNT
}

/** @type {import('../harness/types.js').Probe['measure']} */
async function measure({ quick }) {
  /** @type {number[]} */
  const rust = []
  /** @type {number[]} */
  const node = []
  for (let round = 0; round < (quick ? 5 : 15); round++) {
    rust.push((await bare('trip', { count: COUNT })).microseconds)
    node.push(await nodeTrip())
  }
  const rows = [
    { name: 'bare', ...summarize(rust) },
    { name: 'node, crypto.randomBytes(1)', ...summarize(node) },
  ]
  return [{ key: name, title: 'An empty trip to a thread and back', unit: 'µs', rows }]
}

module.exports = { name, measure }
