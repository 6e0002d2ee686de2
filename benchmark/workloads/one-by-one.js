'use strict'

const { contestants } = require('../contestants.js')
const { KIB } = require('../plan.js')
const { interleave } = require('../rounds.js')
const { verifyFiles } = require('../verify.js')
const { removeFolders, sizeName, writer } = require('./writes.js')

const name = 'one-by-one'

/** @type {import('../suite.js').Measurement['measure']} */
async function measure(context) {
  const tables = []
  for (const size of context.plan.sizes) {
    const count = context.plan.oneByOne[size] ?? 1
    const entrants = []
    for (const contestant of contestants) {
      if (contestant.bare && !contestant.bare.oneByOne) continue
      // The lock on the temp file costs the same at every size.
      if (contestant.name.endsWith('locked') && size > KIB) continue
      entrants.push(await writer(context, contestant, { run: 'oneByOne', count, size }, (task) => verifyFiles(task, count)))
    }
    const rows = await interleave(entrants, context.plan.pace, context.disk.settle)
    removeFolders(entrants)
    tables.push({ key: `${name} ${sizeName(size)}`, title: `One by one, ${sizeName(size)}`, unit: 'µs per write', rows })
  }
  return tables
}

module.exports = { name, measure }
