'use strict'

// A write that fails and is tried again lets other processes have the lock in the pause. A full disk
// must not look like a locked file to everybody else.

const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { describe, test } = require('node:test')
const { setTimeout: sleep } = require('node:timers/promises')
const { assertFree, fullDisk, holdfast, inChild, names, newDir, temps, whyNot } = require('./helpers.js')
const { ext4, whyNot: lacks } = require('./system.js')

const { tryAcquireLock, updateJsonFile, withLock } = holdfast

/** More than a full disk takes. */
const MUCH = 300_000

/**
 * The name of a file that the child makes when it is in a pause between two attempts, and a wait for
 * that.
 *
 * @param {import('node:test').TestContext} t
 */
function pauseSign(t) {
  const sign = path.join(newDir(t), 'pause')
  const seen = async () => {
    await until(() => fs.existsSync(sign))
    fs.rmSync(sign)
  }
  return { sign, seen }
}

/** Waits until this is so. @param {() => boolean} isSo */
async function until(isSo) {
  const end = Date.now() + 30_000
  while (!isSo()) {
    assert.ok(Date.now() < end, 'it never came to it')
    await sleep(2)
  }
}

/** What fails in the child while the disk is full. Each is called with `file`, `options` and the tools. */
const calls = {
  'updateJsonFile': (file, options, { holdfast }) => holdfast.updateJsonFile(file, () => ['n'.repeat(300_000)], options),
  'atomicWrite with lock': (file, options, { holdfast }) => holdfast.atomicWrite(file, 'n'.repeat(300_000), { ...options, lock: true }),
  'atomicWriteJson with lock': (file, options, { holdfast }) => holdfast.atomicWriteJson(file, 'n'.repeat(300_000), { ...options, lock: true }),
  'AtomicOperations.updateJsonFile': (file, options, { holdfast }) => holdfast.AtomicOperations.updateJsonFile(file, () => ['n'.repeat(300_000)], options),
  'restoreBackup': (file, options, { holdfast, backup }) => holdfast.restoreBackup(backup, file, options),
  'transaction': (file, { logger, ...options }, { holdfast }) => {
    // It logs no attempts.
    const looks = setInterval(() => holdfast.metrics().transactions.retries > 0 && (clearInterval(looks), logger.warn()), 1)
    return holdfast.transaction([file], (tx) => tx.write(file, 'n'.repeat(300_000)), options)
  },
  'transaction of two files, the other one held': (file, { logger, ...options }, { holdfast, other }) => {
    const looks = setInterval(() => holdfast.metrics().transactions.retries > 0 && (clearInterval(looks), logger.warn()), 1)
    return holdfast.withLock(other, () => holdfast.transaction([other, file], (tx) => tx.write(file, 'n'.repeat(300_000)), options))
  },
}

/** Runs one of these in a child, which says when it pauses. */
const run = async ({ call, file, options, sign, ...more }, { holdfast, fs, outcome }) => {
  const logger = { debug() {}, error() {}, warn: () => fs.writeFileSync(sign, '') }
  // The method of Vectra's class logs no attempts of its own: its pause follows on the failure.
  if (/AtomicOperations/.test(call)) logger.debug = (_fields, message) => /failed/.test(message) && logger.warn()
  const program = Function(`return ${call}`)()
  const end = await outcome(() => program(file, { logger, ...options }, { holdfast, ...more }))
  return { end }
}

for (const [disk, skip, full] of /** @type {const} */ ([
  ['a disk in memory', whyNot.mount(), (t) => fullDisk(t)],
  ['ext4', lacks.ext4(), (t) => {
    const dir = ext4(t, 2 << 20)
    const filler = path.join(dir, 'filler')
    for (const size of [1 << 20, 1 << 10]) {
      assert.throws(() => {
        for (;;) fs.appendFileSync(filler, Buffer.alloc(size))
      }, { code: 'ENOSPC' })
    }
    return { dir, filler }
  }],
])) {
  describe(`on ${disk} that is full`, { skip, concurrency: 3 }, () => {
    for (const [name, call] of Object.entries(calls)) {
      test(`${name} lets another process have the lock before its next attempt`, async (t) => {
        const { dir, filler } = full(t)
        const file = path.join(dir, 'file')
        const backup = path.join(newDir(t), 'backup')
        fs.writeFileSync(backup, Buffer.alloc(MUCH, 'n'))
        fs.writeFileSync(file, '')
        fs.truncateSync(filler, fs.statSync(filler).size - 8192)
        fs.writeFileSync(file, '["old"]')
        const { sign, seen } = pauseSign(t)
        const other = path.join(newDir(t), 'other')
        const child = inChild(run, { call: call.toString(), file, backup, other, sign, options: { retries: 2, retryDelay: 1500 } })
        await seen()
        // This process waits for it, and has it before the pause is over: the sign of a second attempt
        // would be another failure.
        const text = await withLock(file, () => {
          assert.equal(fs.readFileSync(file, 'utf8'), '["old"]')
          fs.rmSync(filler)
          return fs.readdirSync(dir).filter((name) => name.endsWith('.tmp'))
        }, { timeout: 1000 })
        assert.deepEqual(text, [], 'no attempt is under way')
        const { end } = await child
        // There is room for it in the end only on the larger disk.
        if (disk === 'ext4') assert.equal(end, 'success')
        else assert.equal(end.code, 'ENOSPC')
        await assertFree(file)
        assert.deepEqual(temps(dir), [])
      })
    }

    test('atomicWriteSync with lock does so, too', async (t) => {
      const { dir } = full(t)
      const file = path.join(dir, 'file')
      const { sign, seen } = pauseSign(t)
      const child = inChild(async ({ file, sign }, { holdfast, fs }) => {
        // Its temp file comes and goes. Then it blocks its thread.
        fs.writeFileSync(sign, '')
        holdfast.atomicWriteSync(file, 'n'.repeat(5 << 20), { lock: true, retries: 2, retryDelay: 2500 })
      }, { file, sign })
      await seen()
      await until(() => fs.existsSync(path.join(dir, '.file.lock')))
      await until(() => temps(dir).length === 0)
      await withLock(file, () => {}, { timeout: 1500 })
      await assert.rejects(child, /ENOSPC/)
    })
  })
}

describe('between two attempts', { skip: whyNot.mount(), concurrency: 2 }, () => {
  /** An update in a child that pushes to an array, and counts how often its function is called. */
  const pushing = async ({ file, sign, size }, { holdfast, fs }) => {
    const seen = []
    const logger = { debug() {}, error() {}, warn: () => fs.writeFileSync(sign, '') }
    const push = (data) => {
      seen.push(data.length)
      data.push('n'.repeat(size))
    }
    const made = await holdfast.updateJsonFile(file, push, { retries: 1000, retryDelay: 0.1, logger })
    return { seen, made: made.map((item) => item.length) }
  }

  test('an update that another process has overtaken is made on what that process wrote', async (t) => {
    const { dir, filler } = fullDisk(t)
    const file = path.join(newDir(t), 'file')
    fs.writeFileSync(file, '[]')
    const link = path.join(dir, 'file')
    fs.rmSync(filler)
    fs.writeFileSync(link, '[]')
    assert.throws(() => fs.writeFileSync(filler, Buffer.alloc(1 << 20)), { code: 'ENOSPC' })
    const { sign, seen } = pauseSign(t)
    const child = inChild(pushing, { file: link, sign, size: 100_000 })
    await seen()
    await withLock(link, async () => {
      fs.rmSync(filler)
      await updateJsonFile(link, (data) => void data.push('other'))
    })
    const { seen: lengths, made } = await child
    assert.deepEqual(made, [5, 100_000], 'nothing is lost')
    assert.deepEqual(lengths, [0, 1], 'its function runs again on the new content')
    assert.deepEqual(JSON.parse(fs.readFileSync(link, 'utf8')).map((item) => item.length), made)
  })

  test('the function of an update does not run again while the file stays as it is', async (t) => {
    const { dir, filler } = fullDisk(t)
    const file = path.join(dir, 'file')
    fs.rmSync(filler)
    fs.writeFileSync(file, '["old"]')
    assert.throws(() => fs.writeFileSync(filler, Buffer.alloc(1 << 20)), { code: 'ENOSPC' })
    const { sign, seen } = pauseSign(t)
    const child = inChild(pushing, { file, sign, size: 100_000 })
    for (let i = 0; i < 3; i++) await seen()
    await withLock(file, () => fs.rmSync(filler))
    assert.deepEqual(await child, { seen: [1], made: [3, 100_000] })
  })

  test('calls that share a batch all run again, each on what the one before it made', async (t) => {
    const { dir, filler } = fullDisk(t)
    const file = path.join(dir, 'file')
    fs.rmSync(filler)
    fs.writeFileSync(file, '{"n":0}')
    assert.throws(() => fs.writeFileSync(filler, Buffer.alloc(1 << 20)), { code: 'ENOSPC' })
    const { sign, seen } = pauseSign(t)
    const child = inChild(async ({ file, sign }, { holdfast, fs, outcome }) => {
      const logger = { debug() {}, error() {}, warn: () => fs.writeFileSync(sign, '') }
      const options = { retries: 1000, retryDelay: 0.1, logger }
      return Promise.all([
        holdfast.updateJsonFile(file, (data) => void (data.n += 1, data.big = 'n'.repeat(100_000)), options).then(({ n }) => n),
        outcome(() => holdfast.updateJsonFile(file, (data) => {
          if (data.n > 50) throw new RangeError('too much')
          data.n += 1
        }, options)),
        holdfast.updateJsonFile(file, (data) => void (data.n += 1), options).then(({ n }) => n),
      ])
    }, { file, sign })
    await seen()
    await withLock(file, async () => {
      fs.rmSync(filler)
      await updateJsonFile(file, (data) => void (data.n += 100))
    })
    const [first, second, third] = await child
    // What the second one threw on the new content is its outcome, and it left no trace.
    assert.deepEqual([first, second.message, third], [101, 'too much', 102])
    assert.equal(JSON.parse(fs.readFileSync(file, 'utf8')).n, 102)
  })

  test('a transaction goes on if its files are as they were, and its function is not called again', async (t) => {
    for (const change of ['none', 'read', 'written']) {
      const { dir, filler } = fullDisk(t)
      const [a, b] = [path.join(dir, 'a'), path.join(dir, 'b')]
      fs.rmSync(filler)
      for (const file of [a, b]) fs.writeFileSync(file, 'old')
      assert.throws(() => fs.writeFileSync(filler, Buffer.alloc(1 << 20)), { code: 'ENOSPC' })
      const { sign, seen } = pauseSign(t)
      const child = inChild(async ({ a, b, sign }, { holdfast, fs, outcome }) => {
        let runs = 0
        const looks = setInterval(() => holdfast.metrics().transactions.retries > 0 && (clearInterval(looks), fs.writeFileSync(sign, '')), 1)
        const end = await outcome(() => holdfast.transaction([a, b], async (tx) => {
          runs++
          await tx.write(b, `${await tx.read(a, 'utf8')}${'n'.repeat(100_000)}`)
        }, { retryDelay: 400 }))
        return { runs, end }
      }, { a, b, sign })
      await seen()
      await withLock(a, () => withLock(b, () => {
        fs.rmSync(filler)
        if (change !== 'none') fs.writeFileSync(change === 'read' ? a : b, 'new')
      }))
      const { runs, end } = await child
      assert.equal(runs, 1)
      if (change === 'none') {
        assert.equal(end, 'success')
        assert.equal(fs.statSync(b).size, 100_003)
      } else {
        assert.deepEqual([end.code, end.committed, end.attempts], ['ENOSPC', false, 1])
        assert.deepEqual([fs.readFileSync(a, 'utf8'), fs.readFileSync(b, 'utf8')], change === 'read' ? ['new', 'old'] : ['old', 'new'])
      }
      assert.deepEqual(names(dir).filter((name) => !name.endsWith('.lock')), ['a', 'b'])
    }
  })

  test('a lock that withLock holds stays with its holder', async (t) => {
    const { dir } = fullDisk(t)
    const file = path.join(dir, 'file')
    const { sign, seen } = pauseSign(t)
    const child = inChild(async ({ file, sign }, { holdfast, fs, outcome }) => {
      const logger = { debug() {}, error() {}, warn: () => fs.writeFileSync(sign, '') }
      const much = 'n'.repeat(300_000)
      await holdfast.withLock(file, async () => {
        for (const call of [
          (options) => holdfast.updateJsonFile(file, () => much, { defaultValue: 0, ...options }),
          (options) => holdfast.atomicWrite(file, much, { lock: true, ...options }),
        ]) {
          await outcome(() => call({ logger, retries: 2, retryDelay: 300 }))
        }
      })
    }, { file, sign })
    for (let i = 0; i < 2; i++) {
      await seen()
      assert.equal(await tryAcquireLock(file), null)
    }
    await child
    await assertFree(file)
  })

  test('later calls of the same process do not overtake a write that waits for its next attempt', async (t) => {
    const { dir, filler } = fullDisk(t)
    const file = path.join(dir, 'file')
    const logger = { debug() {}, error() {}, warn: () => fs.rmSync(filler, { force: true }) }
    const order = []
    const said = (name) => () => order.push(name)
    await Promise.all([
      holdfast.atomicWrite(file, JSON.stringify({ n: 'n'.repeat(100_000) }), { lock: true, logger, retries: 9, retryDelay: 100 }).then(said('first')),
      sleep(20).then(() => updateJsonFile(file, (data) => ({ n: data.n.length }))).then(said('second')),
      sleep(30).then(() => holdfast.atomicWrite(file, '"last"', { lock: true })).then(said('last')),
    ])
    assert.deepEqual(order, ['first', 'second', 'last'])
    assert.equal(fs.readFileSync(file, 'utf8'), '"last"')
  })

  test('another process that keeps the lock is waited for as long as the call waits for locks, and the signal ends that', async (t) => {
    const disks = [fullDisk(t), fullDisk(t), fullDisk(t)]
    const files = disks.map(({ dir }) => path.join(dir, 'file'))
    const signs = disks.map(() => pauseSign(t))
    const child = inChild(async ({ files, signs, backup }, { holdfast, fs, outcome }) => {
      const much = 'n'.repeat(300_000)
      const options = (i) => ({ retries: 2, retryDelay: 500, logger: { debug() {}, error() {}, warn: () => fs.writeFileSync(signs[i], '') } })
      const stop = new AbortController()
      const looks = setInterval(() => holdfast.metrics().transactions.retries > 0 && (clearInterval(looks), fs.writeFileSync(signs[2], '')), 1)
      const ends = Promise.all([
        outcome(() => holdfast.updateJsonFile(files[0], () => much, { ...options(0), defaultValue: 0, timeout: 700 })),
        outcome(() => holdfast.atomicWrite(files[1], much, { ...options(1), lock: true, signal: stop.signal })),
        outcome(() => holdfast.transaction([files[2]], (tx) => tx.write(files[2], much), { retryDelay: 500, signal: stop.signal })),
      ])
      setTimeout(() => stop.abort(), 2500)
      return ends
    }, { files, signs: signs.map(({ sign }) => sign) })
    const ends = await Promise.all(files.map(async (file, i) => {
      await signs[i]?.seen()
      // Held until the call has its answer.
      return withLock(file, () => child, { timeout: 400 })
    }))
    const [update, write, transaction] = ends[0]
    assert.equal(update.code, 'ELOCKED')
    assert.match(update.message, /Timed out after 700 ms/)
    assert.deepEqual([write.name, transaction.name], ['AbortError', 'AbortError'])
    for (const file of files) await assertFree(file)
  })
})
