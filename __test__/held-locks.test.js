'use strict'

// The locks that a caller holds travel with what it starts: as many native calls as without, in
// the order of the calls, and the lock is released after them.

const assert = require('node:assert/strict')
const { AsyncResource } = require('node:async_hooks')
const fs = require('node:fs')
const path = require('node:path')
const { describe, test } = require('node:test')
const { setTimeout: wait } = require('node:timers/promises')
const { failure, holdfast, newDir } = require('./helpers.js')

const native = require('../lib/native/load.js')
const {
  acquireLock, atomicWrite, atomicWriteSync, createBackup, isLocked, metrics, recoverFromCrash, resetMetrics, restoreBackup, transaction, tryAcquireLock,
  updateJsonFile, withLock,
} = holdfast

const FAST = /** @type {const} */ ({ durability: 'none' })
const NONE = { timeout: 0, ...FAST }

/** The calls of the native side since the last look. @type {string[]} */
const calls = []

// Those that only keep the event loop alive do no work.
const idle = ['constructor', 'ref', 'unref']
for (const name of Object.getOwnPropertyNames(native.Port.prototype)) {
  if (idle.includes(name)) continue
  const own = native.Port.prototype[name]
  native.Port.prototype[name] = function (...args) {
    calls.push(name)
    return own.apply(this, args)
  }
}

/** The native calls that a piece of work makes. @param {() => unknown} work */
async function callsOf(work) {
  calls.length = 0
  await work()
  return calls.splice(0)
}

/** @param {import('node:test').TestContext} t @param {string} [content] */
function newFile(t, content = '{"list":[]}') {
  const file = path.join(newDir(t), 'file.json')
  fs.writeFileSync(file, content)
  return file
}

/** @param {string} file */
const read = (file) => JSON.parse(fs.readFileSync(file, 'utf8'))

/** @param {number | string} item */
const push = (item) => (/** @type {any} */ data) => void data.list.push(item)

describe('native calls under a lock that is held', () => {
  /** @type {[string, (file: string) => unknown, string[]][]} */
  const operations = [
    ['an update', (file) => updateJsonFile(file, push(1), NONE), ['beginJsonUpdate', 'write']],
    ['an update that changes nothing', (file) => updateJsonFile(file, () => {}, NONE), ['beginJsonUpdate', 'syncUnchanged']],
    ['a locked write', (file) => atomicWrite(file, '{"list":[]}', { ...FAST, lock: true }), ['acquireLock', 'write']],
    ['a synchronous locked write', (file) => atomicWriteSync(file, '{"list":[]}', { ...FAST, lock: true }), ['writeSyncLocked']],
    ['a restore', (file) => restoreBackup(`${path.dirname(file)}/backup`, file, NONE), ['restoreBackup']],
    ['a transaction', (file) => transaction([file], (tx) => tx.write(file, '{"list":[]}'), NONE), ['beginTransaction', 'commitTransaction']],
    [
      'a transaction of two files',
      (file) => transaction([`${file}2`, file], (tx) => tx.write(file, '{"list":[]}'), NONE),
      ['beginTransaction', 'commitTransaction'],
    ],
  ]
  for (const [name, operation, expected] of operations) {
    test(`${name} makes as many inside withLock as outside`, async (t) => {
      const file = newFile(t)
      fs.writeFileSync(`${path.dirname(file)}/backup`, '{"list":[]}')
      const link = `${file}-link`
      fs.symlinkSync('file.json', link)
      assert.deepEqual(await callsOf(() => operation(file)), expected, 'outside')
      for (const locked of [file, link, `${file}-other`]) {
        await withLock(locked, async () => {
          assert.deepEqual(await callsOf(() => operation(file)), expected, `inside ${path.basename(locked)}`)
        })
        await withLock(`${file}-third`, () => withLock(locked, async () => {
          assert.deepEqual(await callsOf(() => operation(file)), expected, `inside ${path.basename(locked)} and another`)
        }))
      }
    })
  }

  test('updates of another file that wait together share a lock and a write', async (t) => {
    const file = newFile(t)
    const other = `${file}-b`
    fs.writeFileSync(other, '{"list":[]}')
    const numbers = Array.from({ length: 100 }, (_, i) => i)
    resetMetrics()
    const made = await withLock(`${file}-lock`, () => callsOf(() => Promise.all(numbers.map((i) => updateJsonFile(i % 2 ? file : other, push(i), FAST)))))
    assert.ok(made.filter((call) => call === 'write').length < 20, String(made))
    assert.deepEqual([read(file).list, read(other).list], [numbers.filter((i) => i % 2 === 1), numbers.filter((i) => i % 2 === 0)])
    const { updates, locks } = metrics()
    assert.equal(updates.calls, 100)
    assert.deepEqual(locks.failed, {}, 'whoever has joined others has not failed')
  })

  test('updates inside and outside a lock of another file keep the order of the calls', async (t) => {
    const file = newFile(t)
    const numbers = Array.from({ length: 300 }, (_, i) => i)
    const lock = await acquireLock(file)
    /** The same call, as the holder of another lock. @type {(number: number) => Promise<unknown>} */
    let inside = async () => {}
    let end = () => {}
    const holder = withLock(`${file}-lock`, () => new Promise((resolve) => {
      inside = AsyncResource.bind((number) => updateJsonFile(file, push(number), FAST))
      end = () => resolve(undefined)
    }))
    await wait(20)
    const all = numbers.map((i) => (i % 7 < 3 ? inside(i) : updateJsonFile(file, push(i), FAST)))
    await lock.release()
    await Promise.all(all)
    end()
    await holder
    assert.deepEqual(read(file).list, numbers)
  })

  test('those that take long, and those that come while they run, keep the order of the calls', async (t) => {
    const file = newFile(t)
    /** @type {Promise<unknown>[]} */
    const all = []
    let next = 0
    let start = () => {
      const number = next++
      all.push(updateJsonFile(file, async (data) => {
        // Longer than a batch goes on for, so that several are needed.
        if (number % 4 === 0) await wait(25)
        if (next < 60) start()
        data.list.push(number)
      }, FAST))
    }
    await withLock(`${file}-lock`, async () => {
      // Called in updates, but not as a part of them.
      start = AsyncResource.bind(start)
      for (let i = 0; i < 10; i++) start()
      for (let i = 0; i < all.length; i++) await all[i]
    })
    assert.deepEqual(read(file).list, Array.from({ length: next }, (_, i) => i))
  })
})

describe('operations under a lock that is held', () => {
  test('of all kinds run one after another, in the order of the calls', async (t) => {
    const file = newFile(t)
    const backup = await createBackup(file)
    for (let round = 0; round < 20; round++) {
      const shown = await withLock(file, async () => {
        /** @type {any[]} */
        const shown = []
        const look = (/** @type {any} */ data) => void shown.push(data.list.join())
        await Promise.all([
          updateJsonFile(file, async (data) => (await wait(1), push('a')(data)), FAST),
          transaction([`${file}2`, file], (tx) => tx.updateJson(file, push('b')), FAST),
          updateJsonFile(file, look, FAST),
          atomicWrite(file, '{"list":["c"]}', { ...FAST, lock: true }),
          updateJsonFile(file, look, FAST),
          restoreBackup(backup, file, FAST),
          updateJsonFile(file, look, FAST),
          recoverFromCrash(file),
          updateJsonFile(file, push('d'), FAST),
          transaction([file], async (tx) => look(JSON.parse(await tx.read(file, 'utf8'))), FAST),
        ])
        return shown
      })
      assert.deepEqual(shown, ['a,b', 'c', '', 'd'])
      assert.deepEqual(read(file).list, ['d'])
      await atomicWrite(file, '{"list":[]}')
    }
  })

  test('that are not waited for are over before the lock is free', async (t) => {
    const file = newFile(t)
    const backup = await createBackup(file)
    /** @type {[string, () => Promise<unknown>, string[]][]} */
    const kinds = [
      ['update', () => updateJsonFile(file, push('x'), FAST), ['old', 'x']],
      ['write', () => atomicWrite(file, '{"list":["x"]}', { ...FAST, lock: true }), ['x']],
      ['restore', () => restoreBackup(backup, file, FAST), []],
      ['transaction', () => transaction([file], (tx) => tx.updateJson(file, push('x')), FAST), ['old', 'x']],
    ]
    for (let round = 0; round < 10; round++) {
      for (const [name, start, expected] of kinds) {
        fs.writeFileSync(file, '{"list":["old"]}')
        /** @type {Promise<unknown>[]} */
        const started = []
        await withLock(file, () => {
          // Of another file, which takes its time, and is not waited for.
          started.push(updateJsonFile(`${file}-other`, () => wait(5), { ...FAST, defaultValue: {} }))
          started.push(start())
        })
        assert.deepEqual(read(file).list, expected, name)
        const lock = await tryAcquireLock(file)
        assert.ok(lock, name)
        await lock?.release()
        await Promise.all(started)
      }
    }
  })

  test('that fail or are cancelled leave the lock to the next, and then it is released', async (t) => {
    const file = newFile(t)
    for (let round = 0; round < 10; round++) {
      const controller = new AbortController()
      await withLock(file, async () => {
        const own = new Error('own')
        const outcomes = await Promise.allSettled([
          updateJsonFile(file, () => { throw own }, FAST),
          updateJsonFile(file, () => controller.abort('why'), FAST),
          atomicWrite(file, 'x', { lock: true, signal: controller.signal }),
          restoreBackup(file, file, { signal: controller.signal }),
          transaction([file], () => {}, { signal: controller.signal }),
          updateJsonFile(file, push('never'), { signal: controller.signal }),
          restoreBackup(`${file}-missing`, file),
          transaction([file], () => { throw own }),
          updateJsonFile(file, push(round), FAST),
        ])
        assert.deepEqual(outcomes.map((outcome) => (outcome.status === 'fulfilled' ? 'fulfilled' : outcome.reason === own ? 'own' : outcome.reason.code)), [
          'own', 'fulfilled', 'ABORT_ERR', 'ABORT_ERR', 'ABORT_ERR', 'ABORT_ERR', 'ENOENT', 'own', 'fulfilled',
        ])
      })
      assert.equal((await isLocked(file)).locked, false)
    }
    assert.deepEqual(read(file).list, Array.from({ length: 10 }, (_, i) => i))
  })

  test('that would wait for their caller are told why', async (t) => {
    const file = newFile(t)
    const backup = await createBackup(file)
    const link = `${file}-link`
    fs.symlinkSync('file.json', link)
    /** @type {((target: string) => unknown)[]} */
    const operations = [
      (target) => updateJsonFile(target, () => assert.fail('called'), { timeout: Infinity }),
      (target) => atomicWrite(target, 'x', { lock: true }),
      async (target) => atomicWriteSync(target, 'x', { lock: true }),
      (target) => restoreBackup(backup, target),
      (target) => transaction([`${file}2`, target], () => assert.fail('called')),
    ]
    const why = async () => {
      const messages = new Set()
      for (const operation of operations) {
        for (const target of [file, link]) {
          const error = await failure(() => operation(target))
          assert.equal(error.code, 'EDEADLK')
          messages.add(error.cause.message)
        }
      }
      return [...messages]
    }
    await updateJsonFile(file, async () => {
      assert.deepEqual(await why(), ['EDEADLK: the caller is in an update of this file, which would wait for itself'])
    })
    await withLock(file, async () => {
      assert.deepEqual(await why(), ['EDEADLK: the caller holds the lock of this file for reading, and a write would wait for that'])
    }, { kind: 'read' })
    await transaction([file], async () => {
      assert.deepEqual(await why(), ['EDEADLK: the caller is in an update of this file, which would wait for itself'])
    })
    const nested = await withLock(file, () => failure(() => withLock(link, () => {})))
    assert.match(nested.cause.message, /^EDEADLK: the lock .*\.file\.json\.lock is held by the caller itself, so waiting for it would never end$/)
    assert.deepEqual(read(file).list, [])
  })
})

describe('two spellings of one file, where names are alike that differ in case', () => {
  /** As in a directory that takes such names for one, both names of the lock file lead to one file. @param {import('node:test').TestContext} t */
  function twoSpellings(t) {
    const dir = newDir(t)
    fs.writeFileSync(path.join(dir, '.State.json.lock'), '')
    fs.linkSync(path.join(dir, '.State.json.lock'), path.join(dir, '.state.json.lock'))
    fs.writeFileSync(path.join(dir, 'State.json'), '{"n":0}')
    fs.linkSync(path.join(dir, 'State.json'), path.join(dir, 'state.json'))
    return [path.join(dir, 'State.json'), path.join(dir, 'state.json')]
  }

  test('a lock within the lock would wait for itself, and is told so', async (t) => {
    const [one = '', other = ''] = twoSpellings(t)
    for (const [outer, inner] of [[one, other], [other, one]]) {
      const error = await withLock(outer, () => failure(() => withLock(inner, () => {}, { timeout: 60_000 })))
      assert.equal(error.code, 'EDEADLK')
    }
  })

  test('an update under the lock uses it', async (t) => {
    const [one = '', other = ''] = twoSpellings(t)
    await withLock(one, () => updateJsonFile(other, (data) => ({ n: data.n + 1 }), FAST))
    assert.deepEqual(JSON.parse(fs.readFileSync(other, 'utf8')), { n: 1 })
    await withLock(one, async () => assert.equal((await failure(() => updateJsonFile(other, () => ({}), { ...FAST, timeout: 60_000 }))).code, 'EDEADLK'), { kind: 'read' })
  })

  test('a transaction that names both would wait for itself, and is told so', async (t) => {
    const [one = '', other = ''] = twoSpellings(t)
    for (const paths of [[one, other], [other, one]]) {
      const error = await failure(() => transaction(paths, () => assert.fail('it has begun'), { timeout: 60_000 }))
      assert.equal(error.code, 'EDEADLK')
      assert.match(error.message, /another of the paths leads to the same file, whose name is only spelt differently$/)
    }
    const error = await withLock(one, () => failure(() => transaction([other], () => assert.fail('it has begun'), { timeout: 60_000 })))
    assert.equal(error.code, 'EDEADLK')
  })

  test('calls that do not hold it exclude each other', async (t) => {
    const spellings = twoSpellings(t)
    let inside = 0
    await Promise.all(Array.from({ length: 20 }, (_, i) => withLock(spellings[i % 2] ?? '', async () => {
      assert.equal(inside++, 0)
      await wait(1)
      inside--
    })))
  })

  test('names that are not one file have locks of their own', async (t) => {
    const dir = newDir(t)
    const [one, other] = [path.join(dir, 'State.json'), path.join(dir, 'state.json')]
    assert.equal(await withLock(one, () => withLock(other, () => 'both held', { timeout: 0 })), 'both held')
    await transaction([one, other], (tx) => tx.write(other, '{}'))
  })
})
