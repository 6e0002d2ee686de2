'use strict'

// Appends to a file of JSON lines from several threads, until it is killed or told to stop. Says `<thread>
// <number>` after each append that has been acknowledged.
//
// Argument: { file, id, threads, options } as JSON.

const fs = require('node:fs')
const { Worker, isMainThread, workerData } = require('node:worker_threads')
const { openJsonLines } = require('../..')

const { file, id, threads, options } = JSON.parse(process.argv[2])

async function main(thread, stop) {
  const lines = await openJsonLines(file, options)
  for (let number = 0; Atomics.load(stop, 0) === 0; number++) {
    const count = 1 + (number % 4)
    const values = Array.from({ length: count }, (_, index) => ({ id, thread, number, index, count, pad: 'x'.repeat((number * 37 + index * 911) % 3000) }))
    await lines.append(values)
    say(`${thread} ${number}\n`)
  }
  await lines.close()
}

function say(text) {
  for (;;) {
    try {
      return fs.writeSync(1, text)
    } catch (error) {
      // The pipe is full: the reader has other things to do.
      if (error.code !== 'EAGAIN') throw error
    }
  }
}

if (isMainThread) {
  const stop = new Int32Array(new SharedArrayBuffer(4))
  for (let thread = 1; thread < threads; thread++) new Worker(__filename, { argv: process.argv.slice(2), workerData: { thread, stop } })
  process.stdin.on('data', () => Atomics.store(stop, 0, 1)).unref()
  main(0, stop)
} else {
  main(workerData.thread, workerData.stop)
}
