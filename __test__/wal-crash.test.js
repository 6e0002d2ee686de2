'use strict'

// Write-ahead logs whose process dies, whose disk is full or fails, whose thread ends: what was
// acknowledged is there, in order, no batch twice, none in part.

const { describe, test } = require('node:test')
const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { setTimeout } = require('node:timers/promises')
const { openWal } = require('../index.js')
const { Program, cleanUp, fastDir, ordinaryDisk, strace, tmpfs, whyNot } = require('./system.js')
const { Checker, batch } = require('./wal-batches.js')

/** How many times as many kills: `npm run soak` has more. */
const TIMES = Number(process.env.HOLDFAST_WAL_KILLS ?? 1)
const KILLED = { code: null, signal: 'SIGKILL' }

const start = (t, scenario, dir, settings = {}, more = {}) => new Program(t, 'wal.js', { args: [scenario, dir, JSON.stringify(settings)], ...more })

/** Reads the new entries of a log into its checkers, by collection. */
async function check(dir, checkers) {
  const wal = await openWal(dir, { memtable: false })
  try {
    for (const [collection, checker] of Object.entries(checkers)) {
      for await (const entry of wal.replay(collection, { from: checker.last + 1n })) checker.take(entry)
      checker.end()
    }
    return wal.damage
  } finally {
    await wal.close()
  }
}

describe('SIGKILL in mid-append', { skip: whyNot.unix(), concurrency: 2 }, () => {
  for (const { kills, disk, options } of [
    { kills: 60, disk: ordinaryDisk, options: { segmentSize: 100_000 } },
    { kills: 70, disk: fastDir, options: { segmentSize: 20_000, syncMode: 'always' } },
    { kills: 70, disk: fastDir, options: { segmentSize: 50_000, syncMode: 'never' } },
  ].map(({ kills, ...more }) => ({ kills: kills * TIMES, ...more }))) {
    test(`${kills} times, with 4 producers: every acknowledged batch is there (${JSON.stringify(options)})`, async (t) => {
      const dir = path.join(disk(t), 'log')
      const checkers = { c0: new Checker(), c1: new Checker() }
      let acknowledgements = 0
      let torn = 0
      for (let round = 1; round <= kills; round++) {
        const program = start(t, 'produces', dir, { round, producers: 4, options })
        await program.next()
        const early = round % 3 ? [await program.next()] : []
        await setTimeout(((round * 0.6180339887) % 1) * 20)
        program.kill()
        const { code, signal, lines, errors } = await program.outcome()
        assert.deepEqual({ code, signal }, KILLED, errors)
        for (const { kind } of await check(dir, checkers)) {
          assert.equal(kind, 'tornTail')
          torn++
        }
        lines.unshift(...early)
        acknowledgements += lines.length
        for (const [producer, number] of lines) {
          const found = checkers[`c${producer % 2}`].number(round, producer)
          assert.ok(found >= number, `batch ${number} of producer ${producer} was acknowledged, and ${found} are there`)
        }
      }
      // The whole of it, at once.
      const anew = { c0: new Checker(), c1: new Checker() }
      assert.deepEqual(await check(dir, anew), [])
      for (const name of ['c0', 'c1']) assert.deepEqual(anew[name].numbers, checkers[name].numbers)
      assert.ok(acknowledgements > kills)
      t.diagnostic(`${acknowledgements} batches acknowledged, ${[...anew.c0.numbers.values(), ...anew.c1.numbers.values()].reduce((a, b) => a + b, 0)} there, ${torn} torn tails`)
    })
  }
})

describe('a full disk', { skip: whyNot.mount() }, () => {
  for (const syncMode of ['perBatch', 'never']) {
    test(`in mid-batch: the batch is refused, the others are there, and appends succeed once there is room ('${syncMode}')`, async (t) => {
      const disk = tmpfs(t, 'size=6m')
      const filler = path.join(disk, 'filler')
      fs.writeFileSync(filler, Buffer.alloc(3 << 20, 'f'))
      const dir = path.join(disk, 'log')
      const program = start(t, 'fillsDisk', dir, { options: { syncMode, segmentSize: 1 << 20 } })
      const full = await program.next()
      assert.deepEqual(full.failure, { code: 'ENOSPC', syscall: 'write', operation: 'wal append', class: 'SessionFileError' })
      assert.deepEqual(full.shown, full.acknowledged, 'a refused batch does not show')
      assert.equal(full.poisoned, undefined)
      fs.unlinkSync(filler)
      program.tell('go on')
      const after = await program.next()
      assert.equal((await program.outcome()).code, 0)
      assert.equal(after.close, 'resolved')
      assert.ok(after.acknowledged.length > full.acknowledged.length)

      const wal = await openWal(dir)
      cleanUp(t, () => wal.close())
      assert.deepEqual(wal.damage, [])
      const found = []
      for await (const { id } of wal.replay('c0')) {
        const [, , number, index] = id.split('.').map(Number)
        if (index === 0) found.push(number)
      }
      assert.deepEqual(found, after.acknowledged)
      await wal.close()
      t.diagnostic(`${full.acknowledged.length} batches before the disk was full, ${after.refused.length} refused, ${after.acknowledged.length} in all`)
    })
  }
})

describe('a sync that fails', { skip: whyNot.strace() }, () => {
  for (const options of [{ syncMode: 'perBatch' }, { syncMode: 'always' }, { syncMode: 'periodic', syncInterval: 1 }]) {
    test(`poisons the log until it is reopened ('${options.syncMode}')`, async (t) => {
      let dir, said
      for (let tries = 0; tries < 5 && !said?.codes.includes('EWALPOISONED'); tries++) {
        dir = path.join(fastDir(t), 'log')
        const before = await openWal(dir)
        await before.append('c0', batch(1, 0, 1))
        await before.close()
        const program = start(t, 'poisons', dir, { options })
        const { io } = await program.next()
        // A thread that did not exist yet does not fail; then it has to be done again.
        const trace = await strace(t, io, ['fdatasync:error=EIO'])
        program.tell('go on')
        said = await program.next()
        assert.equal((await program.outcome()).code, 0)
        await trace.done()
      }
      const isAtOnce = options.syncMode !== 'periodic'
      assert.deepEqual(said.codes.filter((code) => code !== 'resolved'), isAtOnce ? ['EIO', 'EWALPOISONED'] : ['EWALPOISONED'])
      assert.equal(said.shown, said.acknowledged, 'what was not acknowledged does not show')
      assert.deepEqual([said.flush, said.checkpoint, said.close], ['EWALPOISONED', 'EWALPOISONED', 'EWALPOISONED'])
      assert.match(said.poisoned, /fdatasync/)

      const checkers = { c0: new Checker() }
      await check(dir, checkers)
      assert.equal(checkers.c0.number(1, 0), 1, 'what was acknowledged before is there')
      const again = await openWal(dir)
      cleanUp(t, () => again.close())
      await again.append('c0', batch(3, 0, 1))
      await again.close()
      await check(dir, checkers)
      assert.equal(checkers.c0.number(3, 0), 1, 'and the log goes on')
    })
  }
})

describe('the end', { concurrency: 2 }, () => {
  test('an open log, with a replay that is not read to its end, does not keep the process alive', async (t) => {
    const dir = path.join(fastDir(t), 'log')
    const { code, lines } = await start(t, 'idles', dir).outcome()
    assert.deepEqual({ code, lines }, { code: 0, lines: ['idle'] })
    const checkers = { c0: new Checker() }
    assert.deepEqual(await check(dir, checkers), [], 'nothing is damaged')
    assert.equal(checkers.c0.number(1, 0), 1)
  })

  test('appends that are not awaited keep it alive until they are done', async (t) => {
    const dir = path.join(fastDir(t), 'log')
    const { code, lines } = await start(t, 'leaves', dir).outcome()
    assert.deepEqual({ code, lines: lines.length }, { code: 0, lines: 50 })
    const checkers = { c0: new Checker() }
    await check(dir, checkers)
    assert.equal(checkers.c0.number(1, 0), 50)
  })

  test('process.exit in mid-append loses nothing that was acknowledged', async (t) => {
    const dir = path.join(fastDir(t), 'log')
    const { code, lines, errors } = await start(t, 'exits', dir).outcome()
    assert.equal(code, 3, errors)
    const checkers = { c0: new Checker() }
    await check(dir, checkers)
    assert.ok(checkers.c0.number(1, 0) >= Math.max(...lines))
  })

  test('a thread that is terminated in mid-append loses nothing that was acknowledged, and frees the log', async (t) => {
    const dir = path.join(fastDir(t), 'log')
    const { code, signal, lines, errors } = await start(t, 'terminates', dir, { rounds: 15 }).outcome()
    assert.deepEqual({ code, signal }, { code: 0, signal: null }, errors)
    assert.equal(lines.pop(), 'closed', errors)
    assert.equal(lines.length, 15)
    const checkers = { c0: new Checker(), c1: new Checker() }
    assert.deepEqual(await check(dir, checkers), [])
    for (const [round, ...acknowledged] of lines) {
      for (const [producer, number] of acknowledged.entries()) {
        assert.ok(checkers[`c${producer % 2}`].number(round, producer) >= number, `round ${round}, producer ${producer}`)
      }
    }
  })
})
