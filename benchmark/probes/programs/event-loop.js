'use strict'

/**
 * `event-loop.js <implementation> <options> <dir> <seconds>`: the 99th percentile of the event
 * loop's delay in milliseconds, idle and while 200 MiB go out in 1 MiB Buffers, all begun at
 * once, again and again for that long.
 */

const { monitorEventLoopDelay } = require('node:perf_hooks')
const { setTimeout: sleep } = require('node:timers/promises')
const { filePath, payload } = require('../../harness/payload.js')

const COUNT = 200
const SIZE = 1 << 20

/** @param {() => Promise<unknown>} work */
async function delayDuring(work) {
  const histogram = monitorEventLoopDelay({ resolution: 1 })
  histogram.enable()
  // What comes before its first tick would not be counted.
  await sleep(10)
  await work()
  await sleep(10)
  histogram.disable()
  return histogram.percentile(99) / 1e6
}

async function main() {
  const [, , module = '', options = '{}', dir = '', seconds = '1'] = process.argv
  const { write } = await require(`../../peers/writes/${module}.js`).open(JSON.parse(options))
  const files = Array.from({ length: COUNT }, (_, index) => ({ path: filePath(dir, index), data: payload(0, index, SIZE) }))
  const writeAll = () => Promise.all(files.map(({ path, data }) => write(path, data)))

  await writeAll()
  const milliseconds = Number(seconds) * 1000
  const idle = await delayDuring(() => sleep(milliseconds))
  const busy = await delayDuring(async () => {
    const end = performance.now() + milliseconds
    do await writeAll()
    while (performance.now() < end)
  })
  console.log(JSON.stringify({ idle, busy }))
}

main()
