'use strict'

// Locks on the calling thread.

const { test } = require('node:test')
const assert = require('node:assert/strict')
const { spawn } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const { assertFree, collector, failure, holdfast, newDir, root } = require('./helpers.js')
const { GUARD, Peer } = require('./programs/lock-peer.js')

const { SessionFileError, acquireLock, setLogger, updateJsonFileSync, withLock, withLockSync } = holdfast

const newFile = (/** @type {any} */ t) => path.join(newDir(t), 'data.json')

test('returns what its function returns, throws what it throws, and releases the lock', async (t) => {
  const file = newFile(t)
  assert.equal(withLockSync(file, () => 5), 5)
  await assertFree(file)
  const mine = new Error('mine')
  assert.equal(await failure(async () => withLockSync(file, () => { throw mine })), mine)
  await assertFree(file)
  for (const fn of [async () => {}, () => Promise.reject(new Error('unheard'))]) {
    const error = await failure(async () => withLockSync(file, /** @type {any} */ (fn)))
    assert.equal(error.code, 'ERR_INVALID_RETURN_VALUE')
    assert.match(error.message, /Use withLock/)
  }
  await assertFree(file)
  assert.match((await failure(async () => withLockSync(file, /** @type {any} */ ({})))).message, /"fn" argument/)
  assert.match((await failure(async () => withLockSync(file, () => {}, /** @type {any} */ ({ signal: 1 })))).message, /Unknown option "signal"/)
})

test('what needs the lock inside uses it; the same lock again is a deadlock', async (t) => {
  const file = newFile(t)
  withLockSync(file, () => {
    updateJsonFileSync(file, (data) => void data.n++, { defaultValue: { n: 0 }, timeout: 0 })
    const error = (() => {
      try {
        withLockSync(file, () => {})
      } catch (error) {
        return /** @type {any} */ (error)
      }
    })()
    assert.ok(error instanceof SessionFileError)
    assert.equal(error.code, 'EDEADLK')
  })
  assert.equal(fs.readFileSync(file, 'utf8'), '{"n":1}')
  await withLock(file, async () => assert.equal((await failure(async () => withLockSync(file, () => {}))).code, 'EDEADLK'))
  // Several readers, and one that would have to wait for this thread itself.
  withLockSync(file, () => withLockSync(`${file}.other`, () => {}), { kind: 'read' })
  const lock = await acquireLock(file)
  const error = await failure(async () => withLockSync(file, () => {}, { timeout: 20 }))
  assert.equal(error.code, 'ELOCKED')
  assert.match(error.message, /behind a lock of this process/)
  await lock.release()
  await assertFree(file)
})

test('a lock of another process is waited for, up to `timeout`; readers share', { timeout: GUARD }, async (t) => {
  const file = newFile(t)
  const peer = new Peer(t)
  await peer.run(async ({ holdfast, kept }, file) => {
    kept.lock = await holdfast.acquireLock(file, { kind: 'read' })
  }, file)
  assert.equal((await failure(async () => withLockSync(file, () => {}, { timeout: 10 }))).code, 'ELOCKED')
  assert.equal(withLockSync(file, () => 'shared', { kind: 'read', timeout: 0 }), 'shared')
  const released = peer.run(({ kept }) => new Promise((resolve) => setTimeout(() => resolve(kept.lock.release()), 50)))
  assert.equal(withLockSync(file, () => 'mine'), 'mine')
  await released
})

test('what takes long is told though the thread was busy', async (t) => {
  const file = newFile(t)
  const { logger, of } = collector()
  setLogger(logger)
  t.after(() => setLogger(null))
  withLockSync(file, () => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20), { warnAfter: 10 })
  assert.equal(of('Lock held for long').length, 1)
  withLockSync(file, () => {}, { warnAfter: 10_000 })
  assert.equal(of('Lock held for long').length, 1)
})

test('processes that take it, on the calling thread or not, exclude each other', { timeout: GUARD }, async (t) => {
  const file = newFile(t)
  fs.writeFileSync(file, '0')
  const run = (/** @type {boolean} */ sync) => new Promise((resolve, reject) => {
    const program = `
      const fs = require('node:fs')
      const { withLock, withLockSync } = require(${JSON.stringify(root)})
      const file = process.argv[1]
      const add = () => fs.writeFileSync(file, String(Number(fs.readFileSync(file, 'utf8')) + 1))
      ;(async () => {
        for (let i = 0; i < 100; i++) ${sync ? 'withLockSync' : 'await withLock'}(file, add, { timeout: Infinity })
      })()`
    spawn(process.execPath, ['-e', program, file], { stdio: 'inherit' }).on('error', reject).on('close', resolve)
  })
  assert.deepEqual(await Promise.all([run(true), run(false), run(true)]), [0, 0, 0])
  assert.equal(fs.readFileSync(file, 'utf8'), '300')
})
