'use strict'

// Where a log starts, and what a reader is told who asks for what has been released.

const { describe, test } = require('node:test')
const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { SessionFileError, openWal } = require('../index.js')
const { failure } = require('./helpers.js')
const { fastDir } = require('./system.js')

/** A log with the entries 1 to 40 of `a`, every fourth number being one of `b`, released up to 21. */
async function releasedLog(t, options) {
  const dir = path.join(fastDir(t), 'log')
  const wal = await openWal(dir, { segmentSize: 4096, ...options })
  t.after(() => wal.close().catch(() => {}))
  for (let number = 1; number <= 40; number++) {
    await wal.append(number % 4 === 0 ? 'b' : 'a', [{ id: `${number}`, op: 'insert', payload: 'x'.repeat(400) }])
  }
  await wal.checkpoint('a', 21n)
  const reader = await openWal(dir, { readOnly: true })
  return { dir, wal, reader }
}

async function numbers(replay) {
  const sequences = []
  for await (const { sequence } of replay) sequences.push(Number(sequence))
  return sequences
}

const LEFT = [22, 23, 25, 26, 27, 29, 30, 31, 33, 34, 35, 37, 38, 39]

describe('a log of which a part has been released', () => {
  test('refuses to replay from a number of that part, and says where it starts', async (t) => {
    const { wal, reader, dir } = await releasedLog(t)
    for (const log of [wal, reader]) {
      for (const from of [0n, 1n, 20n, 21n]) {
        const error = await failure(() => numbers(log.replay('a', { from })))
        assert.ok(error instanceof SessionFileError)
        assert.deepEqual([error.code, error.first, error.operation, error.path], ['EWALRELEASED', 22n, 'wal read', dir])
        assert.match(error.message, /starts at 22/)
        assert.match(error.hint, /first/)
        assert.equal(JSON.parse(JSON.stringify(error)).first, '22', 'a logger may make it JSON')
      }
      assert.deepEqual(await numbers(log.replay('a', { from: 22n })), LEFT)
      assert.deepEqual(await numbers(log.replay('a')), LEFT, 'without a number a replay shows what there is')
      assert.deepEqual(await numbers(log.replay('a', { from: 36n })), [37, 38, 39])
      assert.deepEqual(await numbers(log.replay('a', { from: 1000n })), [])
      assert.deepEqual((await numbers(log.replay('b', { from: 1n }))).length, 10, 'of another collection nothing has been released')
      assert.deepEqual(await numbers(log.replay('none', { from: 0n })), [])
    }
  })

  test('a replay that has begun goes on behind what is released meanwhile', async (t) => {
    const { wal, reader } = await releasedLog(t)
    const replay = reader.replay('a', { from: 22n })
    assert.equal((await replay.next()).value.sequence, 22n)
    await wal.checkpoint('a', 30n)
    const rest = await numbers(replay)
    assert.deepEqual(rest, LEFT.slice(LEFT.length - rest.length))
    assert.ok(rest.includes(31))
  })

  test('says where it starts, in the process that writes it and in others', async (t) => {
    const { wal, reader } = await releasedLog(t)
    assert.deepEqual([wal.first('a'), wal.first('b'), wal.first('none')], [22n, 1n, 1n])
    assert.deepEqual(await Promise.all(['a', 'b', 'none'].map((name) => reader.first(name))), [22n, 1n, 1n])
    await wal.checkpoint('a', 39n)
    assert.deepEqual([wal.first('a'), await reader.first('a')], [40n, 40n])
    for (const call of [() => wal.first(1), () => reader.first(1)]) {
      assert.equal((await failure(call)).code, 'ERR_INVALID_ARG_TYPE')
    }
    for (const call of [() => wal.first('../a'), () => reader.first('../a')]) {
      assert.equal((await failure(call)).code, 'ERR_INVALID_ARG_VALUE')
    }
    await wal.close()
    await reader.close()
    for (const call of [() => wal.first('a'), () => reader.first('a'), () => reader.stats()]) {
      assert.equal((await failure(call)).code, 'EWALCLOSED')
    }
  })

  test('has figures that a reader finds on the disk, and that may be made JSON', async (t) => {
    const { wal, reader, dir } = await releasedLog(t)
    const { collections } = wal.stats()
    const found = await reader.stats()
    assert.deepEqual(found.collections.map(({ name, last, released, segments }) => [name, last, released, segments]), [
      ['a', 39n, 21n, collections[0].segments],
      ['b', 40n, 0n, collections[1].segments],
    ])
    const sizes = fs.readdirSync(path.join(dir, 'a')).filter((name) => /^wal_(\d+|current)\.avro$/.test(name)).map((name) => fs.statSync(path.join(dir, 'a', name)).size)
    assert.equal(found.collections[0].bytes, sizes.reduce((sum, size) => sum + size))

    assert.equal(typeof collections[0].last, 'bigint')
    for (const stats of [wal.stats(), found, { ...found }, structuredClone(found) && found]) {
      const [a, b] = JSON.parse(JSON.stringify(stats)).collections
      assert.deepEqual([a.last, a.released, b.last, a.name], ['39', '21', '40', 'a'])
    }
    assert.deepEqual(Object.keys(found), ['collections'], 'the method for it does not show')
    structuredClone(wal.stats())
    await wal.checkpoint('a', 39n)
    assert.deepEqual((await reader.stats()).collections[0].last, 39n)
  })
})
