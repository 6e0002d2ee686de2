'use strict'

// A disk that fills up in mid-write, at every point at which it can: the old file stays whole
// or the new one is there whole, the promise tells which, and nothing is left behind.
// write-file-atomic goes through the same, for comparison; nothing is asserted about it.

const { describe, test } = require('node:test')
const assert = require('node:assert/strict')
const { spawnSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const peer = require('write-file-atomic')
const { atomicWrite, atomicWriteSync } = require('../index.js')
const { Filler, Program, content, ext4, fastDir, temps, tmpfs, whyNot } = require('./system.js')

const KiB = 1024
const MiB = 1024 * KiB

const everyByteTo = (size) => Array.from({ length: size + 2 }, (_, limit) => limit)

/** A hundred limits or so from 0 to the size: the ends, around pages, chunks and blocks, and others. */
function sampleTo(size) {
  const limits = new Set([0, 1, size - 1, size, size + 1])
  for (const unit of [4 * KiB, 64 * KiB, MiB]) {
    for (let at = unit; at < size; at += unit * Math.ceil(size / unit / 16)) [at - 1, at, at + 1].forEach((limit) => limits.add(limit))
  }
  for (let i = 1; i <= 40; i++) limits.add(Math.floor((size * i * 0.6180339887) % size))
  return [...limits].sort((a, b) => a - b)
}

const hasPerl = spawnSync('perl', ['-e', '1']).status === 0

async function withLimits(t, way, durability, size, limits) {
  const dir = fastDir(t)
  // A process for each step is slow: without Perl every 16th limit must do.
  const tried = hasPerl || limits.length < 6000 ? limits : limits.filter((limit) => limit % 16 === 0 || limit >= size - 16)
  const program = new Program(t, 'size-limit.js', {
    env: { LIMITER: hasPerl ? 'perl' : 'prlimit' },
  })
  program.tell({ dir, pipes: fastDir(t), size, limits: tried, way, durability })
  const { code, signal, lines, errors } = await program.outcome()
  assert.deepEqual({ code, signal }, { code: 0, signal: null }, errors)
  assert.equal(lines[0].tried, tried.length)
  return lines[0]
}

/**
 * Writes a file while 0, 1, 2… blocks of the disk are free, until it fits twice in succession.
 * `step` blocks are given at a time.
 */
async function fillUp(t, disk, size, step, write) {
  const target = path.join(disk, 'target')
  let old = content('old', 700)
  fs.writeFileSync(target, old)
  const filler = new Filler(disk)
  const result = { tried: 0, torn: 0, codes: new Set() }
  let fitted = 0
  for (let blocks = 0; fitted < 2; blocks += step) {
    filler.leave(blocks)
    const fresh = content(`new ${blocks}`, size)
    const inode = fs.statSync(target).ino
    const error = await write(target, fresh).then(() => undefined, (caught) => caught)
    const found = fs.readFileSync(target)
    result.tried++
    result.found = found
    result.codes.add(error?.code)
    if (!found.equals(error ? old : fresh)) result.torn++
    if (write === peerWrite) {
      for (const name of fs.readdirSync(disk)) if (name.startsWith('target.')) fs.unlinkSync(path.join(disk, name))
      filler.leave(8)
      fs.writeFileSync(target, old)
    } else {
      const free = `with ${blocks} blocks free`
      assert.ok(found.equals(error ? old : fresh), `${found.length} bytes, neither old nor new, ${free}`)
      assert.deepEqual(temps(disk), [], `temp files left ${free}`)
      if (error) {
        assert.equal(error.code, 'ENOSPC', free)
        assert.equal(error.committed, false, free)
        assert.equal(fs.statSync(target).ino, inode, `another file ${free}`)
      } else {
        old = fresh
      }
    }
    fitted += found.equals(fresh) ? 1 : 0
    assert.ok(blocks * filler.block <= 2 * size + MiB, `it never fits: ${error}`)
  }
  filler.close()
  return result
}

const countOf = (step) => (step === 1 ? 'with every number' : `with every ${step}th number`)
const peerWrite = (target, bytes) => peer(target, bytes, { fsync: true })

const writers = [
  ['atomicWrite', (target, bytes) => atomicWrite(target, bytes, { retries: 1 })],
  ['atomicWrite with its retries', (target, bytes) => atomicWrite(target, bytes, { retryDelay: 1, durability: 'file' })],
  ['atomicWriteSync', async (target, bytes) => atomicWriteSync(target, bytes, { retries: 1, durability: 'none' })],
]

describe('a disk that fills up', { concurrency: 2 }, () => {
  describe('a file size limit in the middle of the file', { skip: whyNot.prlimit(), concurrency: 2 }, () => {
    for (const [way, durability, size, limits, which] of [
      ['sync', 'none', 64 * KiB, everyByteTo(64 * KiB), 'every byte'],
      ['async', 'full', 1, everyByteTo(1), 'every byte'],
      ['async', 'full', 100, everyByteTo(100), 'every byte'],
      ['async', 'file', 4 * KiB, everyByteTo(4 * KiB), 'every byte'],
      ['async', 'none', 64 * KiB, sampleTo(64 * KiB), 'some bytes'],
      ['async', 'full', MiB, sampleTo(MiB), 'some bytes'],
      ['async', 'full', 3 * MiB, sampleTo(3 * MiB), 'some bytes'],
      ['sync', 'full', 3 * MiB, sampleTo(3 * MiB), 'some bytes'],
    ]) {
      test(`after ${which} of ${size} leaves the old file or the new one (${way}, '${durability}')`, async (t) => {
        const { wrong, resolved, rejected, tried } = await withLimits(t, way, durability, size, limits)
        t.diagnostic(`${tried} limits`)
        assert.deepEqual(wrong, [])
        assert.equal(resolved, limits.filter((limit) => limit >= size).length)
        assert.deepEqual(Object.keys(rejected), ['EFBIG'])
      })
    }

    test('write-file-atomic beside it', async (t) => {
      for (const size of [4 * KiB, MiB]) {
        const { tried, torn, resolved } = await withLimits(t, 'peer', 'file', size, sampleTo(size))
        t.diagnostic(`${size} bytes: ${torn} of ${tried} limits left a file that is neither old nor new; ${resolved} were reported as success`)
      }
    })
  })

  describe('a small disk in memory', { skip: whyNot.mount(), concurrency: 2 }, () => {
    for (const [title, write] of writers) {
      for (const [size, step] of [[1, 1], [4 * KiB, 1], [64 * KiB, 1], [MiB, 1], [3 * MiB, 16]]) {
        test(`${title} of ${size} bytes leaves the old file or the new one, ${countOf(step)} of pages free`, async (t) => {
          const { codes, tried } = await fillUp(t, tmpfs(t, `size=${8 * MiB}`), size, step, write)
          t.diagnostic(`${tried} writes`)
          assert.deepEqual(codes, new Set(['ENOSPC', undefined]))
        })
      }
    }

    test('write-file-atomic beside it', async (t) => {
      for (const [size, step] of [[64 * KiB, 1], [3 * MiB, 16]]) {
        const { tried, torn } = await fillUp(t, tmpfs(t, `size=${8 * MiB}`), size, step, peerWrite)
        t.diagnostic(`${size} bytes: ${torn} of ${tried} writes left a file that is neither what was there nor what was reported`)
      }
    })

    test('fails and keeps the file while no inode is free, and succeeds as soon as one is', async (t) => {
      const disk = tmpfs(t, 'size=1m,nr_inodes=8')
      const target = path.join(disk, 'target')
      fs.writeFileSync(target, 'old')
      const others = []
      assert.throws(() => {
        for (;;) {
          const name = path.join(disk, `other-${others.length}`)
          fs.writeFileSync(name, '')
          others.push(name)
        }
      }, { code: 'ENOSPC' })

      for (const file of [target, path.join(disk, 'new')]) {
        const before = fs.readdirSync(disk)
        const full = { code: 'ENOSPC', syscall: 'open', committed: false, attempts: 3 }
        await assert.rejects(atomicWrite(file, 'new', { retryDelay: 1 }), full)
        assert.throws(() => atomicWriteSync(file, 'new', { retryDelay: 1 }), full)
        assert.deepEqual(fs.readdirSync(disk), before)
        assert.equal(fs.readFileSync(target, 'utf8'), 'old')
      }

      fs.unlinkSync(others.pop())
      await atomicWrite(target, 'new')
      assert.equal(fs.readFileSync(target, 'utf8'), 'new')
      // The inode of the old file is free again: the room needed is for one more, not for two.
      await atomicWrite(target, 'newer')
      assert.equal(fs.readFileSync(target, 'utf8'), 'newer')
      assert.deepEqual(temps(disk), [])
    })

    test('makes no directories and no file where no inode is free', async (t) => {
      const disk = tmpfs(t, 'size=1m,nr_inodes=2')
      fs.writeFileSync(path.join(disk, 'other'), '')
      await assert.rejects(atomicWrite(path.join(disk, 'a/b/file'), 'new', { makeDirs: true, retries: 1 }), { code: 'ENOSPC', syscall: 'mkdir' })
      assert.deepEqual(fs.readdirSync(disk), ['other'])
    })

    test('succeeds in a later attempt when room comes free meanwhile', async (t) => {
      const disk = tmpfs(t, `size=${MiB}`)
      const target = path.join(disk, 'target')
      fs.writeFileSync(target, 'old')
      const filler = new Filler(disk)
      filler.leave(0)
      const fresh = content('new', 100 * KiB)
      const logger = { debug() {}, error() {}, warn: (_fields, message) => message.startsWith('Retrying') && filler.leave(40) }
      await atomicWrite(target, fresh, { retryDelay: 200, logger })
      filler.close()
      assert.ok(fs.readFileSync(target).equals(fresh))
      assert.deepEqual(temps(disk), [])
    })
  })

  describe('a small ext4', { skip: whyNot.ext4(), concurrency: 2 }, () => {
    // Here blocks are reserved when the bytes are written and allocated when they are synced.
    for (const [title, write] of writers) {
      for (const [size, step] of [[1, 1], [64 * KiB, 1], [MiB, 32]]) {
        test(`${title} of ${size} bytes leaves the old file or the new one, ${countOf(step)} of blocks free`, async (t) => {
          const { codes, tried } = await fillUp(t, ext4(t, 6 * MiB), size, step, write)
          t.diagnostic(`${tried} writes`)
          assert.deepEqual(codes, new Set(['ENOSPC', undefined]))
        })
      }
    }
  })
})
