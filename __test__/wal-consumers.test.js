'use strict'

// Named consumers of a write-ahead log: what they are given, what they hold back, who may be one.

const { describe, test } = require('node:test')
const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { SessionFileError } = require('../index.js')
const { failure } = require('./helpers.js')
const { Program, whyNot } = require('./system.js')
const { insert, newLogAndReader } = require('./wal-batches.js')

async function take(followed, count) {
  const numbers = []
  while (numbers.length < count) numbers.push(Number((await followed.next()).value.sequence))
  await followed.return()
  return numbers
}

describe('a consumer', { concurrency: 4 }, () => {
  test('goes on behind what it has acknowledged, in whichever process, and holds the rest', async (t) => {
    const { wal, reader, dir } = await newLogAndReader(t, { segmentSize: 4096 })
    const consumer = await reader.consumer('indexer', 'a')
    assert.deepEqual([consumer.name, consumer.collection, consumer.position], ['indexer', 'a', 0n])
    for (let number = 1; number <= 40; number++) await wal.append('a', [insert(`${number}`, 'x'.repeat(400))])
    assert.equal(await wal.checkpoint('a', 40n), 0n, 'nothing may be released')
    assert.equal(wal.get('a', '40'), undefined, 'but memory is')
    assert.equal(wal.first('a'), 1n)
    assert.deepEqual(await take(consumer.follow(), 30), Array.from({ length: 30 }, (_, i) => i + 1))
    await consumer.ack(20n)
    assert.equal(consumer.position, 20n)
    const sealed = () => fs.readdirSync(path.join(dir, 'a')).filter((name) => /^wal_\d+\.avro$/.test(name)).length
    const segments = sealed()
    assert.equal(await wal.checkpoint('a', 40n), 20n)
    assert.ok(sealed() < segments)
    await consumer.close()

    const again = await wal.consumer('indexer', 'a')
    assert.equal(again.position, 20n)
    assert.deepEqual(await take(again.follow(), 3), [21, 22, 23])
    await again.ack(23n)
    await again.ack(21n) // It never goes back.
    assert.equal(again.position, 23n)
    const shown = () => wal.stats().collections[0]?.consumers
    await again.close()
    assert.deepEqual(shown(), [{ name: 'indexer', position: 23n, lag: 17n }], 'the figures know it when it has closed')
    await (await wal.consumer('indexer', 'a')).remove()
    assert.deepEqual(shown(), [])
    assert.equal(await wal.checkpoint('a', 40n), 40n)
  })

  test('acknowledges many at once with few writes', async (t) => {
    const { wal, dir } = await newLogAndReader(t)
    await wal.append('a', Array.from({ length: 500 }, (_, i) => insert(`${i}`)))
    const consumer = await wal.consumer('c', 'a')
    let changes = 0
    const watcher = fs.watch(path.join(dir, '.consumers'), (_, name) => (changes += name === 'a.c.json' ? 1 : 0))
    const acks = []
    for await (const { sequence } of consumer.follow()) {
      acks.push(consumer.ack(sequence))
      if (sequence === 500n) break
    }
    await Promise.all(acks)
    watcher.close()
    assert.equal(consumer.position, 500n)
    assert.ok(changes < 100, `${changes}`)
    assert.match(fs.readFileSync(path.join(dir, '.consumers', 'a.c.json'), 'utf8'), /"position":"500"/)
  })

  test('has its lag in the figures', async (t) => {
    const { wal, reader } = await newLogAndReader(t)
    await wal.append('a', [insert('1'), insert('2'), insert('3')])
    assert.deepEqual(wal.stats().collections[0].consumers, [])
    const [one, two] = [await wal.consumer('one', 'a'), await reader.consumer('two', 'a', { from: 2n })]
    await take(one.follow(), 3)
    await one.ack(3n)
    await wal.checkpoint('a', 0n)
    const expected = [{ name: 'one', position: 3n, lag: 0n }, { name: 'two', position: 1n, lag: 2n }]
    assert.deepEqual(wal.stats().collections[0].consumers, expected)
    assert.deepEqual((await reader.stats()).collections[0].consumers, expected)
    assert.equal(JSON.parse(JSON.stringify(wal.stats())).collections[0].consumers[1].lag, '2')
    await take(two.follow(), 1)
    await two.ack(2n)
    // The figures have been looked at meanwhile, since they were asked for.
    for (let lag = 2n; lag !== 1n; [, { lag }] = wal.stats().collections[0].consumers) await new Promise(setImmediate)
  })

  test('is one at a time: the next waits for it, and is told who it is', async (t) => {
    const { wal, reader } = await newLogAndReader(t)
    const first = await wal.consumer('c', 'a')
    const error = await failure(() => reader.consumer('c', 'a', { timeout: 0 }))
    assert.ok(error instanceof SessionFileError)
    assert.deepEqual([error.code, error.operation, error.holder?.pid], ['ELOCKED', 'wal consumer', process.pid])
    const controller = new AbortController()
    const cancelled = failure(() => reader.consumer('c', 'a', { signal: controller.signal }))
    controller.abort()
    assert.equal((await cancelled).name, 'AbortError')
    const next = reader.consumer('c', 'a')
    await Promise.all([wal.consumer('c', 'b'), wal.consumer('d', 'a')])
    await first.close()
    assert.equal((await next).position, 0n)
    await wal.close()
    await reader.close()
    for (const call of [() => next.then((it) => it.ack(0n)), () => wal.consumer('x', 'a'), () => reader.consumer('x', 'a')]) {
      assert.equal((await failure(call)).code, 'EWALCLOSED')
    }
  })

  test('checks its arguments, and refuses what it cannot keep', async (t) => {
    const { wal, reader } = await newLogAndReader(t)
    await wal.append('a', [insert('1'), insert('2')])
    await wal.checkpoint('a', 1n)
    const consumer = await wal.consumer('c', 'a')
    assert.equal(consumer.position, 1n)
    for (const [call, code] of [
      [() => wal.consumer(1, 'a'), 'ERR_INVALID_ARG_TYPE'],
      [() => wal.consumer('', 'a'), 'ERR_INVALID_ARG_VALUE'],
      [() => wal.consumer('a.b', 'a'), 'ERR_INVALID_ARG_VALUE'],
      [() => wal.consumer('../c', 'a'), 'ERR_INVALID_ARG_VALUE'],
      [() => wal.consumer('c'), 'ERR_INVALID_ARG_TYPE'],
      [() => wal.consumer('c', '../a'), 'ERR_INVALID_ARG_VALUE'],
      [() => reader.consumer('c', '.'), 'ERR_INVALID_ARG_VALUE'],
      [() => wal.consumer('c', 'a', { from: 1 }), 'ERR_INVALID_ARG_TYPE'],
      [() => wal.consumer('c', 'a', { until: 1n }), 'ERR_INVALID_ARG_VALUE'],
      [() => wal.consumer('d', 'a', { from: 1n }), 'EWALRELEASED'],
      [() => consumer.ack(1), 'ERR_INVALID_ARG_TYPE'],
      [() => consumer.ack(2n), 'ERR_OUT_OF_RANGE'],
      [() => consumer.follow({ from: 1n }), 'ERR_INVALID_ARG_VALUE'],
    ]) assert.equal((await failure(call)).code, code, String(call))
    await consumer.ack(1n)
    await consumer.remove()
    assert.equal((await failure(() => consumer.remove())).code, 'EWALCLOSED')
    await consumer.close()
  })
})

test('a consumer that is killed again and again is given exactly what it has not acknowledged', { skip: whyNot.unix() }, async (t) => {
  const { wal, dir } = await newLogAndReader(t, { segmentSize: 20_000 })
  let appended = 0
  let acknowledged = 0
  const append = async (count) => {
    for (const last = appended + count; appended < last; appended++) await wal.append('a', [insert(`${appended + 1}`, 'x'.repeat(300))])
  }
  await append(100)
  for (let round = 1; round <= 25; round++) {
    const program = new Program(t, 'wal-follow.js', { args: ['consumes', dir, JSON.stringify({ name: 'c' })] })
    const begins = await program.next()
    assert.ok(begins.position >= acknowledged, `${begins.position} after ${acknowledged}`)
    assert.ok(begins.position <= acknowledged + 1, 'one may have been acknowledged and not told')
    acknowledged = begins.position
    for (let line = 0; line < round * 3; line++) {
      if (appended - acknowledged < 5) await append(40)
      const { given, acked } = await program.next()
      assert.equal(given, acknowledged + 1)
      assert.equal(acked, given)
      acknowledged = acked
    }
    program.kill()
    const { lines, errors, signal } = await program.outcome()
    assert.equal(signal, 'SIGKILL', errors)
    for (const { given } of lines) assert.equal(given, ++acknowledged)
    const released = await wal.checkpoint('a', BigInt(appended))
    assert.ok(released >= acknowledged && released <= acknowledged + 1, `${released} with ${acknowledged}`)
  }
})
