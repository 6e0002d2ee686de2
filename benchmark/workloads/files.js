'use strict'

const fs = require('node:fs')
const path = require('node:path')
const { WARM_UP } = require('../harness/plan.js')
const { filePath } = require('../harness/payload.js')

let dirs = 0

/**
 * A new empty directory for one candidate.
 *
 * @param {import('../harness/types.js').Context} context
 * @param {string} name
 */
function newDir({ disk }, name) {
  const dir = path.join(disk.dir, `${name}-${++dirs}`)
  fs.mkdirSync(dir)
  return dir
}

/** @param {string} dir */
function removeDir(dir) {
  fs.rmSync(dir, { recursive: true, force: true })
}

/**
 * An implementation that makes writes in one schedule, which replace files of its own.
 *
 * @param {import('../harness/types.js').Context} context
 * @param {import('../harness/types.js').Implementation} implementation
 * @param {Pick<import('../harness/types.js').WriteTask, 'schedule' | 'count' | 'size' | 'limit' | 'onePath'>} work
 * @param {(task: import('../harness/types.js').WriteTask) => string | void} verify
 * @returns {Promise<import('../harness/types.js').Candidate>}
 */
async function writer(context, implementation, work, verify) {
  const worker = await context.workers.workerFor(implementation)
  const dir = newDir(context, 'writes')
  for (let index = 0; index < (work.onePath ? 1 : work.count); index++) fs.writeFileSync(filePath(dir, index), 'old')
  const warmUp = Math.min(work.count, context.plan.slow ? WARM_UP / 5 : WARM_UP)
  /** @type {import('../harness/types.js').WriteTask} */
  let task
  return {
    name: implementation.name,
    guarantee: implementation.guarantee,
    async run(round) {
      task = { ...work, dir, round, count: round === 0 ? warmUp : work.count }
      return ((await worker.run(task)) * 1000) / task.count
    },
    verify: () => verify(task),
    close: () => removeDir(dir),
  }
}

/** @param {number} size */
function sizeName(size) {
  return size < 1 << 20 ? `${size / 1024} KiB` : `${size / (1 << 20)} MiB`
}

module.exports = { newDir, removeDir, sizeName, writer }
