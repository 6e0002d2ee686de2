'use strict'

const fs = require('node:fs')
const path = require('node:path')
const { REFERENCE, implementationNamed } = require('../peers/implementations.js')
const { summarize } = require('../harness/statistics.js')
const { measureInChild } = require('./child.js')

const name = 'event-loop'
const NAMES = ['holdfast none', 'holdfast full', REFERENCE.none, REFERENCE.full]

/** @type {import('../harness/types.js').Measurement['measure']} */
async function measure({ disk, plan }) {
  if (plan.slow) return []
  const dir = path.join(disk.dir, name)
  fs.mkdirSync(dir)
  /** @type {Map<string, number[]>} */
  const samples = new Map([['idle', []], ...NAMES.map((one) => /** @type {[string, number[]]} */ ([one, []]))])
  for (let round = 0; round < (plan.quick ? 1 : 3); round++) {
    for (const one of NAMES) {
      disk.sync()
      const { idle, busy } = await measureInChild('event-loop.js', implementationNamed(one), dir, plan.quick ? 0.4 : 1)
      samples.get('idle')?.push(idle)
      samples.get(one)?.push(busy - idle)
    }
  }
  fs.rmSync(dir, { recursive: true })
  const rows = [...samples].map(([one, values]) => ({ name: one, ...summarize(values) }))
  return [{ key: name, title: 'Event-loop delay, p99, while 200 MiB go out in 1 MiB Buffers', unit: 'ms above idle', rows }]
}

module.exports = { name, measure }
