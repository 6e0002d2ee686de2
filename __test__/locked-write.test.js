'use strict'

// `lock: true`: a write that waits for the lock of its file and holds it, or works under the one
// that the caller holds.

const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { describe, test } = require('node:test')
const { setTimeout: wait } = require('node:timers/promises')
const { failure, holdfast, inChild, names, newDir, temps, whyNot } = require('./helpers.js')

const { acquireLock, atomicWrite, atomicWriteJson, atomicWriteSync, isLocked, updateJsonFile, withLock } = holdfast

/** @type {[string, (file: string, text: string, options?: object) => Promise<void>][]} */
const writers = [
  ['atomicWrite', (file, text, options) => atomicWrite(file, text, { lock: true, ...options })],
  ['atomicWriteJson', (file, text, options) => atomicWriteJson(file, JSON.parse(text), { lock: true, ...options })],
  ['atomicWriteSync', async (file, text, options) => atomicWriteSync(file, text, { lock: true, ...options })],
]

for (const [name, write] of writers) {
  describe(`${name} with lock: true`, () => {
    test('writes, and releases the lock, also when it fails', async (t) => {
      const dir = newDir(t)
      const file = path.join(dir, 'file.json')
      await write(file, '1')
      assert.equal(fs.readFileSync(file, 'utf8'), '1')
      assert.equal((await isLocked(file)).locked, false)
      fs.mkdirSync(path.join(dir, 'dir'))
      const error = await failure(() => write(path.join(dir, 'dir'), '1'))
      assert.deepEqual([error.code, error.operation], ['EISDIR', 'atomic write'])
      assert.equal((await isLocked(path.join(dir, 'dir'))).locked, false)
      const missing = await failure(() => write(path.join(dir, 'missing/file'), '1'))
      assert.deepEqual([missing.code, missing.operation, missing.committed], ['ENOENT', 'atomic write', false])
      assert.deepEqual(temps(dir), [])
    })

    test('makes missing directories before it looks for the lock', async (t) => {
      const file = path.join(newDir(t), 'a/b/file.json')
      await write(file, '1', { makeDirs: true })
      assert.deepEqual(names(path.dirname(file)), ['.file.json.lock', 'file.json'])
    })

    test('works under the lock that the caller holds, however the path is spelt', { skip: whyNot.unix() }, async (t) => {
      const dir = newDir(t)
      const file = path.join(dir, 'file.json')
      fs.writeFileSync(file, '0')
      fs.symlinkSync('file.json', path.join(dir, 'link'))
      await withLock(file, async () => {
        await write(file, '1')
        assert.equal(fs.readFileSync(file, 'utf8'), '1')
        await write(path.join(dir, 'link'), '2')
        assert.equal(fs.readFileSync(file, 'utf8'), '2')
        assert.equal((await isLocked(file)).locked, true)
        // Another file has another lock.
        await write(path.join(dir, 'other.json'), '3')
      })
      assert.equal((await isLocked(file)).locked, false)
    })

    test('in an update of the same file is EDEADLK: it would wait for itself', async (t) => {
      const file = path.join(newDir(t), 'file.json')
      fs.writeFileSync(file, '{}')
      await updateJsonFile(file, async (data) => {
        for (const spelling of [file, `${path.dirname(file)}/./file.json`]) {
          const error = await failure(() => write(spelling, '1'))
          assert.deepEqual([error.code, error.operation], ['EDEADLK', 'atomic write'])
        }
        // The other lock held there is not being updated.
        await write(`${file}.other`, '1')
        data.a = 1
      })
      assert.equal(fs.readFileSync(file, 'utf8'), '{"a":1}')
    })

    test('waits while another process updates the file', async (t) => {
      const file = path.join(newDir(t), 'file.json')
      fs.writeFileSync(file, '{"n":0}')
      const child = inChild(async ({ file }, { holdfast, fs }) => {
        await holdfast.updateJsonFile(file, async (/** @type {any} */ data) => {
          fs.writeFileSync(`${file}.started`, '')
          await new Promise((resolve) => setTimeout(resolve, 300))
          data.n = 1
        })
      }, { file })
      while (!fs.existsSync(`${file}.started`)) await wait(5)
      await write(file, '{"n":2}')
      assert.equal(fs.readFileSync(file, 'utf8'), '{"n":2}')
      await child.catch(() => {})
      assert.equal(fs.readFileSync(file, 'utf8'), '{"n":2}')
    })
  })
}

describe('lock: true', () => {
  test('waits for the lock, and an abort ends the wait', async (t) => {
    const file = path.join(newDir(t), 'file.json')
    const lock = await acquireLock(file)
    const controller = new AbortController()
    const cancelled = failure(() => atomicWrite(file, 'cancelled', { lock: true, signal: controller.signal }))
    const waiting = [1, 2, 3].map((n) => atomicWrite(file, `${n}`, { lock: true }))
    await wait(20)
    assert.equal(fs.existsSync(file), false)
    controller.abort('why')
    const error = await cancelled
    assert.deepEqual([error.name, error.cause], ['AbortError', 'why'])
    await lock.release()
    await Promise.all(waiting)
    assert.equal(fs.readFileSync(file, 'utf8'), '3')
    assert.equal((await isLocked(file)).locked, false)
    const aborted = await failure(() => atomicWrite(file, 'x', { lock: true, signal: AbortSignal.abort() }))
    assert.equal(aborted.name, 'AbortError')
    assert.equal((await isLocked(file)).locked, false)
  })

  test('data that is gone when the lock is there fails the write, and frees the lock', async (t) => {
    const file = path.join(newDir(t), 'file')
    fs.writeFileSync(file, 'old')
    const lock = await acquireLock(file)
    const data = new Uint8Array(100)
    const failing = failure(() => atomicWrite(file, data, { lock: true }))
    structuredClone(data, { transfer: [data.buffer] })
    await lock.release()
    const error = await failing
    assert.deepEqual([error.name, error.code, error.committed], ['SessionFileError', 'ERR_INVALID_ARG_VALUE', false])
    assert.equal(fs.readFileSync(file, 'utf8'), 'old')
    await atomicWrite(file, 'new', { lock: true })
  })

  test('without it locks are not heeded', async (t) => {
    const file = path.join(newDir(t), 'file.json')
    const lock = await acquireLock(file)
    await atomicWrite(file, '1')
    await atomicWrite(file, '2', { lock: false })
    atomicWriteSync(file, '3')
    assert.equal(fs.readFileSync(file, 'utf8'), '3')
    await lock.release()
  })

  test('what was started under a lock and not waited for is done under it', async (t) => {
    const file = path.join(newDir(t), 'file.json')
    fs.writeFileSync(file, '{"n":0}')
    /** @type {Promise<unknown>[]} */
    const started = []
    for (let round = 0; round < 30; round++) {
      const other = withLock(file, () => {
        started.push(atomicWrite(file, '{"n":1}', { lock: true }), updateJsonFile(file, (data) => void (data.n += 1)))
      }).then(() => fs.readFileSync(file, 'utf8'))
      // It has waited for the lock, and sees both.
      assert.equal(await other, '{"n":2}')
    }
    await Promise.all(started)
  })

  test('a synchronous write gives up after 10 seconds if its own thread holds the lock', async (t) => {
    const file = path.join(newDir(t), 'file.json')
    const lock = await acquireLock(file)
    const error = await failure(async () => atomicWriteSync(file, '1', { lock: true }))
    assert.deepEqual([error.code, error.operation], ['ELOCKED', 'atomic write'])
    assert.match(error.message, /Timed out after 10000 ms: .* is held by this process/)
    assert.equal(fs.existsSync(file), false)
    await lock.release()
    atomicWriteSync(file, '1', { lock: true })
  })
})
