'use strict'

// A process with worker threads that go through critical sections, as readers and as writers,
// and report to an observer when they enter and when they leave. The observer is the spec; it has a
// socket for each thread, which the system closes when the process is killed, and does not depend
// on the lock.
//
// Arguments: the locked file, the observer's address, and the number of threads.
// On standard input: `stop`, a line.

const net = require('node:net')
const { Worker, isMainThread, parentPort, workerData } = require('node:worker_threads')
const { acquireLock, tryAcquireLock, withLock } = require('../..')

/** How many calls of one thread want the lock at a time. */
const CONCURRENT_CALLS = 2

function main(file, address, threads) {
  const workers = Array.from({ length: Number(threads) }, () => new Worker(__filename, { workerData: { file, address } }))
  process.stdin.once('data', () => {
    for (const worker of workers) worker.postMessage('stop')
  })
  process.stdin.unref()
  Promise.all(workers.map((worker) => new Promise((resolve) => worker.once('exit', resolve)))).then(() => process.exit(0))
}

async function thread({ file, address }) {
  const socket = net.connect(address)
  await new Promise((resolve) => socket.once('connect', resolve))
  const waiting = new Map()
  let last = 0
  let rest = ''
  socket.setEncoding('utf8').on('data', (text) => {
    const lines = (rest + text).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) waiting.get(line)()
  })
  /** Sends a message to the observer, and waits for its answer. */
  const tell = (what, section) => new Promise((resolve) => {
    const id = `${++last}`
    waiting.set(id, () => (waiting.delete(id), resolve()))
    socket.write(`${id} ${process.pid} ${what} ${section}\n`)
  })
  let stopped = false
  parentPort.on('message', () => (stopped = true))
  let sections = 0

  const section = async (kind) => {
    const number = ++sections
    await tell(kind, number)
    const pause = Math.random()
    if (pause < 0.2) for (const end = performance.now() + Math.random(); performance.now() < end;);
    else if (pause < 0.5) await new Promise((resolve) => setImmediate(resolve))
    else if (pause < 0.6) await new Promise((resolve) => setTimeout(resolve, Math.random() * 3))
    await tell('leave', number)
  }
  const repeat = async () => {
    do {
      const kind = Math.random() < 0.7 ? 'read' : 'write'
      const way = Math.random()
      try {
        if (way < 0.5) await withLock(file, () => section(kind), { kind, timeout: Infinity })
        else if (way < 0.7) {
          const lock = await acquireLock(file, { kind, timeout: Infinity })
          await section(kind)
          await lock.release()
        } else if (way < 0.8) {
          const lock = await tryAcquireLock(file, { kind })
          if (lock) await section(kind)
          await lock?.release()
        } else {
          // A call that may give up, before or while it waits.
          const options = way < 0.9 ? { timeout: Math.random() * 20 } : { timeout: Infinity, signal: AbortSignal.timeout(Math.ceil(Math.random() * 20)) }
          await withLock(file, () => section(kind), { kind, ...options })
        }
      } catch (error) {
        if (error.code !== 'ELOCKED' && error.code !== 'ABORT_ERR') throw error
      }
    } while (!stopped || sections === 0)
  }
  await Promise.all(Array.from({ length: CONCURRENT_CALLS }, repeat))
  socket.end()
  parentPort.close()
}

if (isMainThread) main(...process.argv.slice(2))
else thread(workerData)
