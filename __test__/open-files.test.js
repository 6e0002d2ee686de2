'use strict'

// Many calls at once in a process that may have few files open: all of them are done, a few at a time.

const assert = require('node:assert/strict')
const { spawn } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const { describe, test } = require('node:test')
const { newDir, whyNot } = require('./system.js')

const skip = whyNot.prlimit()
const program = path.join(__dirname, 'programs/open-files.js')

/**
 * Runs calls of a kind in a process with so many descriptors, of which the program itself has taken
 * `others`. What came of them.
 */
function run(t, kind, { limit, calls, others = 0 }) {
  const dir = newDir(t)
  return new Promise((resolve, reject) => {
    const args = [`--nofile=${limit}:${limit}`, process.execPath, program, dir, kind, `${calls}`, `${others}`]
    const child = spawn('prlimit', args, { stdio: ['ignore', 'pipe', 'inherit'], timeout: 120_000, killSignal: 'SIGKILL' })
    let said = ''
    child.stdout.setEncoding('utf8').on('data', (text) => (said += text))
    child.on('error', reject)
    child.on('close', (code, signal) => (code === 0 ? resolve({ dir, ...JSON.parse(said) }) : reject(new Error(`${kind} ended with ${signal ?? code}: ${said}`))))
  })
}

const KINDS = [
  'updateJsonFile', 'withLock', 'withLock for a while', 'acquireLock', 'tryAcquireLock', 'atomicWrite with lock', 'atomicWrite',
  'streams', 'streams that are filled later', 'streams with lock', 'createBackup', 'restoreBackup', 'transactions',
  'withLock in withLock in withLock', 'a common lock inside and outside', 'all together',
]

describe('with few descriptors', { skip, concurrency: 2 }, () => {
  for (const [limit, calls, others] of /** @type {const} */ ([[256, 1000, 0], [64, 100, 0], [256, 100, 205]])) {
    const which = others ? `${limit} descriptors, of which the program has ${others}` : `${limit} descriptors`
    describe(which, { concurrency: 2 }, () => {
      for (const kind of KINDS) {
        // Where the callers wait for one lock, and have the locks for which its holder waits, it takes long.
        if (limit - others < 256 && kind.includes('common')) continue
        // These cost more than the others.
        const count = /backup|transaction|common|together|withLock in|streams with/i.test(kind) ? Math.min(calls, 100) : calls
        test(`${count} calls at once are all done: ${kind}`, async (t) => {
          const { dir, done, codes, before, after } = await run(t, kind, { limit, calls: count, others })
          assert.deepEqual(codes, {})
          assert.ok(done >= count)
          assert.equal(after.length, before.length, `the descriptors at rest are as many as before: ${after}`)
          assert.deepEqual(fs.readdirSync(dir).filter((name) => /\.tmp$|holdfast/.test(name)), [])
        })
      }
    })
  }

  test('locks that are really held until there are no more descriptors: the next one is told so', async (t) => {
    const { held, error, after } = await run(t, 'held', { limit: 256, calls: 300 })
    assert.ok(held >= 115 && held < 256, `${held} are held`)
    assert.equal(error.code, 'EMFILE')
    assert.match(error.message, /^Failed to lock at .*: EMFILE: too many open files, open '.*'$/)
    assert.match(error.hint, /Each lock that is held, .* keeps one or two open until it ends: release some, or raise the limit/)
    assert.deepEqual(after, 'free again')
  })
})
