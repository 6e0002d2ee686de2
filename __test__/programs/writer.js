'use strict'

// Writes what it is told to, from threads that others can trace and do nothing else.
//
// Reads a line {do, …} at a time and answers each with a line:
// - threads: makes sure that holdfast's threads exist, and names them, and with `withSync` one
//   more, called `sync`;
// - write: atomicWrite on them, {done: true} or {error: {…}};
// - writeSync: the same by atomicWriteSync, on that thread.

const fs = require('node:fs')
const path = require('node:path')
const readline = require('node:readline')
const { setTimeout } = require('node:timers/promises')
const { Worker, isMainThread, workerData } = require('node:worker_threads')
const { atomicWrite, atomicWriteSync } = require('../../index.js')
const { content, ioThreads } = require('../system.js')

const plain = ({ name, code, syscall, attempts, committed, message }) => ({ name, code, syscall, attempts, committed, message })

if (isMainThread) listen()
else serve(workerData)

async function listen() {
  const warm = path.join(process.argv[2], 'warm')
  // 0: nothing to do, 1: something to do, 2: done. The worker sleeps on it, so it makes no system
  // calls of its own.
  const state = new Int32Array(new SharedArrayBuffer(4))
  const text = new Uint8Array(new SharedArrayBuffer(1 << 16))
  let sync
  const put = (value) => text.set(Buffer.from(`${JSON.stringify(value)}\n`))
  const take = () => JSON.parse(Buffer.from(text).toString().split('\n')[0])

  const answers = {
    async threads({ withSync }) {
      if (withSync && !sync) {
        const worker = new Worker(__filename, { workerData: { state, text } })
        sync = await new Promise((resolve) => worker.once('message', resolve))
      }
      // Threads that have nothing to do end after a while; these are fresh, and known when no
      // more of them come. (A thread that has just been started has no name yet.)
      for (let before; ; ) {
        await Promise.all([1, 2].map((name) => atomicWrite(`${warm}${name}`, 'warm', { durability: 'none' })))
        await setTimeout(5)
        const threads = fs.readdirSync('/proc/self/task').join()
        if (threads === before) return { io: ioThreads(process.pid), sync }
        before = threads
      }
    },
    async write({ path, seed, size, options }) {
      try {
        await atomicWrite(path, content(seed, size), options)
        return { done: true }
      } catch (error) {
        return { error: plain(error) }
      }
    },
    async writeSync(request) {
      put(request)
      Atomics.store(state, 0, 1)
      Atomics.notify(state, 0)
      // Asked for again and again: to be told, the worker would have to make a system call.
      while (Atomics.load(state, 0) === 1) await setTimeout(1)
      return take()
    },
  }
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const request = JSON.parse(line)
    console.log(JSON.stringify(await answers[request.do](request)))
  }
  process.exit()
}

function serve({ state, text }) {
  const thread = path.basename(fs.readlinkSync('/proc/thread-self'))
  require('node:worker_threads').parentPort.postMessage(thread)
  for (;;) {
    Atomics.wait(state, 0, 0)
    Atomics.wait(state, 0, 2)
    const { path, seed, size, options } = JSON.parse(Buffer.from(text).toString().split('\n')[0])
    const bytes = content(seed, size)
    let answer
    try {
      atomicWriteSync(path, bytes, options)
      answer = { done: true }
    } catch (error) {
      answer = { error: plain(error) }
    }
    text.set(Buffer.from(`${JSON.stringify(answer)}\n`))
    Atomics.store(state, 0, 2)
    Atomics.notify(state, 0)
  }
}
