'use strict'

const assert = require('node:assert/strict')
const { spawn } = require('node:child_process')
const crypto = require('node:crypto')
const dns = require('node:dns')
const { EventEmitter, getEventListeners, once } = require('node:events')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const { after, describe, test } = require('node:test')
const { pathToFileURL } = require('node:url')
const { promisify } = require('node:util')
const {
  NOBODY, failure, fullDisk, holdfast, inChild, modeOf, mount, names, newFile, newDir, root, tinyDisk, whyNot, nextTurn, assertFree,
} = require('./helpers.js')
const { GUARD, Peer, lockFileOf, untilWaiting, LIMITS, LONG_WAIT } = require('./programs/lock-peer.js')

const { SessionFileError, acquireLock, atomicWrite, isLocked, tryAcquireLock, withLock } = holdfast

/** A call that hangs does not keep the specs from ending. */
after(() => void setTimeout(() => process.exit(1), 10_000).unref())

/** Fails unless the lock is held. @param {string} file */
async function assertHeld(file) {
  assert.equal(await tryAcquireLock(file), null)
  assert.equal((await isLocked(file)).locked, true)
}

/** The note of who has the lock: who has only just taken it has not left it yet. @param {string} lockFile */
async function noteIn(lockFile) {
  for (;;) {
    const text = fs.readFileSync(lockFile, 'utf8')
    if (text) return text
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
}

/** Whether two paths have one lock. @param {string} one @param {string} other */
async function isSameLock(one, other) {
  return withLock(one, async () => {
    const lock = await tryAcquireLock(other)
    await lock?.release()
    return lock === null
  })
}

describe('withLock', LIMITS, () => {
  test('returns what the function returns, and frees the lock', async (t) => {
    const file = newFile(t)
    const value = { some: 'value' }
    assert.equal(await withLock(file, () => value), value)
    await assertFree(file)
    assert.equal(await withLock(file, async () => value), value)
    await assertFree(file)
    assert.equal(await withLock(file, () => undefined), undefined)
    assert.equal(await withLock(pathToFileURL(file), () => 'by URL'), 'by URL')
  })

  test('passes on what the function throws or rejects with, and frees the lock', async (t) => {
    const file = newFile(t)
    for (const thrown of [new Error('own'), Object.assign(new Error('coded'), { code: 'ELOCKED' }), 'a string', undefined, null]) {
      const throws = () => {
        throw thrown
      }
      for (const fn of [throws, async () => throws()]) {
        const outcome = await withLock(file, /** @type {any} */ (fn)).then(() => assert.fail('it resolved'), (error) => ({ error }))
        assert.equal(outcome.error, thrown)
        await assertFree(file)
      }
    }
  })

  test('holds the lock until the promise of the function settles', async (t) => {
    const file = newFile(t)
    /** @type {(value: string) => void} */
    let settle = () => {}
    const running = withLock(file, () => new Promise((resolve) => (settle = resolve)))
    while ((await isLocked(file)).locked === false) await nextTurn()
    await assertHeld(file)
    settle('done')
    assert.equal(await running, 'done')
    await assertFree(file)
  })

  test('passes the function its lock, which can be released early', async (t) => {
    const file = newFile(t)
    const value = await withLock(file, async (lock) => {
      assert.equal(lock.kind, 'write')
      assert.ok(lock.signal instanceof AbortSignal)
      assert.equal(lock.signal.aborted, false)
      await lock.release()
      await assertFree(file)
      // Nothing is held any more, so this does not wait.
      return withLock(file, () => 'again', { timeout: 0 })
    })
    assert.equal(value, 'again')
    await assertFree(file)
  })

  test('does not call the function without the lock', async (t) => {
    const file = newFile(t)
    const lock = await acquireLock(file)
    let calls = 0
    const error = await failure(() => withLock(file, () => calls++, { timeout: 0 }))
    assert.equal(error.code, 'ELOCKED')
    await lock.release()
    assert.equal(calls, 0)
  })

  test('excludes calls of one thread, worker threads and processes alike', async (t) => {
    const file = newFile(t)
    const counter = path.join(path.dirname(file), 'counter')
    fs.writeFileSync(counter, '0')
    const peers = [new Peer(t), new Peer(t), new Peer(t, { thread: true }), new Peer(t, { thread: true })]
    const count = async (/** @type {any} */ { holdfast, fs }, /** @type {string} */ file, /** @type {string} */ counter) => {
      const one = () => holdfast.withLock(file, async () => {
        const before = Number(fs.readFileSync(counter, 'utf8'))
        await new Promise((resolve) => setImmediate(resolve))
        fs.writeFileSync(counter, String(before + 1))
      }, { timeout: Infinity })
      await Promise.all(Array.from({ length: 100 }, one))
    }
    await Promise.all([...peers.map((peer) => peer.run(count, file, counter)), count({ holdfast, fs }, file, counter)])
    assert.equal(fs.readFileSync(counter, 'utf8'), '500')
    await assertFree(file)
  })

  test('locks nothing but this one file', async (t) => {
    const file = newFile(t)
    await withLock(file, async () => {
      await withLock(`${file}2`, () => {}, { timeout: 0 })
      await withLock(path.join(path.dirname(file), '.file.lock'), () => {}, { timeout: 0 })
      await atomicWrite(file, 'an atomicWrite does not heed locks')
    })
    assert.equal(fs.readFileSync(file, 'utf8'), 'an atomicWrite does not heed locks')
  })
})

describe('waiting', LIMITS, () => {
  test('500 calls are served in their order', async (t) => {
    const file = newFile(t)
    const lock = await acquireLock(file)
    /** @type {number[]} */
    const served = []
    let inside = 0
    const calls = Array.from({ length: 500 }, (_, i) =>
      withLock(file, async () => {
        assert.equal(++inside, 1)
        served.push(i)
        if (i % 7 === 0) await nextTurn()
        inside--
      }, LONG_WAIT))
    await nextTurn()
    assert.equal(served.length, 0)
    await lock.release()
    await Promise.all(calls)
    assert.deepEqual(served, Array.from({ length: 500 }, (_, i) => i))
  })

  test('calls of several threads are served in call order', async (t) => {
    const file = newFile(t)
    const log = `${file}.log`
    const threads = [new Peer(t, { thread: true }), new Peer(t, { thread: true })]
    const call = ({ holdfast, fs, kept }, file, log, number, timeout) => {
      kept.calls ??= []
      kept.calls.push(holdfast.withLock(file, () => fs.appendFileSync(log, `${number}\n`), { timeout }))
    }
    const kept = {}
    await Promise.all(threads.map((thread) => thread.run(({ holdfast }, file) => holdfast.isLocked(file), file)))
    const lock = await acquireLock(file)
    for (let i = 0; i < 60; i++) {
      // Each call has been made before the next one is.
      const thread = threads[i % 3]
      if (thread) await thread.run(call, file, log, i, GUARD)
      else call({ holdfast, fs, kept }, file, log, i, GUARD)
    }
    await lock.release()
    await Promise.all([...kept.calls, ...threads.map((thread) => thread.run(({ kept }) => Promise.all(kept.calls).then(() => 0)))])
    assert.deepEqual(fs.readFileSync(log, 'utf8').trim().split('\n').map(Number), Array.from({ length: 60 }, (_, i) => i))
  })

  for (const holder of ['this process', 'another process']) {
    test(`waiters that give up, by signal or timeout, do not change the order of the others: held by ${holder}`, async (t) => {
      const file = newFile(t)
      const peer = holder === 'another process' ? new Peer(t) : undefined
      const lock = peer ? undefined : await acquireLock(file)
      await peer?.acquire(file)
      /** @type {number[]} */
      const served = []
      const controllers = []
      const calls = []
      const leavers = []
      for (let i = 0; i < 500; i++) {
        const controller = new AbortController()
        const hasShortTimeout = i % 5 === 2
        const call = withLock(file, () => void served.push(i), { signal: controller.signal, timeout: hasShortTimeout ? 1 + (i % 50) : GUARD })
        if (hasShortTimeout) leavers.push(assert.rejects(call, { code: 'ELOCKED' }, `call ${i}`))
        else if (i % 3 === 0) {
          leavers.push(assert.rejects(call, { name: 'AbortError', code: 'ABORT_ERR', cause: `reason ${i}` }, `call ${i}`))
          controllers.push(() => controller.abort(`reason ${i}`))
        } else calls.push(call)
      }
      // From the back, the front and the middle, the first in the queue included.
      const last = controllers.splice(100)
      for (const abort of last.reverse()) abort()
      await nextTurn()
      for (const abort of controllers) abort()
      await Promise.all(leavers)
      assert.equal(served.length, 0)
      await (peer ? peer.release() : lock?.release())
      await Promise.all(calls)
      const rest = Array.from({ length: 500 }, (_, i) => i).filter((i) => i % 5 !== 2 && i % 3 !== 0)
      assert.deepEqual(served, rest)
      await assertFree(file)
    })
  }

  test('when all waiters give up, the lock that is acquired for none of them is released', async (t) => {
    const file = newFile(t)
    const peer = new Peer(t)
    await peer.acquire(file)
    const controller = new AbortController()
    const calls = Array.from({ length: 20 }, () => failure(() => acquireLock(file, { timeout: GUARD, signal: controller.signal })))
    await untilWaiting(lockFileOf(file))
    controller.abort()
    for (const error of await Promise.all(calls)) assert.equal(error.name, 'AbortError')
    await peer.release()
    // By the former holder, by this process, and by a third one.
    await peer.acquire(file)
    await peer.release()
    await withLock(file, () => {}, LONG_WAIT)
    await new Peer(t).run(({ holdfast }, file, timeout) => holdfast.withLock(file, () => {}, { timeout }), file, GUARD)
  })

  test('a waiter behind one that has given up gets the lock in its place', async (t) => {
    const file = newFile(t)
    const peer = new Peer(t)
    await peer.acquire(file)
    const controller = new AbortController()
    const leaver = failure(() => acquireLock(file, { timeout: GUARD, signal: controller.signal }))
    await untilWaiting(lockFileOf(file))
    controller.abort()
    assert.equal((await leaver).name, 'AbortError')
    const call = withLock(file, () => 'served', LONG_WAIT)
    await peer.release()
    assert.equal(await call, 'served')
  })

  for (const holder of ['this process', 'another process']) {
    test(`500 waiters hold up neither files, DNS, crypto nor writes: held by ${holder}`, async (t) => {
      const file = newFile(t)
      const peer = holder === 'another process' ? new Peer(t) : undefined
      const lock = peer ? undefined : await acquireLock(file)
      await peer?.acquire(file)
      let served = 0
      const waiters = Array.from({ length: 500 }, (_, i) => (i % 2 ? acquireLock(file, LONG_WAIT).then(async (lock) => (served++, lock.release())) : withLock(file, () => served++, LONG_WAIT)))
      if (peer) await untilWaiting(lockFileOf(file))
      await Promise.all([
        ...Array.from({ length: 20 }, (_, i) => fs.promises.writeFile(`${file}.fs${i}`, 'x').then(() => fs.promises.readFile(`${file}.fs${i}`))),
        ...Array.from({ length: 8 }, () => dns.promises.lookup('localhost')),
        ...Array.from({ length: 8 }, () => promisify(crypto.pbkdf2)('secret', 'salt', 1000, 32, 'sha256')),
        ...Array.from({ length: 100 }, (_, i) => atomicWrite(`${file}.write${i}`, 'x')),
        ...Array.from({ length: 100 }, (_, i) => withLock(`${file}.lock${i}`, () => i)),
        isLocked(file),
        tryAcquireLock(file).then((lock) => assert.equal(lock, null)),
        new Promise((resolve) => setTimeout(resolve, 1)),
      ])
      assert.equal(served, 0, 'the waiters still wait')
      if (process.platform === 'linux') {
        const inode = `:${fs.statSync(lockFileOf(file)).ino} `
        const waiting = fs.readFileSync('/proc/locks', 'utf8').split('\n').filter((line) => line.includes('-> ') && line.includes(inode))
        assert.equal(waiting.length, peer ? 1 : 0, 'one thread at most waits in the kernel')
      }
      await (peer ? peer.release() : lock?.release())
      await Promise.all(waiters)
      assert.equal(served, 500)
    })
  }

  for (const [name, calls, busy, least] of /** @type {const} */ ([['many short', 400, 0, 4], ['long', 40, 2, 40]])) {
    test(`a process with ${name} calls does not starve another`, async (t) => {
      const file = newFile(t)
      const log = `${file}.log`
      const work = async ({ holdfast, fs }, file, log, name, calls, busy) => {
        const section = () => {
          fs.appendFileSync(log, name)
          Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, busy)
        }
        await Promise.all(Array.from({ length: calls }, () => holdfast.withLock(file, section, { timeout: Infinity })))
      }
      const [a, b] = [new Peer(t), new Peer(t)]
      // Neither starts before both are ready.
      const lock = await acquireLock(file)
      const all = Promise.all([a.run(work, file, log, 'a', calls, busy), b.run(work, file, log, 'b', calls, busy)])
      await untilWaiting(lockFileOf(file), 2)
      await lock.release()
      await all
      const sections = fs.readFileSync(log, 'utf8')
      assert.equal(sections.length, 2 * calls)
      assert.ok(sections.lastIndexOf('a') > sections.indexOf('b') && sections.lastIndexOf('b') > sections.indexOf('a'), 'one after the other')
      // A process may keep the lock for a millisecond. Longer sections alternate.
      const changes = sections.match(/a(?=b)|b(?=a)/g)?.length ?? 0
      assert.ok(changes >= least, `${changes} changes in ${sections.length} sections`)
    })
  }

  test('a signal that was aborted before the call leaves no lock file', async (t) => {
    const file = newFile(t)
    const reason = new Error('the reason')
    for (const call of [withLock, acquireLock, tryAcquireLock]) {
      const options = { signal: AbortSignal.abort(reason) }
      const error = await failure(() => (call === withLock ? withLock(file, () => assert.fail('it was called'), options) : call(file, /** @type {any} */ (options))))
      assert.equal(error.name, 'AbortError')
      assert.equal(error.code, 'ABORT_ERR')
      assert.equal(error.cause, reason)
    }
    assert.deepEqual(names(path.dirname(file)), [])
  })

  test('a signal has no effect once the lock is held, and keeps no listeners', async (t) => {
    const file = newFile(t)
    const controller = new AbortController()
    const { signal } = controller
    await withLock(file, async (lock) => {
      assert.equal(getEventListeners(signal, 'abort').length, 0)
      await assert.rejects(acquireLock(file, { timeout: 1, signal }), { code: 'ELOCKED' })
      assert.equal(getEventListeners(signal, 'abort').length, 0)
      controller.abort()
      assert.equal(lock.signal.aborted, false)
      await assertHeld(file)
    }, { signal })
    await assertFree(file)
  })

  test('a timeout of 0 tries once, also when many do at a time', async (t) => {
    const file = newFile(t)
    const outcomes = await Promise.allSettled(Array.from({ length: 50 }, () => acquireLock(file, { timeout: 0 })))
    const locks = outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : []))
    assert.equal(locks.length, 1)
    for (const outcome of outcomes) {
      if (outcome.status === 'rejected') assert.equal(outcome.reason.code, 'ELOCKED')
    }
    await locks[0]?.release()
    await assertFree(file)
  })

  test('calls that try once are refused at once, also while others wait', async (t) => {
    const file = newFile(t)
    const peer = new Peer(t)
    await peer.acquire(file)
    const waiting = withLock(file, () => 'served', LONG_WAIT)
    await untilWaiting(lockFileOf(file))
    assert.equal(await tryAcquireLock(file), null)
    assert.equal((await failure(() => withLock(file, () => {}, { timeout: 0 }))).code, 'ELOCKED')
    await peer.release()
    assert.equal(await waiting, 'served')
  })

  test('timeouts of any length work beside each other', async (t) => {
    const file = newFile(t)
    const { served, refused } = await inChild(async ({ file }, { holdfast }) => {
      const codes = []
      const signal = AbortSignal.timeout(20_000)
      for (let i = 0; i < 20; i++) {
        const lock = await holdfast.acquireLock(file, { timeout: Infinity })
        // 1e22 ms is more than the system's clock can count.
        const long = [1e22, Infinity, Number.MAX_VALUE, Number.MAX_SAFE_INTEGER, 2 ** 32, 2 ** 31].map((timeout) => holdfast.withLock(file, () => 1, { timeout, signal }))
        const short = [0, Number.MIN_VALUE, 1e-9, 0.5, 1, 1.5].map((timeout) => holdfast.acquireLock(file, { timeout, signal }).catch(({ code }) => codes.push(code)))
        // A call without a working timeout would get the lock, and keep it.
        await Promise.all(short)
        await lock.release()
        await Promise.all(long)
      }
      return { served: true, refused: codes }
    }, { file })
    assert.equal(served, true)
    assert.deepEqual(refused, Array.from({ length: 120 }, () => 'ELOCKED'))
  })
})

describe('acquireLock, tryAcquireLock, isLocked', LIMITS, () => {
  test('tryAcquireLock resolves with null while the lock is held', async (t) => {
    const file = newFile(t)
    const lock = await tryAcquireLock(file)
    assert.ok(lock)
    assert.equal(lock.kind, 'write')
    assert.equal(await tryAcquireLock(file), null)
    await lock.release()
    const peer = new Peer(t)
    await peer.acquire(file)
    assert.equal(await tryAcquireLock(file), null)
    await peer.kill()
    const again = await tryAcquireLock(file)
    assert.ok(again)
    await again.release()
  })

  test('tryAcquireLock does not turn other failures into null', async (t) => {
    assert.equal((await failure(() => tryAcquireLock(path.join(newFile(t), 'no', 'such', 'dir')))).code, 'ENOENT')
  })

  test('isLocked names the holder, and creates no lock file', async (t) => {
    const file = newFile(t)
    assert.deepEqual(await isLocked(file), { locked: false })
    assert.deepEqual(names(path.dirname(file)), [])
    const peer = new Peer(t)
    const before = Date.now()
    await peer.acquire(file)
    const { locked, holder } = await isLocked(file)
    assert.equal(locked, true)
    assert.ok(holder)
    assert.deepEqual(Object.keys(holder).sort(), ['command', 'hostname', 'pid', 'since'])
    assert.equal(holder.pid, peer.pid)
    assert.equal(holder.hostname, os.hostname())
    assert.ok(holder.since instanceof Date)
    assert.ok(Number(holder.since) >= before && Number(holder.since) <= Date.now())
    assert.match(holder.command, /lock-peer\.js/)
    await peer.release()
    assert.deepEqual(await isLocked(file), { locked: false })
    await withLock(file, async () => assert.equal((await isLocked(file)).holder?.pid, process.pid))
    assert.deepEqual(await isLocked(file), { locked: false })
    assert.deepEqual(await isLocked(pathToFileURL(file)), { locked: false })
  })

  test('isLocked neither acquires the lock nor is refused by its holders', async (t) => {
    const file = newFile(t)
    const answers = await withLock(file, () => Promise.all(Array.from({ length: 50 }, () => isLocked(file))))
    assert.ok(answers.every(({ locked }) => locked))
    const looking = Promise.all(Array.from({ length: 200 }, () => isLocked(file)))
    for (let i = 0; i < 20; i++) {
      const lock = await tryAcquireLock(file)
      assert.ok(lock, 'looking at a lock does not take it')
      await lock.release()
    }
    await looking
  })

  test('a lock can be released twice, at once and later', async (t) => {
    const file = newFile(t)
    const lock = await acquireLock(file)
    await Promise.all([lock.release(), lock.release()])
    const next = await acquireLock(file, { timeout: 0 })
    await lock.release()
    await lock[Symbol.asyncDispose]()
    await assertHeld(file)
    await next.release()
    await assertFree(file)
  })

  test('a lock is free as soon as release() has resolved', async (t) => {
    const file = newFile(t)
    // A regression left it locked for a moment, about every 200th time.
    for (let i = 0; i < 3000; i++) {
      const lock = await acquireLock(file)
      await lock.release()
      assert.deepEqual(await isLocked(file), { locked: false }, `turn ${i}`)
    }
    for (let i = 0; i < 1000; i++) await withLock(file, () => {}, { timeout: 0 })
  })

  test('a lock is disposable', async (t) => {
    const file = newFile(t)
    const lock = await acquireLock(file)
    await lock[Symbol.asyncDispose]()
    await assertFree(file)
    let block
    try {
      // The syntax is younger than the oldest Node that holdfast runs on.
      block = Object.getPrototypeOf(async () => {}).constructor('acquire', 'look', 'await using lock = await acquire(); await look()')
    } catch (error) {
      assert.ok(error instanceof SyntaxError)
      return
    }
    await block(() => acquireLock(file), () => assertHeld(file))
    await assertFree(file)
  })
})

describe('the end of a process or thread', LIMITS, () => {
  const ends = {
    'the normal end': { program: () => process.disconnect?.(), code: 0 },
    'process.exit': { program: () => process.exit(3), code: 3 },
    'an uncaught exception': { program: () => setImmediate(() => { throw new Error('on purpose') }), code: 1, quiet: true },
    SIGTERM: { program: () => process.kill(process.pid, 'SIGTERM'), signal: 'SIGTERM' },
    SIGINT: { program: () => process.kill(process.pid, 'SIGINT'), signal: 'SIGINT' },
    SIGKILL: { program: () => process.kill(process.pid, 'SIGKILL'), signal: 'SIGKILL' },
  }
  for (const [name, { program, code = null, signal = null }] of Object.entries(ends)) {
    test(`${name} frees what a process holds`, { skip: signal !== null && whyNot.unix() }, async (t) => {
      const file = newFile(t)
      const script = `
        const { acquireLock } = require(${JSON.stringify(root)})
        const end = ${program}
        Promise.all(Array.from({ length: 5 }, (_, i) => acquireLock(${JSON.stringify(file)} + i))).then(end)`
      const child = spawn(process.execPath, ['-e', script], { stdio: 'ignore' })
      assert.deepEqual(await once(child, 'close'), [code, signal])
      for (let i = 0; i < 5; i++) {
        assert.deepEqual(await isLocked(file + i), { locked: false })
        await (await acquireLock(file + i, { timeout: 0 })).release()
      }
    })

    test(`${name} takes a process out of the queue`, { skip: signal !== null && whyNot.unix() }, async (t) => {
      if (name === 'the normal end') return // Not while it waits.
      const file = newFile(t)
      const lock = await acquireLock(file)
      const script = `
        const { acquireLock } = require(${JSON.stringify(root)})
        const end = ${program}
        acquireLock(${JSON.stringify(file)}, { timeout: Infinity })
        process.once('message', end)`
      const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'ignore', 'ignore', 'ipc'] })
      t.after(() => child.kill('SIGKILL'))
      await untilWaiting(lockFileOf(file))
      child.send('end')
      assert.deepEqual(await once(child, 'close'), [code, signal])
      await lock.release()
      await (await acquireLock(file, { timeout: 0 })).release()
    })
  }

  test('a lock does not pass to the children of its holder', { skip: whyNot.unix() }, async (t) => {
    const file = newFile(t)
    const peer = new Peer(t)
    await peer.acquire(file)
    const pid = await peer.run(() => process.getBuiltinModule
      ? process.getBuiltinModule('node:child_process').spawn('sleep', ['60'], { stdio: 'ignore', detached: true }).pid
      : process.mainModule?.require('node:child_process').spawn('sleep', ['60'], { stdio: 'ignore', detached: true }).pid)
    t.after(() => process.kill(pid, 'SIGKILL'))
    await peer.kill()
    process.kill(pid, 0) // It lives.
    await (await acquireLock(file, { timeout: 0 })).release()
  })

  test('a lock that is held does not keep a process alive', async (t) => {
    const file = newFile(t)
    const held = await inChild(async ({ file }, { holdfast }) => {
      await holdfast.acquireLock(file)
      const { locked } = await holdfast.isLocked(file)
      return locked
    }, { file })
    assert.equal(held, true)
    await assertFree(file)
  })

  test('a call that waits keeps a process alive', async (t) => {
    const file = newFile(t)
    const lock = await acquireLock(file)
    const child = inChild(async ({ file }, { holdfast }) => {
      // Nothing else runs in that process.
      await (await holdfast.acquireLock(file, { timeout: Infinity })).release()
      return 'served'
    }, { file })
    await untilWaiting(lockFileOf(file))
    await lock.release()
    assert.equal(await child, 'served')
  })

  test('the lock of a killed holder goes to the next waiter', async (t) => {
    const file = newFile(t)
    const [holder, other] = [new Peer(t), new Peer(t)]
    await holder.acquire(file)
    const waiting = [withLock(file, () => 'here', LONG_WAIT), other.run(({ holdfast }, file, timeout) => holdfast.withLock(file, () => 'there', { timeout }), file, GUARD)]
    await untilWaiting(lockFileOf(file), 2)
    await holder.kill()
    assert.deepEqual(await Promise.all(waiting), ['here', 'there'])
  })

  test('the lock passes a killed waiter and goes to the next one', async (t) => {
    const file = newFile(t)
    const waiters = [new Peer(t), new Peer(t), new Peer(t)]
    const lock = await acquireLock(file)
    const calls = waiters.map((peer) => peer.acquire(file).then(() => 'served', () => 'ended'))
    await untilWaiting(lockFileOf(file), 3)
    await waiters[0]?.kill()
    await waiters[1]?.kill()
    await lock.release()
    assert.deepEqual(await Promise.all(calls), ['ended', 'ended', 'served'])
    assert.equal((await isLocked(file)).holder?.pid, waiters[2]?.pid)
  })

  for (const [name, end] of /** @type {const} */ ([['terminated', undefined], ['ended by process.exit', () => process.exit()]])) {
    test(`a worker thread that is ${name} frees what it holds, and leaves the queue`, async (t) => {
      const file = newFile(t)
      const [one, two, three] = [new Peer(t, { thread: true }), new Peer(t, { thread: true }), new Peer(t, { thread: true })]
      const finish = async (/** @type {Peer} */ peer) => {
        if (end) peer.run(end).catch(() => {})
        else await peer.kill()
        await peer.ended
      }
      /** @type {string[]} */
      const served = []
      await one.acquire(file)
      const begin = ({ holdfast, kept }, file, timeout) => {
        kept.calls = Array.from({ length: 20 }, () => holdfast.acquireLock(file, { timeout }))
      }
      await two.run(begin, file, GUARD)
      const first = withLock(file, () => void served.push('first'), LONG_WAIT)
      await three.run(begin, file, GUARD)
      const second = withLock(file, () => void served.push('second'), LONG_WAIT)
      await finish(two)
      assert.deepEqual(served, [])
      await finish(one)
      await first
      // The third has it now, and 19 more calls that will never be released.
      await three.run(({ kept }) => kept.calls[0].then(() => 0))
      await finish(three)
      await second
      assert.deepEqual(served, ['first', 'second'])
      await assertFree(file)
    })
  }

  test('a worker thread that ends while its process waits for another one leaves the queue', async (t) => {
    const file = newFile(t)
    const [peer, thread] = [new Peer(t), new Peer(t, { thread: true })]
    await peer.acquire(file)
    await thread.run(({ holdfast }, file, timeout) => void holdfast.acquireLock(file, { timeout }), file, GUARD)
    await untilWaiting(lockFileOf(file))
    const call = withLock(file, () => 'served', LONG_WAIT)
    await thread.kill()
    await peer.release()
    assert.equal(await call, 'served')
    await assertFree(file)
  })

  test('worker threads that come and go with locks and waits leave nothing behind', async (t) => {
    const file = newFile(t)
    for (let round = 0; round < 8; round++) {
      const thread = new Peer(t, { thread: true })
      const other = new Peer(t, { thread: true })
      const storm = ({ holdfast }, file) => {
        for (let i = 0; i < 50; i++) holdfast.withLock(file, () => new Promise((resolve) => setImmediate(resolve)), { timeout: Infinity }).catch(() => {})
      }
      await Promise.all([thread.run(storm, file), other.run(storm, file)])
      const own = withLock(file, () => round, LONG_WAIT)
      await thread.kill()
      assert.equal(await own, round)
      await other.kill()
    }
    await withLock(file, () => {}, LONG_WAIT)
    await assertFree(file)
  })
})

describe('ELOCKED', LIMITS, () => {
  test('names the holder', async (t) => {
    const file = newFile(t)
    const peer = new Peer(t)
    await peer.acquire(file)
    const { holder } = await isLocked(file)
    for (const [timeout, tried] of /** @type {const} */ ([[0, 'The lock is not free'], [20, 'Timed out after 20 ms'], [1001, 'Timed out after 1001 ms']])) {
      const error = await failure(() => acquireLock(file, { timeout }))
      assert.ok(error instanceof SessionFileError)
      assert.equal(
        error.message,
        `Failed to lock at ${file}: ELOCKED: ${tried}: '${lockFileOf(file)}' is held by process ${peer.pid} on ${os.hostname()}` +
          ` since ${holder?.since.toISOString()} (${holder?.command})`,
      )
      assert.equal(error.code, 'ELOCKED')
      assert.equal(error.operation, 'lock')
      assert.equal(error.path, file)
      assert.equal(error.attempts, 1)
      assert.equal(error.committed, false)
      assert.equal(error.cause.code, 'ELOCKED')
      assert.deepEqual(error.holder, holder)
      assert.match(error.stack, /with-lock\.test\.js/, 'the stack shows the caller')
    }
  })

  test('tells when this process itself holds the lock, on any thread', async (t) => {
    const file = newFile(t)
    const lock = await acquireLock(file)
    const thread = new Peer(t, { thread: true })
    const errors = [
      await failure(() => acquireLock(file, { timeout: 0 })),
      await failure(() => withLock(file, () => {}, { timeout: 10 })),
      await thread.outcome('acquireLock', file, { timeout: 0 }),
      await thread.outcome('acquireLock', file, { timeout: 10 }),
    ]
    for (const error of errors) {
      assert.equal(error.code, 'ELOCKED')
      assert.ok(error.message.includes(' is held by this process since '), error.message)
      assert.equal(error.holder?.pid, process.pid)
    }
    await lock.release()
  })

  test('names the path as it was passed', async (t) => {
    const file = newFile(t)
    const link = `${file}-link`
    fs.symlinkSync('file', link)
    await withLock(file, async () => {
      const error = await failure(() => acquireLock(link, { timeout: 0 }))
      assert.equal(error.path, link)
      assert.ok(error.message.startsWith(`Failed to lock at ${link}: `), error.message)
      assert.ok(error.message.includes(`'${lockFileOf(file)}'`), error.message)
    })
  })
})

describe('EDEADLK', LIMITS, () => {
  test('a withLock in a withLock for the same lock, however the path is spelt', async (t) => {
    const dir = newDir(t)
    const file = path.join(dir, 'file')
    fs.writeFileSync(file, '')
    fs.symlinkSync('file', path.join(dir, 'link'))
    fs.symlinkSync(dir, `${dir}-link`)
    t.after(() => fs.unlinkSync(`${dir}-link`))
    const spellings = [file, `${dir}/./file`, `${dir}//file`, `${dir}/../${path.basename(dir)}/file`, path.join(dir, 'link'), `${dir}-link/file`, `${dir}-link/link`]
    const relative = path.relative(process.cwd(), file)
    for (const spelling of [...spellings, relative, pathToFileURL(file)]) {
      await withLock(file, async () => {
        for (const options of [{}, { timeout: 0 }, { timeout: Infinity }]) {
          const error = await failure(() => withLock(spelling, () => assert.fail('it has been called'), options))
          assert.equal(error.code, 'EDEADLK', String(spelling))
          assert.equal(error.errno, -os.constants.errno.EDEADLK)
          assert.equal(error.operation, 'lock')
          assert.ok(error instanceof SessionFileError)
        }
      })
    }
    await withLock(`${dir}-link/link`, async () => {
      assert.equal((await failure(() => withLock(file, () => {}))).code, 'EDEADLK')
    })
    await assertFree(file)
  })

  test('wherever in the code that runs under the lock it is asked for', async (t) => {
    const file = newFile(t)
    const nested = () => withLock(file, () => assert.fail('it has been called'), LONG_WAIT)
    await withLock(file, async () => {
      await nextTurn()
      assert.equal((await failure(nested)).code, 'EDEADLK')
      assert.equal((await failure(() => new Promise((resolve, reject) => setTimeout(() => nested().then(resolve, reject), 1)))).code, 'EDEADLK')
      assert.equal((await failure(() => Promise.all([1, 2, 3].map(nested)))).code, 'EDEADLK')
      // Under further locks, of which this is neither the first nor the last.
      await withLock(`${file}2`, () => withLock(`${file}3`, async () => {
        assert.equal((await failure(nested)).code, 'EDEADLK')
        assert.equal((await failure(() => withLock(`${file}2`, () => {}))).code, 'EDEADLK')
      }))
    })
    await assertFree(file)
  })

  test('not for other locks, nor after the function has returned, nor for other callers', async (t) => {
    const file = newFile(t)
    const emitter = new EventEmitter()
    /** @type {(value?: unknown) => void} */
    let proceed = () => {}
    const gate = new Promise((resolve) => (proceed = resolve))
    // Code of another caller, which waits while the lock is held.
    const other = gate.then(() => withLock(file, () => 'other', LONG_WAIT))
    /** @type {Promise<string> | undefined} */
    let later
    await withLock(file, async () => {
      assert.equal(await withLock(`${file}2`, () => 'another lock', { timeout: 0 }), 'another lock')
      later = once(emitter, 'later').then(() => withLock(file, () => 'later', LONG_WAIT))
      proceed()
      await nextTurn()
    })
    emitter.emit('later')
    assert.equal(await other, 'other')
    assert.equal(await later, 'later')
  })

  test('acquireLock cannot detect it, and times out with a message that says so', async (t) => {
    const file = newFile(t)
    await withLock(file, async () => {
      const error = await failure(() => acquireLock(file, { timeout: 20 }))
      assert.equal(error.code, 'ELOCKED')
      assert.match(error.message, /Timed out after 20 ms: .* is held by this process since /)
      assert.equal(await tryAcquireLock(file), null)
    })
    const lock = await acquireLock(file)
    const error = await failure(() => withLock(file, () => {}, { timeout: 0 }))
    assert.equal(error.code, 'ELOCKED')
    assert.match(error.message, /this process/)
    await lock.release()
  })

  test('a queue in which a holder asks for its own lock is served', async (t) => {
    const file = newFile(t)
    /** @type {string[]} */
    const served = []
    await withLock(file, async () => {
      const before = outside(() => withLock(file, () => served.push('before'), LONG_WAIT))
      const doomed = failure(() => withLock(file, () => {}))
      const after = outside(() => withLock(file, () => served.push('after'), LONG_WAIT))
      assert.equal((await doomed).code, 'EDEADLK')
      outsiders.push(before, after)
    })
    await Promise.all(outsiders)
    assert.deepEqual(served, ['before', 'after'])
  })

  /** @type {Promise<unknown>[]} */
  const outsiders = []
  const { AsyncResource } = require('node:async_hooks')
  const nowhere = new AsyncResource('outside')
  /** Calls something as code that holds no lock. @param {() => any} fn */
  const outside = (fn) => nowhere.runInAsyncScope(fn)
})

describe('a free lock that is used again and again', { ...LIMITS, skip: whyNot.linux() }, () => {
  test('lets the event loop run', async (t) => {
    const file = newFile(t)
    let ticks = 0
    const timer = setInterval(() => ticks++, 1)
    t.after(() => clearInterval(timer))
    for (let calls = 0; ticks < 20; calls++) {
      await withLock(file, () => {})
      assert.ok(calls < 1e6, `${ticks} turns in ${calls} calls`)
    }
  })

  test('serves the calls of a process in their order, whichever of them are answered at once', async (t) => {
    const file = newFile(t)
    /** @type {number[]} */
    const served = []
    const calls = []
    let number = 0
    for (let round = 0; round < 200; round++) {
      for (let call = 0; call < 1 + (round % 4); call++) {
        const own = number++
        calls.push(withLock(file, () => void served.push(own), LONG_WAIT))
      }
      // The last call may have its lock by now, or the event loop may have run.
      if (round % 3 === 0) await calls.at(-1)
      if (round % 5 === 0) await nextTurn()
    }
    await Promise.all(calls)
    assert.deepEqual(served, Array.from({ length: number }, (_, own) => own))
  })

  test('is acquired and released without a thread, and without a call that may wait for a disk', { skip: whyNot.strace() }, async (t) => {
    const dir = newDir(t)
    const log = path.join(dir, 'log')
    // Only of the thread that runs JavaScript.
    const command = ['strace', '-qq', '-o', log]
    await inChild(async ({ dir }, { holdfast }) => {
      const fs = require('node:fs')
      const [file, mark] = [`${dir}/file`, `${dir}/mark`]
      fs.writeFileSync(file, '')
      for (let round = 0; round < 100; round++) {
        await holdfast.withLock(file, () => {})
        fs.existsSync(`${mark}-begin`)
        await holdfast.withLock(file, () => {})
        fs.existsSync(`${mark}-end`)
      }
    }, { dir }, { command })
    /** @type {string[][]} */
    const between = []
    /** @type {string[]} */
    let calls = []
    for (const line of fs.readFileSync(log, 'utf8').split('\n')) {
      if (line.includes('mark-begin')) calls = []
      else if (line.includes('mark-end')) between.push(calls)
      else calls.push(line)
    }
    assert.equal(between.length, 100)
    // Rarely the kernel has evicted a name, or the event loop runs.
    const atOnce = between.filter((calls) => !calls.some((call) => call.startsWith('epoll')))
    assert.ok(atOnce.length > 10, `${atOnce.length} times of 100`)
    // Apart from what V8 does for itself: memory, mutexes, waking its own threads.
    const allowed = [/^openat2\(.*O_PATH.*RESOLVE_CACHED/, /^fcntl\(\d+, F_OFD_(SET|GET)LK,/, /^statx\(\d+, "", AT_STATX_DONT_SYNC\|AT_EMPTY_PATH/, /^close\(/, /^(mprotect|madvise|mmap|munmap|brk|futex|getpid)\(/, /^write\(\d+, "\\1(\\0)+", 8\)/]
    for (const call of atOnce.flat()) assert.ok(allowed.some((pattern) => pattern.test(call)), call)
    const median = atOnce.map((calls) => calls.length).sort((a, b) => a - b)[Math.floor(atOnce.length / 2)]
    t.diagnostic(`${median} system calls (median), in ${atOnce.length} of 100 rounds`)
  })
})

describe('the lock file', LIMITS, () => {
  test('stays, is empty when free, and holds one line of JSON while it is held', async (t) => {
    const file = newFile(t)
    const lockFile = lockFileOf(file)
    const before = Date.now()
    let inode
    for (let i = 0; i < 3; i++) {
      await withLock(file, async () => {
        const text = await noteIn(lockFile)
        assert.match(text, /^[^\n]+\n$/)
        const { pid, hostname, since, command, ...rest } = JSON.parse(text)
        assert.deepEqual(rest, {})
        assert.equal(pid, process.pid)
        assert.equal(hostname, os.hostname())
        assert.ok(Number.isInteger(since) && since >= before && since <= Date.now())
        assert.equal(command, path.basename(__filename))
      })
      const { size, ino } = fs.statSync(lockFile)
      assert.equal(size, 0)
      assert.equal(ino, (inode ??= ino), 'it is the same file')
    }
    assert.deepEqual(names(path.dirname(file)), ['.file.lock'])
  })

  test('is made for those who may use the file, or the folder where there is none, whatever the umask', { skip: whyNot.unix() }, async (t) => {
    const file = newFile(t)
    for (const [name, umask, mode] of /** @type {const} */ ([['open', 0, 0o666], ['usual', 0o022, 0o666], ['group', 0o007, 0o660], ['own', 0o077, 0o600]])) {
      if (mode !== 0o666) fs.writeFileSync(file + name, '', { mode })
      const made = await inChild(async ({ file, lockFile, umask }, { fs, holdfast }) => {
        process.umask(umask)
        const made = await holdfast.withLock(file, () => fs.statSync(lockFile).mode & 0o7777)
        return process.umask() === umask ? made : 'the umask has changed'
      }, { file: file + name, lockFile: lockFileOf(file + name), umask })
      assert.equal(made, mode, name)
    }
  })

  test('the note of a killed holder has no effect and is overwritten, however long it was', async (t) => {
    const file = newFile(t)
    const lockFile = lockFileOf(file)
    const peer = new Peer(t)
    await peer.acquire(file)
    await peer.kill()
    assert.equal(JSON.parse(fs.readFileSync(lockFile, 'utf8')).pid, peer.pid)
    assert.deepEqual(await isLocked(file), { locked: false })
    const line = '{"command":"unknown","hostname":"elsewhere","pid":1,"since":0}\n'
    for (const remains of [line.repeat(200), `${line}${'x'.repeat(10_000)}\n`, `{"command":"${'x'.repeat(10_000)}`, line.slice(0, 40), Buffer.alloc(5000)]) {
      fs.writeFileSync(lockFile, remains)
      assert.deepEqual(await isLocked(file), { locked: false })
      await withLock(file, async () => {
        assert.equal((await isLocked(file)).holder?.pid, process.pid)
        assert.equal(JSON.parse(fs.readFileSync(lockFile, 'utf8')).pid, process.pid)
      })
      assert.equal(fs.statSync(lockFile).size, 0)
    }
  })

  test('arbitrary bytes in it, written while the lock is held, mean an unknown holder', async (t) => {
    const file = newFile(t)
    const peer = new Peer(t)
    await peer.acquire(file)
    const notes = [
      '', '\n', '{}\n', 'null\n', '[]\n', '{"pid":1}\n', '{"pid":"1","hostname":"h","since":1,"command":"c"}\n', '{"pid":-1,"hostname":"h","since":1,"command":"c"}\n',
      '{"pid":4294967296,"hostname":"h","since":1,"command":"c"}\n', '{"pid":1,"hostname":"h","since":1.5,"command":"c"}\n', '{"pid":1,"hostname":"h","since":1,"command":"no end"}',
      '['.repeat(10_000), `${'['.repeat(4000)}\n`, 'x'.repeat(100_000), Buffer.from([0xff, 0xfe, 0x0a]), '\0'.repeat(100),
    ]
    for (const note of notes) {
      fs.writeFileSync(lockFileOf(file), note)
      assert.deepEqual(await isLocked(file), { locked: true }, String(note).slice(0, 50))
      const error = await failure(() => acquireLock(file, { timeout: 0 }))
      assert.equal(error.code, 'ELOCKED')
      assert.equal(error.holder, undefined)
      assert.ok(error.message.endsWith('is held by another process'), error.message)
    }
    // A time that no Date can hold.
    fs.writeFileSync(lockFileOf(file), '{"pid":1,"hostname":"h","since":18446744073709551615,"command":"c"}\n')
    assert.equal((await isLocked(file)).locked, true)
    assert.equal((await failure(() => acquireLock(file, { timeout: 0 }))).code, 'ELOCKED')
    await peer.release()
    await assertFree(file)
  })

  test('deleted while it is held: others lock a new one, the holder continues, and then all share the new one', async (t) => {
    const file = newFile(t)
    const lockFile = lockFileOf(file)
    const [holder, waiter, newcomer] = [new Peer(t), new Peer(t), new Peer(t)]
    await holder.acquire(file)
    const waiting = waiter.acquire(file)
    await untilWaiting(lockFile)
    fs.unlinkSync(lockFile)
    assert.deepEqual(await isLocked(file), { locked: false })
    await newcomer.acquire(file)
    // The waiter gets the lock of the deleted file, and finds that it has no name any more.
    await holder.release()
    await untilWaiting(lockFile)
    assert.equal((await isLocked(file)).holder?.pid, newcomer.pid)
    await newcomer.release()
    await waiting
    assert.equal((await isLocked(file)).holder?.pid, waiter.pid)
    await waiter.release()
    await assertFree(file)
  })

  test('deleted while it is held in this process: calls of this process still exclude each other', async (t) => {
    const file = newFile(t)
    const lock = await acquireLock(file)
    fs.unlinkSync(lockFileOf(file))
    assert.equal(await tryAcquireLock(file), null)
    const waiting = withLock(file, () => fs.existsSync(lockFileOf(file)), LONG_WAIT)
    await lock.release()
    assert.equal(await waiting, true)
    await assertFree(file)
  })

  test('deleted while it is free: there is a new one', async (t) => {
    const file = newFile(t)
    for (let i = 0; i < 5; i++) {
      await withLock(file, () => assert.ok(fs.existsSync(lockFileOf(file))))
      fs.unlinkSync(lockFileOf(file))
    }
  })

  test('deleted again and again while processes use it: none hangs or fails', { skip: whyNot.linux() }, async (t) => {
    const file = newFile(t)
    const peers = Array.from({ length: 4 }, () => new Peer(t))
    let over = false
    const all = Promise.all(peers.map((peer) => peer.run(async ({ holdfast }, file, timeout) => {
      for (let i = 0; i < 200; i++) await holdfast.withLock(file, () => new Promise((resolve) => setImmediate(resolve)), { timeout })
    }, file, GUARD))).finally(() => (over = true))
    while (!over) {
      fs.rmSync(lockFileOf(file), { force: true })
      await new Promise((resolve) => setTimeout(resolve, 2))
    }
    await all
    await assertFree(file)
  })

  test('replaced by another file while it is held: a waiter ends up with the new one', async (t) => {
    const file = newFile(t)
    const lockFile = lockFileOf(file)
    const [holder, newcomer] = [new Peer(t), new Peer(t)]
    await holder.acquire(file)
    const waiting = acquireLock(file, LONG_WAIT)
    await untilWaiting(lockFile)
    fs.writeFileSync(`${file}-other`, '')
    const { ino } = fs.statSync(`${file}-other`)
    fs.renameSync(`${file}-other`, lockFile)
    await newcomer.acquire(file)
    await holder.release()
    await untilWaiting(lockFile)
    await newcomer.release()
    const lock = await waiting
    assert.equal(fs.statSync(lockFile).ino, ino)
    assert.equal(JSON.parse(await noteIn(lockFile)).pid, process.pid)
    assert.equal(await newcomer.run(({ holdfast }, file) => holdfast.tryAcquireLock(file), file), null)
    await lock.release()
  })

  test('turned into a directory: EISDIR, until it is gone', async (t) => {
    const file = newFile(t)
    fs.mkdirSync(lockFileOf(file))
    for (const call of [() => acquireLock(file), () => withLock(file, () => assert.fail('called')), () => tryAcquireLock(file)]) {
      const error = await failure(call)
      assert.equal(error.code, 'EISDIR')
      assert.equal(error.syscall, 'open')
      assert.equal(error.cause.path, lockFileOf(file))
    }
    assert.deepEqual(await isLocked(file), { locked: false }, 'it cannot be held')
    fs.rmdirSync(lockFileOf(file))
    await assertFree(file)
  })

  test('turned into a directory while a call waits for it: EISDIR, and the calls behind it are not lost', async (t) => {
    const file = newFile(t)
    const holder = new Peer(t)
    await holder.acquire(file)
    const waiting = [failure(() => acquireLock(file, LONG_WAIT)), failure(() => acquireLock(file, LONG_WAIT))]
    await untilWaiting(lockFileOf(file))
    fs.unlinkSync(lockFileOf(file))
    fs.mkdirSync(lockFileOf(file))
    await holder.release()
    for (const error of await Promise.all(waiting)) assert.equal(error.code, 'EISDIR')
    fs.rmdirSync(lockFileOf(file))
    await assertFree(file)
  })

  test('a symbolic link in its place, dangling or not, is not followed: ELOOP', { skip: whyNot.unix() }, async (t) => {
    const file = newFile(t)
    fs.writeFileSync(`${file}-precious`, 'precious')
    for (const target of ['nowhere', 'file-precious', '.file.lock']) {
      fs.symlinkSync(target, lockFileOf(file))
      const error = await failure(() => acquireLock(file))
      assert.equal(error.code, 'ELOOP')
      assert.equal((await failure(() => isLocked(file))).code, 'ELOOP')
      fs.unlinkSync(lockFileOf(file))
    }
    assert.equal(fs.readFileSync(`${file}-precious`, 'utf8'), 'precious')
    assert.deepEqual(names(path.dirname(file)), ['file-precious'])
  })

  test('a pipe in its place hangs no caller', { skip: whyNot.unix() }, async (t) => {
    const file = newFile(t)
    const { status } = require('node:child_process').spawnSync('mkfifo', [lockFileOf(file)])
    assert.equal(status, 0)
    for (const call of [() => acquireLock(file), () => withLock(file, () => {}, { timeout: 0 }), () => tryAcquireLock(file)]) {
      assert.equal((await failure(call)).code, 'EEXIST')
    }
  })

  test('unreadable or unwritable to this user: EACCES', { skip: whyNot.root() }, async (t) => {
    const dir = newDir(t)
    fs.chmodSync(dir, 0o777)
    const modes = [0o600, 0o400, 0o444]
    for (const mode of modes) {
      const file = path.join(dir, `file${mode}`)
      fs.writeFileSync(lockFileOf(file), '')
      fs.chmodSync(lockFileOf(file), mode)
    }
    const outcomes = await inChild(async ({ dir, modes }, { holdfast, path, outcome }) => {
      const all = {}
      for (const mode of modes) {
        const file = path.join(dir, `file${mode}`)
        all[mode] = [await outcome(() => holdfast.acquireLock(file)), await outcome(() => holdfast.tryAcquireLock(file)), await outcome(() => holdfast.isLocked(file))]
      }
      return all
    }, { dir, modes }, { user: NOBODY })
    for (const mode of modes) {
      const [acquired, tried, looked] = outcomes[mode]
      for (const error of [acquired, tried]) {
        assert.equal(error.code, 'EACCES')
        assert.equal(error.syscall, 'open')
        assert.equal(error.cause.path, lockFileOf(path.join(dir, `file${mode}`)))
      }
      // Reading it is enough to inspect it.
      if (mode === 0o444) assert.equal(looked, 'success')
      else assert.equal(looked.code, 'EACCES')
    }
  })

  test('made unreadable while it is held and waited for: callers that have it open continue', { skip: whyNot.unix() }, async (t) => {
    const file = newFile(t)
    const peer = new Peer(t)
    await peer.acquire(file)
    const waiting = acquireLock(file, LONG_WAIT)
    await untilWaiting(lockFileOf(file))
    fs.chmodSync(lockFileOf(file), 0)
    await peer.release()
    await (await waiting).release()
  })

  test('in a directory that this user may not write to: EACCES, unless the lock file is there already', { skip: whyNot.root() }, async (t) => {
    const dir = newDir(t)
    fs.writeFileSync(path.join(dir, '.there.lock'), '')
    fs.chmodSync(path.join(dir, '.there.lock'), 0o666)
    const outcomes = await inChild(async ({ dir }, { holdfast, path, outcome }) => ({
      missing: await outcome(() => holdfast.acquireLock(path.join(dir, 'missing'))),
      looked: await outcome(() => holdfast.isLocked(path.join(dir, 'missing'))),
      there: await outcome(() => holdfast.withLock(path.join(dir, 'there'), () => {})),
    }), { dir }, { user: NOBODY })
    assert.equal(outcomes.missing.code, 'EACCES')
    assert.equal(outcomes.missing.syscall, 'open')
    assert.match(outcomes.missing.hint, /permission/)
    assert.equal(outcomes.looked, 'success')
    assert.equal(outcomes.there, 'success')
    assert.deepEqual(names(dir), ['.there.lock'])
  })

  test('on a read-only file system: EROFS', { skip: whyNot.mount() }, async (t) => {
    const disk = tinyDisk(t)
    fs.writeFileSync(path.join(disk, '.there.lock'), '')
    mount(t, disk, '-o', 'remount,ro')
    for (const name of ['missing', 'there']) {
      const error = await failure(() => acquireLock(path.join(disk, name)))
      assert.equal(error.code, 'EROFS')
      assert.ok(error.hint)
      assert.deepEqual(await isLocked(path.join(disk, name)), { locked: false })
    }
  })

  test('on a full disk the lock works, and only the note is missing', { skip: whyNot.mount() }, async (t) => {
    const { dir } = fullDisk(t)
    const file = path.join(dir, 'file')
    await withLock(file, async () => {
      assert.equal(await tryAcquireLock(file), null)
      assert.deepEqual(await isLocked(file), { locked: true })
    })
    await assertFree(file)
  })

  test('on a file system without locks: an error that names the other protocol, and the lock is not held', { skip: whyNot.strace() }, async (t) => {
    const file = newFile(t)
    const command = ['strace', '-f', '-o', '/dev/null', '-P', lockFileOf(file), '-e', 'trace=fcntl', '-e', 'inject=fcntl:error=ENOLCK']
    const { write, read, update, other } = await inChild(async ({ file }, { holdfast, outcome }) => ({
      write: await outcome(() => holdfast.acquireLock(file)),
      read: await outcome(() => holdfast.withLock(file, () => {}, { kind: 'read' })),
      update: await outcome(() => holdfast.updateJsonFile(file, () => {}, { defaultValue: {} })),
      other: await outcome(() => holdfast.withLock(file, () => holdfast.updateJsonFile(file, () => {}, { defaultValue: {}, lock: false }), { protocol: 'proper-lockfile' })),
    }), { file }, { command })
    for (const error of [write, read, update]) {
      assert.deepEqual([error.code, error.syscall, error.cause.path], ['ENOLCK', 'fcntl', lockFileOf(file)])
      assert.match(error.hint, /protocol: 'proper-lockfile'/)
    }
    assert.equal(other, 'success')
  })

  test('in a missing directory: ENOENT, and under a file: ENOTDIR', async (t) => {
    const dir = newDir(t)
    fs.writeFileSync(path.join(dir, 'plain'), '')
    for (const [name, code] of /** @type {const} */ ([['missing/file', 'ENOENT'], ['missing/dir/file', 'ENOENT'], ['plain/file', 'ENOTDIR']])) {
      const file = path.join(dir, name)
      for (const call of [() => acquireLock(file), () => withLock(file, () => {}), () => tryAcquireLock(file), () => isLocked(file)]) {
        const error = await failure(call)
        assert.ok(error instanceof SessionFileError)
        assert.equal(error.code, code)
        assert.equal(error.operation, 'lock')
        assert.equal(error.path, file)
      }
    }
    assert.deepEqual(names(dir), ['plain'])
  })

  test('a directory that is moved away while its file is locked takes the lock with it', async (t) => {
    const dir = newDir(t)
    fs.mkdirSync(path.join(dir, 'one'))
    await withLock(path.join(dir, 'one', 'file'), async () => {
      fs.renameSync(path.join(dir, 'one'), path.join(dir, 'two'))
      assert.equal(await tryAcquireLock(path.join(dir, 'two', 'file')), null)
      fs.mkdirSync(path.join(dir, 'one'))
      await withLock(path.join(dir, 'one', 'file'), () => {}, { timeout: 0 })
    })
  })
})

describe('which lock a path means', LIMITS, () => {
  test('a symbolic link and its file have one lock, whether the file exists or not', { skip: whyNot.unix() }, async (t) => {
    const dir = newDir(t)
    fs.mkdirSync(path.join(dir, 'sub'))
    const file = path.join(dir, 'sub', 'file')
    fs.symlinkSync('sub/file', path.join(dir, 'link'))
    fs.symlinkSync(path.join(dir, 'link'), path.join(dir, 'chain'))
    fs.symlinkSync('sub', path.join(dir, 'way'))
    for (const exists of [false, true]) {
      if (exists) fs.writeFileSync(file, '')
      for (const other of ['link', 'chain', 'way/file', 'way/../sub/file', 'sub/./file', 'sub//file']) {
        assert.equal(await isSameLock(file, `${dir}/${other}`), true, other)
        assert.equal(await isSameLock(`${dir}/${other}`, file), true, other)
      }
    }
    assert.deepEqual(names(dir), ['chain', 'link', 'sub', 'way'], 'lock files are beside the file, not the link')
    const peer = new Peer(t)
    await peer.acquire(path.join(dir, 'chain'))
    assert.equal(await tryAcquireLock(file), null, 'between processes too')
    await peer.release()
  })

  test('links in a circle: ELOOP', { skip: whyNot.unix() }, async (t) => {
    const dir = newDir(t)
    fs.symlinkSync('b', path.join(dir, 'a'))
    fs.symlinkSync('a', path.join(dir, 'b'))
    assert.equal((await failure(() => acquireLock(path.join(dir, 'a')))).code, 'ELOOP')
    assert.deepEqual(names(dir), ['a', 'b'])
  })

  test('two hard links have two locks', async (t) => {
    const file = newFile(t)
    fs.writeFileSync(file, '')
    fs.linkSync(file, `${file}2`)
    assert.equal(await isSameLock(file, `${file}2`), false)
  })

  test('a file that is replaced keeps its lock', async (t) => {
    const file = newFile(t)
    fs.writeFileSync(file, 'old')
    const peer = new Peer(t)
    await withLock(file, async () => {
      await atomicWrite(file, 'new')
      assert.equal(await peer.run(({ holdfast }, file) => holdfast.tryAcquireLock(file), file), null)
      fs.unlinkSync(file)
      assert.equal(await peer.run(({ holdfast }, file) => holdfast.tryAcquireLock(file), file), null)
    })
  })

  test('names of all lengths that the system takes', { skip: whyNot.linux() }, async (t) => {
    const dir = newDir(t)
    for (const unit of ['a', 'é', '€', '😀']) {
      const size = Buffer.byteLength(unit)
      for (const length of [249, 250, 251, 252, 253, 254, 255]) {
        const name = unit.repeat(Math.floor(length / size)) + 'b'.repeat(length % size)
        assert.equal(Buffer.byteLength(name), length)
        await withLock(path.join(dir, name), async () => {
          await withLock(path.join(dir, `${name.slice(0, -1)}c`.slice(-200)), () => {}, { timeout: 0 })
        }, { timeout: 0 })
      }
    }
    for (const name of names(dir)) {
      assert.ok(Buffer.byteLength(name) <= 255)
      assert.match(name, /^\..*\.lock$/)
      assert.ok(!name.includes('\ufffd'), 'it is cut between characters')
    }
    const error = await failure(() => acquireLock(path.join(dir, 'a'.repeat(256))))
    assert.equal(error.code, 'ENAMETOOLONG')
  })

  test('long names that begin alike have locks of their own', async (t) => {
    const dir = newDir(t)
    const [one, two] = ['1', '2'].map((end) => path.join(dir, 'a'.repeat(254) + end))
    assert.equal(await isSameLock(one ?? '', two ?? ''), false)
    assert.equal(await isSameLock(one ?? '', one ?? ''), true)
    assert.equal(names(dir).length, 2)
    const short = path.join(dir, 'a'.repeat(230))
    assert.equal(await isSameLock(short, one ?? ''), false)
  })

  test('names that are no text', { skip: whyNot.linux() }, async (t) => {
    const dir = newDir(t)
    for (const name of ['new\nline', '-rf', '"quotes"', '\\', 'ü\u0308', '…', ' ', '.hidden', '...', 'file.lock', '.file.lock']) {
      await withLock(path.join(dir, name), async () => {
        assert.equal((await isLocked(path.join(dir, name))).locked, true, name)
      }, { timeout: 0 })
      assert.ok(fs.existsSync(path.join(dir, `.${name}.lock`)), name)
    }
  })

  test('a directory is locked through a file beside it, with or without a separator at the end', async (t) => {
    const dir = newDir(t)
    const locked = path.join(dir, 'dir')
    fs.mkdirSync(locked)
    fs.symlinkSync('dir', path.join(dir, 'link'))
    for (const spelling of [locked, `${locked}/`, `${locked}//`, `${locked}/.`, `${locked}/./`, path.join(dir, 'link'), `${path.join(dir, 'link')}/`]) {
      assert.equal(await isSameLock(locked, spelling), true, spelling)
      assert.equal(await isSameLock(spelling, locked), true, spelling)
    }
    assert.deepEqual(names(locked), [])
    assert.deepEqual(names(dir), ['.dir.lock', 'dir', 'link'])
    await withLock(locked, () => withLock(path.join(locked, 'file'), () => {}, { timeout: 0 }))
  })

  test('a directory that is spelt with .. at the end is the directory that it leads to', async (t) => {
    const dir = newDir(t)
    fs.mkdirSync(path.join(dir, 'outer', 'inner'), { recursive: true })
    const outer = path.join(dir, 'outer')
    assert.equal(await isSameLock(outer, `${outer}/inner/..`), true)
    assert.deepEqual(names(outer), ['inner'])
  })
})

describe('wrong arguments', LIMITS, () => {
  const file = path.join(os.tmpdir(), 'holdfast-never')
  const fn = () => assert.fail('it has been called')
  /** @type {[string, any[], any][]} */
  const cases = [
    ['no path', [undefined], { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE', message: /"path"/ }],
    ['a number as path', [7], { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE', message: /"path"/ }],
    ['an array as path', [[file]], { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE', message: /"path"/ }],
    ['an empty path', [''], { name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE', message: /"path"/ }],
    ['a null byte', ['a\0b'], { name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE', message: /null/ }],
    ['a URL in a string', ['s3://bucket/key'], { name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE', message: /URL/ }],
    ['another URL', [new URL('https://example.org/file')], { name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE', message: /file:/ }],
    ['null options', [file, null], { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE', message: /"options"/ }],
    ['a number as options', [file, 5], { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE', message: /"options"/ }],
    ['an unknown option', [file, { color: 'red' }], { name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE', message: /Unknown option "color"/ }],
    ['a misspelt option', [file, { timeOut: 5 }], { name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE', message: /Unknown option "timeOut"/ }],
    ['an unknown kind', [file, { kind: 'exclusive' }], { name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE', message: /"kind"/ }],
    ['a kind that is no string', [file, { kind: 1 }], { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE', message: /"kind"/ }],
    ['a signal that is none', [file, { signal: {} }], { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE', message: /"signal"/ }],
    ['a controller as signal', [file, { signal: new AbortController() }], { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE', message: /"signal"/ }],
  ]
  /** @type {[string, any[], any][]} */
  const timeouts = [
    ['a string as timeout', [file, { timeout: '5' }], { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE', message: /"timeout"/ }],
    ['null as timeout', [file, { timeout: null }], { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE', message: /"timeout"/ }],
    ['a negative timeout', [file, { timeout: -1 }], { name: 'RangeError', code: 'ERR_OUT_OF_RANGE', message: /"timeout"/ }],
    ['NaN as timeout', [file, { timeout: NaN }], { name: 'RangeError', code: 'ERR_OUT_OF_RANGE', message: /"timeout"/ }],
  ]
  for (const [name, [target, options], expected] of [...cases, ...timeouts]) {
    test(`${name} is refused, by rejection`, async () => {
      await assert.rejects(withLock(target, fn, options), expected)
      await assert.rejects(acquireLock(target, options), expected)
      if (!timeouts.some(([other]) => other === name)) await assert.rejects(tryAcquireLock(target, options), expected)
      if (options === undefined) await assert.rejects(isLocked(target), expected)
    })
  }

  test('something else than a function is refused before anything is locked', async (t) => {
    const target = newFile(t)
    for (const wrong of [undefined, null, 'f', {}, Promise.resolve()]) {
      await assert.rejects(withLock(target, /** @type {any} */ (wrong)), { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE', message: /"fn"/ })
    }
    assert.deepEqual(names(path.dirname(target)), [])
  })

  test('tryAcquireLock and isLocked do not wait, and know no timeout', async (t) => {
    const target = newFile(t)
    await assert.rejects(tryAcquireLock(target, /** @type {any} */ ({ timeout: 5 })), { code: 'ERR_INVALID_ARG_VALUE', message: /"timeout"/ })
    await assert.rejects(isLocked(target, /** @type {any} */ ({ timeout: 5 })), { code: 'ERR_INVALID_ARG_VALUE', message: /^Unknown option "timeout" for isLocked\.(?! It knows \.)/ })
    await assert.rejects(isLocked(target, /** @type {any} */ (null)), { code: 'ERR_INVALID_ARG_TYPE' })
  })

  test('options that are undefined are those by default', async (t) => {
    const target = newFile(t)
    assert.equal(await withLock(target, () => 1, { kind: undefined, timeout: undefined, signal: undefined }), 1)
    assert.equal(await withLock(target, () => 2, undefined), 2)
    await (await acquireLock(target, { kind: 'write' })).release()
    assert.deepEqual(await isLocked(target, {}), { locked: false })
  })

  test('a relative path is resolved when the call is made', async (t) => {
    const dir = newDir(t)
    fs.mkdirSync(path.join(dir, 'sub'))
    const outcome = await inChild(async ({ dir }, { holdfast, fs }) => {
      process.chdir(dir)
      const call = holdfast.acquireLock('file')
      process.chdir('/')
      await call
      return fs.existsSync(`${dir}/.file.lock`)
    }, { dir })
    assert.equal(outcome, true)
  })
})
