'use strict'

const fs = require('node:fs')
const { bareSync } = require('../harness/bare.js')
const { interleave } = require('../harness/interleave.js')
const { filePath } = require('../harness/payload.js')
const { KIB } = require('../harness/plan.js')
const { verifyFiles } = require('../harness/verify.js')
const { REFERENCE, implementationNamed } = require('../peers/implementations.js')
const { newDir, removeDir } = require('./files.js')

const name = 'directory'
const NAMES = ['holdfast none', REFERENCE.none, REFERENCE.full, 'holdfast full']

/** @type {import('../harness/types.js').Measurement['measure']} */
async function measure(context) {
  if (context.plan.slow) return []
  const count = context.plan.quick ? 50 : 100
  /** @type {(import('../harness/types.js').Candidate & { others: number })[]} */
  const candidates = []
  const dirs = []
  for (const others of context.plan.otherFiles) {
    const dir = newDir(context, name)
    dirs.push(dir)
    bareSync('fill', { dir, count: others })
    for (const [index, implementation] of NAMES.map(implementationNamed).entries()) {
      const worker = await context.workers.workerFor(implementation)
      const prefix = `${index}-`
      for (let file = 0; file < count; file++) fs.writeFileSync(filePath(dir, file, prefix), 'old')
      /** @type {import('../harness/types.js').WriteTask} */
      let task
      candidates.push({
        name: implementation.name,
        guarantee: implementation.guarantee,
        others,
        async run(round) {
          task = { schedule: 'oneByOne', dir, prefix, count, size: KIB, round }
          return ((await worker.run(task)) * 1000) / count
        },
        verify: () => verifyFiles(task, others + NAMES.length * count),
      })
    }
  }
  // All directories in one comparison: the difference between them is the question.
  const rows = await interleave(context, candidates)
  dirs.forEach(removeDir)
  return context.plan.otherFiles.map((others) => ({
    key: `${name} ${others}`,
    title: `One by one, 1 KiB, in a directory with ${others.toLocaleString('en')} other files`,
    unit: 'µs per write',
    rows: rows.filter((_, index) => candidates[index]?.others === others),
  }))
}

module.exports = { name, measure }
