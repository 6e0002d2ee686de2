'use strict'

/**
 * `metrics.js <implementation> <options> <dir> <listener> <count>`: microseconds per write of 1 KiB,
 * one by one: with `none` listening, with a subscriber to the `traces` or the `steps`, or with
 * metrics() called after each tenth write (`snapshots`).
 */

const diagnostics = require('node:diagnostics_channel')
const { metrics } = require('../../..')
const { filePath } = require('../../harness/payload.js')

const FILES = 50

let events = 0
const listen = () => void events++
/** @type {Record<string, () => void>} */
const subscriptions = {
  none() {},
  snapshots() {},
  traces: () => diagnostics.tracingChannel('holdfast:write').subscribe({ start: listen, end: listen, asyncStart: listen, asyncEnd: listen, error: listen }),
  steps: () => diagnostics.subscribe('holdfast:write:step', listen),
}

async function main() {
  const [, , module = '', options = '{}', dir = '', listener = '', count = ''] = process.argv
  const { write } = await require(`../../peers/writes/${module}.js`).open(JSON.parse(options))
  const data = Buffer.alloc(1024, 1)
  const run = async (/** @type {number} */ writes) => {
    for (let index = 0; index < writes; index++) {
      await write(filePath(dir, index % FILES), data)
      if (listener === 'snapshots' && index % 10 === 0) events += metrics().writes.attempts
    }
  }
  subscriptions[listener]?.()
  await run(Number(count))
  const start = performance.now()
  await run(Number(count))
  const microseconds = ((performance.now() - start) * 1000) / Number(count)
  if ((events > 0) !== (listener !== 'none')) throw new Error(`${events} events of ${listener}`)
  console.log(JSON.stringify({ microseconds }))
}

main()
