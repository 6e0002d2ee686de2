'use strict'

const path = require('node:path')
const { count } = require('./report.js')
const { newDir } = require('./sandbox.js')

/** @param {import('./report.js').Report} report */
async function log(report) {
  report.act(
    '5 · Write-ahead log',
    'An index keeps its vectors in memory and behind a log (examples/vector-index.mjs). Its process inserts them in batches of ' +
      '100, and is killed with SIGKILL when 5 000 have been acknowledged. Then the index is opened again.',
  )
  const { tellStory } = await import('../examples/vector-index.mjs')
  const { acknowledged, there, found } = await tellStory(path.join(newDir(), 'index.wal'))
  report.check(
    found === acknowledged && acknowledged >= 5000,
    'Every acknowledged vector is found again',
    'after the restart each is searched for',
    `${count(acknowledged, 'vector')} acknowledged, ${there} there, ${found} found`,
  )
}

module.exports = { log }
