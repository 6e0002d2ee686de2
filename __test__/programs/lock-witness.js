'use strict'

// A process with two worker threads that go through critical sections, and watch whether
// anybody else is in one at the same time. The watching does not rely on the lock, and
// survives a kill at any moment: it is one record in a file, who was the last to enter and how
// often anybody has left, that whoever is inside writes, and finds unchanged afterwards.
//
// Arguments: the directory, and the number of each thread's place in the file of progress.
// Messages: `stop`, and `{ terminate, place }`: the thread to end, and the place of the one
// that takes over from it.

const fs = require('node:fs')
const path = require('node:path')
const { Worker, isMainThread, parentPort, workerData } = require('node:worker_threads')
const { acquireLock, tryAcquireLock, withLock } = require('../..')

/** How many calls of one thread ask for the lock at a time. */
const LANES = 2

function main([dir, ...places]) {
  const start = (place) => new Worker(__filename, { workerData: { dir, place: Number(place) } })
  const threads = places.map(start)
  let stopped = false
  process.on('message', async (message) => {
    if (message === 'stop') {
      stopped = true
      for (const thread of threads) thread.postMessage('stop')
      return process.disconnect()
    }
    const { terminate, place } = message
    await threads[terminate].terminate()
    threads[terminate] = start(place)
    if (stopped) threads[terminate].postMessage('stop')
  })
}

async function thread({ dir, place }) {
  const file = path.join(dir, 'file')
  const witness = fs.openSync(path.join(dir, 'witness'), 'r+')
  const progress = fs.openSync(path.join(dir, 'progress'), 'r+')
  let entered = 0
  let left = 0n
  let stopped = false
  parentPort.on('message', () => {
    stopped = true
    parentPort.close()
  })

  const read = () => {
    const record = Buffer.alloc(16)
    fs.readSync(witness, record, 0, 16, 0)
    return { id: record.readBigUInt64LE(0), count: record.readBigUInt64LE(8) }
  }
  const write = (id, count) => {
    const record = Buffer.alloc(16)
    record.writeBigUInt64LE(id, 0)
    record.writeBigUInt64LE(count, 8)
    fs.writeSync(witness, record, 0, 16, 0)
  }
  const look = (when, id, count) => {
    const found = read()
    if (found.id === id && found.count === count) return
    const complaint = `${when}: I am ${id} and have counted ${count}, but found ${found.id} and ${found.count}\n`
    fs.appendFileSync(path.join(dir, 'violations'), complaint)
  }
  const section = async () => {
    const id = (BigInt(place + 1) << 32n) + BigInt(++entered)
    const { count } = read()
    write(id, count)
    const pause = Math.random()
    if (pause < 0.3) for (const end = performance.now() + Math.random(); performance.now() < end;);
    else if (pause < 0.6) await new Promise((resolve) => setImmediate(resolve))
    else if (pause < 0.7) await new Promise((resolve) => setTimeout(resolve, Math.random() * 3))
    look('after a while', id, count)
    write(id, count + 1n)
    look('at the end', id, count + 1n)
    const record = Buffer.alloc(8)
    record.writeBigUInt64LE(++left)
    fs.writeSync(progress, record, 0, 8, 8 * place)
  }
  const lane = async () => {
    do {
      const way = Math.random()
      if (way < 0.7) await withLock(file, section, { timeout: Infinity })
      else {
        const lock = way < 0.9 ? await acquireLock(file, { timeout: Infinity }) : await tryAcquireLock(file)
        if (!lock) continue
        await section()
        await lock.release()
      }
    } while (!stopped || left === 0n)
  }
  await Promise.all(Array.from({ length: LANES }, lane))
}

if (isMainThread) main(process.argv.slice(2))
else thread(workerData)
