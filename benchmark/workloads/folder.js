'use strict'

const fs = require('node:fs')
const path = require('node:path')
const { bareSync } = require('../bare.js')
const { REFERENCE, contestant } = require('../contestants.js')
const { filePath } = require('../payload.js')
const { KIB } = require('../plan.js')
const { interleave } = require('../rounds.js')
const { verifyFiles } = require('../verify.js')

const name = 'folder'
const NAMES = ['holdfast none', REFERENCE.none, REFERENCE.full, 'holdfast full']

/** @type {import('../suite.js').Measurement['measure']} */
async function measure(context) {
  if (context.plan.slow) return []
  const count = context.plan.quick ? 50 : 100
  const dirs = context.plan.folders.map((others) => {
    const dir = path.join(context.disk.dir, `folder-${others}`)
    fs.mkdirSync(dir)
    bareSync('fill', { dir, count: others })
    return { dir, others }
  })
  /** @type {(import('../rounds.js').Entrant & { others: number })[]} */
  const entrants = []
  for (const { dir, others } of dirs) {
    for (const [index, one] of NAMES.entries()) {
      const { guarantee } = contestant(one)
      const member = await context.crew.member(contestant(one))
      const prefix = `${index}-`
      for (let file = 0; file < count; file++) fs.writeFileSync(filePath(dir, file, prefix), 'old')
      /** @type {import('../crew.js').Task} */
      let task
      entrants.push({
        name: one,
        guarantee,
        others,
        async run(round) {
          task = { run: 'oneByOne', dir, prefix, count, size: KIB, round }
          return ((await member.run(task)) * 1000) / count
        },
        verify: () => verifyFiles(task, others + NAMES.length * count),
      })
    }
  }
  // All folders in one comparison: what differs between them is the question.
  const rows = await interleave(entrants, context.plan.pace, context.disk.settle)
  for (const { dir } of dirs) fs.rmSync(dir, { recursive: true })
  return context.plan.folders.map((others) => ({
    key: `${name} ${others}`,
    title: `One by one, 1 KiB, in a folder with ${others.toLocaleString('en')} other files`,
    unit: 'µs per write',
    rows: rows.filter((_, index) => entrants[index]?.others === others),
  }))
}

module.exports = { name, measure }
