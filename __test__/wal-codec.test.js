'use strict'

// `codec: 'json'`: payloads of a write-ahead log as values.

const { test } = require('node:test')
const assert = require('node:assert/strict')
const path = require('node:path')
const { openWal } = require('../index.js')
const { failure } = require('./helpers.js')
const { fastDir } = require('./system.js')

const VALUES = [{ title: 'häuser ☃', list: [1, null, { deep: true }] }, 'text', '', 0, -1.5, true, false, null, [], {}, 'half of a pair: \ud800', { toJSON: () => 'made' }]

async function all(entries) {
  const list = []
  for await (const entry of entries) list.push(entry)
  return list
}

test('values come out wherever entries do, as JSON has them', async (t) => {
  const dir = path.join(fastDir(t), 'log')
  const taken = []
  const wal = await openWal(dir, { codec: 'json', onFlush: ({ entries }) => void taken.push(...entries) })
  const inserts = VALUES.map((payload, index) => ({ id: `${index}`, op: 'insert', payload }))
  await wal.append('a', inserts)
  await wal.writeBatch([{ collection: 'a', id: 'gone', op: 'delete' }, { collection: 'b', id: 'why', op: 'delete', payload: { reason: 1 } }])
  const values = JSON.parse(JSON.stringify(VALUES))
  const reader = await openWal(dir, { codec: 'json', readOnly: true })
  const followed = wal.follow('a')
  const first = await followed.next()
  await followed.return()
  assert.deepEqual(first.value.payload, values[0])
  for (const entries of [wal.entries('a', { deletions: true }), wal.replay('a'), reader.replay('a')]) {
    assert.deepEqual((await all(entries)).map(({ payload }) => payload), [...values, undefined])
  }
  assert.deepEqual(wal.get('a', '0').payload, values[0])
  assert.deepEqual((await all(reader.replay('b')))[0].payload, { reason: 1 })
  await wal.flush('a')
  assert.deepEqual(taken.map(({ payload }) => payload), [...values, undefined])
  await wal.close()
  const plain = await openWal(dir, { readOnly: true })
  assert.equal((await all(plain.replay('b')))[0].payload, '{"reason":1}', 'on the disk it is text')
})

test('a value that JSON cannot hold is refused by the name of its entry, and nothing is appended', async (t) => {
  const wal = await openWal(path.join(fastDir(t), 'log'), { codec: 'json' })
  t.after(() => wal.close().catch(() => {}))
  const circle = {}
  circle.self = circle
  for (const [payload, code, told] of [
    [undefined, 'ERR_INVALID_ARG_TYPE', /Received undefined/],
    [() => 1, 'ERR_INVALID_ARG_TYPE', /Received function/],
    [Symbol('s'), 'ERR_INVALID_ARG_TYPE', /Received type symbol/],
    [1n, 'ERR_INVALID_ARG_VALUE', /BigInt/],
    [{ deep: [1n] }, 'ERR_INVALID_ARG_VALUE', /BigInt/],
    [circle, 'ERR_INVALID_ARG_VALUE', /circular/],
    [NaN, 'ERR_INVALID_ARG_VALUE', /NaN/],
    [{ toJSON() { throw new Error('not me') } }, 'ERR_INVALID_ARG_VALUE', /not me/],
  ]) {
    const entries = [{ id: '0', op: 'insert', payload: 1 }, { id: '1', op: 'update', payload }]
    for (const call of [() => wal.append('a', entries), () => wal.writeBatch(entries.map((entry) => ({ collection: 'a', ...entry })))]) {
      const error = await failure(call)
      assert.deepEqual([error.name, error.code], ['TypeError', code])
      assert.match(error.message, /"entries\[1\]\.payload"/)
      assert.match(error.message, told)
    }
  }
  assert.deepEqual(await all(wal.replay('a')), [])
  assert.equal((await failure(() => wal.append('a', [null]))).code, 'ERR_INVALID_ARG_TYPE')
  assert.match((await failure(() => openWal('log', { codec: 'xml' }))).message, /"codec" option must be one of 'json'/)
})

test('a payload on the disk that is not JSON is an error that names its entry, and what is before it comes', async (t) => {
  const dir = path.join(fastDir(t), 'log')
  const plain = await openWal(dir)
  await plain.append('a', [{ id: 'good', op: 'insert', payload: '1' }, { id: 'bad', op: 'insert', payload: '{' }])
  await plain.append('b', [{ id: 'bytes', op: 'insert', payload: new Uint8Array([49]) }])
  await plain.close()
  const wal = await openWal(dir, { codec: 'json' })
  t.after(() => wal.close().catch(() => {}))
  const reader = await openWal(dir, { codec: 'json', readOnly: true })
  for (const entries of [wal.replay('a'), reader.replay('a'), reader.follow('a'), wal.follow('a')]) {
    const seen = []
    const error = await failure(async () => {
      for await (const { payload } of entries) seen.push(payload)
    })
    assert.deepEqual([error.code, error.operation, seen], ['EBADJSON', 'wal read', [1]])
    assert.match(error.message, /entry 2 of 'a', with the id 'bad', is not JSON/)
    assert.equal((await entries.next()).done, true)
  }
  assert.equal((await failure(async () => wal.get('a', 'bad'))).code, 'EBADJSON')
  assert.match((await failure(() => all(reader.replay('b')))).message, /is not text/)
})
