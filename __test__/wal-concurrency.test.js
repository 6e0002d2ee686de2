'use strict'

// Many appends at once, from many callers, on slow disks, beside readers in other processes; and
// logs that are large.

const { describe, test } = require('node:test')
const assert = require('node:assert/strict')
const path = require('node:path')
const { openWal } = require('../index.js')
const { Program, fastDir, ioThreads, newDir, strace, whyNot } = require('./system.js')
const { Checker, batch } = require('./wal-batches.js')

const start = (t, scenario, dir, settings = {}) => new Program(t, 'wal.js', { args: [scenario, dir, JSON.stringify(settings)] })

describe('many appends at once', { concurrency: 2 }, () => {
  test('of one producer are there in the order of the calls, though the queue is full', async (t) => {
    const dir = path.join(fastDir(t), 'log')
    const highWaterMark = 4000
    const wal = await openWal(dir, { highWaterMark })
    const firsts = []
    let mostWaiting = 0
    const pending = Array.from({ length: 1000 }, (_, i) => {
      const appended = wal.append('c0', batch(1, 0, i + 1)).then(([first]) => firsts.push(first))
      const { waiting, queueBytes } = wal.stats()
      // How many depends on how far the writer has got meanwhile.
      mostWaiting = Math.max(mostWaiting, waiting)
      assert.ok(queueBytes <= highWaterMark, `${queueBytes} bytes are in the queue`)
      return appended
    })
    assert.ok(mostWaiting > 0, 'the queue was full')
    await Promise.all(pending)
    assert.deepEqual(firsts, firsts.toSorted?.((a, b) => (a < b ? -1 : 1)) ?? firsts, 'they resolve in their order')
    const checker = new Checker()
    for await (const entry of wal.replay('c0')) checker.take(entry)
    checker.end()
    assert.equal(checker.number(1, 0), 1000)
    await wal.close()
  })

  test('of 64 producers to 8 collections share syncs, and each is whole and in order', async (t) => {
    const dir = path.join(newDir(t), 'log')
    const wal = await openWal(dir, { segmentSize: 200_000 })
    await Promise.all(Array.from({ length: 64 }, async (_, producer) => {
      for (let number = 1; number <= 20; number++) await wal.append(`c${producer % 8}`, batch(1, producer, number))
    }))
    const { syncs, batches } = wal.stats()
    await wal.close()
    assert.equal(batches, 1280)
    assert.ok(syncs < 1280, `${syncs} syncs`)
    const again = await openWal(dir)
    for (let collection = 0; collection < 8; collection++) {
      const checker = new Checker()
      for await (const entry of again.replay(`c${collection}`)) checker.take(entry)
      checker.end()
      for (let producer = collection; producer < 64; producer += 8) assert.equal(checker.number(1, producer), 20)
    }
    await again.close()
    t.diagnostic(`${batches} batches, ${syncs} syncs`)
  })

  test('wait for room on a slow disk, and the queue stays within its bound', { skip: whyNot.strace() }, async (t) => {
    const dir = path.join(fastDir(t), 'log')
    const highWaterMark = 1 << 20
    const wal = await openWal(dir, { highWaterMark, memtable: false, segmentSize: 1 << 22 })
    const payload = Buffer.alloc(10_000, 'x')
    const entries = Array.from({ length: 20 }, (_, i) => ({ id: `${i}`, op: 'insert', payload }))
    await wal.append('c0', entries)
    // Each sync takes 20 ms.
    const trace = await strace(t, ioThreads(process.pid), ['fdatasync:delay_enter=20000'])
    let most = 0
    let written = 0
    let mostMemory = 0
    globalThis.gc?.()
    const before = process.memoryUsage().rss
    // 100 producers of 200 KB each.
    await Promise.all(Array.from({ length: 100 }, async () => {
      for (let i = 0; i < 4; i++) {
        await wal.append('c0', entries)
        written += 20 * payload.length
        const { queueBytes } = wal.stats()
        most = Math.max(most, queueBytes)
        mostMemory = Math.max(mostMemory, process.memoryUsage().rss - before)
      }
    }))
    await trace.done()
    await wal.close()
    assert.ok(most <= highWaterMark, `${most} bytes were in the queue`)
    t.diagnostic(`${written >> 20} MiB written, at most ${most} bytes in the queue, ${mostMemory >> 20} MiB more memory`)
  })
})

describe('readers in other processes', { skip: whyNot.unix() }, () => {
  test('see a prefix of what is appended, whole batches, in order, beside a live writer', async (t) => {
    const dir = path.join(fastDir(t), 'log')
    const writer = start(t, 'produces', dir, { round: 1, producers: 4, options: { segmentSize: 20_000 } })
    for (let i = 0; i < 5; i++) await writer.next()
    const readers = Array.from({ length: 2 }, (_, i) => start(t, 'reads', dir, { collection: `c${i}`, times: 8 }))
    const outcomes = await Promise.all(readers.map((reader) => reader.outcome()))
    writer.kill()
    const { lines: acknowledged } = await writer.outcome()
    assert.ok(acknowledged.length > 0)
    for (const [i, { code, lines, errors }] of outcomes.entries()) {
      assert.equal(code, 0, errors)
      const wal = await openWal(dir, { readOnly: true })
      const all = []
      for await (const { sequence, id } of wal.replay(`c${i}`)) all.push([Number(sequence), id])
      let before = 0
      for (const seen of lines) {
        assert.ok(seen.length >= before, 'nothing goes away')
        before = seen.length
        assert.deepEqual(seen, all.slice(0, seen.length), 'a prefix')
        const [, id] = seen.at(-1) ?? [0, '1.1.1.0.1']
        const [, , , index, size] = id.split('.').map(Number)
        assert.equal(index, size - 1, `${id} ends a batch`)
      }
      assert.ok(before > 0)
      t.diagnostic(`c${i}: ${lines.map((seen) => seen.length).join(', ')} entries of ${all.length}`)
    }
  })
})

describe('a large log', () => {
  // `npm run soak` has more of it.
  const millions = Number(process.env.HOLDFAST_WAL_ENTRIES ?? 1_000_000)
  test(`${millions} entries are opened and replayed with bounded memory, in linear time`, async (t) => {
    const bytes = 100
    const peaks = {}
    for (const entries of [millions / 4, millions]) {
      const dir = path.join(fastDir(t), `log-${entries}`)
      for (const phase of ['write', 'read', 'killed', 'read']) {
        const { lines, errors } = await start(t, 'counts', dir, { entries, bytes, phase }).outcome()
        assert.equal(lines.length, 1, errors)
        const [{ open, work, peak, damage }] = lines
        assert.equal(damage, 0)
        peaks[phase] ??= []
        peaks[phase].push(peak)
        const what = phase === 'killed' ? 'opened, and then killed' : phase
        t.diagnostic(`${entries} entries, ${what}: open ${open.toFixed(0)} ms, ${phase === 'killed' ? '' : `${work.toFixed(0)} ms (${(entries / work / 1000).toFixed(2)} million a second), `}peak ${peak >> 20} MiB`)
      }
    }
    // Four times the entries, 75 bytes and more each, and about the same memory.
    const [small, again, large, largeAgain] = peaks.read
    const more = Math.max(large, largeAgain) - Math.min(small, again)
    assert.ok(more < (millions * bytes) / 2, `${more >> 20} MiB more`)
  })
})
