'use strict'

// A process that acquires a lock in the protocol of `proper-lockfile`, by that package or by
// holdfast, and does under it what shows a second holder.
//
//     node lock-dir-contender.js package|holdfast count <file> <counter> <times>
//     node lock-dir-contender.js package|holdfast race <file> <dir>

const fs = require('node:fs')
const path = require('node:path')
const { setTimeout: wait } = require('node:timers/promises')

const [kind, task, file = '', shared = '', times] = process.argv.slice(2)
const holdfast = require('../..')
const lockfile = require('proper-lockfile')

const STALE = 10_000

/** @returns {Promise<() => Promise<void>>} releases it */
async function acquire(/** @type {boolean} */ waits) {
  if (kind === 'package') {
    return lockfile.lock(file, { stale: STALE, retries: waits ? { retries: 100_000, minTimeout: 2, maxTimeout: 10, randomize: true } : 0 })
  }
  const lock = await holdfast.acquireLock(file, { protocol: 'proper-lockfile', stale: STALE, timeout: waits ? Infinity : 0 })
  return () => lock.release()
}

async function count() {
  for (let i = 0; i < Number(times); i++) {
    const release = await acquire(true)
    const before = Number(fs.readFileSync(shared, 'utf8'))
    if (i % 5 === 0) await wait(1)
    fs.writeFileSync(shared, String(before + 1))
    await release()
    // Lets other processes acquire it.
    await wait(1)
  }
}

/** Each round starts with a message; a process that gets the lock reports it, and keeps it for the round. */
async function race() {
  process.on('message', async (/** @type {number} */ round) => {
    let isHeld = false
    try {
      const release = await acquire(false)
      isHeld = true
      // Another holder would have its file there, too.
      const own = path.join(shared, String(process.pid))
      fs.writeFileSync(own, '')
      await wait(30)
      const together = fs.readdirSync(shared).length
      await wait(30)
      fs.rmSync(own)
      await release()
      process.send?.({ round, got: isHeld, together })
    } catch (error) {
      process.send?.({ round, got: isHeld, code: /** @type {any} */ (error).code })
    }
  })
  process.on('disconnect', () => process.exit())
  process.send?.('ready')
}

if (task === 'count') count()
else race()
