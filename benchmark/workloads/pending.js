'use strict'

const { REFERENCE, contestant } = require('../contestants.js')
const { KIB } = require('../plan.js')
const { interleave } = require('../rounds.js')
const { verifyFiles } = require('../verify.js')
const { removeFolders, writer } = require('./writes.js')

const name = 'pending'

/** @type {import('../suite.js').Measurement['measure']} */
async function measure(context) {
  const unsynced = context.plan.slow ? [] : ['holdfast none', REFERENCE.none]
  const names = [...unsynced, REFERENCE.full, 'holdfast full']
  const tables = []
  for (const [pending, count] of Object.entries(context.plan.pending)) {
    const entrants = []
    for (const one of names) {
      const work = /** @type {const} */ ({ run: 'pending', count, size: KIB, limit: Number(pending) })
      entrants.push(await writer(context, contestant(one), work, (task) => verifyFiles(task, count)))
    }
    // Four tables of one subject share the time of one.
    const pace = { ...context.plan.pace, seconds: context.plan.pace.seconds / 3 }
    const rows = await interleave(entrants, pace, context.disk.settle)
    removeFolders(entrants)
    tables.push({ key: `${name} ${pending}`, title: `${pending} pending at every moment, 1 KiB`, unit: 'µs per write', rows })
  }
  return tables
}

module.exports = { name, measure }
