'use strict'

/**
 * The process of one implementation. It gets tasks from the suite and answers each with the
 * milliseconds it took.
 */

const { filePath, payload } = require('./payload.js')
const { schedules } = require('./schedules.js')

/** @typedef {import('./types.js').WriteTask} WriteTask */
/** @typedef {import('./types.js').ScheduleName} ScheduleName */

const collectGarbage = /** @type {() => void} */ (global.gc)

async function main() {
  const [, , module, options] = process.argv
  const implementation = await require(/** @type {string} */ (module)).open(JSON.parse(options ?? '{}'))
  const send = (/** @type {object} */ message) => process.connected && process.send?.(message)
  process.on('disconnect', () => process.exit())
  process.on('message', async (/** @type {any} */ task) => {
    try {
      if (task.log) return send(await implementation[task.log](task))
      const [perform, items] = implementation.write ? writesOf(implementation, task) : repetitionsOf(implementation, task)
      send({ milliseconds: await timed(task, perform, items) })
    } catch (error) {
      send({ error: String(/** @type {Error} */ (error)?.stack ?? error) })
    }
  })
  send({ ready: true })
}

/**
 * @param {{ write: (path: string, data: Buffer) => Promise<unknown> }} implementation
 * @param {WriteTask} task
 * @returns {[(item: any) => Promise<unknown>, unknown[]]}
 */
function writesOf({ write }, { dir, prefix, count, size, round, onePath }) {
  const files = Array.from({ length: count }, (_, index) => ({
    path: filePath(dir, onePath ? 0 : index, prefix),
    data: payload(round, index, size),
  }))
  return [({ path, data }) => write(path, data), files]
}

/**
 * The same operation on one file, many times.
 *
 * @param {{ operate: (path: string) => Promise<unknown> }} implementation
 * @param {{ path: string, count: number }} task
 * @returns {[(item: any) => Promise<unknown>, unknown[]]}
 */
function repetitionsOf({ operate }, { path, count }) {
  return [operate, Array.from({ length: count }, () => path)]
}

/**
 * @param {{ schedule: ScheduleName, limit?: number }} task
 * @param {(item: any) => Promise<unknown>} perform
 * @param {unknown[]} items
 */
async function timed({ schedule, limit = 0 }, perform, items) {
  const run = schedules[schedule]
  if (!run) throw new Error(`there is no schedule ${schedule}`)
  collectGarbage()
  const start = performance.now()
  await run(perform, items, limit)
  return performance.now() - start
}

main()
