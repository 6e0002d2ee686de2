'use strict'

const fs = require('node:fs')
const path = require('node:path')
const { REFERENCE, implementationNamed } = require('../peers/implementations.js')
const { summarize } = require('../harness/statistics.js')
const { measureInChild } = require('./child.js')

const name = 'memory'
const NAMES = ['holdfast none', 'holdfast full', REFERENCE.full, 'atomically']

/** @type {import('../harness/types.js').Measurement['measure']} */
async function measure({ disk, plan }) {
  if (plan.slow || process.platform !== 'linux') return []
  const rows = []
  for (const one of NAMES) {
    const dir = path.join(disk.dir, name)
    fs.mkdirSync(dir)
    const samples = []
    for (let round = 0; round < (plan.quick ? 1 : 3); round++) {
      samples.push((await measureInChild('memory.js', implementationNamed(one), dir)).ratio)
    }
    fs.rmSync(dir, { recursive: true })
    rows.push({ name: one, ...summarize(samples) })
  }
  return [{ key: name, title: 'Peak memory of a process that writes a Buffer of 256 MiB, the Buffer included', unit: 'times its size', rows }]
}

module.exports = { name, measure }
