'use strict'

// Logs on small disks that are full, and logs of many small collections. (The tests of the core in
// tests/wal_full_disk.rs go through every size of what is left.)

const { describe, test } = require('node:test')
const assert = require('node:assert/strict')
const { spawnSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const { openWal } = require('../index.js')
const { failure } = require('./helpers.js')
const { Filler, Program, ext4, fastDir, newDir, tmpfs, whyNot } = require('./system.js')

const KiB = 1024

const one = (/** @type {string} */ id, payload = 'x') => [{ id, op: /** @type {const} */ ('insert'), payload }]

async function idsIn(wal, collection = 'c') {
  const ids = []
  for await (const { id } of wal.replay(collection)) ids.push(id)
  return ids
}

const disks = [
  ['ext4', whyNot.ext4(), (t) => ext4(t, 4 << 20, { journal: true })],
  ['tmpfs', whyNot.mount(), (t) => tmpfs(t, 'size=3M')],
]

for (const [kind, skip, make] of disks) {
  describe(`a full ${kind}`, { skip }, () => {
    for (const size of [300 * KiB, 10 * KiB, 1 * KiB]) {
      test(`refuses a first batch of ${size} bytes after opening, and the log goes on when there is room`, async (t) => {
        const disk = make(t)
        const dir = path.join(disk, 'log')
        const kept = ['first']
        let wal = await openWal(dir)
        await wal.append('c', one('first'))
        const filler = new Filler(disk)
        for (let blocks = 0; blocks <= 2 * (size / filler.block) + 8; blocks += Math.max(1, Math.floor(size / filler.block / 8))) {
          await wal.close()
          filler.leave(blocks)
          wal = await openWal(dir)
          assert.deepEqual(wal.damage, [], `${blocks} blocks`)
          const error = await wal.append('c', one(`large.${blocks}`, 'y'.repeat(size))).then(() => undefined, (caught) => caught)
          if (error) assert.equal(error.code, 'ENOSPC', `${blocks} blocks`)
          else kept.push(`large.${blocks}`)
          assert.equal(wal.stats().poisoned, undefined, `${blocks} blocks`)
          filler.leave(64)
          await wal.append('c', one(`small.${blocks}`))
          kept.push(`small.${blocks}`)
        }
        filler.close()
        await wal.close()
        wal = await openWal(dir, { recovery: 'strict' })
        assert.deepEqual(await idsIn(wal), kept)
        assert.ok(kept.some((id) => id.startsWith('large')), 'none had room')
        await wal.close()
      })
    }

    test('has room again after a checkpoint, also in a log that was killed', async (t) => {
      const disk = make(t)
      const dir = path.join(disk, 'log')
      const options = { segmentSize: 128 * KiB, memtable: false }
      let wal = await openWal(dir, options)
      let last = 0n
      for (;;) {
        const outcome = await wal.append('c', one(`e${last}`, 'z'.repeat(5000))).then((numbers) => numbers.at(-1), (error) => error)
        if (typeof outcome !== 'bigint') {
          assert.equal(outcome.code, 'ENOSPC')
          break
        }
        last = outcome
      }
      const filler = new Filler(disk)
      filler.leave(0)
      await wal.checkpoint('c', last / 2n)
      await wal.append('c', one('after', 'a'.repeat(5000)))
      filler.leave(0)
      await wal.checkpoint('c', last)
      const ids = await idsIn(wal)
      assert.deepEqual(ids, ['after'])
      await wal.close()
      filler.leave(0)
      wal = await openWal(dir, { ...options, recovery: 'strict' })
      assert.deepEqual(await idsIn(wal), ['after'])
      await wal.close()
      filler.close()
    })

    test('opens a log with a torn tail, which stays in the segment until there is room for its copy', async (t) => {
      const disk = make(t)
      const dir = path.join(disk, 'log')
      let wal = await openWal(dir)
      for (let number = 1; number <= 3; number++) await wal.append('c', one(`e${number}`, `${number}`.repeat(20_000)))
      await wal.close()
      const current = path.join(dir, 'c', 'wal_current.avro')
      fs.truncateSync(current, fs.statSync(current).size - 6000)
      const torn = fs.readFileSync(current).subarray(-10_000)
      const filler = new Filler(disk)
      filler.leave(0)
      wal = await openWal(dir)
      assert.deepEqual(wal.damage.map(({ kind, copy }) => [kind, copy]), [['tornTail', undefined]])
      assert.deepEqual(await idsIn(wal), ['e1', 'e2'])
      const { code } = await failure(wal.append('c', one('refused')))
      assert.equal(code, 'ENOSPC')
      assert.ok(fs.readFileSync(current).includes(torn))
      filler.leave(64)
      await wal.append('c', one('e4'))
      const copy = fs.readdirSync(path.join(dir, 'c')).find((name) => name.includes('.torn-'))
      assert.ok(copy && fs.readFileSync(path.join(dir, 'c', copy)).includes(torn))
      assert.deepEqual(await idsIn(wal), ['e1', 'e2', 'e4'])
      filler.close()
      await wal.close()
    })
  })
}

describe('a log of many collections', () => {
  test('with an entry each takes little room and few files', { skip: whyNot.linux() }, async (t) => {
    const dir = path.join(newDir(t), 'log')
    const count = 1500
    const program = new Program(t, 'many-collections.js', { args: [dir, String(count)], under: ['prlimit', '--nofile=256'] })
    const { code, lines, errors } = await program.outcome()
    assert.equal(code, 0, errors)
    assert.deepEqual(lines.at(-1), { collections: count, damage: 0, entries: 2 * count })
    const used = spawnSync('du', ['-s', '-B1', dir], { encoding: 'utf8' })
    const perCollection = Number(used.stdout.split('\t')[0]) / count
    t.diagnostic(`${perCollection} bytes each`)
    assert.ok(perCollection <= 10_000, `${perCollection} bytes each`)
  })
})

describe('what is no segment', { skip: whyNot.linux() }, () => {
  test('a pipe is skipped, and never waited for', async (t) => {
    const dir = path.join(fastDir(t), 'log')
    let wal = await openWal(dir, { segmentSize: 4096 })
    for (let number = 1; number <= 6; number++) await wal.append('c', one(`e${number}`, 'p'.repeat(3000)))
    await wal.close()
    for (const name of ['wal_000000000001.avro', 'wal_current.avro']) {
      const file = path.join(dir, 'c', name)
      fs.rmSync(file)
      assert.equal(spawnSync('mkfifo', [file]).status, 0)
    }
    assert.equal((await failure(openWal(dir))).code, 'EWALDAMAGED')
    wal = await openWal(dir, { recovery: 'skipCorrupt' })
    assert.deepEqual(wal.damage.map(({ kind }) => kind), ['unreadable', 'unreadable'])
    const [number] = await wal.append('c', one('next'))
    assert.ok(number > 6n)
    assert.deepEqual((await idsIn(wal)).at(-1), 'next')
    await wal.close()
  })

  test('a long tail of zeros is not read where it takes no room', async (t) => {
    const dir = path.join(newDir(t), 'log')
    let wal = await openWal(dir)
    await wal.append('c', one('e1'))
    await wal.close()
    const current = path.join(dir, 'c', 'wal_current.avro')
    const { size } = fs.statSync(current)
    // More than could be read while a test runs.
    fs.truncateSync(current, 2 ** 42)
    if (fs.statSync(current).blocks > 64) return t.skip('the file system has no holes')
    wal = await openWal(dir)
    assert.deepEqual(await idsIn(wal), ['e1'])
    assert.equal(fs.statSync(current).size, size)
    await wal.close()
  })
})
