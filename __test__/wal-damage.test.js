'use strict'

// What each recovery mode does about damage, and what it reports. (The tests of the core in tests/ go
// through all lengths and all bytes.)

const { describe, test } = require('node:test')
const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { SessionFileError, openWal } = require('../index.js')
const { collector, failure } = require('./helpers.js')
const { content, fastDir } = require('./system.js')
const { Checker, batch } = require('./wal-batches.js')

const BATCHES = 40

/** A closed log of one collection, in several segments. */
async function newLog(t) {
  const dir = path.join(fastDir(t), 'log')
  const wal = await openWal(dir, { segmentSize: 20_000 })
  for (let number = 1; number <= BATCHES; number++) await wal.append('c0', batch(1, 0, number, 5, 400))
  await wal.close()
  const segments = path.join(dir, 'c0')
  const sealed = fs.readdirSync(segments).filter((name) => /^wal_\d+\.avro$/.test(name)).sort()
  assert.ok(sealed.length >= 3)
  return { dir, segments, sealed, current: path.join(segments, 'wal_current.avro') }
}

/** Which batches a log has, each whole. */
async function batchesOf(wal) {
  const numbers = []
  for await (const { id } of wal.replay('c0')) {
    const [, , number, index, size] = id.split('.').map(Number)
    if (index === 0) numbers.push(number)
    assert.equal(number, numbers.at(-1))
    assert.ok(index < size)
  }
  return numbers
}

/** Where the blocks of a segment end. */
function ends(file) {
  const bytes = fs.readFileSync(file)
  const marker = bytes.subarray(-16)
  const found = []
  for (let at = bytes.indexOf(marker); at >= 0; at = bytes.indexOf(marker, at + 1)) found.push(at + 16)
  return found
}

const upTo = (last) => Array.from({ length: last }, (_, i) => i + 1)

async function open(t, dir, options) {
  const wal = await openWal(dir, options)
  t.after(() => wal.close().catch(() => {}))
  return wal
}

describe('damage', { concurrency: 4 }, () => {
  test('a torn tail is refused by strict, and else copied aside, cut off and reported', async (t) => {
    const { dir, current } = await newLog(t)
    const places = ends(current)
    // In the middle of the last batch; the end mark has gone too.
    const cut = Math.floor((places.at(-3) + places.at(-2)) / 2)
    fs.truncateSync(current, cut)
    const bytes = fs.readFileSync(current)

    const error = await failure(() => openWal(dir, { recovery: 'strict' }))
    assert.ok(error instanceof SessionFileError)
    assert.deepEqual([error.code, error.operation, error.damage.kind, error.damage.file, error.damage.offset], ['EWALDAMAGED', 'open wal', 'tornTail', 'wal_current.avro', places.at(-3)])
    assert.ok(fs.readFileSync(current).equals(bytes), 'nothing was changed')

    const { logger, of } = collector()
    const wal = await open(t, dir, { logger })
    assert.equal(wal.damage.length, 1)
    const [{ copy, kind, offset, length, after, collection, file }] = wal.damage
    assert.deepEqual({ kind, offset, length, after, collection, file }, { kind: 'tornTail', offset: places.at(-3), length: cut - places.at(-3), after: BigInt((BATCHES - 1) * 5), collection: 'c0', file: 'wal_current.avro' })
    assert.ok(fs.readFileSync(path.join(dir, 'c0', copy)).equals(bytes.subarray(offset)))
    assert.deepEqual(await batchesOf(wal), upTo(BATCHES - 1))
    const [{ level, fields }] = of('The write-ahead log was damaged')
    assert.deepEqual([level, fields.path, fields.kind], ['warn', dir, 'tornTail'])
    // The log was closed with that batch in it.
    assert.deepEqual(await wal.append('c0', batch(1, 0, BATCHES, 1)), [BigInt(BATCHES * 5 + 1)], 'and it goes on, and gives no number again')
  })

  test('garbage behind a segment is a torn tail; space that was being added is none', async (t) => {
    for (const size of [1, 17, 5000]) {
      const { dir, segments, sealed, current } = await newLog(t)
      fs.appendFileSync(current, Buffer.alloc(size))
      const strict = await openWal(dir, { recovery: 'strict' })
      assert.deepEqual(strict.damage, [])
      await strict.close()
      fs.appendFileSync(current, Buffer.alloc(size, 'garbage'))
      assert.equal((await failure(() => openWal(dir, { recovery: 'strict' }))).damage.file, 'wal_current.avro')
      const tolerant = await openWal(dir)
      assert.deepEqual(tolerant.damage.map(({ kind, length, file }) => ({ kind, length, file })), [{ kind: 'tornTail', length: size, file: 'wal_current.avro' }])
      assert.deepEqual(fs.readFileSync(path.join(segments, tolerant.damage[0].copy)), Buffer.alloc(size, 'garbage'))
      await tolerant.close()
      fs.appendFileSync(path.join(segments, sealed[0]), content(size, size))
      assert.equal((await failure(() => openWal(dir, { recovery: 'strict' }))).code, 'EWALDAMAGED')
      const wal = await open(t, dir)
      assert.deepEqual(wal.damage.map(({ kind, length, file }) => ({ kind, length, file })), [{ kind: 'tornTail', length: size, file: sealed[0] }])
      assert.deepEqual(await batchesOf(wal), upTo(BATCHES))
    }
  })

  test('damage in the middle is refused, or with skipCorrupt skipped and reported', async (t) => {
    const { dir, segments, sealed } = await newLog(t)
    const file = path.join(segments, sealed[1])
    const places = ends(file)
    const bytes = fs.readFileSync(file)
    bytes[places[1] - 50] ^= 1
    fs.writeFileSync(file, bytes)
    for (const recovery of ['strict', 'tolerateTail']) {
      const error = await failure(() => openWal(dir, { recovery }))
      assert.deepEqual([error.code, error.damage.kind, error.damage.file, error.damage.offset], ['EWALDAMAGED', 'unreadable', sealed[1], places[0]])
    }
    const reader = await openWal(dir, { readOnly: true })
    assert.equal((await failure(() => batchesOf(reader))).code, 'EWALDAMAGED')
    const wal = await open(t, dir, { recovery: 'skipCorrupt' })
    const [{ kind, offset, length, after, before }] = wal.damage
    assert.deepEqual({ kind, offset, length }, { kind: 'unreadable', offset: places[0], length: places[1] - places[0] })
    assert.equal(before, after + 6n)
    const lost = Number(after) / 5 + 1
    assert.deepEqual(await batchesOf(wal), upTo(BATCHES).filter((number) => number !== lost))
    const replay = wal.replay('c0')
    for await (const entry of replay) assert.ok(entry)
    assert.deepEqual(replay.damage.map(({ kind, offset }) => ({ kind, offset })), [{ kind: 'unreadable', offset: places[0] }])
  })

  test('a missing segment, and two swapped', async (t) => {
    for (const [kind, harm] of [
      ['missing', (segments, [, second]) => fs.unlinkSync(path.join(segments, second))],
      ['misplaced', (segments, [, second, third]) => {
        fs.renameSync(path.join(segments, second), path.join(segments, 'aside'))
        fs.renameSync(path.join(segments, third), path.join(segments, second))
        fs.renameSync(path.join(segments, 'aside'), path.join(segments, third))
      }],
    ]) {
      const { dir, segments, sealed } = await newLog(t)
      harm(segments, sealed)
      assert.equal((await failure(() => openWal(dir))).damage.kind, kind)
      const wal = await open(t, dir, { recovery: 'skipCorrupt' })
      assert.equal(wal.damage[0].kind, kind)
      const found = await batchesOf(wal)
      assert.ok(found.length < BATCHES && found.length > 0)
      assert.deepEqual(found, [...new Set(found)].sort((a, b) => a - b), 'in order, and none twice')
      assert.equal(found.at(-1), BATCHES)
      const [sequence] = await wal.append('c0', batch(2, 0, 1))
      assert.equal(sequence, BigInt(BATCHES * 5 + 1), 'no number is given twice')
    }
  })

  test('a log cut at any length of its last segment opens with whole batches, a prefix', async (t) => {
    const { dir, current } = await newLog(t)
    const bytes = fs.readFileSync(current)
    for (let length = bytes.length - 1; length > ends(current)[0]; length -= 37) {
      fs.writeFileSync(current, bytes.subarray(0, length))
      const wal = await openWal(dir)
      const checker = new Checker()
      for await (const entry of wal.replay('c0')) checker.take(entry)
      checker.end()
      await wal.close()
      for (const name of fs.readdirSync(path.dirname(current))) if (name.includes('torn')) fs.unlinkSync(path.join(path.dirname(current), name))
    }
  })
})
