'use strict'

const { interleave } = require('../harness/interleave.js')
const { KIB } = require('../harness/plan.js')
const { verifyFiles } = require('../harness/verify.js')
const { REFERENCE, implementationNamed } = require('../peers/implementations.js')
const { writer } = require('./files.js')

const name = 'pending'

/** @type {import('../harness/types.js').Measurement['measure']} */
async function measure(context) {
  const { slow, pending, budget } = context.plan
  const names = [...(slow ? [] : ['holdfast none', REFERENCE.none]), REFERENCE.full, 'holdfast full']
  const tables = []
  for (const [limit, count] of Object.entries(pending)) {
    const candidates = []
    for (const implementation of names.map(implementationNamed)) {
      const work = /** @type {const} */ ({ schedule: 'pending', count, size: KIB, limit: Number(limit) })
      candidates.push(await writer(context, implementation, work, (task) => verifyFiles(task, count)))
    }
    // Four tables of one subject, each with a third of the time of one.
    const rows = await interleave(context, candidates, { ...budget, seconds: budget.seconds / 3 })
    tables.push({ key: `${name} ${limit}`, title: `${limit} pending at every moment, 1 KiB`, unit: 'µs per write', rows })
  }
  return tables
}

module.exports = { name, measure }
