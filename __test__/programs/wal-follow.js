'use strict'

// Programs that follow a write-ahead log. argv[2] names the scenario, argv[3] the directory of the log,
// argv[4] has more, as JSON. Workers run this file too.

const { once } = require('node:events')
const path = require('node:path')
const { setTimeout } = require('node:timers/promises')
const { Worker, isMainThread, parentPort, workerData } = require('node:worker_threads')
const { openWal } = require('../../index.js')
const { printLine } = require('../system.js')
const { batch } = require('../wal-batches.js')

const { scenario, dir, settings } = isMainThread ? { scenario: process.argv[2], dir: process.argv[3], settings: JSON.parse(process.argv[4] ?? '{}') } : workerData

const follow = async (options) => (await openWal(dir, { readOnly: true })).follow('a', options)

const scenarios = {
  /** Says which entries come, until the last of them. */
  async prints({ last }) {
    for await (const { sequence, id } of await follow()) {
      printLine([Number(sequence), id])
      if (id === last) break
    }
  },

  /** Says where a consumer begins, and what it is given and has acknowledged, one by one. */
  async consumes({ name }) {
    const reader = await openWal(dir, { readOnly: true })
    const consumer = await reader.consumer(name, 'a')
    printLine({ position: Number(consumer.position) })
    for await (const { sequence } of consumer.follow()) {
      await consumer.ack(sequence)
      printLine({ given: Number(sequence), acked: Number(consumer.position) })
    }
  },

  /** Appends for ever, and backs the log up again and again meanwhile. */
  async backsUp({ round }) {
    const wal = await openWal(dir, { segmentSize: 30_000 })
    const acknowledged = [0, 0]
    const produce = async (producer) => {
      for (let number = 1; ; number++) {
        await wal.append(`c${producer}`, batch(round, producer, number))
        acknowledged[producer] = number
      }
    }
    produce(0)
    produce(1)
    for (let number = 1; ; number++) {
      const name = `copy-${round}-${number}`
      printLine({ begins: name, acknowledged: [...acknowledged] })
      await wal.backup(path.join(dir, '..', name))
      printLine({ made: name })
    }
  },

  /** Nothing waits, so the process ends. */
  async rests() {
    const followed = await follow()
    await followed.next()
    globalThis.followed = followed
    printLine('rests')
  },

  /** It is left in every way there is, each while a step waits, and then the process ends. */
  async leaves() {
    const returned = await follow()
    const waits = returned.next()
    await setTimeout(settings.pause)
    await returned.return()
    printLine(await waits)

    const controller = new AbortController()
    const aborted = await follow({ signal: controller.signal })
    const rejects = aborted.next()
    await setTimeout(settings.pause)
    controller.abort()
    printLine(await rejects.catch((error) => error.name))
    printLine(await aborted.next())

    const reader = await openWal(dir, { readOnly: true })
    const closed = reader.follow('a').next()
    await setTimeout(settings.pause)
    await reader.close()
    printLine(await closed)

    const wal = await openWal(dir)
    const within = wal.follow('a').next()
    await setTimeout(settings.pause)
    await wal.close()
    printLine(await within)
  },

  /** A thread ends while it waits, and the process goes on. */
  async terminates() {
    const worker = new Worker(__filename, { workerData: { scenario: 'waits', dir, settings } })
    await once(worker, 'message')
    await setTimeout(settings.pause)
    await worker.terminate()
    const wal = await openWal(dir)
    await wal.append('a', [{ id: 'x', op: 'insert', payload: '' }])
    await wal.close()
    printLine('closed')
  },

  async waits() {
    const followed = await follow()
    followed.next()
    if (isMainThread) {
      printLine('waits')
      process.stdin.once('data', () => process.exit(7))
    } else parentPort.postMessage('waits')
  },
}

scenarios[scenario](settings)
