'use strict'

/**
 * `metrics.js <contestant> <options> <dir> <listens> <count>`: microseconds per write of 1 KiB,
 * one by one, while somebody listens to nothing, to `traces` or to `steps`, or reads `figures`
 * after each tenth write.
 */

const diagnostics = require('node:diagnostics_channel')
const { metrics } = require('../../..')
const { filePath } = require('../../payload.js')

const FILES = 50

let heard = 0
const listen = () => void heard++
/** @type {Record<string, () => void>} */
const subscriptions = {
  nothing() {},
  figures() {},
  traces: () => diagnostics.tracingChannel('holdfast:write').subscribe({ start: listen, end: listen, asyncStart: listen, asyncEnd: listen, error: listen }),
  steps: () => diagnostics.subscribe('holdfast:write:step', listen),
}

async function main() {
  const [, , module = '', options = '{}', dir = '', listens = '', count = ''] = process.argv
  const { write } = await require(`../../contestants/${module}.js`).open(JSON.parse(options))
  const data = Buffer.alloc(1024, 1)
  const run = async (/** @type {number} */ writes) => {
    for (let index = 0; index < writes; index++) {
      await write(filePath(dir, index % FILES), data)
      if (listens === 'figures' && index % 10 === 0) heard += metrics().writes.attempts
    }
  }
  subscriptions[listens]?.()
  await run(Number(count))
  const start = performance.now()
  await run(Number(count))
  const microseconds = ((performance.now() - start) * 1000) / Number(count)
  if ((heard > 0) !== (listens !== 'nothing')) throw new Error(`${heard} heard of ${listens}`)
  console.log(JSON.stringify({ microseconds }))
}

main()
