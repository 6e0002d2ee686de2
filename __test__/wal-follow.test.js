'use strict'

// Following a log: in the process that writes it and in others, through rotations, checkpoints and kills.

const { describe, test } = require('node:test')
const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { setTimeout } = require('node:timers/promises')
const { openWal } = require('../index.js')
const { failure } = require('./helpers.js')
const { Program, fastDir, whyNot } = require('./system.js')
const { Checker, insert, newLogAndReader } = require('./wal-batches.js')

const KILLED = { code: null, signal: 'SIGKILL' }

const start = (t, scenario, dir, settings = {}, more = {}) => new Program(t, 'wal-follow.js', { args: [scenario, dir, JSON.stringify(settings)], ...more })

/** The numbers of the next entries. */
async function take(followed, count) {
  const numbers = []
  while (numbers.length < count) numbers.push(Number((await followed.next()).value.sequence))
  return numbers
}

const numbers = (from, to) => Array.from({ length: to - from + 1 }, (_, i) => from + i)

describe('to follow a log', { concurrency: 4 }, () => {
  test('gives what is there and then what is appended, also to a collection that comes later', async (t) => {
    const { wal, reader } = await newLogAndReader(t)
    const both = [wal.follow('a'), reader.follow('a')]
    const firsts = both.map((followed) => take(followed, 1))
    await wal.append('b', [insert('other')])
    await wal.append('a', [insert('one'), insert('two')])
    assert.deepEqual(await Promise.all(firsts), [[2], [2]])
    const late = [wal.follow('a', { from: 3n }), reader.follow('a', { from: 3n }), reader.follow('a', { from: 5n })]
    const seconds = [...both, ...late.slice(0, 2)].map((followed) => take(followed, 2))
    const third = take(late[2], 1)
    await wal.append('a', [insert('three')])
    await wal.append('a', [{ id: 'one', op: 'delete' }])
    assert.deepEqual(await Promise.all(seconds), [[3, 4], [3, 4], [3, 4], [3, 4]])
    assert.deepEqual(await third, [5])
    for (const followed of [...both, ...late]) await followed.return()
  })

  test('goes on through rotations and checkpoints of what it has given', async (t) => {
    const { wal, reader } = await newLogAndReader(t, { segmentSize: 8192 })
    const [within, beside] = [wal.follow('a'), reader.follow('a')]
    const payload = 'p'.repeat(500)
    for (let next = 1; next <= 600; next += 20) {
      const taken = [take(within, 20), take(beside, 20)]
      for (let i = 0; i < 5; i++) await wal.append('a', Array.from({ length: 4 }, (_, j) => insert(`${next + 4 * i + j}`, payload)))
      assert.deepEqual(await Promise.all(taken), [numbers(next, next + 19), numbers(next, next + 19)])
      if (next % 3) await wal.checkpoint('a', BigInt(next + 19))
    }
    await wal.close()
    assert.equal((await within.next()).done, true, 'the log was closed')
    await beside.return()
  })

  test('is told when it has fallen behind a checkpoint, and where the log starts', async (t) => {
    const { wal, reader } = await newLogAndReader(t, { segmentSize: 4096 })
    const followed = [wal.follow('a'), reader.follow('a')]
    await wal.append('a', [insert('1')])
    for (const each of followed) await each.next()
    for (let number = 2; number <= 60; number++) await wal.append('a', [insert(`${number}`, 'x'.repeat(400))])
    await wal.checkpoint('a', 50n)
    for (const each of [...followed, wal.follow('a', { from: 50n }), reader.follow('a', { from: 1n })]) {
      const error = await failure(async () => {
        for await (const { sequence } of each) if (sequence === 60n) return
      })
      assert.deepEqual([error.code, error.first], ['EWALRELEASED', 51n])
      assert.deepEqual(await each.next(), { value: undefined, done: true })
    }
    const again = reader.follow('a')
    assert.deepEqual(await take(again, 10), numbers(51, 60))
    await again.return()
  })

  test('several steps at once are answered in order, and damage that is skipped is told', async (t) => {
    const { wal, reader, dir } = await newLogAndReader(t)
    const followed = reader.follow('a')
    const steps = Array.from({ length: 6 }, () => followed.next())
    for (let number = 1; number <= 6; number++) await wal.append('a', [insert(`${number}`, `marker-${number}`)])
    assert.deepEqual((await Promise.all(steps)).map(({ value }) => value.id), ['1', '2', '3', '4', '5', '6'])
    await followed.return()
    const file = path.join(dir, 'a', 'wal_current.avro')
    const bytes = fs.readFileSync(file)
    bytes[bytes.indexOf('marker-4')] ^= 1
    fs.writeFileSync(file, bytes)
    assert.equal((await failure(() => take(reader.follow('a'), 6))).code, 'EWALDAMAGED')
    const tolerant = await openWal(dir, { readOnly: true, recovery: 'skipCorrupt' })
    const skipping = tolerant.follow('a')
    assert.deepEqual(await take(skipping, 5), [1, 2, 3, 5, 6])
    assert.deepEqual(skipping.damage.map(({ kind, after }) => [kind, after]), [['unreadable', 3n]])
    await tolerant.close()
    assert.equal((await skipping.next()).done, true)
  })

  test('a folder that is removed ends it with an error', { skip: whyNot.linux() }, async (t) => {
    const { wal, reader, dir } = await newLogAndReader(t)
    await wal.append('a', [insert('1')])
    const followed = reader.follow('a')
    await followed.next()
    const waits = failure(() => followed.next())
    fs.rmSync(dir, { recursive: true })
    assert.equal((await waits).code, 'ENOENT')
  })

  test('arguments are checked', async (t) => {
    const { wal, reader } = await newLogAndReader(t)
    for (const log of [wal, reader]) {
      for (const [call, code] of [
        [() => log.follow(1), 'ERR_INVALID_ARG_TYPE'],
        [() => log.follow('a', { from: 1 }), 'ERR_INVALID_ARG_TYPE'],
        [() => log.follow('a', { signal: {} }), 'ERR_INVALID_ARG_TYPE'],
        [() => log.follow('a', { until: 1n }), 'ERR_INVALID_ARG_VALUE'],
        [() => log.follow('../a').next(), 'ERR_INVALID_ARG_VALUE'],
      ]) assert.equal((await failure(call)).code, code)
      const aborted = log.follow('a', { signal: AbortSignal.abort('why') })
      const error = await failure(() => aborted.next())
      assert.deepEqual([error.name, error.cause], ['AbortError', 'why'])
      assert.equal((await aborted.next()).done, true)
      await log.close()
      assert.equal((await failure(async () => log.follow('a'))).code, 'EWALCLOSED')
    }
  })
})

describe('to follow a writer in another process', { skip: whyNot.unix(), concurrency: 2 }, () => {
  test('that is killed and started again, twelve times: every acknowledged batch comes, once, in order', async (t) => {
    const dir = path.join(fastDir(t), 'log')
    fs.mkdirSync(dir)
    const reader = await openWal(dir, { readOnly: true })
    t.after(() => reader.close())
    const checkers = { c0: new Checker(), c1: new Checker() }
    /** Those who wait until a batch of a producer has come. @type {Set<() => void>} */
    const waiting = new Set()
    const following = Object.entries(checkers).map(async ([collection, checker]) => {
      for await (const entry of reader.follow(collection)) {
        checker.take(entry)
        for (const look of waiting) look()
      }
    })
    const come = (round, producer, number) => new Promise((resolve) => {
      const look = () => {
        if (checkers[`c${producer % 2}`].number(round, producer) < number) return
        waiting.delete(look)
        resolve()
      }
      waiting.add(look)
      look()
    })
    for (let round = 1; round <= 12; round++) {
      const options = { segmentSize: 20_000, syncMode: ['perBatch', 'always', 'never'][round % 3] }
      const program = new Program(t, 'wal.js', { args: ['produces', dir, JSON.stringify({ round, producers: 4, options })] })
      await program.next()
      for (let line = 0; line < 10 * round; line++) {
        const [producer, number] = await program.next()
        if (line % 7 === 0) await Promise.race([come(round, producer, number), ...following])
      }
      program.kill()
      const { code, signal, lines, errors } = await program.outcome()
      assert.deepEqual({ code, signal }, KILLED, errors)
      // What the dead writer has left of a group comes when the next one has opened the log.
      const wal = await openWal(dir, { memtable: false })
      for (const [producer, number] of lines) await Promise.race([come(round, producer, number), ...following])
      await wal.close()
    }
    await reader.close()
    await Promise.all(following)
  })

  for (const [what, injected] of [
    ['no more inotify instances', 'inotify_init1:error=EMFILE'],
    ['no more inotify watches', 'inotify_add_watch:error=ENOSPC'],
  ]) {
    test(`looks again and again where there are ${what}`, { skip: whyNot.strace() }, async (t) => {
      const { wal, dir } = await newLogAndReader(t)
      const under = ['strace', '-f', '-o', '/dev/null', '-e', 'trace=inotify_init1,inotify_add_watch', '-e', `inject=${injected}`]
      const program = start(t, 'prints', dir, { last: '5' }, { under })
      for (let number = 1; number <= 5; number++) {
        await wal.append('a', [insert(`${number}`)])
        assert.deepEqual(await program.next(), [number, `${number}`])
      }
      assert.equal((await program.outcome()).code, 0)
    })
  }

  test('nothing runs while nothing is written', { skip: whyNot.linux() }, async (t) => {
    const { wal, dir } = await newLogAndReader(t)
    const program = start(t, 'prints', dir, { last: '3' })
    await wal.append('a', [insert('1')])
    await program.next()
    /** How often each of holdfast's threads has gone to sleep. */
    const sleeps = () => new Map(fs.readdirSync(`/proc/${program.pid}/task`).flatMap((thread) => {
      try {
        const status = fs.readFileSync(`/proc/${program.pid}/task/${thread}/status`, 'utf8')
        const [, name = ''] = /^Name:\s+(.*)$/m.exec(status) ?? []
        return name.startsWith('holdfast') ? [[`${name} ${thread}`, Number(/^voluntary_ctxt_switches:\s+(\d+)/m.exec(status)?.[1])]] : []
      } catch {
        return [] // It has ended meanwhile.
      }
    }))
    // The look that finds nothing may still be on its way.
    let before = sleeps()
    for (let calm = 0; calm < 5; calm++) {
      await setTimeout(20)
      const now = sleeps()
      if ([...now].some(([thread, count]) => before.get(thread) !== count)) calm = -1
      before = now
    }
    assert.ok([...before.keys()].some((thread) => thread.startsWith('holdfast-watch')))
    await setTimeout(700)
    for (const [thread, count] of sleeps()) assert.equal(count, before.get(thread), thread)
    await wal.append('a', [insert('2')])
    assert.deepEqual(await program.next(), [2, '2'])
    await wal.append('a', [insert('3')])
    assert.equal((await program.outcome()).code, 0)
  })

  test('keeps a process alive while a step waits, and not otherwise', async (t) => {
    const { wal, dir } = await newLogAndReader(t)
    await wal.append('a', [insert('1')])
    const rests = await start(t, 'rests', dir).outcome()
    assert.deepEqual([rests.code, rests.lines], [0, ['rests']])
    const waits = start(t, 'waits', path.join(dir, '..', 'log'))
    assert.equal(await waits.next(), 'waits')
    waits.tell('exit')
    assert.equal((await waits.outcome()).code, 7, 'process.exit is not held up')
  })

  test('can be left in every way while a step waits', async (t) => {
    const dir = path.join(fastDir(t), 'log')
    await (await openWal(dir)).close()
    for (const pause of [0, 50]) {
      const { code, lines, errors } = await start(t, 'leaves', dir, { pause }).outcome()
      assert.deepEqual([code, lines], [0, [{ done: true }, 'AbortError', { done: true }, { done: true }, { done: true }]], errors)
      const terminated = await start(t, 'terminates', dir, { pause }).outcome()
      assert.deepEqual([terminated.code, terminated.lines], [0, ['closed']], terminated.errors)
      fs.rmSync(dir, { recursive: true })
      await (await openWal(dir)).close()
    }
  })
})
