'use strict'

// Backups of a live write-ahead log.

const { describe, test } = require('node:test')
const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { pathToFileURL } = require('node:url')
const { SessionFileError, openWal } = require('../index.js')
const { failure } = require('./helpers.js')
const { Program, fastDir, whyNot } = require('./system.js')
const { Checker, insert } = require('./wal-batches.js')

async function all(entries) {
  const list = []
  for await (const entry of entries) list.push(entry)
  return list
}

describe('a backup of a log', { concurrency: 4 }, () => {
  test('is a log of its own with everything that was acknowledged, and the consumers', async (t) => {
    const box = fastDir(t)
    const wal = await openWal(path.join(box, 'log'), { segmentSize: 8192 })
    t.after(() => wal.close().catch(() => {}))
    for (let number = 1; number <= 60; number++) await wal.append(number % 3 ? 'a' : 'b', [insert(`${number}`, 'x'.repeat(500))])
    const consumer = await wal.consumer('c', 'a')
    for await (const { sequence } of consumer.follow()) {
      if (sequence < 40n) continue
      await consumer.ack(sequence)
      break
    }
    assert.equal(await wal.checkpoint('a', 50n), 40n)
    const copy = path.join(box, 'copy')
    await wal.backup(pathToFileURL(copy))
    const read = async (log) => ({ a: await all(log.replay('a')), b: await all(log.replay('b')) })
    const before = await read(wal)
    await wal.append('a', [insert('later')])
    const reader = await openWal(copy, { readOnly: true, recovery: 'strict' })
    assert.deepEqual(await read(reader), before)
    const other = await openWal(copy, { recovery: 'strict' })
    t.after(() => other.close().catch(() => {}))
    assert.deepEqual(other.damage, [])
    assert.deepEqual(await read(other), before)
    assert.deepEqual(other.stats().collections[0].consumers, [{ name: 'c', position: 40n, lag: 19n }])
    assert.deepEqual(await other.append('a', [insert('own')]), [61n])
    assert.equal((await all(wal.replay('a'))).at(-1).id, 'later')
    assert.deepEqual(fs.readdirSync(box).sort(), ['.copy.lock', '.log.lock', 'copy', 'log'])
  })

  test('takes the place of nothing, and says why it is not made', async (t) => {
    const box = fastDir(t)
    const wal = await openWal(path.join(box, 'log'))
    t.after(() => wal.close().catch(() => {}))
    await wal.append('a', [insert('1')])
    fs.mkdirSync(path.join(box, 'there'))
    fs.writeFileSync(path.join(box, 'file'), '')
    for (const [target, code] of [['there', 'EEXIST'], ['file', 'EEXIST'], ['none/copy', 'ENOENT'], ['log/copy', 'EINVAL'], ['file/copy', 'ENOTDIR']]) {
      const error = await failure(() => wal.backup(path.join(box, target)))
      assert.ok(error instanceof SessionFileError, target)
      assert.deepEqual([error.code, error.operation], [code, 'wal backup'], error.message)
      if (code !== 'ENOTDIR') assert.match(error.hint, /backup/, target)
    }
    for (const [target, code] of [[1, 'ERR_INVALID_ARG_TYPE'], ['', 'ERR_INVALID_ARG_VALUE'], [undefined, 'ERR_INVALID_ARG_TYPE']]) {
      assert.equal((await failure(() => wal.backup(target))).code, code)
    }
    const made = await Promise.all(['one', 'two', 'three'].map((name) => wal.backup(path.join(box, name))))
    assert.equal(made.length, 3, 'several at once come one after another')
    // close waits for one that has begun
    const last = wal.backup(`${path.join(box, 'last')}/`)
    await wal.close()
    await last
    assert.equal((await failure(() => wal.backup(path.join(box, 'late')))).code, 'EWALCLOSED')
    for (const name of ['one', 'two', 'three', 'last']) {
      const reader = await openWal(path.join(box, name), { readOnly: true, recovery: 'strict' })
      assert.deepEqual((await all(reader.replay('a'))).map(({ id }) => id), ['1'])
    }
    assert.deepEqual(fs.readdirSync(box).filter((name) => name.startsWith('.holdfast')), [])
  })
})

test('a process that is killed while it backs its log up leaves whole backups only', { skip: whyNot.unix() }, async (t) => {
  const box = fastDir(t)
  const dir = path.join(box, 'log')
  let whole = 0
  for (let round = 1; round <= 12; round++) {
    const program = new Program(t, 'wal-follow.js', { args: ['backsUp', dir, JSON.stringify({ round })] })
    // What was acknowledged before each backup began.
    const begun = new Map()
    let made = 0
    while (made < round % 4 + 1) {
      const { begins, acknowledged, made: done } = await program.next()
      if (begins) begun.set(begins, acknowledged)
      if (done) made++
    }
    program.kill()
    const { signal, errors, lines } = await program.outcome()
    assert.equal(signal, 'SIGKILL', errors)
    for (const { begins, acknowledged } of lines) if (begins) begun.set(begins, acknowledged)
    for (const [name, acknowledged] of begun) {
      const at = path.join(box, name)
      if (!fs.existsSync(at)) continue
      whole++
      const copy = await openWal(at, { recovery: 'strict', memtable: false })
      assert.deepEqual(copy.damage, [])
      for (const producer of [0, 1]) {
        const checker = new Checker()
        for await (const entry of copy.replay(`c${producer}`)) checker.take(entry)
        checker.end()
        assert.ok(checker.number(round, producer) >= acknowledged[producer], `${name}: ${checker.number(round, producer)} of ${acknowledged}`)
      }
      await copy.close()
      fs.rmSync(at, { recursive: true })
    }
    fs.rmSync(dir, { recursive: true })
  }
  assert.ok(whole >= 24, `${whole}`)
})
