'use strict'

const { interleave } = require('../harness/interleave.js')
const { KIB } = require('../harness/plan.js')
const { verifyOneOf } = require('../harness/verify.js')
const { implementations } = require('../peers/implementations.js')
const { writer } = require('./files.js')

const name = 'one-path'

/** @type {import('../harness/types.js').Measurement['measure']} */
async function measure(context) {
  const count = context.plan.onePath
  const candidates = []
  for (const implementation of implementations) {
    if (implementation.bare) continue
    const work = /** @type {const} */ ({ schedule: 'atOnce', count, size: KIB, onePath: true })
    candidates.push(await writer(context, implementation, work, (task) => {
      const last = verifyOneOf(task)
      if (implementation.ordered && last !== count - 1) return `ended with write ${last + 1} of ${count}`
    }))
  }
  const rows = await interleave(context, candidates)
  return [{ key: name, title: `${count} writes to one path at once, 1 KiB`, unit: 'µs per write', rows }]
}

module.exports = { name, measure }
