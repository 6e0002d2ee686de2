'use strict'

// Locks for reading: `kind: 'read'`.

const assert = require('node:assert/strict')
const fs = require('node:fs')
const { describe, test } = require('node:test')
const { failure, holdfast, newFile, whyNot, nextTurn } = require('./helpers.js')
const { GUARD, Peer, lockFileOf, untilWaiting, LIMITS, LONG_WAIT } = require('./programs/lock-peer.js')

const { acquireLock, atomicWrite, atomicWriteSync, createAtomicWriteStream, createBackup, isLocked, restoreBackup, tryAcquireLock, updateJsonFile, withLock } = holdfast

const READ = /** @type {const} */ ({ kind: 'read' })

/** Who could have the lock at this moment. @param {string} file */
async function couldHave(file) {
  const all = []
  for (const kind of /** @type {const} */ (['read', 'write'])) {
    const lock = await tryAcquireLock(file, { kind })
    if (lock) all.push(kind)
    await lock?.release()
  }
  return all.join(' and ')
}

/** Locks of the system on a lock file that others hold: by kind. @param {string} file */
function kernelLocks(file) {
  const { ino } = fs.statSync(lockFileOf(file))
  const lines = fs.readFileSync('/proc/locks', 'utf8').split('\n').filter((line) => line.includes(`:${ino} `))
  return { held: lines.filter((line) => !line.includes('->')).length, waiting: lines.filter((line) => line.includes('->')).length }
}

describe('readers', LIMITS, () => {
  test('are beside each other, in one thread, in threads and in processes, and beside no writer', async (t) => {
    const file = newFile(t)
    const peers = [new Peer(t), new Peer(t), new Peer(t, { thread: true })]
    const locks = await Promise.all([acquireLock(file, READ), acquireLock(file, READ), ...peers.map((peer) => peer.acquire(file, READ))])
    assert.equal(await couldHave(file), 'read')
    await Promise.all(locks.slice(0, 2).map((lock) => lock.release()))
    for (const peer of peers) {
      assert.equal(await couldHave(file), 'read')
      await peer.release()
    }
    assert.equal(await couldHave(file), 'read and write')
    await peers[0]?.acquire(file)
    assert.equal(await couldHave(file), '')
    await peers[0]?.release()
    await withLock(file, async (lock) => {
      assert.equal(lock.kind, 'read')
      assert.equal(await couldHave(file), 'read')
      for (const peer of peers) assert.equal(await peer.run(({ holdfast }, file) => holdfast.tryAcquireLock(file), file), null)
    }, READ)
    assert.equal(await couldHave(file), 'read and write')
  })

  test('that wait one after the other share one lock of the system, and calls are served in their order', { skip: whyNot.linux() }, async (t) => {
    const file = newFile(t)
    const writer = await acquireLock(file)
    /** @type {string[]} */
    const order = []
    const calls = []
    /** @type {import('..').Lock[]} */
    const held = []
    const take = async (/** @type {string} */ name, /** @type {'read' | 'write'} */ kind) => {
      const lock = await acquireLock(file, { kind, timeout: GUARD })
      order.push(name)
      held.push(lock)
    }
    for (const [name, kind] of /** @type {const} */ ([['r1', 'read'], ['r2', 'read'], ['r3', 'read'], ['w1', 'write'], ['r4', 'read'], ['r5', 'read']])) {
      calls.push(take(name, kind))
    }
    await nextTurn()
    await writer.release()
    await Promise.all(calls.slice(0, 3))
    assert.deepEqual(order, ['r1', 'r2', 'r3'])
    assert.deepEqual(kernelLocks(file), { held: 1, waiting: 0 })
    for (const lock of held.splice(0)) await lock.release()
    await calls[3]
    assert.deepEqual(order, ['r1', 'r2', 'r3', 'w1'])
    await held.pop()?.release()
    await Promise.all(calls)
    assert.deepEqual(order, ['r1', 'r2', 'r3', 'w1', 'r4', 'r5'])
    assert.deepEqual(kernelLocks(file), { held: 1, waiting: 0 })
    for (const lock of held) await lock.release()
    assert.equal(await couldHave(file), 'read and write')
  })

  test('do not overtake a writer of another process that waits', async (t) => {
    const file = newFile(t)
    const peer = new Peer(t)
    const reader = await acquireLock(file, READ)
    const writing = peer.acquire(file)
    await untilWaiting(lockFileOf(file))
    assert.equal(await tryAcquireLock(file, READ), null)
    let isThere = false
    const later = acquireLock(file, { ...READ, ...LONG_WAIT }).then((lock) => ((isThere = true), lock))
    await untilWaiting(lockFileOf(file), 2)
    await reader.release()
    await writing
    assert.equal(isThere, false)
    await peer.release()
    await (await later).release()
  })

  test('waiters give up by timeout and by signal without effect on the others', async (t) => {
    const file = newFile(t)
    const peer = new Peer(t)
    await peer.acquire(file)
    const controller = new AbortController()
    const leaving = failure(() => acquireLock(file, { ...READ, ...LONG_WAIT, signal: controller.signal }))
    const error = await failure(() => withLock(file, () => assert.fail('called'), { ...READ, timeout: 5 }))
    assert.equal(error.code, 'ELOCKED')
    assert.equal(error.holder.pid, peer.pid)
    controller.abort()
    assert.equal((await leaving).code, 'ABORT_ERR')
    const reading = acquireLock(file, { ...READ, ...LONG_WAIT })
    await peer.release()
    const lock = await reading
    await peer.acquire(file, READ)
    await lock.release()
  })

  test('that are killed leave nothing behind', async (t) => {
    const file = newFile(t)
    const peer = new Peer(t)
    await peer.acquire(file, READ)
    const writing = acquireLock(file, LONG_WAIT)
    await untilWaiting(lockFileOf(file))
    await peer.kill()
    await (await writing).release()
    assert.equal(await couldHave(file), 'read and write')
  })
})

test('isLocked tells which kinds of lock are excluded, and names only writers', LIMITS, async (t) => {
  const file = newFile(t)
  const look = async () => [(await isLocked(file)).locked, (await isLocked(file, READ)).locked]
  assert.deepEqual(await look(), [false, false])
  const writer = await acquireLock(file)
  assert.deepEqual(await look(), [true, true])
  assert.equal((await isLocked(file, READ)).holder?.pid, process.pid)
  await writer.release()

  // A writer that was killed has left its note there, which must not be mistaken for the reader's.
  const peer = new Peer(t)
  await peer.acquire(file)
  await peer.kill()
  assert.match(fs.readFileSync(lockFileOf(file), 'utf8'), /"pid"/)
  const reader = await acquireLock(file, READ)
  assert.deepEqual(await isLocked(file), { locked: true })
  assert.deepEqual(await isLocked(file, READ), { locked: false })
  const error = await failure(() => acquireLock(file, { timeout: 0 }))
  assert.equal(error.code, 'ELOCKED')
  assert.equal(error.holder, undefined)
  await reader.release()
  assert.deepEqual(await look(), [false, false])
  await assert.rejects(isLocked(file, /** @type {any} */ ({ kind: 'exclusive' })), { code: 'ERR_INVALID_ARG_VALUE', message: /"kind"/ })
})

test('the signal of a lock is not aborted, neither while it is held nor by its release', LIMITS, async (t) => {
  const file = newFile(t)
  for (const kind of /** @type {const} */ (['read', 'write'])) {
    const lock = await acquireLock(file, { kind })
    assert.equal(lock.kind, kind)
    const { signal } = lock
    assert.ok(signal instanceof AbortSignal)
    assert.equal(lock.signal, signal)
    signal.addEventListener('abort', () => assert.fail('it was not lost'))
    await lock.release()
    assert.equal(signal.aborted, false)
    const inside = await withLock(file, (lock) => lock.signal, { kind })
    assert.equal(inside.aborted, false)
  }
})

test('a lock is disposable, once and again', LIMITS, async (t) => {
  const file = newFile(t)
  /** @type {import('..').Lock} */
  const lock = await acquireLock(file, READ)
  await lock[Symbol.asyncDispose]()
  assert.equal(await couldHave(file), 'read and write')
  const writer = await acquireLock(file)
  await lock[Symbol.asyncDispose]()
  await lock.release()
  assert.equal(await couldHave(file), '')
  await writer[Symbol.asyncDispose]()
  // The syntax itself, where this Node supports it.
  let scope
  try {
    scope = new Function('acquireLock', 'file', 'inside', 'return (async () => { await using lock = await acquireLock(file); await inside(lock) })()')
  } catch {
    return
  }
  await scope(acquireLock, file, async () => assert.equal(await couldHave(file), ''))
  assert.equal(await couldHave(file), 'read and write')
})

describe('under a lock for reading', LIMITS, () => {
  test('the same lock again, of either kind, is EDEADLK, also inside one for writing', async (t) => {
    const file = newFile(t)
    for (const outer of /** @type {const} */ (['read', 'write'])) {
      for (const inner of /** @type {const} */ (['read', 'write'])) {
        await withLock(file, async () => {
          const error = await failure(() => withLock(file, () => assert.fail('called'), { kind: inner, timeout: Infinity }))
          assert.equal(error.code, 'EDEADLK', `${inner} in ${outer}`)
          await withLock(`${file}2`, () => {}, { kind: inner, timeout: 0 })
        }, { kind: outer })
        assert.equal(await couldHave(file), 'read and write')
      }
    }
  })

  test('what writes under the lock of the file is EDEADLK, and leaves the file as it was', async (t) => {
    const file = newFile(t)
    fs.writeFileSync(file, '{"a":1}')
    const backup = await createBackup(file)
    fs.symlinkSync('file', `${file}-link`)
    await withLock(file, async () => {
      for (const target of [file, `${file}-link`]) {
        for (const [operation, call] of /** @type {[string, () => any][]} */ ([
          ['update JSON', () => updateJsonFile(target, () => assert.fail('called'), { timeout: Infinity })],
          ['restore backup', () => restoreBackup(backup, target, { timeout: Infinity })],
          ['atomic write', () => atomicWrite(target, 'new', { lock: true })],
          ['atomic write', async () => atomicWriteSync(target, 'new', { lock: true })],
          ['atomic write', () => new Promise((resolve, reject) => createAtomicWriteStream(target, { lock: true }).on('error', reject).on('finish', () => resolve(0)).end('new'))],
        ])) {
          const error = await failure(call)
          assert.deepEqual([error.code, error.operation], ['EDEADLK', operation])
        }
      }
      // Without the lock, and for another file, they work as usual.
      assert.deepEqual(await updateJsonFile(file, (data) => void data.a++, { lock: false }), { a: 2 })
      await atomicWrite(`${file}2`, 'other', { lock: true })
    }, READ)
    assert.equal(fs.readFileSync(file, 'utf8'), '{"a":2}')
    assert.equal(await couldHave(file), 'read and write')
    assert.deepEqual(await updateJsonFile(file, (data) => void data.a++), { a: 3 })
  })
})

describe('no starvation', LIMITS, () => {
  const PROCESSES = 8
  const ROUNDS = 20

  /**
   * Lets processes acquire a lock over and over, so that it is never free for long, and one that
   * requests it in between. Counts the critical sections of the others while it waited.
   *
   * @param {import('node:test').TestContext} t
   * @param {'read' | 'write'} theirs
   * @param {'read' | 'write'} ours
   */
  async function compete(t, theirs, ours) {
    const file = newFile(t)
    const log = `${file}.log`
    fs.writeFileSync(log, '')
    const peers = Array.from({ length: PROCESSES }, () => new Peer(t))
    const running = peers.map((peer) => peer.run(async ({ holdfast, fs, kept }, file, log, kind) => {
      const take = async () => {
        const lock = await holdfast.acquireLock(file, { kind, timeout: Infinity })
        fs.appendFileSync(log, '.')
        return lock
      }
      // Requested before the last one is released, and readers hold on to it until it is there
      // or another lock excludes them.
      // (It may be over before this one has started.)
      let last = await take()
      while (!kept.over) {
        const next = take()
        await Promise.race([kind === 'read' && next, new Promise((resolve) => setTimeout(resolve, 2))].filter(Boolean))
        if (kind === 'read') await new Promise((resolve) => setTimeout(resolve, 2))
        await last.release()
        last = await next
      }
      await last.release()
    }, file, log, theirs))
    while (fs.statSync(log).size < 2 * PROCESSES) await new Promise((resolve) => setTimeout(resolve, 1))
    const waits = []
    const sections = () => fs.statSync(log).size
    for (let round = 0; round < ROUNDS; round++) {
      const begun = performance.now()
      const before = sections()
      const held = await acquireLock(file, { kind: ours, ...LONG_WAIT })
      waits.push({ sections: sections() - before, milliseconds: performance.now() - begun })
      await held.release()
    }
    for (const peer of peers) await peer.run(({ kept }) => void (kept.over = true))
    await Promise.all(running)
    assert.equal(await couldHave(file), 'read and write')
    const of = (/** @type {'sections' | 'milliseconds'} */ what) => waits.map((wait) => wait[what]).sort((a, b) => a - b)
    const [all, times] = [of('sections'), of('milliseconds')]
    t.diagnostic(`a ${ours === 'write' ? 'writer' : 'reader'} beside ${PROCESSES} processes that ${theirs}: ${all[ROUNDS / 2]} sections of theirs (median), ${all.at(-1)} at most, ${times[ROUNDS / 2]?.toFixed(1)} ms (median), ${times.at(-1)?.toFixed(1)} ms at most`)
    return all[ROUNDS / 2] ?? Infinity
  }

  // A waiter with a ticket is overtaken by each of the others at most once: `tests/lock_model.rs`
  // goes through every order of events. Here the way to the ticket counts too, which takes its
  // time on a busy machine.
  const MOST = 2 * PROCESSES

  test('a writer, beside readers of eight processes that overlap without a gap', { skip: whyNot.unix() }, async (t) => {
    const median = await compete(t, 'read', 'write')
    assert.ok(median <= MOST, `${median} sections`)
  })

  test('a reader, beside eight processes that write one after the other', { skip: whyNot.unix() }, async (t) => {
    const median = await compete(t, 'write', 'read')
    assert.ok(median <= MOST, `${median} sections`)
  })
})
