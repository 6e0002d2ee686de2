'use strict'

const { interleave } = require('../harness/interleave.js')
const { KIB } = require('../harness/plan.js')
const { verifyFiles } = require('../harness/verify.js')
const { implementations } = require('../peers/implementations.js')
const { sizeName, writer } = require('./files.js')

const name = 'one-by-one'

/** @type {import('../harness/types.js').Measurement['measure']} */
async function measure(context) {
  const tables = []
  for (const size of context.plan.sizes) {
    const count = context.plan.oneByOne[size] ?? 1
    const candidates = []
    for (const implementation of implementations) {
      if (implementation.bare && !implementation.bare.oneByOne) continue
      // The lock on the temp file costs the same at every size.
      if (implementation.name.endsWith('locked') && size > KIB) continue
      candidates.push(await writer(context, implementation, { schedule: 'oneByOne', count, size }, (task) => verifyFiles(task, count)))
    }
    const rows = await interleave(context, candidates)
    tables.push({ key: `${name} ${sizeName(size)}`, title: `One by one, ${sizeName(size)}`, unit: 'µs per write', rows })
  }
  return tables
}

module.exports = { name, measure }
