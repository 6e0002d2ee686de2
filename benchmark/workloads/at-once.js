'use strict'

const { interleave } = require('../harness/interleave.js')
const { verifyFiles } = require('../harness/verify.js')
const { implementations } = require('../peers/implementations.js')
const { sizeName, writer } = require('./files.js')

const name = 'at-once'

/** @type {import('../harness/types.js').Measurement['measure']} */
async function measure(context) {
  const tables = []
  for (const size of context.plan.sizes) {
    const count = context.plan.atOnce[size] ?? 1
    const candidates = []
    for (const implementation of implementations) {
      if (implementation.bare && !implementation.bare.atOnce) continue
      candidates.push(await writer(context, implementation, { schedule: 'atOnce', count, size }, (task) => verifyFiles(task, count)))
    }
    const rows = await interleave(context, candidates)
    tables.push({ key: `${name} ${sizeName(size)}`, title: `${count} files at once, ${sizeName(size)}`, unit: 'µs per write', rows })
  }
  return tables
}

module.exports = { name, measure }
