// An outbox: orders are written to a log by one process, and sent on by another, at least once each.
//
// The story: a service kept a list of events to send in memory, and its worker took them from there. When
// either was killed, events were gone, or sent for ever. Here an order is acknowledged when it is on the
// disk, and the worker acknowledges it when it has been sent. Nothing is released before that.
//
//   node examples/outbox.mjs
//
// takes orders, kills the worker again and again, and looks whether every order was sent.

import { spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import readline from 'node:readline'
import { fileURLToPath } from 'node:url'
import { openWal } from 'holdfast'

const ORDERS = 300
const COLLECTION = 'orders'

/** @typedef {{ item: string, count: number }} Order */

/** Sends every order, and acknowledges it. It goes on where it was killed. @param {string} dir */
async function sendAll(dir) {
  const reader = await openWal(dir, { readOnly: true, codec: 'json' })
  const outbox = await reader.consumer('sender', COLLECTION)
  for await (const { id, payload, sequence } of outbox.follow()) {
    // What stands for the mail, the queue, the other service.
    console.log(JSON.stringify({ id, payload }))
    await outbox.ack(sequence)
  }
}

/**
 * The story, from its beginning to its end.
 *
 * @param {string} dir a directory for the log
 * @returns {Promise<{ taken: number, sent: number, twice: number, workers: number }>}
 */
export async function tellStory(dir) {
  const wal = await openWal(dir, { codec: 'json' })
  // From now on nothing is released that has not been sent, though no worker runs yet.
  await (await wal.consumer('sender', COLLECTION)).close()
  for (let number = 1; number <= ORDERS; number++) {
    await wal.append(COLLECTION, [{ id: `order-${number}`, op: 'insert', payload: { item: 'pen', count: number } }])
  }

  /** @type {Map<string, number>} */
  const sent = new Map()
  let workers = 0
  while (sent.size < ORDERS) {
    workers++
    const worker = spawn(process.execPath, [fileURLToPath(import.meta.url), 'send', dir], { stdio: ['ignore', 'pipe', 'inherit'] })
    let lines = 0
    for await (const line of readline.createInterface({ input: worker.stdout })) {
      /** @type {{ id: string, payload: Order }} */
      const { id } = JSON.parse(line)
      sent.set(id, (sent.get(id) ?? 0) + 1)
      if (++lines === 100 || sent.size === ORDERS) worker.kill('SIGKILL')
    }
    // What has been sent is no longer needed.
    await wal.checkpoint(COLLECTION, BigInt(ORDERS))
  }
  await wal.close()
  return { taken: ORDERS, sent: sent.size, twice: [...sent.values()].filter((times) => times > 1).length, workers }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [, , command, given] = process.argv
  if (command === 'send') await sendAll(given)
  else {
    const dir = await mkdtemp(path.join(os.tmpdir(), 'holdfast-outbox-'))
    const { taken, sent, twice, workers } = await tellStory(path.join(dir, 'orders.wal'))
    console.log(`${taken} orders were taken, and ${sent} sent by ${workers} workers that were killed; ${twice} of them twice.`)
    await rm(dir, { recursive: true })
    if (sent !== taken) process.exitCode = 1
  }
}
