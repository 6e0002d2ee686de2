'use strict'

// Write-ahead logs: what each method and each option does.

const { describe, test } = require('node:test')
const assert = require('node:assert/strict')
const diagnostics = require('node:diagnostics_channel')
const fs = require('node:fs')
const path = require('node:path')
const { setTimeout } = require('node:timers/promises')
const { pathToFileURL } = require('node:url')
const { SessionFileError, openWal } = require('../index.js')
const { collector, failure, inChild } = require('./helpers.js')
const { fastDir } = require('./system.js')

/** A log of its own, closed after the test. */
async function newLog(t, options, dir = path.join(fastDir(t), 'log')) {
  const wal = await openWal(dir, options)
  t.after(() => wal.close().catch(() => {}))
  return { wal, dir }
}

const insert = (id, payload = `payload of ${id}`, more = {}) => ({ id, op: 'insert', payload, ...more })
const inserts = (count, from = 0) => Array.from({ length: count }, (_, i) => insert(`id-${from + i}`))
const ids = (entries) => entries.map(({ id }) => id)

async function all(replay) {
  const entries = []
  for await (const entry of replay) entries.push(entry)
  return entries
}

/** What a log has in its directory, apart from its lock file. */
const collectionsIn = (dir) => fs.readdirSync(dir).filter((name) => !name.startsWith('.'))

/** The plain values of an entry: bytes as an array. */
const plain = ({ payload, ...entry }) => ({ ...entry, payload: typeof payload === 'string' ? payload : [...payload] })

describe('a write-ahead log', { concurrency: 4 }, () => {
  test('returns what was appended: from memory, from the disk, and after a restart', async (t) => {
    const dir = path.join(fastDir(t), 'log')
    const wal = await openWal(dir)
    const before = Date.now()
    const sequences = await wal.append('things', [
      { id: 'text', op: 'insert', payload: 'häuser ☃ 𝄞', timestamp: 12 },
      { id: 'bytes', op: 'insert', payload: new Uint8Array([0, 255, 10]), timestamp: -5 },
      { id: 'no bytes', op: 'insert', payload: new Uint8Array(0) },
      { id: 'no text', op: 'insert', payload: '' },
      { id: 'a name of more than twenty-four letters, ünd not all of ASCII', op: 'update', payload: Buffer.from('in the middle').subarray(3, 6) },
      { id: 'gone', op: 'delete' },
      { id: '', op: 'insert', payload: 'an id may be empty', timestamp: 8.64e15 },
    ])
    assert.deepEqual(sequences, [1n, 2n, 3n, 4n, 5n, 6n, 7n])
    const entries = (await all(wal.replay('things'))).map(plain)
    const now = entries[2].timestamp
    assert.ok(now >= before && now <= Date.now())
    const common = { collection: 'things' }
    assert.deepEqual(entries, [
      { ...common, sequence: 1n, id: 'text', op: 'insert', payload: 'häuser ☃ 𝄞', timestamp: 12 },
      { ...common, sequence: 2n, id: 'bytes', op: 'insert', payload: [0, 255, 10], timestamp: -5 },
      { ...common, sequence: 3n, id: 'no bytes', op: 'insert', payload: [], timestamp: now },
      { ...common, sequence: 4n, id: 'no text', op: 'insert', payload: '', timestamp: now },
      { ...common, sequence: 5n, id: 'a name of more than twenty-four letters, ünd not all of ASCII', op: 'update', payload: [...Buffer.from('the')], timestamp: now },
      { ...common, sequence: 6n, id: 'gone', op: 'delete', payload: [], timestamp: now },
      { ...common, sequence: 7n, id: '', op: 'insert', payload: 'an id may be empty', timestamp: 8.64e15 },
    ].map((entry) => ({ ...entry })))
    const visible = entries.filter(({ op }) => op !== 'delete')
    for (const entry of visible) assert.deepEqual(plain(wal.get('things', entry.id)), entry)
    assert.equal(wal.get('things', 'gone'), undefined)
    assert.deepEqual([...wal.entries('things')].map(plain), visible)
    assert.deepEqual([...wal.entries('things', { deletions: true })].map(plain), entries)
    await wal.close()

    const { wal: again } = await newLog(t, {}, dir)
    assert.deepEqual(again.damage, [])
    assert.deepEqual((await all(again.replay('things'))).map(plain), entries)
    assert.deepEqual([...again.entries('things')].map(plain), visible)
    assert.deepEqual(await again.append('things', inserts(1)), [8n], 'numbers go on')
    assert.ok(fs.existsSync(path.join(dir, 'things', 'wal_current.avro')))
  })

  test('shows an entry as soon as its append has resolved, the newest of each id', async (t) => {
    const { wal } = await newLog(t)
    await wal.append('a', [insert('x', 'one'), insert('y', 'one')])
    await wal.append('a', [{ id: 'x', op: 'update', payload: 'two' }])
    assert.equal(wal.get('a', 'x').payload, 'two')
    assert.deepEqual(ids([...wal.entries('a')]), ['y', 'x'])
    await wal.append('a', [{ id: 'x', op: 'delete' }])
    assert.equal(wal.get('a', 'x'), undefined)
    assert.equal(wal.get('b', 'x'), undefined)
    assert.deepEqual([...wal.entries('b')], [])
    assert.deepEqual(await all(wal.replay('b')), [])
    assert.deepEqual(ids(await all(wal.replay('a'))), ['x', 'y', 'x', 'x'], 'the disk has them all')
  })

  test('copies what it is given before the call returns', async (t) => {
    const { wal } = await newLog(t)
    const payload = Buffer.from('good')
    const entry = { id: 'x', op: 'insert', payload }
    const entries = [entry]
    const pending = wal.append('a', entries)
    payload.fill('!')
    entry.id = 'z'
    entries.push('nonsense')
    structuredClone(payload.buffer, { transfer: payload.buffer.byteLength === 4 ? [payload.buffer] : [] })
    assert.deepEqual(await pending, [1n])
    assert.equal(Buffer.from(wal.get('a', 'x').payload).toString(), 'good')
  })

  test('an append during another is a batch of its own: by a getter of an entry, or by a subscriber', async (t) => {
    const { wal } = await newLog(t)
    /** @type {Promise<unknown>[]} */
    const inner = []
    const curious = {
      op: 'insert',
      payload: 'an outer one',
      get id() {
        inner.push(wal.append('b', inserts(3, 100)))
        return 'outer'
      },
    }
    await wal.append('a', [insert('first'), curious, insert('last')])
    await Promise.all(inner)
    assert.deepEqual(ids([...wal.entries('a')]), ['first', 'outer', 'last'])
    assert.deepEqual(ids([...wal.entries('b')]), ids(inserts(3, 100)))

    const start = (/** @type {{ dir: string, operation: string, collections?: string[] }} */ { operation, collections }) => {
      if (operation === 'wal append' && collections?.[0] === 'c') inner.push(wal.append('d', inserts(2, 200)))
    }
    diagnostics.subscribe('tracing:holdfast:wal:start', start)
    t.after(() => diagnostics.unsubscribe('tracing:holdfast:wal:start', start))
    await wal.append('c', inserts(2, 300))
    await Promise.all(inner)
    assert.deepEqual(ids([...wal.entries('c')]), ids(inserts(2, 300)))
    assert.deepEqual(ids([...wal.entries('d')]), ids(inserts(2, 200)))
  })

  test('writeBatch groups by collection and answers in the order of the entries', async (t) => {
    const { wal } = await newLog(t)
    const batch = [['a', '1'], ['b', '1'], ['a', '2'], ['c', '1'], ['b', '2']]
    const sequences = await wal.writeBatch(batch.map(([collection, id]) => ({ collection, ...insert(id) })))
    assert.equal(new Set(sequences).size, 5)
    for (const [index, [collection, id]] of batch.entries()) assert.equal(wal.get(collection, id).sequence, sequences[index])
    assert.equal(sequences[2], sequences[0] + 1n, 'the part of a collection is one batch')
    assert.equal(wal.stats().batches, 3)
    assert.deepEqual(await wal.writeBatch([]), [])
  })

  test('writeBatch reports what was appended even when a part fails', async (t) => {
    const { wal, dir } = await newLog(t)
    fs.writeFileSync(path.join(dir, 'b'), 'in the way')
    const entries = [{ collection: 'a', ...insert('1') }, { collection: 'b', ...insert('1') }, { collection: 'a', ...insert('2') }]
    const error = await failure(() => wal.writeBatch(entries))
    assert.ok(error instanceof SessionFileError)
    assert.equal(error.code, 'ENOTDIR')
    assert.deepEqual(error.sequences.map(typeof_), ['bigint', 'undefined', 'bigint'])
    assert.deepEqual(ids([...wal.entries('a')]), ['1', '2'])
    // Wrong arguments are refused before anything is appended.
    assert.equal((await failure(() => wal.writeBatch([{ collection: 'c', ...insert('1') }, { collection: '../d', ...insert('1') }]))).code, 'ERR_INVALID_ARG_VALUE')
    const wrong = await failure(() => wal.writeBatch([{ collection: 'c', ...insert('1') }, { collection: 'd', id: 1 }]))
    assert.equal(wrong.code, 'ERR_INVALID_ARG_TYPE')
    assert.deepEqual([...wal.entries('c')], [])
  })

  test('an empty batch is nothing', async (t) => {
    const { wal, dir } = await newLog(t)
    assert.deepEqual(await wal.append('a', []), [])
    assert.deepEqual(collectionsIn(dir), [])
  })

  test('replays from a number on, and only as far as it had got when it began', async (t) => {
    const { wal } = await newLog(t, { memtable: false })
    await wal.append('a', inserts(10))
    await wal.append('b', inserts(5))
    await wal.append('a', inserts(10, 10))
    assert.deepEqual((await all(wal.replay('a', { from: 8n }))).map(({ sequence }) => sequence), [8n, 9n, 10n, 16n, 17n, 18n, 19n, 20n, 21n, 22n, 23n, 24n, 25n])
    assert.equal((await all(wal.replay('a', { from: 0n }))).length, 20)
    assert.deepEqual(await all(wal.replay('a', { from: 26n })), [])
    assert.deepEqual(await all(wal.replay('a', { from: 2n ** 63n - 1n })), [])
    const replay = wal.replay('a')
    assert.equal((await replay.next()).value.id, 'id-0')
    await wal.append('a', inserts(3, 100))
    assert.equal((await all(replay)).length, 19)
  })

  test('a replay can be asked for many entries at once, and be left early', async (t) => {
    const { wal } = await newLog(t, { memtable: false })
    const bytes = Buffer.alloc(2000, 'x')
    for (let i = 0; i < 20; i++) await wal.append('a', Array.from({ length: 100 }, (_, j) => insert(`${i * 100 + j}`, bytes)))
    const replay = wal.replay('a')
    const results = await Promise.all(Array.from({ length: 2002 }, () => replay.next()))
    assert.deepEqual(results.slice(0, 2000).map(({ value }) => value.id), Array.from({ length: 2000 }, (_, i) => `${i}`))
    assert.deepEqual(results.slice(2000), [{ value: undefined, done: true }, { value: undefined, done: true }])

    const open = () => fs.readdirSync('/proc/self/fd').length
    const before = process.platform === 'linux' && open()
    for (let round = 0; round < 50; round++) {
      for await (const { id } of wal.replay('a')) if (id === `${round}`) break
      const other = wal.replay('a')
      const first = other.next()
      const end = other.return()
      assert.equal((await first).value.id, '0')
      assert.deepEqual(await end, { value: undefined, done: true })
      assert.deepEqual(await other.next(), { value: undefined, done: true })
      await wal.replay('a').return()
    }
    if (before) assert.ok(open() <= before + 2, `${open()} files are open, and were ${before}`)
  })

  test('continues a replay through sealed segments while entries are appended and released', async (t) => {
    const { wal } = await newLog(t, { segmentSize: 16 * 1024, memtable: false })
    for (let i = 0; i < 30; i++) await wal.append('a', inserts(50, i * 50))
    assert.ok(wal.stats().collections[0].segments > 3)
    const seen = []
    for await (const { sequence } of wal.replay('a')) {
      seen.push(sequence)
      if (seen.length % 300 === 0) {
        await wal.append('a', inserts(50))
        await wal.checkpoint('a', sequence)
      }
    }
    assert.deepEqual(seen, Array.from({ length: 1500 }, (_, i) => BigInt(i + 1)))
  })

  test('a checkpoint releases memory and segments, and holds after a restart', async (t) => {
    const { wal, dir } = await newLog(t, { segmentSize: 64 * 1024 })
    const payload = 'x'.repeat(1000)
    for (let i = 0; i < 50; i++) await wal.append('a', Array.from({ length: 20 }, (_, j) => insert(`${i * 20 + j}`, payload)))
    const segments = () => fs.readdirSync(path.join(dir, 'a')).filter((name) => /^wal_\d+\.avro$/.test(name)).length
    const before = segments()
    assert.ok(before > 10)
    await wal.checkpoint('a', 900n)
    assert.ok(segments() < before / 4, `${segments()} of ${before}`)
    assert.equal(wal.get('a', '899'), undefined)
    assert.equal(wal.get('a', '900').sequence, 901n)
    assert.equal([...wal.entries('a')].length, 100)
    assert.deepEqual((await all(wal.replay('a')))[0].sequence, 901n)
    await wal.checkpoint('a', 10n) // Nothing to do: it is past.
    assert.equal(wal.stats().collections[0].released, 900n)
    assert.equal((await failure(() => wal.checkpoint('a', 1001n))).code, 'ERR_OUT_OF_RANGE')
    await wal.checkpoint('unknown', 0n)
    await wal.close()
    const { wal: again } = await newLog(t, {}, dir)
    assert.equal((await all(again.replay('a', { from: 901n }))).length, 100)
    await again.checkpoint('a', 1000n)
    assert.deepEqual([...again.entries('a')], [])
    assert.deepEqual(await again.append('a', inserts(1)), [1001n])
  })

  test('seals segments by size and by age', async (t) => {
    const { wal, dir } = await newLog(t, { segmentAge: 1 })
    await wal.append('a', inserts(1))
    await setTimeout(5)
    await wal.append('a', inserts(1))
    assert.deepEqual(fs.readdirSync(path.join(dir, 'a')).filter((name) => name.startsWith('wal_0')), ['wal_000000000001.avro'])
    assert.equal(wal.stats().collections[0].segments, 2)
  })

  test('closes: what was asked for before is done, later calls are refused, the next may open', async (t) => {
    const { wal, dir } = await newLog(t)
    const pending = Array.from({ length: 20 }, (_, i) => wal.append('a', inserts(10, i * 10)))
    const flushed = wal.flush()
    const closed = wal.close()
    const late = wal.append('a', inserts(1))
    const { code } = await failure(() => late)
    assert.equal(code, 'EWALCLOSED')
    assert.equal((await Promise.all(pending)).flat().length, 200)
    await flushed
    await closed
    await wal.close()
    await wal[Symbol.asyncDispose]()
    for (const call of [() => wal.append('a', inserts(1)), () => wal.writeBatch([]), () => wal.flush(), () => wal.checkpoint('a', 0n), () => wal.get('a', 'x'), () => wal.entries('a'), () => wal.replay('a'), () => wal.stats()]) {
      const error = await failure(call)
      assert.ok(error instanceof SessionFileError && error.code === 'EWALCLOSED' && error.path === dir, error)
    }
    const { wal: again } = await newLog(t, { timeout: 0 }, dir)
    assert.equal([...again.entries('a')].length, 200)
  })

  test('reports statistics', async (t) => {
    const { wal } = await newLog(t)
    await wal.append('a', inserts(3))
    await wal.append('b', inserts(2))
    const { batches, entries, syncs, groups, poisoned, queueBytes, waiting, collections } = wal.stats()
    assert.deepEqual({ batches, entries, syncs, groups, poisoned, queueBytes, waiting }, { batches: 2, entries: 5, syncs: 2, groups: 2, poisoned: undefined, queueBytes: 0, waiting: 0 })
    assert.deepEqual(collections.map(({ name, last, durable, released, memtableEntries, segments }) => ({ name, last, durable, released, memtableEntries, segments })), [
      { name: 'a', last: 3n, durable: 3n, released: 0n, memtableEntries: 3, segments: 1 },
      { name: 'b', last: 5n, durable: 5n, released: 0n, memtableEntries: 2, segments: 1 },
    ])
    assert.ok(collections[0].bytes > 0 && collections[0].memtableBytes > 0)
  })
})

const typeof_ = (value) => typeof value

describe('sync modes', { concurrency: 4 }, () => {
  test("'always' syncs each append, 'perBatch' shares", async (t) => {
    const counts = {}
    for (const syncMode of ['always', 'perBatch']) {
      const { wal } = await newLog(t, { syncMode })
      await wal.append('a', inserts(1))
      await Promise.all(Array.from({ length: 500 }, (_, i) => wal.append('a', inserts(1, i))))
      counts[syncMode] = wal.stats().syncs
      assert.equal(wal.stats().collections[0].durable, 501n)
    }
    assert.equal(counts.always, 501)
    assert.ok(counts.perBatch < 500, `${counts.perBatch} syncs for 500 appends at once`)
  })

  test("'never' does not sync but on demand: by a durable append, flush and close", async (t) => {
    const { wal } = await newLog(t, { syncMode: 'never' })
    const progress = () => ({ syncs: wal.stats().syncs, durable: wal.stats().collections[0].durable })
    await wal.append('a', inserts(2))
    await wal.append('a', inserts(2), { durable: false })
    assert.deepEqual(progress(), { syncs: 0, durable: 0n })
    await wal.append('a', inserts(1), { durable: true })
    assert.deepEqual(progress(), { syncs: 1, durable: 5n })
    await wal.writeBatch([{ collection: 'a', ...insert('x') }], { durable: true })
    assert.deepEqual(progress(), { syncs: 2, durable: 6n })
    await wal.append('a', inserts(1))
    await wal.append('b', inserts(1))
    await wal.flush('a')
    assert.deepEqual(progress(), { syncs: 3, durable: 7n })
    assert.equal(wal.stats().collections[1].durable, 7n)
    await wal.flush()
    assert.equal(wal.stats().collections[1].durable, 8n)
    await wal.flush('unknown')
  })

  test("'periodic' syncs in the background", async (t) => {
    const { wal } = await newLog(t, { syncMode: 'periodic', syncInterval: 20 })
    await wal.append('a', inserts(2))
    for (let i = 0; wal.stats().collections[0].durable < 2n; i++) {
      assert.ok(i < 1000, 'there is no sync')
      await setTimeout(10)
    }
    const { wal: slow } = await newLog(t, { syncMode: 'periodic', syncInterval: 2 ** 31 - 1 })
    await slow.append('a', inserts(2))
    await setTimeout(50)
    assert.equal(slow.stats().collections[0].durable, 0n)
    await slow.append('a', inserts(1), { durable: true })
    assert.equal(slow.stats().collections[0].durable, 3n)
  })
})

describe('the flush of the memtable', { concurrency: 4 }, () => {
  test('hands over what has grown too large, in the background, and releases it', async (t) => {
    const store = new Map()
    let calls = 0
    const { wal, dir } = await newLog(t, {
      flushThreshold: 20_000,
      async onFlush({ collection, entries, upTo }) {
        calls++
        assert.equal(collection, 'a')
        for (const { id, op, payload, sequence } of entries) {
          assert.ok(sequence <= upTo)
          if (op === 'delete') store.delete(id)
          else store.set(id, payload)
        }
        assert.equal([...entries].length, [...entries].length, 'it can be gone through again')
        await setTimeout(5)
      },
    })
    for (let i = 0; i < 100; i++) await wal.append('a', [insert(`id-${i}`, 'x'.repeat(1000)), { id: `id-${i - 50}`, op: 'delete' }])
    await wal.flush('a')
    assert.ok(calls > 1, `${calls}`)
    assert.deepEqual([...store.keys()].sort(), Array.from({ length: 50 }, (_, i) => `id-${i + 50}`).sort())
    assert.deepEqual([...wal.entries('a', { deletions: true })], [])
    const before = calls
    await wal.flush()
    assert.equal(calls, before, 'there was nothing more to hand over')
    await wal.close()
    const { wal: again } = await newLog(t, {}, dir)
    assert.deepEqual(await all(again.replay('a')), [], 'it does not come again')
  })

  test('does not hold up appends, and close waits for it', async (t) => {
    let release
    const gate = new Promise((resolve) => (release = resolve))
    let isDone = false
    const { wal } = await newLog(t, { flushThreshold: 1, onFlush: () => gate.then(() => void (isDone = true)) })
    await wal.append('a', inserts(1))
    for (let i = 0; i < 20; i++) await wal.append('a', inserts(1, i))
    assert.equal(isDone, false)
    const closed = wal.close()
    await setTimeout(20)
    release()
    await closed
    assert.equal(isDone, true)
  })

  test('flushes that were asked for are done before the log is closed', async (t) => {
    const taken = []
    const { wal } = await newLog(t, { onFlush: ({ entries }) => setTimeout(5).then(() => void taken.push([...entries].length)) })
    await wal.append('a', inserts(3))
    const first = wal.flush()
    const appended = wal.append('a', inserts(2, 10))
    const second = wal.flush('a')
    await Promise.all([wal.close(), first, appended, second])
    assert.equal(taken.reduce((a, b) => a + b), 5)
  })

  test('begins when a log is opened that has too much', async (t) => {
    const { wal, dir } = await newLog(t)
    await wal.append('a', inserts(100))
    await wal.close()
    const taken = new Promise((resolve) => {
      newLog(t, { flushThreshold: 100, onFlush: ({ entries }) => resolve([...entries].length) }, dir)
    })
    assert.equal(await taken, 100)
  })

  test('a failure releases nothing, is logged, and is retried', async (t) => {
    const { logger, of } = collector()
    let fails = true
    let taken = 0
    const { wal } = await newLog(t, {
      flushThreshold: 1000, logger,
      onFlush({ entries }) {
        if (fails) throw Object.assign(new Error('the store is down'), { code: 'EDOWN' })
        taken += [...entries].length
      },
    })
    await wal.append('a', inserts(50))
    await setTimeout(1)
    const [entry] = of('Background flush failed')
    assert.equal(entry.level, 'error')
    const { err, ...fields } = entry.fields
    assert.deepEqual({ ...fields, path: undefined }, { path: undefined, collection: 'a', errorCode: 'EDOWN', errorMessage: 'the store is down', operation: 'wal flush' })
    assert.equal(err.message, 'the store is down')
    assert.equal(wal.stats().collections[0].memtableEntries, 50)
    assert.equal((await failure(() => wal.flush('a'))).code, 'EDOWN')
    fails = false
    for (let i = 0; taken === 0; i++) {
      assert.ok(i < 500, 'it is not tried again')
      await wal.append('a', inserts(1))
      await setTimeout(10)
    }
    await wal.flush()
    assert.equal(wal.stats().collections[0].memtableEntries, 0)
  })

  test('a failure that no logger hears of is a warning', async (t) => {
    const { warnings } = await inChild(async ({ dir }, { holdfast }) => {
      const warnings = []
      process.on('warning', ({ name, message }) => warnings.push(`${name}: ${message}`))
      const wal = await holdfast.openWal(dir, { flushThreshold: 1, onFlush: () => Promise.reject(new Error('down')) })
      await wal.append('a', [{ id: '1', op: 'insert', payload: '' }])
      await wal.close()
      await new Promise(setImmediate)
      return { warnings }
    }, { dir: path.join(fastDir(t), 'log') })
    assert.equal(warnings.length, 1)
    assert.match(warnings[0], /^HoldfastWarning: The background flush of 'a' in .* failed: down$/)
  })

  test('what would wait for itself is refused, other calls are not', async (t) => {
    const codes = []
    const { wal } = await newLog(t, {
      async onFlush({ collection }) {
        if (collection !== 'a') return
        for (const call of [() => wal.flush('a'), () => wal.flush(), () => wal.close()]) codes.push((await failure(call)).code)
        await wal.append('b', inserts(1))
        await wal.flush('b')
      },
    })
    await wal.append('a', inserts(1))
    await wal.flush('a')
    assert.deepEqual(codes, ['EDEADLK', 'EDEADLK', 'EDEADLK'])
    assert.equal(wal.stats().collections[1].memtableEntries, 0)
  })

  test('flushes that ask for each other are refused, and nothing is lost', async (t) => {
    const next = { a: 'b', b: 'c', c: 'a' }
    const codes = []
    const { wal } = await newLog(t, {
      onFlush: ({ collection }) => wal.flush(next[collection]).catch((error) => {
        codes.push(`${collection}: ${error.code}`)
        throw error
      }),
    })
    for (const collection of Object.keys(next)) await wal.append(collection, inserts(2))
    // Each waits for the next, in a circle.
    const error = await failure(() => wal.flush('a'))
    assert.deepEqual([error.code, error.operation], ['EDEADLK', 'wal flush'])
    assert.deepEqual(codes, ['c: EDEADLK', 'b: EDEADLK', 'a: EDEADLK'])
    // All of them have begun, and each asks for one that runs.
    const settled = await Promise.allSettled(Object.keys(next).map((collection) => wal.flush(collection)))
    assert.deepEqual(settled.map(({ reason }) => reason?.code), ['EDEADLK', 'EDEADLK', 'EDEADLK'])
    assert.deepEqual(wal.stats().collections.map(({ memtableEntries }) => memtableEntries), [2, 2, 2])
    // Without a circle it is waited for, whatever else waits there.
    delete next.c
    next.b = 'a'
    const flushed = []
    const { wal: other } = await newLog(t, {
      async onFlush({ collection }) {
        await setTimeout(1)
        if (collection !== 'a') await other.flush('a')
        flushed.push(collection)
      },
    })
    for (const collection of ['a', 'b', 'c']) await other.append(collection, inserts(2))
    await Promise.all(['b', 'c', 'a'].map((collection) => other.flush(collection)))
    assert.deepEqual(flushed.sort(), ['a', 'b', 'c'])
  })

  test('flushes of two logs that close each other are refused too, and both are closed', async (t) => {
    const logs = []
    const codes = []
    const closeOther = (number) => () => logs[1 - number].close().catch((error) => codes.push(error.code))
    for (const number of [0, 1]) logs.push((await newLog(t, { onFlush: closeOther(number) })).wal)
    for (const log of logs) await log.append('a', inserts(2))
    await Promise.all(logs.map((log) => log.flush('a')))
    assert.deepEqual(codes, ['EDEADLK'])
    await Promise.all(logs.map((log) => log.close()))
    for (const log of logs) assert.throws(() => log.stats(), { code: 'EWALCLOSED' })
    // Closed by a flush that waits only for what runs.
    const [other, dir] = [(await newLog(t)).wal, path.join(fastDir(t), 'log')]
    const wal = await openWal(dir, { onFlush: () => other.close() })
    await wal.append('a', inserts(2))
    await wal.flush('a')
    await wal.close()
    assert.throws(() => other.stats(), { code: 'EWALCLOSED' })
  })

  test('flushes of two logs that wait for each other are refused too', async (t) => {
    /** Each has the other flushed, at most `left` times in all. */
    let left = 1000
    const logs = []
    const toOther = (number) => () => left-- > 0 ? logs[1 - number].flush('a') : undefined
    for (const number of [0, 1]) logs.push((await newLog(t, { onFlush: toOther(number) })).wal)
    for (const log of logs) await log.append('a', inserts(2))
    const settled = await Promise.allSettled(logs.map((log) => log.flush('a')))
    assert.deepEqual(settled.map(({ reason }) => reason?.code), ['EDEADLK', 'EDEADLK'])
    left = 1
    await logs[0].flush('a')
    assert.deepEqual(logs.map((log) => log.stats().collections[0].memtableEntries), [0, 0])
  })
})

describe('one writer, many readers', { concurrency: 4 }, () => {
  test('a second writer is told who has the log, in this process and in others', async (t) => {
    const { wal, dir } = await newLog(t)
    await wal.append('a', inserts(1))
    const own = await failure(() => openWal(dir, { timeout: 0 }))
    assert.equal(own.code, 'ELOCKED')
    assert.match(own.message, /this process/)
    const other = await inChild(({ dir }, { holdfast, outcome }) => outcome(() => holdfast.openWal(dir, { timeout: 20 })), { dir })
    assert.equal(other.code, 'ELOCKED')
    assert.equal(other.class, 'SessionFileError')
    assert.match(other.message, new RegExp(`^Failed to open the log at .*process ${process.pid} on `))
    const controller = new AbortController()
    const cancelled = failure(() => openWal(dir, { signal: controller.signal, timeout: Infinity }))
    controller.abort('enough')
    assert.equal((await cancelled).name, 'AbortError')
    const waiting = openWal(dir)
    await wal.close()
    await (await waiting).close()
  })

  test('a reader sees what is there, takes no lock and changes nothing', async (t) => {
    const { wal, dir } = await newLog(t, { segmentSize: 8192 })
    for (let i = 0; i < 10; i++) await wal.append('a', inserts(50, i * 50))
    const reader = await openWal(pathToFileURL(dir), { readOnly: true })
    assert.deepEqual((await all(reader.replay('a', { from: 11n }))).map(({ sequence }) => sequence), Array.from({ length: 490 }, (_, i) => BigInt(i + 11)))
    assert.deepEqual(await all(reader.replay('unknown')), [])
    assert.deepEqual(await reader.collections(), ['a'])
    await wal.append('a', inserts(5))
    // The writer makes the next segment beforehand, with or without readers.
    const names = () => fs.readdirSync(path.join(dir, 'a')).filter((name) => name !== 'wal_next.avro')
    const before = names()
    const seen = await inChild(async ({ dir }, { holdfast }) => {
      const reader = await holdfast.openWal(dir, { readOnly: true })
      let count = 0
      for await (const { id } of reader.replay('a')) if (id) count++
      return count
    }, { dir })
    assert.equal(seen, 505)
    assert.deepEqual(names(), before)
    await reader.close()
    for (const call of [() => reader.replay('a'), () => reader.collections()]) assert.equal((await failure(call)).code, 'EWALCLOSED')
    const missing = await failure(() => openWal(path.join(dir, 'missing'), { readOnly: true }))
    assert.deepEqual([missing.code, missing.operation], ['ENOENT', 'open wal'])
    assert.match(missing.hint, /folder of the log/)
    assert.equal((await failure(() => openWal(path.join(dir, 'a', 'wal_current.avro'), { readOnly: true }))).code, 'ENOTDIR')
  })
})

describe('arguments', () => {
  test('those of openWal', async (t) => {
    const dir = path.join(fastDir(t), 'log')
    for (const [options, code, text] of [
      [{ syncmode: 'always' }, 'ERR_INVALID_ARG_VALUE', /Unknown option "syncmode" for openWal\. Did you mean "syncMode"\?/],
      [{ syncMode: 'sometimes' }, 'ERR_INVALID_ARG_VALUE', /"syncMode" option must be one of 'always'/],
      [{ recovery: 1 }, 'ERR_INVALID_ARG_TYPE', /"recovery"/],
      [{ syncInterval: 5 }, 'ERR_INVALID_ARG_VALUE', /"syncInterval" option needs "syncMode"/],
      [{ syncMode: 'periodic', syncInterval: 0 }, 'ERR_OUT_OF_RANGE', /"syncInterval"/],
      [{ segmentSize: 4095 }, 'ERR_OUT_OF_RANGE', /"segmentSize"/],
      [{ segmentAge: 0.5 }, 'ERR_OUT_OF_RANGE', /"segmentAge"/],
      [{ memtable: 1 }, 'ERR_INVALID_ARG_TYPE', /"memtable"/],
      [{ onFlush: true }, 'ERR_INVALID_ARG_TYPE', /"onFlush" option must be of type function/],
      [{ flushThreshold: 10 }, 'ERR_INVALID_ARG_VALUE', /"flushThreshold" option needs "onFlush"/],
      [{ onFlush() {}, memtable: false }, 'ERR_INVALID_ARG_VALUE', /"onFlush" option needs the memtable/],
      [{ highWaterMark: 0 }, 'ERR_OUT_OF_RANGE', /"highWaterMark"/],
      [{ timeout: -1 }, 'ERR_OUT_OF_RANGE', /"timeout"/],
      [{ signal: {} }, 'ERR_INVALID_ARG_TYPE', /"signal"/],
      [{ logger: () => {} }, 'ERR_INVALID_ARG_TYPE', /"logger"/],
      [{ readOnly: true, timeout: 1 }, 'ERR_INVALID_ARG_VALUE', /"timeout" option has no meaning with "readOnly"/],
      [null, 'ERR_INVALID_ARG_TYPE', /"options" argument/],
    ]) {
      const error = await failure(() => openWal(dir, options))
      assert.equal(error.code, code, error)
      assert.match(error.message, text)
      assert.ok(error instanceof TypeError || error instanceof RangeError)
    }
    for (const wrong of [1, '', 'a\0b', 's3://bucket/log', null]) assert.match((await failure(() => openWal(wrong))).message, /"dir" argument/)
    assert.equal((await failure(() => openWal(path.join(dir, 'below')))).code, 'ENOENT')
    assert.equal((await failure(() => openWal(dir, { signal: AbortSignal.abort() }))).name, 'AbortError')
    assert.ok(!fs.existsSync(dir))
  })

  test('those of the methods', async (t) => {
    const { wal, dir } = await newLog(t)
    const append = (entry) => () => wal.append('a', [insert('good'), entry])
    const gone = new Uint8Array(4)
    structuredClone(gone.buffer, { transfer: [gone.buffer] })
    for (const [call, code, text] of [
      [() => wal.append(1, []), 'ERR_INVALID_ARG_TYPE', /"collection" argument/],
      [() => wal.append('a', 'b'), 'ERR_INVALID_ARG_TYPE', /"entries" argument/],
      [() => wal.append('a'), 'ERR_INVALID_ARG_TYPE', /"entries" argument/],
      [() => wal.append('a', [], { sync: true }), 'ERR_INVALID_ARG_VALUE', /Unknown option "sync" for append/],
      [() => wal.append('a', [], { durable: 1 }), 'ERR_INVALID_ARG_TYPE', /"durable"/],
      [() => wal.append('a', [], { durable: false }), 'ERR_INVALID_ARG_VALUE', /"durable" option must not be false/],
      [() => wal.writeBatch([], { durable: false }), 'ERR_INVALID_ARG_VALUE', /"durable" option must not be false/],
      [() => wal.writeBatch({}), 'ERR_INVALID_ARG_TYPE', /"entries" argument/],
      [() => wal.writeBatch([insert('x')]), 'ERR_INVALID_ARG_TYPE', /"entries\[0\]\.collection" property/],
      [() => wal.writeBatch([null]), 'ERR_INVALID_ARG_TYPE', /"entries\[0\]"/],
      [append(null), 'ERR_INVALID_ARG_TYPE', /"entries\[1\]"/],
      [append({ ...insert('x'), id: 5 }), 'ERR_INVALID_ARG_TYPE', /"entries\[1\]\.id" property must be of type string/],
      [append({ ...insert('x'), id: '\ud800' }), 'ERR_INVALID_ARG_VALUE', /"entries\[1\]\.id" property must be well-formed/],
      [append(insert('x', 'a long text that has half of a pair: \udc00')), 'ERR_INVALID_ARG_VALUE', /"entries\[1\]\.payload" property must be well-formed/],
      [append({ ...insert('x'), op: 'upsert' }), 'ERR_INVALID_ARG_VALUE', /"entries\[1\]\.op" property must be one of 'insert', 'update', 'delete'\. Received 'upsert'/],
      [append({ id: 'x', payload: '' }), 'ERR_INVALID_ARG_TYPE', /"entries\[1\]\.op"/],
      [append({ id: 'x', op: 'insert' }), 'ERR_INVALID_ARG_TYPE', /"entries\[1\]\.payload" property must be of type string or an instance of Uint8Array\. Received undefined/],
      [append(insert('x', [1])), 'ERR_INVALID_ARG_TYPE', /"entries\[1\]\.payload"/],
      [append(insert('x', new Uint16Array(1))), 'ERR_INVALID_ARG_TYPE', /"entries\[1\]\.payload"/],
      [append(insert('x', gone)), 'ERR_INVALID_ARG_VALUE', /"entries\[1\]\.payload" property must not be a view of memory that is gone/],
      [append(insert('x', '', { timestamp: '1' })), 'ERR_INVALID_ARG_TYPE', /"entries\[1\]\.timestamp"/],
      [append(insert('x', '', { timestamp: 1.5 })), 'ERR_OUT_OF_RANGE', /"entries\[1\]\.timestamp"/],
      [append(insert('x', '', { timestamp: NaN })), 'ERR_OUT_OF_RANGE', /"entries\[1\]\.timestamp"/],
      [() => wal.get('a'), 'ERR_INVALID_ARG_TYPE', /"id" argument/],
      [() => wal.get(null, 'x'), 'ERR_INVALID_ARG_TYPE', /"collection" argument/],
      [() => wal.entries('a', { deletion: true }), 'ERR_INVALID_ARG_VALUE', /Did you mean "deletions"/],
      [() => wal.replay('a', { from: 1 }), 'ERR_INVALID_ARG_TYPE', /"from" option must be of type bigint/],
      [() => wal.replay('a', { from: -1n }), 'ERR_OUT_OF_RANGE', /"from"/],
      [() => wal.replay('a', { form: 1n }), 'ERR_INVALID_ARG_VALUE', /Did you mean "from"/],
      [() => wal.checkpoint('a', 1), 'ERR_INVALID_ARG_TYPE', /"upTo" argument/],
      [() => wal.checkpoint('a', 2n ** 64n), 'ERR_OUT_OF_RANGE', /"upTo" argument/],
      [() => wal.flush(5), 'ERR_INVALID_ARG_TYPE', /"collection" argument/],
    ]) {
      const error = await failure(call)
      assert.equal(error.code, code, error)
      assert.match(error.message, text)
      assert.ok(error instanceof TypeError || error instanceof RangeError, error)
    }
    assert.deepEqual(collectionsIn(dir), [], 'nothing was appended')
  })

  test('names of collections never leave the directory', async (t) => {
    const { wal, dir } = await newLog(t)
    for (const name of ['', '.', '..', '../a', 'a/b', 'a\\b', '/a', 'C:', 'a\0', 'nul', 'COM1.txt', 'x'.repeat(101), 'ö'.repeat(51), '.hidden', 'a ', 'a.']) {
      for (const call of [
        () => wal.append(name, inserts(1)), () => wal.writeBatch([{ collection: name, ...insert('x') }]), () => wal.get(name, 'x'),
        () => wal.entries(name), () => all(wal.replay(name)), () => wal.checkpoint(name, 0n), () => wal.flush(name),
      ]) {
        const error = await failure(call)
        assert.ok(error instanceof TypeError && error.code === 'ERR_INVALID_ARG_VALUE', `${JSON.stringify(name)} ${call}: ${error}`)
      }
    }
    assert.deepEqual(collectionsIn(dir), [])
    for (const name of ['x'.repeat(100), 'ö'.repeat(50), 'a.b', 'A b', '日本']) await wal.append(name, inserts(1))
    assert.equal(collectionsIn(dir).length, 5)
  })

  test('a batch that is too large, and a log without a memtable', async (t) => {
    const { wal } = await newLog(t, { memtable: false, syncMode: 'never' })
    const error = await failure(() => wal.append('a', [insert('x', Buffer.alloc(1 << 26))]))
    assert.ok(error instanceof SessionFileError && error.code === 'EWALTOOLARGE' && error.operation === 'wal append', error)
    await wal.append('a', inserts(1))
    for (const call of [() => wal.get('a', 'x'), () => wal.entries('a')]) assert.equal((await failure(call)).code, 'EWALNOMEMTABLE')
  })
})
