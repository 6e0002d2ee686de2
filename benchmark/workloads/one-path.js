'use strict'

const { contestants } = require('../contestants.js')
const { KIB } = require('../plan.js')
const { interleave } = require('../rounds.js')
const { verifyOneOf } = require('../verify.js')
const { removeFolders, writer } = require('./writes.js')

const name = 'one-path'

/** @type {import('../suite.js').Measurement['measure']} */
async function measure(context) {
  const count = context.plan.onePath
  const entrants = []
  for (const contestant of contestants) {
    if (contestant.bare) continue
    const work = /** @type {const} */ ({ run: 'atOnce', count, size: KIB, onePath: true })
    entrants.push(await writer(context, contestant, work, (task) => {
      const last = verifyOneOf(task)
      if (contestant.ordered && last !== count - 1) return `ended with write ${last + 1} of ${count}`
    }))
  }
  const rows = await interleave(entrants, context.plan.pace, context.disk.settle)
  removeFolders(entrants)
  return [{ key: name, title: `${count} writes to one path at once, 1 KiB`, unit: 'µs per write', rows }]
}

module.exports = { name, measure }
