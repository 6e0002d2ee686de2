'use strict'

// What is counted, by work with known results. The metrics are those of
// the whole process, so each test begins by setting them to zero.

const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { describe, test } = require('node:test')
const { collector, failure, fullDisk, holdfast, newDir, whyNot } = require('./helpers.js')
const { GUARD, Peer, lockFileOf, untilWaiting } = require('./programs/lock-peer.js')
const { ordinaryDisk } = require('./system.js')

const {
  AtomicOperations, acquireLock, atomicWrite, atomicWriteJson, atomicWriteSync, createAtomicWriteStream, createBackup, metrics, openWal,
  resetMetrics, restoreBackup, transaction, tryAcquireLock, updateJsonFile, withLock,
} = holdfast

/** The bounds of the buckets, in milliseconds. */
const BOUNDS = [
  0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 60_000,
]
const NONE = { count: 0, sum: 0, buckets: BOUNDS.map((le) => ({ le, count: 0 })), min: 0, max: 0, mean: 0, p50: 0, p90: 0, p99: 0, p999: 0 }
const ZERO = {
  writes: {
    acknowledged: { none: 0, file: 0, full: 0 }, failed: {}, merged: 0, attempts: 0, retries: 0, bytes: 0,
    sharedSyncs: { rounds: 0, writes: 0 }, latency: { none: NONE, file: NONE, full: NONE },
  },
  syncs: { file: NONE, folder: NONE, fileSystem: NONE, writeBack: NONE, failed: 0 },
  updates: { calls: 0, failed: 0, batches: 0, unchanged: 0 },
  backups: { created: 0, restored: 0, failed: {} },
  transactions: { committed: 0, files: 0, retries: 0, failed: {} },
  wal: { batches: 0, entries: 0, bytes: 0, groups: 0, failed: {}, latency: NONE },
  locks: {
    acquired: { read: 0, write: 0 }, contended: 0, timedOut: 0, refused: 0, failed: {}, wait: { read: NONE, write: NONE },
    hold: { read: NONE, write: NONE }, contention: [],
  },
}

/** A file in a new directory, and all metrics at zero. @param {import('node:test').TestContext} t */
function begin(t, dir = newDir(t)) {
  const file = path.join(dir, 'file')
  resetMetrics()
  return file
}

/** What a section has other than zeros, histograms by their counts. @param {any} value @param {any} zero */
function counted(value, zero) {
  if (typeof value !== 'object') return value
  if ('p999' in value) return value.count
  if (Array.isArray(value)) return value.map(({ contended, path, uncertainty }) => ({ contended, path, uncertainty }))
  const entries = Object.entries(value).map(([name, inner]) => [name, counted(inner, zero?.[name])])
  return Object.fromEntries(entries.filter(([, inner]) => inner !== 0 && !(typeof inner === 'object' && Object.keys(inner).length === 0)))
}

const now = () => counted(metrics(), ZERO)

/** All numbers of a histogram fit together. @param {import('..').Histogram} histogram @param {{ isWhole?: boolean }} [options] `isWhole`: nothing was counted meanwhile */
function assertOrder({ count, sum, buckets, min, max, mean, p50, p90, p99, p999 }, { isWhole = true } = {}) {
  const order = [0, min, p50, p90, p99, p999, max]
  assert.deepEqual([...order].sort((a, b) => a - b), order)
  assert.ok(mean >= min && mean <= max)
  assert.equal(count > 0, max > 0)
  if (isWhole) assert.ok(Math.abs(sum - mean * count) <= sum * 1e-9, `${sum} is not ${count} times ${mean}`)
  assert.deepEqual(buckets.map(({ le }) => le), BOUNDS)
  const counts = [0, ...buckets.map(({ count }) => count), count]
  assert.deepEqual([...counts].sort((a, b) => a - b), counts, 'they are cumulative')
  // Beyond the width of a bucket each bound is on the right side of the extremes.
  for (const { le, count: upTo } of buckets) {
    if (le > max * 1.04) assert.equal(upTo, count)
    if (le < min * 0.96) assert.equal(upTo, 0)
  }
}

describe('metrics', () => {
  test('are plain, frozen, and zero after a reset', (t) => {
    begin(t)
    assert.deepEqual(metrics(), ZERO)
    const all = [metrics()]
    for (const object of all) {
      assert.ok(Object.isFrozen(object))
      assert.ok([Object.prototype, Array.prototype].includes(Object.getPrototypeOf(object)))
      for (const value of Object.values(object)) if (typeof value === 'object') all.push(value)
    }
    assert.equal(all.length > 15, true)
  })

  test('take no options', () => {
    for (const call of [metrics, resetMetrics]) {
      const unchecked = /** @type {(...args: any[]) => any} */ (call)
      assert.throws(() => unchecked({ reset: true }), { name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE', message: new RegExp(`"reset" for ${call.name}`) })
      assert.throws(() => unchecked(null), { code: 'ERR_INVALID_ARG_TYPE' })
      assert.throws(() => unchecked('writes'), { code: 'ERR_INVALID_ARG_TYPE' })
      unchecked(undefined)
      unchecked({})
    }
  })

  test('a reset returns the counts so far, and counting restarts from zero', async (t) => {
    const file = begin(t)
    await atomicWrite(file, '12345', { durability: 'none' })
    const before = metrics()
    assert.deepEqual(resetMetrics(), before)
    assert.deepEqual(metrics(), ZERO)
    await atomicWrite(file, '123', { durability: 'none' })
    assert.equal(metrics().writes.bytes, 3)
    assert.equal(before.writes.bytes, 5, 'it is not changed afterwards')
  })
})

describe('writes', () => {
  const functions = { atomicWrite, atomicWriteJson, atomicWriteSync }
  for (const [name, write] of Object.entries(functions)) {
    test(`${name} is counted by its durability, with its bytes and syncs`, async (t) => {
      // Where freed blocks are used again at once, 'file' has a sync of the directory, too.
      const file = begin(t, ordinaryDisk(t))
      const size = name === 'atomicWriteJson' ? 7 : 5
      await write(file, 'bytes', { durability: 'none' })
      const writes = { acknowledged: { none: 1 }, attempts: 1, bytes: size, latency: { none: 1 } }
      assert.deepEqual(now(), { writes })
      await write(file, 'bytes', { durability: 'file' })
      await write(file, 'bytes', { durability: 'file' })
      const { syncs: unsynced, ...rest } = now()
      assert.deepEqual(rest, { writes: { acknowledged: { none: 1, file: 2 }, attempts: 3, bytes: 3 * size, latency: { none: 1, file: 2 } } })
      // Where metadata is kept in order there is none, only the wait for the bytes.
      assert.deepEqual(unsynced, unsynced.writeBack ? { writeBack: 2 } : { file: 2 })
      resetMetrics()
      await write(file, 'bytes')
      const { writes: { acknowledged }, syncs } = now()
      assert.deepEqual(acknowledged, { full: 1 })
      // One after the rename for all, or one of the file before it and one of the directory after it.
      const isOrdered = syncs.writeBack === 1
      assert.deepEqual(syncs, isOrdered ? { file: 1, writeBack: 1 } : { file: 1, folder: 1 })
    })

    test(`${name} that fails is counted by its code`, async (t) => {
      const file = begin(t)
      await failure(() => write(path.join(file, 'no', 'dir'), 'bytes'))
      fs.mkdirSync(file)
      await failure(() => write(file, 'bytes', { durability: 'none' }))
      await failure(() => write(file, 'bytes', { durability: 'none' }))
      const { writes } = now()
      assert.deepEqual(writes, { failed: { EISDIR: 2, ENOENT: 1 }, attempts: 3 })
    })
  }

  test('what does not pass its check, and what is cancelled, has failed', async (t) => {
    const file = begin(t)
    await failure(() => atomicWrite(file, '{', { validate: 'json' }))
    await failure(async () => atomicWriteSync(file, '{', { validate: 'json' }))
    const { writes } = now()
    assert.deepEqual(writes, { failed: { EBADJSON: 2 }, attempts: 1 })
    resetMetrics()
    const controllers = Array.from({ length: 20 }, () => new AbortController())
    const outcomes = controllers.map(({ signal }, i) => atomicWrite(`${file}-${i}`, 'x', { signal, durability: 'none' }))
    controllers.forEach((controller) => controller.abort())
    const cancelled = (await Promise.allSettled(outcomes)).filter(({ status }) => status === 'rejected').length
    const { acknowledged, failed } = metrics().writes
    assert.deepEqual([acknowledged.none, failed.ABORT_ERR ?? 0], [20 - cancelled, cancelled])
  })

  test('arguments that are wrong are not counted', async (t) => {
    const file = begin(t)
    await failure(() => atomicWrite(file, 1))
    await failure(() => atomicWrite(file, '', { mode: -1 }))
    assert.deepEqual(now(), {})
  })

  test('merged ones are acknowledged, and were not attempted', async (t) => {
    const file = begin(t)
    const COUNT = 200
    await Promise.all(Array.from({ length: COUNT }, (_, i) => atomicWrite(file, `${i}`.padStart(4), { durability: 'none' })))
    const { writes } = metrics()
    assert.equal(writes.acknowledged.none, COUNT)
    assert.ok(writes.merged > 0)
    assert.equal(writes.attempts, COUNT - writes.merged)
    assert.equal(writes.bytes, 4 * writes.attempts)
    assertOrder(writes.latency.none)
  })

  test('attempts and retries on a full disk', { skip: whyNot.mount() }, async (t) => {
    const { dir, filler } = fullDisk(t)
    resetMetrics()
    const much = 'n'.repeat(512 << 10)
    await failure(() => atomicWrite(path.join(dir, 'file'), much, { retries: 4, retryDelay: 0 }))
    await failure(async () => atomicWriteSync(path.join(dir, 'file'), much, { retries: 1 }))
    assert.deepEqual(now(), { writes: { failed: { ENOSPC: 2 }, attempts: 5, retries: 3 } })
    resetMetrics()
    // The logger makes room when it gets the retry.
    const { logger } = collector()
    logger.warn = () => fs.rmSync(filler, { force: true })
    await atomicWrite(path.join(dir, 'file'), 'n'.repeat(64 << 10), { retries: 100, retryDelay: 20, durability: 'none', logger })
    const { writes } = metrics()
    assert.equal(writes.acknowledged.none, 1)
    assert.equal(writes.attempts, writes.retries + 1)
    assert.ok(writes.retries >= 1)
    assert.equal(writes.bytes, 64 << 10)
  })

  test('a stream is one write, by its commit', async (t) => {
    const file = begin(t, ordinaryDisk(t))
    const stream = createAtomicWriteStream(file, { durability: 'file' })
    for (let i = 0; i < 10; i++) stream.write('0123456789')
    await new Promise((resolve) => stream.end(resolve))
    const { writes, syncs } = now()
    assert.deepEqual(writes, { acknowledged: { file: 1 }, attempts: 1, bytes: 100, latency: { file: 1 } })
    assert.deepEqual(syncs, syncs.writeBack ? { writeBack: 1 } : { file: 1 })
    resetMetrics()
    const lost = createAtomicWriteStream(path.join(file, 'no'))
    const error = await new Promise((resolve) => lost.once('error', resolve))
    assert.deepEqual(now(), { writes: { failed: { [error.code]: 1 }, attempts: 1 } })
  })

  test('backups', async (t) => {
    const file = begin(t)
    await atomicWrite(file, '{"a":1}', { durability: 'none' })
    const backup = await createBackup(file, { durability: 'none' })
    await createBackup(file, { durability: 'none' })
    await restoreBackup(backup, file, { durability: 'none' })
    await failure(() => restoreBackup(`${file}.1.backup`, file))
    const { writes, backups, locks } = now()
    assert.deepEqual(backups, { created: 2, restored: 1, failed: { ENOENT: 1 } })
    assert.deepEqual(writes, { acknowledged: { none: 1 }, latency: { none: 1 }, attempts: 4, bytes: 28 })
    assert.deepEqual(locks.acquired, { write: 2 })
  })

  test('writes that are under way together on an ordinary disk share syncs, and each is counted once', async (t) => {
    const disk = ordinaryDisk(t)
    resetMetrics()
    const COUNT = 150
    for (let round = 0; round < 2; round++) {
      await Promise.all(Array.from({ length: COUNT }, (_, i) => atomicWrite(path.join(disk, `${i}`), 'x')))
    }
    const { writes, syncs } = metrics()
    assert.equal(writes.acknowledged.full, 2 * COUNT)
    assert.equal(writes.attempts, 2 * COUNT)
    assert.equal(writes.bytes, 2 * COUNT)
    const { rounds, writes: shared } = writes.sharedSyncs
    assert.ok(shared >= 2 * rounds && shared <= 2 * COUNT, `${shared} in ${rounds}`)
    // Each was synced, alone or in a round; the syncs that are shared are as many as the rounds.
    const dear = syncs.file.count + syncs.fileSystem.count + syncs.folder.count
    assert.ok(dear >= 1, 'nothing was synced')
    if (syncs.fileSystem.count > 0) assert.equal(syncs.file.count + shared, 2 * COUNT)
    for (const histogram of [syncs.file, syncs.folder, syncs.fileSystem, syncs.writeBack]) assertOrder(histogram)
    t.diagnostic(`${shared} writes in ${rounds} rounds, ${syncs.fileSystem.count} syncs of the file system`)
  })
})

describe('updates', () => {
  test('calls, batches, and what was not changed', async (t) => {
    const file = begin(t)
    const increment = (/** @type {any} */ data) => void data.n++
    await Promise.all(Array.from({ length: 50 }, () => updateJsonFile(file, increment, { defaultValue: { n: 0 }, durability: 'none' })))
    const { updates, writes, locks } = metrics()
    assert.equal(updates.calls, 50)
    assert.ok(updates.batches < 50)
    assert.deepEqual([updates.failed, updates.unchanged], [0, 0])
    assert.equal(writes.acknowledged.none, updates.batches)
    assert.equal(locks.acquired.write, updates.batches)
    assert.equal(locks.hold.write.count, updates.batches)

    resetMetrics()
    await updateJsonFile(file, () => undefined, { durability: 'none' })
    await failure(() => updateJsonFile(file, () => { throw new Error('mine') }))
    await failure(() => AtomicOperations.updateJsonFile(file, () => { throw new Error('mine') }, { retries: 3, retryDelay: 0 }))
    await failure(() => updateJsonFile(`${file}-missing`, () => undefined))
    assert.deepEqual(now().updates, { calls: 1, failed: 5, batches: 6, unchanged: 1 })
    assert.equal(metrics().writes.attempts, 0)

    resetMetrics()
    await withLock(file, async () => {
      await updateJsonFile(file, increment)
      const peer = new Peer(t, { thread: true })
      assert.equal((await peer.outcome('acquireLock', file, { timeout: 0 })).code, 'ELOCKED')
    })
    assert.deepEqual(now().updates, { calls: 1, batches: 1 })
    assert.deepEqual(now().locks.acquired, { write: 1 })
  })
})

describe('transactions', () => {
  test('commits, their files, and what fails', async (t) => {
    const file = begin(t)
    const [one, two] = [`${file}-1`, `${file}-2`]
    await transaction([one, two], async (tx) => {
      await tx.write(one, 'one')
      await tx.write(two, 'two')
    })
    await transaction([one, two], (tx) => tx.remove(one))
    await transaction([one, two], async () => {})
    await failure(() => transaction([one], () => { throw new Error('mine') }))
    assert.deepEqual(now().transactions, { committed: 2, files: 3 })
    assert.deepEqual(now().locks.acquired, { write: 7 })
    fs.mkdirSync(one)
    const { code } = await failure(() => transaction([one], (tx) => tx.write(one, 'one')))
    assert.deepEqual(now().transactions, { committed: 2, files: 3, failed: { [code]: 1 } })
  })

  test('retries on a full disk are theirs', { skip: whyNot.mount() }, async (t) => {
    const { dir } = fullDisk(t)
    const file = path.join(dir, 'file')
    resetMetrics()
    await failure(() => transaction([file], (tx) => tx.write(file, 'n'.repeat(512 << 10)), { retries: 3, retryDelay: 0 }))
    assert.deepEqual(now().transactions, { retries: 2, failed: { ENOSPC: 1 } })
    assert.equal(metrics().writes.retries, 0)
  })
})

test('write-ahead logs: batches, entries, bytes and groups', async (t) => {
  const dir = begin(t)
  const wal = await openWal(dir, { syncMode: 'perBatch' })
  const stats = await wal.stats()
  resetMetrics()
  const entry = (/** @type {number} */ i) => /** @type {const} */ ({ id: `${i}`, op: 'insert', payload: Buffer.alloc(100, i) })
  await Promise.all(Array.from({ length: 40 }, (_, i) => wal.append('a', [entry(i), entry(i + 1)])))
  await wal.append('b', [entry(1)])
  const after = await wal.stats()
  const counted = metrics()
  await wal.close()
  assert.deepEqual([counted.wal.batches, counted.wal.entries, counted.wal.latency.count], [41, 81, 41])
  assert.equal(counted.wal.bytes, Number(after.bytes) - Number(stats.bytes))
  assert.equal(counted.wal.groups, Number(after.groups) - Number(stats.groups))
  assert.ok(counted.wal.groups <= 41)
  assert.ok(counted.syncs.file.count >= counted.wal.groups, 'each group was synced')
  assert.deepEqual(counted.wal.failed, {})
  assertOrder(counted.wal.latency)
})

describe('locks', () => {
  test('those that are free are had at once, by kind', async (t) => {
    const file = begin(t)
    await withLock(file, () => {})
    await (await acquireLock(file)).release()
    await (await tryAcquireLock(file))?.release()
    const readers = await Promise.all([acquireLock(file, { kind: 'read' }), acquireLock(file, { kind: 'read' })])
    const { locks } = now()
    assert.deepEqual(locks.acquired, { write: 3, read: 2 })
    assert.deepEqual(locks.wait, { write: 3, read: 2 })
    assert.deepEqual(locks.hold, { write: 3 })
    await Promise.all(readers.map((reader) => reader.release()))
    assert.deepEqual(now().locks.hold, { write: 3, read: 2 })
    for (const histogram of [...Object.values(metrics().locks.wait), ...Object.values(metrics().locks.hold)]) assertOrder(histogram)
  })

  for (const holder of ['this process', 'another process']) {
    test(`waits, time-outs and refusals while ${holder} has it`, async (t) => {
      const file = begin(t)
      const peer = new Peer(t, { thread: holder === 'this process' })
      await peer.acquire(file)
      const before = metrics().locks.acquired.write
      assert.equal(before, holder === 'this process' ? 1 : 0)
      assert.equal(await tryAcquireLock(file), null)
      assert.equal((await failure(() => acquireLock(file, { timeout: 30 }))).code, 'ELOCKED')
      const controller = new AbortController()
      const cancelled = failure(() => acquireLock(file, { signal: controller.signal }))
      const waiting = [1, 2, 3].map(() => withLock(file, () => {}, { timeout: GUARD }))
      // A later call is answered, so they wait; in the kernel too, where that can be seen.
      assert.equal(await tryAcquireLock(file), null)
      if (holder === 'another process') await untilWaiting(lockFileOf(file))
      await new Promise((resolve) => setTimeout(resolve, 20))
      controller.abort()
      await cancelled
      await peer.release()
      await Promise.all(waiting)
      const { locks } = metrics()
      assert.equal(locks.acquired.write - before, 3)
      assert.equal(locks.refused, 2)
      assert.equal(locks.timedOut, 1)
      assert.deepEqual(locks.failed, { ABORT_ERR: 1 })
      assert.equal(locks.contended, 7)
      const [entry, ...others] = locks.contention
      assert.deepEqual(others, [])
      assert.deepEqual([entry?.path, entry?.contended, entry?.uncertainty], [file, 7, 0])
      assert.ok(Number(entry?.waited) >= 30, 'the one that timed out has waited so long')
      assert.equal(locks.hold.write.count, locks.acquired.write)
    })
  }

  test('locks of the other protocol are counted with them', async (t) => {
    const file = begin(t)
    const options = /** @type {const} */ ({ protocol: 'proper-lockfile' })
    const lock = await acquireLock(file, options)
    assert.equal(await tryAcquireLock(file, options), null)
    assert.equal((await failure(() => withLock(file, () => {}, { ...options, timeout: 5 }))).code, 'ELOCKED')
    const waiting = withLock(file, () => {}, { ...options, timeout: GUARD })
    assert.equal(await tryAcquireLock(file, options), null)
    await lock.release()
    await waiting
    const { contention, ...locks } = metrics().locks
    assert.deepEqual(locks.acquired, { read: 0, write: 2 })
    assert.deepEqual([locks.refused, locks.timedOut, locks.hold.write.count], [2, 1, 2])
    assert.deepEqual(contention.map(({ path, contended }) => [path, contended]), [[file, locks.contended]])
  })

  test('a path that leads nowhere, and a lock that the caller holds, fail by their codes', async (t) => {
    const file = begin(t)
    await failure(() => acquireLock(path.join(file, 'no', 'dir')))
    await withLock(file, () => failure(() => withLock(file, () => {})))
    const { locks } = now()
    assert.deepEqual(locks, { acquired: { write: 1 }, wait: { write: 1 }, hold: { write: 1 }, failed: { EDEADLK: 1, ENOENT: 1 } })
  })

  test('files that are contended for: no more than 64, the busiest first', async (t) => {
    const file = begin(t)
    const locks = await Promise.all(Array.from({ length: 80 }, (_, i) => acquireLock(`${file}-${i}`)))
    for (let round = 0; round < 3; round++) assert.equal(await tryAcquireLock(`${file}-7`), null)
    for (let i = 0; i < 80; i++) assert.equal(await tryAcquireLock(`${file}-${i}`), null)
    await Promise.all(locks.map((lock) => lock.release()))
    const { contended, refused, contention } = metrics().locks
    assert.deepEqual([contended, refused, contention.length], [83, 83, 64])
    assert.deepEqual(counted(contention[0], {}), { path: `${file}-7`, contended: 4, ...(contention[0]?.waited && { waited: contention[0].waited }) })
    const sum = contention.reduce((all, one) => all + one.contended - one.uncertainty, 0)
    assert.ok(sum <= 83)
    for (const { contended, uncertainty } of contention) assert.ok(contended > uncertainty)
  })
})

describe('threads', () => {
  /** So much work, in any thread. */
  const work = async (/** @type {any} */ { holdfast }, /** @type {string} */ file, /** @type {number} */ count) => {
    for (let i = 0; i < count; i++) {
      await Promise.all([
        holdfast.atomicWrite(`${file}-a`, '12', { durability: 'none' }),
        holdfast.atomicWrite(`${file}-b`, '345', { durability: 'none' }),
        holdfast.withLock(file, () => {}, { timeout: 60_000 }),
      ])
    }
  }

  test('all are counted together, and a concurrent reset loses nothing', async (t) => {
    const file = begin(t)
    const COUNT = 60
    const peers = [new Peer(t, { thread: true }), new Peer(t, { thread: true }), new Peer(t, { thread: true })]
    await Promise.all(peers.map((peer) => peer.run(() => 0)))
    let isDone = false
    const taken = []
    const threads = peers.map((peer, i) => peer.run(work, `${file}-${i}`, COUNT))
    const own = work({ holdfast }, `${file}-own`, COUNT)
    const all = Promise.all([...threads, own]).finally(() => (isDone = true))
    while (!isDone) {
      taken.push(resetMetrics())
      await new Promise((resolve) => setTimeout(resolve, 1))
    }
    await all
    // A worker thread sees, and takes, the same.
    const rest = await peers[0].run(({ holdfast }) => holdfast.resetMetrics())
    taken.push(rest)
    assert.deepEqual(metrics().writes, ZERO.writes)
    const sum = (/** @type {(one: any) => number} */ of) => taken.reduce((all, one) => all + of(one), 0)
    assert.equal(sum(({ writes }) => writes.acknowledged.none), 4 * 2 * COUNT)
    assert.equal(sum(({ writes }) => writes.latency.none.count), 4 * 2 * COUNT)
    assert.equal(sum(({ writes }) => writes.attempts), 4 * 2 * COUNT)
    assert.equal(sum(({ writes }) => writes.bytes), 4 * 5 * COUNT)
    assert.equal(sum(({ locks }) => locks.acquired.write), 4 * COUNT)
    assert.equal(sum(({ locks }) => locks.hold.write.count), 4 * COUNT)
    for (const { writes, locks } of taken) {
      assertOrder(writes.latency.none, { isWhole: false })
      assertOrder(locks.wait.write, { isWhole: false })
    }
    // The sum of what is being counted may be in the next reading: none of it is lost.
    const latencies = taken.map(({ writes }) => writes.latency.none).filter(({ count }) => count > 0)
    const mean = sum(({ writes }) => writes.latency.none.sum) / (4 * 2 * COUNT)
    assert.ok(mean >= Math.min(...latencies.map(({ min }) => min)) && mean <= Math.max(...latencies.map(({ max }) => max)), `${mean}`)
  })
})
