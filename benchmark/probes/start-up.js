'use strict'

const { spawnSync } = require('node:child_process')
const path = require('node:path')
const { summarize } = require('../harness/statistics.js')

const name = 'start-up'
const PROGRAMS = {
  node: '0',
  holdfast: `require(${JSON.stringify(path.join(__dirname, '..', '..'))})`,
  'write-file-atomic': `require(${JSON.stringify(require.resolve('write-file-atomic'))})`,
}

/** @type {import('../harness/types.js').Probe['measure']} */
async function measure({ quick }) {
  /** @type {Record<keyof typeof PROGRAMS, number[]>} */
  const samples = { node: [], holdfast: [], 'write-file-atomic': [] }
  for (let round = 0; round < (quick ? 10 : 40); round++) {
    for (const who of /** @type {(keyof typeof PROGRAMS)[]} */ (Object.keys(PROGRAMS))) {
      const start = performance.now()
      const { status } = spawnSync(process.execPath, ['-e', PROGRAMS[who]])
      if (status !== 0) throw new Error(`${who} does not start`)
      if (round > 0) samples[who].push(performance.now() - start)
    }
  }
  const bare = summarize(samples.node)
  const rows = [{ name: 'node alone', ...bare }]
  for (const who of /** @type {const} */ (['holdfast', 'write-file-atomic'])) {
    rows.push({ name: `${who}, above node alone`, ...summarize(samples[who].map((time) => time - bare.median)) })
  }
  return [{ key: name, title: 'Start-up: a process that only requires the package', unit: 'ms', rows }]
}

module.exports = { name, measure }
