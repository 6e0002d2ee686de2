'use strict'

// A process with two worker threads that go through critical sections, and check that no other
// thread is in one at the same time. The check does not rely on the lock, and survives a kill at
// any moment: a thread inside writes one record into a file, the last thread to enter and the
// number of sections that were left, and must find it unchanged afterwards.
//
// Arguments: the directory, and each thread's slot in the progress file.
// Messages: `stop`, and `{ terminate, slot }`: the thread to end, and the slot of the one that
// replaces it.

const fs = require('node:fs')
const path = require('node:path')
const { Worker, isMainThread, parentPort, workerData } = require('node:worker_threads')
const { acquireLock, tryAcquireLock, withLock } = require('../..')

/** How many calls of one thread want the lock at a time. */
const CONCURRENT_CALLS = 2

function main([dir, ...slots]) {
  const start = (slot) => new Worker(__filename, { workerData: { dir, slot: Number(slot) } })
  const threads = slots.map(start)
  let stopped = false
  process.on('message', async (message) => {
    if (message === 'stop') {
      stopped = true
      for (const thread of threads) thread.postMessage('stop')
      return process.disconnect()
    }
    const { terminate, slot } = message
    await threads[terminate].terminate()
    threads[terminate] = start(slot)
    if (stopped) threads[terminate].postMessage('stop')
  })
}

async function thread({ dir, slot }) {
  const file = path.join(dir, 'file')
  const occupant = fs.openSync(path.join(dir, 'occupant'), 'r+')
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
    fs.readSync(occupant, record, 0, 16, 0)
    return { id: record.readBigUInt64LE(0), count: record.readBigUInt64LE(8) }
  }
  const write = (id, count) => {
    const record = Buffer.alloc(16)
    record.writeBigUInt64LE(id, 0)
    record.writeBigUInt64LE(count, 8)
    fs.writeSync(occupant, record, 0, 16, 0)
  }
  const check = (when, id, count) => {
    const found = read()
    if (found.id === id && found.count === count) return
    const violation = `${when}: I am ${id} and have counted ${count}, but found ${found.id} and ${found.count}\n`
    fs.appendFileSync(path.join(dir, 'violations'), violation)
  }
  const section = async () => {
    const id = (BigInt(slot + 1) << 32n) + BigInt(++entered)
    const { count } = read()
    write(id, count)
    const pause = Math.random()
    if (pause < 0.3) for (const end = performance.now() + Math.random(); performance.now() < end;);
    else if (pause < 0.6) await new Promise((resolve) => setImmediate(resolve))
    else if (pause < 0.7) await new Promise((resolve) => setTimeout(resolve, Math.random() * 3))
    check('after a while', id, count)
    write(id, count + 1n)
    check('at the end', id, count + 1n)
    const record = Buffer.alloc(8)
    record.writeBigUInt64LE(++left)
    fs.writeSync(progress, record, 0, 8, 8 * slot)
  }
  const repeat = async () => {
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
  await Promise.all(Array.from({ length: CONCURRENT_CALLS }, repeat))
}

if (isMainThread) main(process.argv.slice(2))
else thread(workerData)
