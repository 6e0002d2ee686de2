'use strict'

// Scenarios of a process and its threads. argv[2] names the scenario, argv[3] its directory.
// A scenario prints its findings as a line of JSON. Its workers run this file too.

const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { once } = require('node:events')
const { setImmediate, setTimeout } = require('node:timers/promises')
const vm = require('node:vm')
const { Worker, isMainThread, parentPort, workerData } = require('node:worker_threads')
const { ioThreads, nameIn, signed, temps, printLine, outcomeOf } = require('../system.js')

const load = () => require('../../index.js')
const { scenario, dir } = isMainThread ? { scenario: process.argv[2], dir: process.argv[3] } : workerData
const target = path.join(dir, 'target')

const MiB = 1 << 20
/** Large enough to be caught in the middle of its write. */
const HUGE = 256 * MiB
/** Large enough to be referenced, not copied. */
const LARGE = 32 * MiB

/** Quick to make and to compare, and none of what other memory is filled with. */
const filled = (text, size = HUGE) => Buffer.alloc(size, text)
const pressure = (size = HUGE) => filled(Buffer.from([0xee]), size)

/** Waits until a write has put some of its bytes into its temp file, or `until` settles. */
async function underWay(until) {
  let isOver = false
  until?.finally(() => (isOver = true))
  while (!isOver && !temps(dir).some((name) => sizeOf(path.join(dir, name)) > 0)) await setTimeout(1)
}

function sizeOf(file) {
  try {
    return fs.statSync(file).size
  } catch {
    return 0 // It has just been renamed.
  }
}

/** Is what is there one of these? */
function isOneOf(...contents) {
  const found = fs.readFileSync(target)
  return contents.some((content) => found.equals(Buffer.from(content)))
}

const worker = (scenario, data = {}, options = {}) => new Worker(__filename, { ...options, workerData: { scenario, dir, ...data } })

/** Whether this thread, or process, can still do what it is for. */
async function stillWorks() {
  const file = path.join(dir, 'afterwards')
  await load().atomicWrite(file, 'well')
  assert.equal(fs.readFileSync(file, 'utf8'), 'well')
  fs.unlinkSync(file)
}

/** Reports holdfast's threads, and waits until the spec has made them slow. */
async function slowedDown() {
  for (let before; before !== (before = fs.readdirSync('/proc/self/task').join()); ) {
    await Promise.all([1, 2].map((name) => load().atomicWrite(path.join(dir, `warm-${name}`), 'warm', { durability: 'none' })))
    await setTimeout(5)
  }
  printLine({ io: ioThreads(process.pid) })
  await once(process.stdin, 'data')
  process.stdin.destroy()
}

/** Waits for the end of the writes of threads that have ended themselves. */
async function settled() {
  while (temps(dir).length > 0) await setTimeout(5)
}

/** Ways to take a Buffer's memory away. */
const takings = {
  clone: (bytes) => void structuredClone(bytes.buffer, { transfer: [bytes.buffer] }),
  worker: async (bytes) => {
    const other = worker('swallows')
    other.postMessage(bytes.buffer, [bytes.buffer])
    await once(other, 'exit')
  },
  resize: (bytes) => bytes.buffer.resize(0),
}

/** Small writes, each made by the holder of the lock. */
const underLock = {
  write: () => load().atomicWrite(target, '"write"'),
  lockedWrite: () => load().atomicWrite(target, '"locked write"', { lock: true }),
  update: () => load().updateJsonFile(target, () => 'update'),
  stream: () => once(load().createAtomicWriteStream(target, { lock: true }).end('"stream"'), 'close'),
  restore: () => load().restoreBackup(path.join(dir, 'source'), target),
  lockDir: () => load().atomicWrite(target, '"under a lock directory"'),
}

const protocolOf = (way) => (way === 'lockDir' ? 'proper-lockfile' : 'kernel')

const scenarios = {
  // -- What keeps a process alive -----------------------------------------------------------

  pendingLarge() {
    load().atomicWrite(target, filled('new', LARGE))
    process.on('exit', () => printLine({ isThere: isOneOf(filled('new', LARGE)) }))
  },

  pendingMany() {
    const { atomicWrite } = load()
    for (let i = 0; i < 500; i++) atomicWrite(path.join(dir, `file-${i % 50}`), `content ${i}`)
    process.on('exit', () => printLine({ last: fs.readFileSync(path.join(dir, 'file-49'), 'utf8'), files: fs.readdirSync(dir).length }))
  },

  pendingRetry() {
    // There is no room, and nothing else to do than to wait for the next attempt.
    load().atomicWrite(target, 'new', { retries: 3, retryDelay: 50 }).catch(({ code, attempts }) => printLine({ code, attempts }))
  },

  idle() {
    load().atomicWrite(target, 'new')
    // Threads that wait for work wait for seconds: if the process ends before them it has not
    // waited for them.
    process.on('exit', () => printLine({ threads: ioThreads(process.pid).length, isThere: isOneOf('new') }))
  },

  required() {
    load()
    process.on('exit', () => printLine({ threads: ioThreads(process.pid).length }))
  },

  // -- Ends in mid-write --------------------------------------------------------------------

  async exits() {
    load().atomicWrite(target, filled('new')).catch(() => {})
    await underWay()
    process.exit(7)
  },

  async exitsSlowly() {
    await slowedDown()
    load().atomicWrite(target, 'new').catch(() => {})
    while (temps(dir).length === 0) await setTimeout(1)
    process.exit(7)
  },

  async exitsWithMany() {
    for (let i = 0; i < 3000; i++) load().atomicWrite(path.join(dir, `file-${i % 60}`), signed(`${i}`, 100 + i)).catch(() => {})
    while (fs.readdirSync(dir).length < 20) await setImmediate()
    process.exit(7)
  },

  async throws() {
    load().atomicWrite(target, filled('new')).catch(() => {})
    await underWay()
    process.nextTick(() => {
      throw new Error('not caught')
    })
  },

  async rejects() {
    load().atomicWrite(target, filled('new')).catch(() => {})
    await underWay()
    Promise.reject(new Error('not caught'))
  },

  async exitsWithWorkers() {
    const workers = Array.from({ length: 8 }, (_, number) => worker('writesForEver', { number }))
    await Promise.all(workers.map((each) => once(each, 'message')))
    process.exit(7)
  },

  // -- Threads that end in mid-write --------------------------------------------------------

  async terminated() {
    let largest = 0
    for (let round = 1; round <= 3; round++) {
      const thread = worker('writesHuge', { text: `round ${round}` })
      await underWay()
      largest = Math.max(largest, ...temps(dir).map((name) => sizeOf(path.join(dir, name))))
      await thread.terminate()
      // A thread that still read the freed memory would find this there, or crash.
      pressure()
      await settled()
      assert.ok(isOneOf(`old ${round - 1}`, filled(`round ${round}`)), `round ${round}: torn`)
      fs.writeFileSync(target, `old ${round}`)
    }
    await stillWorks()
    printLine({ largest })
  },

  async terminatedSlowly() {
    await slowedDown()
    const thread = worker('writesHuge', { text: 'new', size: LARGE })
    while (temps(dir).length === 0) await setTimeout(1)
    // The temp file is there, and its first write still to come.
    await thread.terminate()
    const reused = Array.from({ length: 20 }, () => pressure(LARGE))
    await settled()
    printLine({ reused: reused.length, isWhole: isOneOf('old 0', filled('new', LARGE)) })
  },

  async terminatedUnderLock() {
    await slowedDown()
    const left = {}
    for (const way of Object.keys(underLock)) {
      const thread = worker('worksUnderLock', { way })
      const ended = once(thread, 'exit')
      // A thread of holdfast's that was not slowed down may be done with it already.
      await underWay(ended)
      // What is not on its way to its rename by now is not made at all.
      await setTimeout(50)
      await thread.terminate()
      await load().withLock(target, () => void (left[way] = temps(dir).length), { timeout: 60_000, protocol: protocolOf(way) })
    }
    printLine(left)
  },

  async terminatedBetweenAttempts() {
    for (let round = 0; round < 5; round++) {
      const thread = worker('retriesHuge')
      await once(thread, 'message')
      await thread.terminate()
      pressure(LARGE)
    }
    // Until the attempts would have been made.
    await setTimeout(400)
    printLine({ files: fs.readdirSync(dir) })
  },

  async terminatedAmongOthers() {
    const { atomicWrite } = load()
    for (let round = 0; round < 3; round++) {
      const first = outcomeOf(atomicWrite(target, filled('first', 4 * LARGE)))
      await underWay()
      // It waits behind the first; its memory is gone before it is written.
      const thread = worker('writesHuge', { text: 'second', size: LARGE, waits: true })
      await once(thread, 'message')
      const third = outcomeOf(atomicWrite(target, filled('third', 2 * MiB)))
      await thread.terminate()
      pressure(LARGE)
      assert.deepEqual([await first, await third], ['resolved', 'resolved'])
      assert.ok(isOneOf(filled('third', 2 * MiB)))
    }
    await settled()
    printLine({ files: fs.readdirSync(dir) })
  },

  async workerExits() {
    const thread = worker('writesHuge', { text: 'new', exits: 3 })
    const [code] = await once(thread, 'exit')
    pressure()
    await settled()
    assert.ok(isOneOf('old 0', filled('new')))
    await stillWorks()
    printLine({ code })
  },

  async fifty() {
    const codes = {}
    for (let round = 0; round < 3; round++) {
      await Promise.all(Array.from({ length: 50 }, async (_, number) => {
        const thread = worker('writesForEver', { number, name: `${round}-${number}`, writes: number % 3 === 0 ? 5 : Infinity })
        const exit = once(thread, 'exit')
        if (number % 3 === 1) await once(thread, 'message')
        if (number % 3 !== 0) await Promise.race([exit, setTimeout(number * 10).then(() => thread.terminate())])
        const [code] = await exit
        codes[code] = (codes[code] ?? 0) + 1
      }))
    }
    await settled()
    const files = fs.readdirSync(dir).filter((name) => name.startsWith('shared-'))
    for (const name of files) nameIn(fs.readFileSync(path.join(dir, name)))
    await stillWorks()
    printLine({ codes, files: files.length })
  },

  // -- Memory that goes in mid-write --------------------------------------------------------

  async taken() {
    const { atomicWrite } = load()
    const outcomes = {}
    for (const [name, take] of Object.entries(takings)) {
      for (let round = 0; round < 2; round++) {
        const before = fs.readFileSync(target)
        const bytes = new Uint8Array(name === 'resize' ? new ArrayBuffer(4 * LARGE, { maxByteLength: 4 * LARGE }) : new ArrayBuffer(4 * LARGE)).fill(0x61)
        const result = outcomeOf(atomicWrite(target, bytes))
        await Promise.race([underWay(), result])
        await take(bytes)
        globalThis.gc()
        if (round === 0) pressure(4 * LARGE)
        const came = await result
        outcomes[name] = [...new Set([...(outcomes[name] ?? []), came])]
        // Which bytes these are is not promised; but it is one file or the other.
        if (came === 'resolved') assert.equal(fs.statSync(target).size, 4 * LARGE)
        else assert.ok(isOneOf(before))
        assert.deepEqual(temps(dir), [])
        fs.writeFileSync(target, 'old again')
        await stillWorks()
      }
    }
    printLine(outcomes)
  },

  async changed() {
    const { atomicWrite } = load()
    const bytes = filled('a', 4 * LARGE)
    const result = atomicWrite(target, bytes)
    await underWay()
    bytes.fill('b')
    await result
    const found = fs.readFileSync(target)
    let others = 0
    for (let i = 0; i < found.length; i++) if (found[i] !== 0x61 && found[i] !== 0x62) others++
    printLine({ size: found.length, others })
  },

  async forgotten() {
    const { atomicWrite } = load()
    const writes = []
    for (let i = 0; i < 60; i++) {
      // Only holdfast has a reference to these Buffers.
      writes.push(atomicWrite(path.join(dir, `file-${i}`), filled(`content ${i} `, 3 * MiB)))
      globalThis.gc()
      filled(Buffer.from([0xee]), 3 * MiB)
    }
    await Promise.all(writes)
    const wrong = writes.filter((_, i) => !fs.readFileSync(path.join(dir, `file-${i}`)).equals(filled(`content ${i} `, 3 * MiB)))
    printLine({ wrong: wrong.length })
  },

  // -- Exit handlers ------------------------------------------------------------------------

  async savesAtExit() {
    const { atomicWrite, atomicWriteSync } = load()
    const how = process.argv[4]
    process.on('exit', (code) => {
      for (const durability of ['none', 'full']) atomicWriteSync(path.join(dir, `saved-${durability}`), `${how} ${code}`, { durability })
      // Its outcome is never known; it must do no harm.
      atomicWrite(path.join(dir, 'too-late'), 'data')
    })
    if (how.includes('pending')) {
      for (let i = 0; i < 200; i++) atomicWrite(path.join(dir, `file-${i}`), signed(`${i}`, 3000)).catch(() => {})
      atomicWrite(target, filled('new', 4 * LARGE)).catch(() => {})
      await underWay()
    }
    if (how.includes('exit')) process.exit(5)
    if (how.includes('throw')) throw new Error('not caught')
  },

  // -- Environments -------------------------------------------------------------------------

  async contexts() {
    const context = { require, target, Buffer: undefined }
    const result = await vm.runInNewContext(`
      const { atomicWrite, atomicWriteJson } = require('../../index.js')
      ;(async () => {
        const seen = []
        await atomicWrite(target, new Uint8Array([110, 101, 119]), { durability: 'none' })
        seen.push(require('node:fs').readFileSync(target, 'utf8'))
        await atomicWriteJson(target, { of: ['another', 'realm'] }, { indent: 1 })
        seen.push(JSON.parse(require('node:fs').readFileSync(target, 'utf8')).of.join())
        await atomicWrite(target + '/below', 'new').catch((error) => seen.push(error.code))
        return seen
      })()
    `, context)
    printLine([...result])
  },

  async loadedByMany() {
    // No thread has loaded it before, and all do at once.
    for (let round = 0; round < 3; round++) {
      const threads = Array.from({ length: 8 }, (_, number) => worker('writesForEver', { number, writes: 3, name: `${round}-${number}` }))
      const codes = await Promise.all(threads.map((thread) => once(thread, 'exit')))
      assert.ok(codes.every(([code]) => code === 0), codes.join())
    }
    await stillWorks()
    printLine({ done: true })
  },

  async outlived() {
    // The last thread that has loaded the addon ends, and with it Node may unload the addon;
    // threads of holdfast are still there, at work or waiting for some.
    for (let round = 0; round < 15; round++) {
      const thread = worker('writesForEver', { number: round, name: `${round}`, writes: round % 2 ? 3 : Infinity })
      await (round % 2 ? once(thread, 'exit') : once(thread, 'message').then(() => thread.terminate()))
    }
    while (ioThreads(process.pid).length > 0) await setTimeout(100)
    await settled()
    await once(worker('writesForEver', { number: 0, name: 'after', writes: 3 }), 'exit')
    printLine({ done: true })
  },

  // -- What workers do ----------------------------------------------------------------------

  async writesHuge({ text, size = HUGE, exits, waits }) {
    const write = load().atomicWrite(target, filled(text, size))
    if (waits) return parentPort.postMessage('asked')
    if (exits !== undefined) {
      await underWay()
      process.exit(exits)
    }
    await write
  },

  async worksUnderLock({ way }) {
    for (const name of ['source', 'target']) fs.writeFileSync(path.join(dir, name), `"${name}"`)
    await load().withLock(target, underLock[way], { protocol: protocolOf(way) })
  },

  async retriesHuge() {
    const logger = { debug() {}, error() {}, warn: () => parentPort.postMessage('failed once') }
    await load().atomicWrite(target, filled('new', LARGE), { retries: 5, retryDelay: 100, logger })
  },

  async writesForEver({ number, name = 'name', writes = Infinity }) {
    const { atomicWrite } = load()
    for (let i = 0; i < writes; i++) {
      const size = [100, 9000, 2 * MiB][(i + number) % 3]
      await atomicWrite(path.join(dir, `shared-${(i + number) % 5}`), signed(`${name}-${i}`, size), { durability: i % 2 ? 'none' : 'full' })
      if (i === 0) parentPort.postMessage('written')
    }
  },

  swallows() {
    parentPort.once('message', () => process.exit())
  },
}

scenarios[scenario](workerData ?? {})
