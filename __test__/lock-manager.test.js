'use strict'

// The class LockManager, as Vectra's fork uses it.

const assert = require('node:assert/strict')
const { once } = require('node:events')
const fs = require('node:fs')
const path = require('node:path')
const { after, describe, test } = require('node:test')
const { failure, holdfast, mount, names, newDir, tinyDisk, whyNot } = require('./helpers.js')
const vectra = require('../vectra.js')
const { GUARD, Peer, LIMITS } = require('./programs/lock-peer.js')

const { AtomicOperations, LockManager, SessionFileError, lockManager } = holdfast

after(() => void setTimeout(() => process.exit(1), 10_000).unref())

/** A long wait, in the class's own terms. */
const LONG_WAIT = { retries: GUARD / 1000, minTimeout: 1000, maxTimeout: 1000 }
const SHORT_WAIT = { retries: 2, minTimeout: 20, maxTimeout: 30 }

/** What the fork's LocalIndex does with its manager, as far as locks and files go. */
class LocalIndex {
  /** @param {string} directory @param {any} manager @param {object} options */
  constructor(dir, manager, options) {
    this.dir = dir
    this.file = path.join(dir, 'index.json')
    this.manager = manager
    this.options = options
  }

  async createIndex() {
    const lock = await this.manager.acquireWriteLock(this.dir, this.options)
    try {
      await AtomicOperations.writeFile(this.file, '{"items":[]}')
    } finally {
      await lock.release()
    }
  }

  async beginUpdate() {
    assert.equal(this.lock, undefined, 'an update is under way')
    this.lock = await this.manager.acquireWriteLock(this.dir, this.options)
    this.items = await this.listItems()
  }

  async endUpdate() {
    await AtomicOperations.writeFile(this.file, JSON.stringify({ items: this.items }))
    await this.lock.release()
    this.lock = undefined
  }

  async insertItem(item) {
    if (this.lock) return void this.items.push(item)
    await this.beginUpdate()
    this.items.push(item)
    await this.endUpdate()
  }

  async listItems() {
    const lock = await this.manager.acquireReadLock(this.dir, this.options)
    try {
      return JSON.parse(await AtomicOperations.readFile(this.file)).items
    } finally {
      await lock.release()
    }
  }
}

test('holdfast/vectra has the very same classes', () => {
  const { AtomicFileStorage, ...classes } = vectra
  assert.deepEqual(classes, { AtomicOperations, LockManager, lockManager })
  assert.equal(typeof AtomicFileStorage, 'function')
  assert.ok(lockManager instanceof LockManager)
})

for (const protocol of ['kernel', 'proper-lockfile']) {
  describe(`protocol: '${protocol}'`, LIMITS, () => {
    const longWait = { ...LONG_WAIT, protocol }
    const shortWait = { ...SHORT_WAIT, protocol }
    const look = { protocol }

    test("works the fork's way: update, and read in the middle of it", async (t) => {
      const dir = path.join(newDir(t), 'index')
      const index = new LocalIndex(dir, new LockManager(), { protocol })
      await index.createIndex()
      await index.beginUpdate()
      await index.insertItem('one')
      // Asks the same manager for a read lock while it has the write lock.
      assert.deepEqual(await index.listItems(), [])
      await index.insertItem('two')
      await index.endUpdate()
      await index.insertItem('three')
      assert.deepEqual(await index.listItems(), ['one', 'two', 'three'])
      await Promise.all(Array.from({ length: 20 }, (_, i) => new LocalIndex(dir, index.manager, longWait).insertItem(i)))
      assert.equal((await index.listItems()).length, 23)
      assert.deepEqual(names(dir), protocol === 'kernel' ? ['.vectra.lock', 'index.json'] : ['index.json'])
    })

    test('two managers on one directory in two processes serialise', async (t) => {
      const dir = newDir(t)
      const counter = path.join(dir, 'counter')
      fs.writeFileSync(counter, '0')
      const count = async (/** @type {any} */ { holdfast, fs }, dir, counter, options) => {
        const manager = new holdfast.LockManager()
        for (let i = 0; i < 40; i++) {
          const lock = await manager.acquireWriteLock(dir, options)
          const before = Number(fs.readFileSync(counter, 'utf8'))
          await new Promise((resolve) => setImmediate(resolve))
          fs.writeFileSync(counter, String(before + 1))
          await lock.release()
        }
      }
      await Promise.all([new Peer(t), new Peer(t)].map((peer) => peer.run(count, dir, counter, longWait)))
      assert.equal(fs.readFileSync(counter, 'utf8'), '80')
    })

    test('isWriteLocked is true while it is held, here or elsewhere, and false after', async (t) => {
      const dir = newDir(t)
      const manager = new LockManager()
      const other = new LockManager()
      assert.equal(await manager.isWriteLocked(dir, look), false)
      const lock = await manager.acquireWriteLock(dir, { protocol })
      assert.equal(await manager.isWriteLocked(dir, look), true)
      assert.equal(await other.isWriteLocked(dir, look), true)
      await lock.release()
      assert.equal(await manager.isWriteLocked(dir, look), false)
      const peer = new Peer(t)
      await peer.run(async ({ holdfast, kept }, dir, options) => {
        kept.lock = await holdfast.lockManager.acquireWriteLock(dir, options)
      }, dir, { protocol })
      assert.equal(await manager.isWriteLocked(dir, look), true)
      await peer.release()
      assert.equal(await manager.isWriteLocked(dir, look), false)
      assert.equal(await manager.isWriteLocked(path.join(dir, 'missing'), look), false)
    })

    test('tryAcquireWriteLock gives null at once when it is held, by whomever', async (t) => {
      const dir = newDir(t)
      const manager = new LockManager()
      const lock = await manager.tryAcquireWriteLock(dir, { protocol })
      assert.ok(lock)
      // If it waited, it would not settle before the test is over.
      const endless = { protocol, retries: 1_000_000, minTimeout: 1000, maxTimeout: 1000 }
      assert.equal(await manager.tryAcquireWriteLock(dir, endless), null)
      assert.equal(await new LockManager().tryAcquireWriteLock(dir, endless), null)
      await lock.release()
      const peer = new Peer(t)
      await peer.run(async ({ holdfast, kept }, dir, options) => {
        kept.lock = await holdfast.lockManager.acquireWriteLock(dir, options)
      }, dir, { protocol })
      assert.equal(await manager.tryAcquireWriteLock(dir, endless), null)
      await peer.release()
      const again = await manager.tryAcquireWriteLock(dir, { protocol })
      await again?.release()
      assert.ok(again)
    })

    test('waiting stops after the bound, with an error that names the holder', async (t) => {
      const dir = newDir(t)
      const peer = new Peer(t)
      await peer.run(async ({ holdfast, kept }, dir, options) => {
        kept.lock = await holdfast.lockManager.acquireWriteLock(dir, options)
      }, dir, { protocol })
      const error = await failure(() => lockManager.acquireWriteLock(dir, shortWait))
      assert.ok(error instanceof SessionFileError)
      assert.equal(error.code, 'ELOCKED')
      assert.equal(error.path, dir)
      // 20 + 30
      assert.ok(error.message.includes('after 50 ms'), error.message)
      assert.ok(error.message.includes(path.join(dir, '.vectra.lock')), error.message)
      if (protocol === 'kernel') {
        assert.equal(error.holder?.pid, peer.pid)
        assert.ok(error.message.includes(`process ${peer.pid} on `), error.message)
      } else {
        // All that a lock directory tells.
        assert.ok(error.message.includes('held by another process'), error.message)
      }
      await peer.release()
      const lock = await lockManager.acquireWriteLock(dir, { protocol })
      const own = await failure(() => new LockManager().acquireWriteLock(dir, shortWait))
      assert.ok(own.message.includes('held by this process'), own.message)
      await lock.release()
    })

    test('a read lock is granted at once to the manager that has the write lock, and to no other', async (t) => {
      const dir = newDir(t)
      const link = `${dir}-link`
      fs.symlinkSync(dir, link)
      t.after(() => fs.rmSync(link))
      const manager = new LockManager()
      const write = await manager.acquireWriteLock(dir, { protocol })
      const once = { protocol, retries: 0 }
      const reads = []
      for (const spelling of [dir, `${dir}/`, `${dir}/../${path.basename(dir)}`, link, path.relative(process.cwd(), dir)]) {
        reads.push(await manager.acquireReadLock(spelling, once))
      }
      assert.equal((await failure(() => new LockManager().acquireReadLock(dir, once))).code, 'ELOCKED')
      assert.equal((await failure(() => manager.acquireWriteLock(dir, once))).code, 'ELOCKED')
      // The readers among them are protected to the last.
      await write.release()
      await write.release()
      assert.equal(await new LockManager().tryAcquireWriteLock(dir, { protocol }), null)
      await Promise.all(reads.slice(1).map((read) => read.release()))
      assert.equal(await new LockManager().tryAcquireWriteLock(dir, { protocol }), null)
      await reads[0]?.release()
      await (await new LockManager().acquireWriteLock(dir, once)).release()
    })

    test('a call that waits for a read lock gets it when its own manager acquires the write lock', async (t) => {
      const dir = newDir(t)
      const other = await new LockManager().acquireWriteLock(dir, { protocol })
      const manager = new LockManager()
      const writing = manager.acquireWriteLock(dir, longWait)
      const readings = [manager.acquireReadLock(dir, longWait), manager.acquireReadLock(dir, longWait)]
      await new Promise((resolve) => setTimeout(resolve, 20))
      await other.release()
      const [write, ...reads] = await Promise.all([writing, ...readings])
      await write?.release()
      await Promise.all(reads.map((read) => read.release()))
      await (await manager.acquireWriteLock(dir, { protocol, retries: 0 })).release()
    })

    test('releaseAllLocks releases the locks of this manager, and no others', async (t) => {
      const [one, two] = [newDir(t), newDir(t)]
      const [manager, other] = [new LockManager(), new LockManager()]
      await manager.acquireWriteLock(one, { protocol })
      await manager.acquireReadLock(one, { protocol })
      const kept = await other.acquireWriteLock(two, { protocol })
      await manager.releaseAllLocks()
      await manager.releaseAllLocks()
      assert.equal(await manager.isWriteLocked(one, look), false)
      assert.equal(await manager.isWriteLocked(two, look), true)
      await kept.release()
    })

    test('a directory that is missing is made to write in, and an error to read in', async (t) => {
      const dir = path.join(newDir(t), 'a', 'b')
      const error = await failure(() => lockManager.acquireReadLock(dir, { protocol }))
      assert.equal(error.code, 'ENOENT')
      assert.equal(fs.existsSync(dir), false)
      const lock = await lockManager.acquireWriteLock(dir, { protocol })
      assert.deepEqual(names(dir), ['.vectra.lock'])
      // As deleteIndex does it.
      fs.rmSync(dir, { recursive: true })
      const outcome = await lock.release().then(() => 'released', (error) => error.code)
      assert.equal(outcome, protocol === 'kernel' ? 'released' : 'ECOMPROMISED')
    })

    test('locks go with their process, however it ends', async (t) => {
      const dir = newDir(t)
      const peer = new Peer(t)
      await peer.run(async ({ holdfast }, dir, options) => {
        await holdfast.lockManager.acquireWriteLock(dir, options)
      }, dir, { protocol })
      await peer.kill(protocol === 'kernel' ? 'SIGKILL' : 'SIGTERM')
      await (await lockManager.acquireWriteLock(dir, { protocol, retries: 0 })).release()
    })

    test('extend', async (t) => {
      const dir = newDir(t)
      const lock = await lockManager.acquireWriteLock(dir, { protocol })
      const before = fs.statSync(path.join(dir, '.vectra.lock')).mtimeMs
      await lock.extend(60_000)
      const after = fs.statSync(path.join(dir, '.vectra.lock')).mtimeMs
      if (protocol === 'kernel') assert.equal(after, before)
      else assert.ok(after >= before + 59_000, `${after - before} ms`)
      await assert.rejects(lock.extend(-1), { code: 'ERR_OUT_OF_RANGE' })
      await assert.rejects(lock.extend(/** @type {any} */ ('1')), { code: 'ERR_INVALID_ARG_TYPE' })
      await lock.release()
      await lock.extend(1000)
    })
  })
}

test('a lock that is lost aborts its signal, also for those who read under it', LIMITS, async (t) => {
  const dir = newDir(t)
  const options = /** @type {const} */ ({ protocol: 'proper-lockfile', stale: 2000 })
  const write = await lockManager.acquireWriteLock(dir, options)
  const read = await lockManager.acquireReadLock(dir, options)
  assert.equal((await new LockManager().acquireWriteLock(newDir(t))).signal.aborted, false)
  fs.rmdirSync(path.join(dir, '.vectra.lock'))
  const alive = setInterval(() => {}, 1000)
  if (!read.signal.aborted) await once(read.signal, 'abort')
  clearInterval(alive)
  assert.equal(write.signal.reason.code, 'ECOMPROMISED')
  await assert.rejects(write.extend(1000), { code: 'ECOMPROMISED' })
  // Each release reports it, not only the last one, which releases the lock.
  await assert.rejects(write.release(), { code: 'ECOMPROMISED' })
  await assert.rejects(read.release(), { code: 'ECOMPROMISED' })
})

test('extend rejects when it could not extend the lock', { ...LIMITS, skip: whyNot.mount() }, async (t) => {
  const dir = tinyDisk(t)
  const lock = await lockManager.acquireWriteLock(dir, { protocol: 'proper-lockfile' })
  const before = fs.statSync(path.join(dir, '.vectra.lock')).mtimeMs
  mount(t, dir, '-o', 'remount,ro')
  const error = await failure(() => lock.extend(60_000))
  assert.ok(error instanceof SessionFileError)
  assert.deepEqual([error.code, error.path, error.syscall], ['EROFS', dir, 'utime'])
  assert.equal(fs.statSync(path.join(dir, '.vectra.lock')).mtimeMs, before)
  assert.equal(lock.signal.aborted, false)
  mount(t, dir, '-o', 'remount,rw')
  await lock.extend(60_000)
  assert.ok(fs.statSync(path.join(dir, '.vectra.lock')).mtimeMs >= before + 59_000)
  await lock.release()
})

test('many readers, in several processes, go together, and beside no writer', LIMITS, async (t) => {
  const dir = newDir(t)
  const reads = await Promise.all(Array.from({ length: 10 }, () => new LockManager().acquireReadLock(dir)))
  const peer = new Peer(t)
  await peer.run(async ({ holdfast, kept }, dir) => {
    kept.lock = await holdfast.lockManager.acquireReadLock(dir)
  }, dir)
  for (const read of reads) assert.equal(read.kind, 'read')
  assert.equal(await lockManager.isWriteLocked(dir), false)
  assert.equal(await lockManager.tryAcquireWriteLock(dir), null)
  await Promise.all(reads.map((read) => read.release()))
  assert.equal(await lockManager.tryAcquireWriteLock(dir), null)
  await peer.release()
  await (await lockManager.acquireWriteLock(dir, { retries: 0 })).release()
})

test('the lock of one protocol is not mistaken for one of the other', async (t) => {
  const dir = newDir(t)
  fs.mkdirSync(path.join(dir, '.vectra.lock'))
  const error = await failure(() => lockManager.acquireWriteLock(dir))
  assert.equal(error.code, 'EISDIR')
  assert.match(String(error.hint), /proper-lockfile/)
  fs.rmdirSync(path.join(dir, '.vectra.lock'))
  await (await lockManager.acquireWriteLock(dir)).release()
  const other = await failure(() => lockManager.acquireWriteLock(dir, { protocol: 'proper-lockfile' }))
  assert.equal(other.code, 'ENOTDIR')
  assert.match(String(other.hint), /kernel/)
})

test('wrong arguments are refused before anything happens', async (t) => {
  const dir = path.join(newDir(t), 'index')
  for (const [options, code] of /** @type {[any, string][]} */ ([
    [{ retry: 1 }, 'ERR_INVALID_ARG_VALUE'], [{ retries: -1 }, 'ERR_OUT_OF_RANGE'], [{ retries: '1' }, 'ERR_INVALID_ARG_TYPE'],
    [{ minTimeout: -1 }, 'ERR_OUT_OF_RANGE'], [{ maxTimeout: NaN }, 'ERR_OUT_OF_RANGE'], [{ stale: 1999 }, 'ERR_OUT_OF_RANGE'],
    [{ protocol: 'other' }, 'ERR_INVALID_ARG_VALUE'], [1, 'ERR_INVALID_ARG_TYPE'],
  ])) {
    for (const name of /** @type {const} */ (['acquireWriteLock', 'acquireReadLock', 'tryAcquireWriteLock'])) {
      await assert.rejects(lockManager[name](dir, options), { code }, `${name} ${JSON.stringify(options)}`)
    }
  }
  await assert.rejects(lockManager.isWriteLocked(dir, /** @type {any} */ ({ retries: 1 })), { code: 'ERR_INVALID_ARG_VALUE' })
  await assert.rejects(lockManager.acquireWriteLock(''), { code: 'ERR_INVALID_ARG_VALUE' })
  assert.equal(fs.existsSync(dir), false)
})

describe('a holder that deletes the index and makes it anew', LIMITS, () => {
  const takes = async (/** @type {any} */ { holdfast, fs }, kind, dir, file, options) => {
    const lock = await new holdfast.LockManager()[kind](dir, options)
    const isAlone = kind === 'acquireReadLock' || !fs.existsSync(file)
    if (kind === 'acquireWriteLock') {
      fs.writeFileSync(file, '')
      await new Promise((resolve) => setTimeout(resolve, 20))
      fs.unlinkSync(file)
    }
    await lock.release()
    return isAlone
  }

  for (const isMadeAnew of [true, false]) {
    test(`${isMadeAnew ? 'has' : 'leaves it away, and has'} nobody beside it, and those who wait have the lock after it`, async (t) => {
      const dir = path.join(newDir(t), 'index')
      const file = path.join(dir, '..', 'busy')
      fs.mkdirSync(dir)
      const lock = await new LockManager().acquireWriteLock(dir)
      const kinds = ['acquireWriteLock', 'acquireReadLock', 'acquireWriteLock']
      const peers = kinds.map(() => new Peer(t))
      const waits = peers.map((peer, index) => peer.run(takes, kinds[index], dir, file, LONG_WAIT).then((value) => value, (error) => error.code))
      const own = new LockManager().acquireWriteLock(dir, LONG_WAIT)
      // Some wait already, and some may come only later: all are to fare alike.
      await new Promise((resolve) => setTimeout(resolve, 300))
      fs.rmSync(dir, { recursive: true })
      if (isMadeAnew) {
        fs.mkdirSync(dir)
        fs.writeFileSync(path.join(dir, 'index.json'), '{}')
      }
      assert.equal(await new LockManager().tryAcquireWriteLock(dir), null)
      assert.equal(await new LockManager().isWriteLocked(dir), true)
      const newcomer = new Peer(t)
      assert.equal(await newcomer.run(async ({ holdfast }, dir) => (await new holdfast.LockManager().tryAcquireWriteLock(dir)) === null, dir), true)
      assert.equal(fs.existsSync(file), false)
      await lock.release()
      const mine = await own
      assert.equal(fs.existsSync(file), false)
      await mine.release()
      const outcomes = await Promise.all(waits)
      // A reader needs an index, which a writer may have made anew by then.
      assert.deepEqual(outcomes.map((outcome, index) => outcome === 'ENOENT' && !isMadeAnew && kinds[index] === 'acquireReadLock' ? true : outcome), [true, true, true])
      assert.equal(await new LockManager().isWriteLocked(dir), false)
    })
  }

  test('is excluded through a symbolic link, too', { skip: whyNot.unix() }, async (t) => {
    const above = newDir(t)
    const [dir, link] = [path.join(above, 'index'), path.join(above, 'link')]
    fs.mkdirSync(dir)
    fs.symlinkSync('index', link)
    const lock = await new LockManager().acquireWriteLock(dir)
    fs.rmSync(dir, { recursive: true })
    assert.equal(await new LockManager().tryAcquireWriteLock(link), null)
    fs.mkdirSync(dir)
    assert.equal(await new LockManager().tryAcquireWriteLock(link), null)
    assert.equal(await new LockManager().isWriteLocked(link), true)
    await lock.release()
    await (await new LockManager().acquireWriteLock(link, SHORT_WAIT)).release()
  })
})
