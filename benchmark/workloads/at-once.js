'use strict'

const { contestants } = require('../contestants.js')
const { interleave } = require('../rounds.js')
const { verifyFiles } = require('../verify.js')
const { removeFolders, sizeName, writer } = require('./writes.js')

const name = 'at-once'

/** @type {import('../suite.js').Measurement['measure']} */
async function measure(context) {
  const tables = []
  for (const size of context.plan.sizes) {
    const count = context.plan.atOnce[size] ?? 1
    const entrants = []
    for (const contestant of contestants) {
      if (contestant.bare && !contestant.bare.atOnce) continue
      entrants.push(await writer(context, contestant, { run: 'atOnce', count, size }, (task) => verifyFiles(task, count)))
    }
    const rows = await interleave(entrants, context.plan.pace, context.disk.settle)
    removeFolders(entrants)
    tables.push({ key: `${name} ${sizeName(size)}`, title: `${count} files at once, ${sizeName(size)}`, unit: 'µs per write', rows })
  }
  return tables
}

module.exports = { name, measure }
