'use strict'

// Scenarios with a write-ahead log. argv[2] names the scenario, argv[3] the directory of the log, argv[4]
// has more, as JSON. What a scenario finds out it prints, as lines of JSON. Its workers run this
// file too.

const { setFlagsFromString } = require('node:v8')
const { runInNewContext } = require('node:vm')
const fs = require('node:fs')
const { setTimeout } = require('node:timers/promises')
const { Worker, isMainThread, parentPort, workerData } = require('node:worker_threads')
const { openWal } = require('../../index.js')
const { ioThreads, printLine, outcomeOf } = require('../system.js')
const { batch } = require('../wal-batches.js')

const { scenario, dir, settings } = isMainThread ? { scenario: process.argv[2], dir: process.argv[3], settings: JSON.parse(process.argv[4] ?? '{}') } : workerData

const line = () => new Promise((resolve) => process.stdin.once('data', (text) => resolve(String(text))))

const scenarios = {
  /** Producers that append for ever, and say of each batch when it is acknowledged. */
  async produces({ round, producers, options }) {
    const wal = await openWal(dir, options)
    printLine(wal.damage.map(({ kind, file, offset, length }) => ({ kind, file, offset, length })))
    await Promise.all(Array.from({ length: producers }, async (_, producer) => {
      for (let number = 1; ; number++) {
        const sequences = await wal.append(`c${producer % 2}`, batch(round, producer, number))
        printLine([producer, number, String(sequences[0])])
      }
    }))
  },

  /** Appends to a disk that has little room, until there is none; goes on when there is some. */
  async fillsDisk({ options }) {
    const wal = await openWal(dir, options)
    let number = 1
    let failure
    const acknowledged = []
    const refused = []
    for (; !failure; number++) {
      const append = wal.append('c0', batch(1, 0, number, 20, 4000))
      await append.then(() => acknowledged.push(number), (error) => {
        failure = { code: error.code, syscall: error.syscall, operation: error.operation, class: error.constructor.name }
        refused.push(number)
      })
    }
    const shown = new Set(Array.from(wal.entries('c0'), ({ id }) => Number(id.split('.')[2])))
    printLine({ failure, acknowledged, refused, shown: [...shown], poisoned: wal.stats().poisoned })
    await line()
    for (; acknowledged.length < 5 || refused.at(-1) > acknowledged.at(-1); number++) {
      await wal.append('c0', batch(1, 0, number, 20, 4000)).then(() => acknowledged.push(number), () => refused.push(number))
    }
    printLine({ acknowledged, refused, poisoned: wal.stats().poisoned, close: await outcomeOf(wal.close()) })
    process.exit()
  },

  /** Appends, and goes on when every sync fails. */
  async poisons({ options }) {
    const wal = await openWal(dir, options)
    await wal.append('c0', batch(2, 0, 1))
    printLine({ io: ioThreads(process.pid) })
    await line()
    const codes = []
    for (let number = 2; number <= 200 && !codes.includes('EWALPOISONED'); number++) {
      codes.push(await outcomeOf(wal.append('c0', batch(2, 0, number))))
      if (options.syncMode === 'periodic') await setTimeout(5)
    }
    printLine({
      codes: [...new Set(codes)],
      shown: new Set(Array.from(wal.entries('c0'), ({ id }) => id.split('.').slice(0, 3).join('.'))).size,
      acknowledged: 2 + codes.filter((code) => code === 'resolved').length,
      flush: await outcomeOf(wal.flush()),
      checkpoint: await outcomeOf(wal.checkpoint('c0', 1n)),
      poisoned: wal.stats().poisoned,
      close: await outcomeOf(wal.close()),
    })
    process.exit()
  },

  /** A log that is open does not keep the process alive. */
  async idles() {
    const wal = await openWal(dir)
    await wal.append('c0', batch(1, 0, 1))
    globalThis.wal = wal
    for await (const entry of wal.replay('c0')) if (entry) break
    const replay = wal.replay('c0')
    await replay.next()
    globalThis.replay = replay
    printLine('idle')
  },

  /** Pending calls complete before the process ends, though none is awaited. */
  async leaves() {
    const wal = await openWal(dir)
    for (let number = 1; number <= 50; number++) wal.append('c0', batch(1, 0, number)).then(() => printLine(number))
  },

  /** The process ends in mid-append. */
  async exits() {
    const wal = await openWal(dir)
    for (let number = 1; number <= 200; number++) {
      wal.append('c0', batch(1, 0, number)).then(() => {
        printLine(number)
        if (number === 20) process.exit(3)
      })
    }
  },

  /** Threads end in mid-append, and the next one has the log. */
  async terminates({ rounds }) {
    for (let round = 1; round <= rounds; round++) {
      const acknowledged = new Int32Array(new SharedArrayBuffer(16))
      const worker = new Worker(__filename, { workerData: { scenario: 'appends', dir, settings: { round, acknowledged } } })
      worker.on('error', (error) => printLine({ error: String(error) }))
      while (Atomics.load(acknowledged, 0) < 3) await setTimeout(1)
      await setTimeout(round % 7)
      await worker.terminate()
      printLine([round, ...acknowledged])
    }
    const wal = await openWal(dir)
    await wal.append('c0', batch(rounds + 1, 0, 1))
    await wal.close()
    printLine('closed')
  },

  async appends({ round, acknowledged }) {
    const wal = await openWal(dir)
    await Promise.all([0, 1, 2, 3].map(async (producer) => {
      for (let number = 1; ; number++) {
        await wal.append(`c${producer % 2}`, batch(round, producer, number))
        Atomics.store(acknowledged, producer, number)
      }
    }))
  },

  /** Reads beside a writer, and says what it has seen. */
  async reads({ collection, times }) {
    const reader = await openWal(dir, { readOnly: true })
    for (let time = 0; time < times; time++) {
      const seen = []
      for await (const { sequence, id } of reader.replay(collection)) seen.push([Number(sequence), id])
      printLine(seen)
      await setTimeout(20)
    }
    await reader.close()
  },

  /** Many entries, written, read again and counted, with the memory that it took. */
  async counts({ entries, bytes, phase }) {
    const peak = () => process.resourceUsage().maxRSS * 1024
    // When V8 looks for garbage depends on how fast the machine is; the peak is to be of what is kept.
    setFlagsFromString('--expose-gc')
    const collectGarbage = runInNewContext('gc')
    const begun = performance.now()
    const wal = await openWal(dir, { memtable: false, syncMode: 'never' })
    const opened = performance.now()
    if (phase === 'write') {
      const payload = Buffer.alloc(bytes, 'p')
      for (let i = 0; i < entries; i += 1000) {
        await wal.append('c0', Array.from({ length: 1000 }, (_, j) => ({ id: `id-${i + j}`, op: 'insert', payload })))
      }
    } else {
      let next = 1n
      for await (const { sequence, id, payload } of wal.replay('c0')) {
        if (sequence !== next || id !== `id-${next - 1n}` || payload.length !== bytes) throw new Error(`${sequence} ${id} is not ${next}`)
        next++
        if (next % 10_000n === 0n) collectGarbage()
      }
      if (next !== BigInt(entries) + 1n) throw new Error(`there are ${next - 1n} entries`)
    }
    const done = performance.now()
    if (phase !== 'killed') await wal.close()
    printLine({ open: opened - begun, work: done - opened, peak: peak(), damage: wal.damage.length })
    if (phase === 'killed') process.kill(process.pid, 'SIGKILL')
  },
}

scenarios[scenario](settings)
if (!isMainThread) parentPort.unref()
