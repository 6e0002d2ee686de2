'use strict'

/**
 * The process of one contestant. It gets tasks from the suite and answers each with the
 * milliseconds it took.
 */

const { filePath, payload } = require('./payload.js')
const { runs } = require('./runs.js')

/** @typedef {import('./crew.js').Task} Task */

const collectGarbage = /** @type {() => void} */ (global.gc)

/** @param {Task} task */
function workOf({ dir, prefix, count, size, round, onePath }) {
  return Array.from({ length: count }, (_, index) => ({
    path: filePath(dir, onePath ? 0 : index, prefix),
    data: payload(round, index, size),
  }))
}

/** @param {() => Promise<unknown>} run */
async function timed(run) {
  collectGarbage()
  const start = performance.now()
  await run()
  return performance.now() - start
}

async function main() {
  const [, , module, options] = process.argv
  const contestant = await require(/** @type {string} */ (module)).open(JSON.parse(options ?? '{}'))
  const send = (/** @type {object} */ message) => process.connected && process.send?.(message)
  process.on('disconnect', () => process.exit())
  process.on('message', async (/** @type {any} */ task) => {
    try {
      if (task.log) return send(await contestant[task.log](task))
      const milliseconds = task.increment
        ? await timed(() => increments(contestant, task))
        : await timed(prepared(contestant, task))
      send({ milliseconds })
    } catch (error) {
      send({ error: String(/** @type {Error} */ (error)?.stack ?? error) })
    }
  })
  send({ ready: contestant !== undefined })
}

/** @param {any} contestant @param {Task} task */
function prepared(contestant, task) {
  const work = workOf(task)
  const run = runs[task.run]
  if (!run) throw new Error(`no run is called ${task.run}`)
  return () => run(contestant.write, work, task.limit ?? 0)
}

/** @param {any} contestant @param {{ path: string, count: number, increment: 'oneByOne' | 'atOnce' }} task */
async function increments(contestant, { path, count, increment }) {
  if (increment === 'atOnce') return Promise.all(Array.from({ length: count }, () => contestant.increment(path)))
  for (let index = 0; index < count; index++) await contestant.increment(path)
}

main()
