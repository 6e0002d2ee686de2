'use strict'

const fs = require('node:fs')
const path = require('node:path')
const { WARM_UP } = require('../plan.js')
const { filePath } = require('../payload.js')

let folders = 0

/**
 * A new folder with files that the contestant will replace.
 *
 * @param {string} parent
 * @param {number} count
 */
function folderWithFiles(parent, count) {
  const dir = path.join(parent, `writes-${++folders}`)
  fs.mkdirSync(dir)
  for (let index = 0; index < count; index++) fs.writeFileSync(filePath(dir, index), 'old')
  return dir
}

/**
 * A contestant that does one kind of run on files of its own.
 *
 * @param {import('../suite.js').Context} context
 * @param {import('../contestants.js').Contestant} contestant
 * @param {Pick<import('../crew.js').Task, 'run' | 'count' | 'size' | 'limit' | 'onePath'>} work
 * @param {(task: import('../crew.js').Task) => string | void} verify
 * @returns {Promise<import('../rounds.js').Entrant & { dir: string }>}
 */
async function writer(context, contestant, work, verify) {
  const member = await context.crew.member(contestant)
  const dir = folderWithFiles(context.disk.dir, work.onePath ? 1 : work.count)
  const warmUp = Math.min(work.count, context.plan.slow ? WARM_UP / 5 : WARM_UP)
  /** @type {import('../crew.js').Task} */
  let task
  return {
    name: contestant.name,
    guarantee: contestant.guarantee,
    dir,
    async run(round) {
      task = { ...work, dir, round, count: round === 0 ? warmUp : work.count }
      return ((await member.run(task)) * 1000) / task.count
    },
    verify: () => verify(task),
  }
}

/** @param {{ dir: string }[]} entrants */
function removeFolders(entrants) {
  for (const { dir } of entrants) fs.rmSync(dir, { recursive: true })
}

/** @param {number} size */
function sizeName(size) {
  return size < 1 << 20 ? `${size / 1024} KiB` : `${size / (1 << 20)} MiB`
}

module.exports = { writer, removeFolders, sizeName }
