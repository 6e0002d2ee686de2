'use strict'

// Locks in the protocol of the package `proper-lockfile`, beside processes that run the real one.

const assert = require('node:assert/strict')
const { fork, spawn } = require('node:child_process')
const { once } = require('node:events')
const fs = require('node:fs')
const path = require('node:path')
const { after, describe, test } = require('node:test')
const { setTimeout: wait } = require('node:timers/promises')
const { Worker } = require('node:worker_threads')
const lockfile = require('proper-lockfile')
const { NOBODY, failure, holdfast, inChild, names, newFile, newDir, root, whyNot } = require('./helpers.js')
const { GUARD, Peer, LIMITS } = require('./programs/lock-peer.js')

const { SessionFileError, acquireLock, isLocked, tryAcquireLock, updateJsonFile, withLock } = holdfast

after(() => void setTimeout(() => process.exit(1), 10_000).unref())

/** @type {{ protocol: 'proper-lockfile' }} */
const PROTOCOL = { protocol: 'proper-lockfile' }
/** The shortest that there is, so that a loss shows within a second. */
const QUICK = { ...PROTOCOL, stale: 2000, update: 1000 }
const LONG_WAIT = { ...PROTOCOL, timeout: GUARD }

/** Makes a lock directory look as old as it is after so many seconds. @param {string} file @param {number} seconds */
function age(file, seconds) {
  const time = Date.now() / 1000 - seconds
  fs.utimesSync(`${file}.lock`, time, time)
}

/** Settles when a signal is aborted, with its reason; keeps the process alive until then. @param {AbortSignal} signal */
async function aborted(signal) {
  const alive = setInterval(() => {}, 1000)
  if (!signal.aborted) await once(signal, 'abort')
  clearInterval(alive)
  return signal.reason
}

/** Another process that acquires and releases locks by the real package. @param {Peer} peer @param {string} file @param {object} [options] */
function byPackage(peer, file, options) {
  return peer.run(async ({ kept }, file, options, module) => {
    kept.release = await process.mainModule.require(module).lock(file, options)
  }, file, options, require.resolve('proper-lockfile'))
}

describe('in one process', LIMITS, () => {
  test('the lock is a directory beside the file, for as long as it is held', async (t) => {
    const file = newFile(t, '')
    const lock = await acquireLock(file, PROTOCOL)
    assert.deepEqual(names(path.dirname(file)), ['file', 'file.lock'])
    assert.equal(fs.statSync(`${file}.lock`).isDirectory(), true)
    assert.deepEqual(await isLocked(file, PROTOCOL), { locked: true })
    assert.equal(await tryAcquireLock(file, PROTOCOL), null)
    assert.equal(lock.kind, 'write')
    assert.equal(lock.signal.aborted, false)
    await lock.release()
    await lock.release()
    assert.deepEqual(names(path.dirname(file)), ['file'])
    assert.deepEqual(await isLocked(file, PROTOCOL), { locked: false })
    assert.equal(lock.signal.aborted, false)
  })

  test('withLock frees it on return, throw and rejection', async (t) => {
    const file = newFile(t, '')
    assert.equal(await withLock(file, () => 'value', PROTOCOL), 'value')
    const own = new Error('own')
    await assert.rejects(withLock(file, () => Promise.reject(own), PROTOCOL), (error) => error === own)
    await assert.rejects(withLock(file, () => { throw own }, PROTOCOL), (error) => error === own)
    assert.deepEqual(names(path.dirname(file)), ['file'])
  })

  test('asking for it again inside is an error, and not an endless wait', async (t) => {
    const file = newFile(t, '')
    fs.writeFileSync(file, '1')
    await withLock(file, async () => {
      const error = await failure(() => withLock(file, () => {}, { ...PROTOCOL, timeout: Infinity }))
      assert.equal(error.code, 'EDEADLK')
      // The other protocol is another lock: this is how an update is made under both.
      await updateJsonFile(file, (/** @type {number} */ value) => value + 1)
    }, PROTOCOL)
    assert.equal(fs.readFileSync(file, 'utf8'), '2')
  })

  test('waiters are served in the order of their calls, and those that give up leave it', async (t) => {
    const file = newFile(t, '')
    const lock = await acquireLock(file, PROTOCOL)
    /** @type {number[]} */
    const served = []
    const calls = []
    const leavers = []
    for (let i = 0; i < 100; i++) {
      const controller = new AbortController()
      const call = withLock(file, () => void served.push(i), { ...LONG_WAIT, signal: controller.signal, ...(i % 5 === 2 && { timeout: 10 }) })
      if (i % 5 === 2) leavers.push(assert.rejects(call, { code: 'ELOCKED' }))
      else if (i % 5 === 3) leavers.push(assert.rejects(call, { code: 'ABORT_ERR' })) && controller.abort()
      else calls.push(call)
    }
    await Promise.all(leavers)
    assert.deepEqual(served, [])
    await lock.release()
    await Promise.all(calls)
    assert.deepEqual(served, Array.from({ length: 100 }, (_, i) => i).filter((i) => i % 5 < 2 || i % 5 === 4))
  })

  test('a waiter that times out is told who holds the lock', async (t) => {
    const file = newFile(t, '')
    const lock = await acquireLock(file, PROTOCOL)
    const error = await failure(() => acquireLock(file, { ...PROTOCOL, timeout: 30 }))
    assert.ok(error instanceof SessionFileError)
    assert.equal(error.code, 'ELOCKED')
    assert.ok(error.message.includes(`after 30 ms: '${file}.lock' is held by this process`), error.message)
    await lock.release()
  })

  test('symbolic links lead to the same lock, and the file need not be there', async (t) => {
    const file = newFile(t, '')
    const dir = path.dirname(file)
    fs.symlinkSync('file', path.join(dir, 'link'))
    await withLock(path.join(dir, 'link'), () => {
      assert.deepEqual(names(dir), ['file', 'file.lock', 'link'])
    }, PROTOCOL)
    await withLock(path.join(dir, 'missing'), () => {
      assert.deepEqual(names(dir), ['file', 'link', 'missing.lock'])
    }, PROTOCOL)
    await withLock(`${dir}/`, () => assert.ok(fs.existsSync(`${dir}.lock`)), PROTOCOL)
    const error = await failure(() => acquireLock(path.join(dir, 'no', 'file'), PROTOCOL))
    assert.equal(error.code, 'ENOENT')
  })

  test('what is no lock is left alone', async (t) => {
    const file = newFile(t, '')
    fs.writeFileSync(`${file}.lock`, 'content')
    assert.equal((await failure(() => acquireLock(file, PROTOCOL))).code, 'ENOTDIR')
    assert.equal(fs.readFileSync(`${file}.lock`, 'utf8'), 'content')
    fs.rmSync(`${file}.lock`)
    fs.mkdirSync(`${file}.lock`)
    fs.writeFileSync(path.join(`${file}.lock`, 'content'), '')
    age(file, 60)
    assert.equal((await failure(() => acquireLock(file, PROTOCOL))).code, 'ENOTEMPTY')
    assert.deepEqual(names(path.dirname(file)), ['file', 'file.lock'])
  })

  test("another user's unreadable lock directory is held until it is stale", { skip: whyNot.root() }, async (t) => {
    const file = newFile(t, '')
    fs.chmodSync(path.dirname(file), 0o777)
    fs.mkdirSync(`${file}.lock`, { mode: 0o700 })
    const program = (/** @type {any} */ { file }, /** @type {any} */ { holdfast, outcome }) =>
      outcome(() => holdfast.acquireLock(file, { protocol: 'proper-lockfile', timeout: 50 }))
    const held = await inChild(program, { file }, { user: NOBODY })
    assert.equal(held.code, 'ELOCKED')
    // Whether the holder lives is unknown.
    age(file, 60)
    const stale = await inChild(program, { file }, { user: NOBODY })
    assert.deepEqual([stale.code, stale.syscall], ['EACCES', 'scandir'])
    assert.ok(fs.existsSync(`${file}.lock`))
  })

  test('wrong options are refused before anything happens', async (t) => {
    const file = newFile(t, '')
    for (const [options, code, word] of /** @type {[any, string, string][]} */ ([
      [{ protocol: 'flock' }, 'ERR_INVALID_ARG_VALUE', 'protocol'],
      [{ stale: 5000 }, 'ERR_INVALID_ARG_VALUE', 'stale'],
      [{ protocol: 'kernel', update: 5000 }, 'ERR_INVALID_ARG_VALUE', 'update'],
      [{ ...PROTOCOL, stale: 1999 }, 'ERR_OUT_OF_RANGE', 'stale'],
      [{ ...PROTOCOL, stale: '5000' }, 'ERR_INVALID_ARG_TYPE', 'stale'],
      [{ ...PROTOCOL, update: 999 }, 'ERR_OUT_OF_RANGE', 'update'],
      [{ ...PROTOCOL, stale: 4000, update: 2001 }, 'ERR_OUT_OF_RANGE', 'update'],
      [{ ...PROTOCOL, kind: 'read' }, 'ERR_INVALID_ARG_VALUE', 'kind'],
      [{ ...PROTOCOL, retries: 1 }, 'ERR_INVALID_ARG_VALUE', 'retries'],
    ])) {
      for (const call of [() => acquireLock(file, options), () => tryAcquireLock(file, options), () => withLock(file, () => assert.fail('it ran'), options)]) {
        await assert.rejects(call(), (/** @type {any} */ error) => error.code === code && error.message.includes(word), JSON.stringify(options))
      }
    }
    await assert.rejects(isLocked(file, /** @type {any} */ ({ ...PROTOCOL, update: 1000 })), { code: 'ERR_INVALID_ARG_VALUE' })
    assert.deepEqual(names(path.dirname(file)), ['file'])
  })

  test('threads exclude each other, and a thread that ends gives its locks back', async (t) => {
    const file = newFile(t, '')
    const thread = new Peer(t, { thread: true })
    await thread.acquire(file, PROTOCOL)
    assert.equal(await tryAcquireLock(file, PROTOCOL), null)
    const waiting = acquireLock(file, LONG_WAIT)
    await thread.kill()
    await (await waiting).release()
    assert.deepEqual(names(path.dirname(file)), ['file'])
  })
})

describe('a lock that is lost', { ...LIMITS, concurrency: true }, () => {
  /** @type {Record<string, (file: string) => void>} */
  const losses = {
    removed: (file) => fs.rmdirSync(`${file}.lock`),
    'taken by another process': (file) => {
      fs.rmdirSync(`${file}.lock`)
      fs.mkdirSync(`${file}.lock`)
    },
    'touched by another process': (file) => age(file, 1),
  }
  for (const [how, lose] of Object.entries(losses)) {
    test(`${how}: aborts the signal, and the release fails`, async (t) => {
      const file = newFile(t, '')
      const lock = await acquireLock(file, QUICK)
      lose(file)
      const left = fs.statSync(`${file}.lock`, { throwIfNoEntry: false })
      const reason = await aborted(lock.signal)
      assert.ok(reason instanceof SessionFileError)
      assert.equal(reason.code, 'ECOMPROMISED')
      assert.equal(reason.path, file)
      const error = await failure(() => lock.release())
      assert.ok(error instanceof SessionFileError)
      assert.equal(error.code, 'ECOMPROMISED')
      // What another process made is unchanged.
      const now = fs.statSync(`${file}.lock`, { throwIfNoEntry: false })
      assert.deepEqual([now?.ino, now?.mtimeMs], [left?.ino, left?.mtimeMs])
      if (left) fs.rmdirSync(`${file}.lock`)
      await (await acquireLock(file, { ...PROTOCOL, timeout: 0 })).release()
    })
  }

  // The number of the lost directory was free again, the next one had it, and the end of the process
  // removed that one: another process's lock.
  test('is not what the end of the process removes, although it has the same number', { skip: whyNot.unix() }, async (t) => {
    const file = newFile(t, '')
    const peer = new Peer(t)
    await peer.run(async ({ holdfast, kept }, file, options) => {
      kept.lock = await holdfast.acquireLock(file, options)
    }, file, QUICK)
    const { ino } = fs.statSync(`${file}.lock`)
    fs.rmdirSync(`${file}.lock`)
    await peer.run(async ({ kept }) => {
      const { signal } = kept.lock
      if (!signal.aborted) await new Promise((resolve) => signal.addEventListener('abort', resolve))
    })
    fs.mkdirSync(`${file}.lock`)
    if (fs.statSync(`${file}.lock`).ino !== ino) t.diagnostic('this file system has given it another number')
    await peer.kill('SIGTERM')
    assert.ok(fs.existsSync(`${file}.lock`))
  })

  test('withLock fails when it was lost before the function had ended, and passes on what that throws', async (t) => {
    const file = newFile(t, '')
    const lose = () => fs.rmdirSync(`${file}.lock`)
    await assert.rejects(withLock(file, lose, PROTOCOL), { code: 'ECOMPROMISED' })
    const own = new Error('own')
    const throws = () => {
      lose()
      throw own
    }
    await assert.rejects(withLock(file, throws, PROTOCOL), (error) => error === own)
    let isTold = false
    await assert.rejects(withLock(file, async (lock) => {
      lose()
      await aborted(lock.signal)
      isTold = true
    }, QUICK), { code: 'ECOMPROMISED' })
    assert.ok(isTold)
  })

  test('is not lost while the event loop is blocked for longer than it takes to be stale', async (t) => {
    const file = newFile(t, '')
    const peer = new Peer(t)
    await peer.acquire(file, { ...PROTOCOL, stale: 4000, update: 1000 })
    const blocked = peer.run(() => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5500))
    let isOver = false
    blocked.then(() => (isOver = true))
    while (!isOver) {
      const isHeld = await lockfile.check(file, { stale: 4000 })
      assert.ok(isHeld || isOver, 'the package takes it for abandoned')
      await wait(100)
    }
    await peer.release()
  })
})

describe('the end of a process', LIMITS, () => {
  /**
   * Runs a program that holds a lock, and returns how it ended and whether the lock directory is left.
   *
   * @param {import('node:test').TestContext} t
   * @param {string} program it has `lock` and `file`
   * @param {NodeJS.Signals} [signal] sent once it has the lock
   * @param {string} [first] what it does before it has the lock
   */
  async function end(t, program, signal, first = '') {
    const file = newFile(t, '')
    const source = `
      const fs = require('node:fs')
      const { Worker } = require('node:worker_threads')
      const holdfast = require(${JSON.stringify(root)})
      const file = ${JSON.stringify(file)}
      ${first}
      holdfast.acquireLock(file, { protocol: 'proper-lockfile' }).then((lock) => {
        ${signal ? `setImmediate(() => console.log('held', fs.existsSync(file + '.lock')))` : "console.log('held', fs.existsSync(file + '.lock'))"}
        ${program}
      })`
    const child = spawn(process.execPath, ['-e', source], { stdio: ['ignore', 'pipe', 'ignore'], timeout: GUARD, killSignal: 'SIGKILL' })
    const [said] = await once(child.stdout, 'data')
    assert.match(String(said), /held true/)
    if (signal) child.kill(signal)
    const [code, by] = await once(child, 'exit')
    return { ended: by ?? code, isLeft: fs.existsSync(`${file}.lock`) }
  }

  for (const [how, program, ended] of /** @type {[string, string, number][]} */ ([
    ['there is nothing more to do: the lock does not keep it alive', '', 0],
    ['process.exit', 'process.exit(3)', 3],
    ['an exception', "setImmediate(() => { throw new Error('on purpose') })", 1],
    ['a rejection', "Promise.reject(new Error('on purpose'))", 1],
    ['process.exit in a thread, and the rest of it', "new Worker('process.exit()', { eval: true })", 0],
  ])) {
    test(how, async (t) => assert.deepEqual(await end(t, program), { ended, isLeft: false }))
  }

  test('handlers of the program that run at its end still have the lock', async (t) => {
    const program = "process.on('exit', () => process.exitCode = fs.existsSync(file + '.lock') ? 7 : 8)"
    assert.deepEqual(await end(t, program), { ended: 7, isLeft: process.platform === 'win32' })
  })

  const unix = { skip: whyNot.unix() }
  for (const signal of /** @type {const} */ (['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT'])) {
    test(`${signal}, of which it dies as without a lock`, unix, async (t) => {
      assert.deepEqual(await end(t, 'setInterval(() => {}, 1000)', signal), { ended: signal, isLeft: false })
      // JavaScript could not run a handler here.
      const busy = 'setImmediate(() => { for (;;) {} })'
      assert.deepEqual(await end(t, busy, signal), { ended: signal, isLeft: false })
    })

    test(`${signal} that the program has a handler for`, unix, async (t) => {
      const handler = `process.on('${signal}', () => process.exit(fs.existsSync(file + '.lock') ? 9 : 10))`
      const stay = 'setInterval(() => {}, 1000)'
      assert.deepEqual(await end(t, `${handler}; ${stay}`, signal), { ended: 9, isLeft: false })
      assert.deepEqual(await end(t, stay, signal, handler), { ended: 9, isLeft: false })
    })
  }

  test('a signal that the program handles, to die of it in the end', unix, async (t) => {
    const stay = 'setInterval(() => {}, 1000)'
    const own = "process.on('SIGINT', function own() { process.off('SIGINT', own); process.kill(process.pid, 'SIGINT') })"
    assert.deepEqual(await end(t, `${own}; ${stay}`, 'SIGINT'), { ended: 'SIGINT', isLeft: false })
    assert.deepEqual(await end(t, stay, 'SIGINT', own), { ended: 'SIGINT', isLeft: false })
    // As many programs do, without knowing.
    const module = require.resolve('signal-exit', { paths: [require.resolve('proper-lockfile')] })
    const known = `require(${JSON.stringify(module)})(() => {})`
    assert.deepEqual(await end(t, stay, 'SIGTERM', known), { ended: 'SIGTERM', isLeft: false })
  })

  test('process.abort', unix, async (t) => {
    assert.deepEqual(await end(t, 'setImmediate(() => process.abort())'), { ended: 'SIGABRT', isLeft: false })
  })

  test('SIGKILL leaves the directory, to become stale', unix, async (t) => {
    assert.deepEqual(await end(t, 'setInterval(() => {}, 1000)', 'SIGKILL'), { ended: 'SIGKILL', isLeft: true })
  })

  test('the end of a thread that has loaded holdfast alone', async (t) => {
    const file = newFile(t, '')
    const worker = new Worker(`
      require(${JSON.stringify(root)}).acquireLock(${JSON.stringify(file)}, { protocol: 'proper-lockfile' })`, { eval: true })
    await once(worker, 'exit')
    assert.deepEqual(names(path.dirname(file)), ['file'])
  })
})

describe('beside the package', LIMITS, () => {
  test('each side keeps out the other, and waits for it', async (t) => {
    const file = newFile(t, '')
    const peer = new Peer(t)
    await byPackage(peer, file)
    assert.deepEqual(await isLocked(file, PROTOCOL), { locked: true })
    assert.equal(await tryAcquireLock(file, PROTOCOL), null)
    const waiting = acquireLock(file, LONG_WAIT)
    await peer.run(({ kept }) => kept.release())
    const lock = await waiting
    assert.equal(await lockfile.check(file), true)
    await assert.rejects(lockfile.lock(file), { code: 'ELOCKED' })
    const other = byPackage(peer, file, { retries: { retries: 1000, minTimeout: 10, maxTimeout: 10 } })
    await wait(50)
    await lock.release()
    await other
    assert.deepEqual(await isLocked(file, PROTOCOL), { locked: true })
    await peer.run(({ kept }) => kept.release())
    assert.deepEqual(await isLocked(file, PROTOCOL), { locked: false })
  })

  test('processes of both kinds count up one file, and lose no count', async (t) => {
    const file = newFile(t, '')
    const counter = `${file}-counter`
    fs.writeFileSync(counter, '0')
    const times = { package: 60, holdfast: 150 }
    const kinds = /** @type {const} */ (['package', 'holdfast', 'package', 'holdfast', 'package', 'holdfast', 'holdfast'])
    const ended = kinds.map(async (kind) => {
      const child = fork(path.join(__dirname, 'programs', 'lock-dir-contender.js'), [kind, 'count', file, counter, String(times[kind])], { execArgv: [] })
      t.after(() => child.kill('SIGKILL'))
      assert.deepEqual(await once(child, 'exit'), [0, null], `a ${kind} process failed`)
    })
    await Promise.all(ended)
    assert.equal(fs.readFileSync(counter, 'utf8'), String(kinds.reduce((sum, kind) => sum + times[kind], 0)))
    assert.deepEqual(names(path.dirname(file)), ['file', 'file-counter'])
  })

  test('the lock of a killed holder is taken over by the other package, once it is stale', async (t) => {
    const LONGER = { ...QUICK, stale: 3000 }
    const [byThem, byUs] = [newFile(t, ''), newFile(t, '')]
    const [one, two] = [new Peer(t), new Peer(t)]
    await byPackage(one, byThem, { stale: 3000 })
    await two.acquire(byUs, LONGER)
    await Promise.all([one.kill('SIGKILL'), two.kill('SIGKILL')])
    assert.equal(await tryAcquireLock(byThem, LONGER), null)
    await assert.rejects(lockfile.lock(byUs, { stale: 3000 }), { code: 'ELOCKED' })
    const [lock, release] = await Promise.all([
      acquireLock(byThem, { ...LONGER, timeout: GUARD }),
      lockfile.lock(byUs, { stale: 3000, retries: { retries: 1000, minTimeout: 50, maxTimeout: 50 } }),
    ])
    assert.equal(await lockfile.check(byThem), true)
    assert.equal(await tryAcquireLock(byUs, LONGER), null)
    await Promise.all([lock.release(), release()])
    for (const file of [byThem, byUs]) assert.deepEqual(names(path.dirname(file)), ['file'])
  })
})

describe('many who want one stale lock', LIMITS, () => {
  /**
   * @param {import('node:test').TestContext} t
   * @param {string[]} kinds of the contenders
   * @param {number} rounds
   * @returns {Promise<{ had: number, together: number }>} how often it was held, and by how many at once at most
   */
  async function race(t, kinds, rounds) {
    const file = newFile(t, '')
    const witness = path.join(newDir(t), 'witness')
    fs.mkdirSync(witness)
    const children = kinds.map((kind) => {
      const child = fork(path.join(__dirname, 'programs', 'lock-dir-contender.js'), [kind, 'race', file, witness], { execArgv: [] })
      t.after(() => child.kill('SIGKILL'))
      return child
    })
    await Promise.all(children.map((child) => once(child, 'message')))
    let had = 0
    let together = 0
    for (let round = 0; round < rounds; round++) {
      fs.mkdirSync(`${file}.lock`)
      age(file, 60)
      const answers = children.map((child) => once(child, 'message'))
      for (const child of children) child.send(round)
      for (const [answer] of await Promise.all(answers)) {
        if (answer.got) had++
        else assert.equal(answer.code, 'ELOCKED')
        together = Math.max(together, answer.together ?? 0)
      }
      fs.rmSync(`${file}.lock`, { recursive: true, force: true })
    }
    for (const child of children) child.disconnect()
    assert.deepEqual(names(path.dirname(file)), ['file'])
    return { had, together }
  }

  test('holdfast never has two owners', async (t) => {
    const { had, together } = await race(t, Array.from({ length: 8 }, () => 'holdfast'), 8)
    t.diagnostic(`had ${had} times in 8 rounds of 8 processes, by ${together} together`)
    assert.equal(together, 1)
    assert.ok(had >= 8)
  })

  /**
   * A file system for the package that is slow to remove what was found stale.
   *
   * @returns {{ slow: typeof fs, waits: Promise<void>, goOn: () => void }}
   */
  function slowToRemove() {
    let goOn = () => {}
    /** @type {Promise<void>} */
    const gate = new Promise((resolve) => (goOn = resolve))
    let arrived = () => {}
    /** @type {Promise<void>} */
    const waits = new Promise((resolve) => (arrived = resolve))
    const slow = /** @type {any} */ ({
      ...fs,
      rmdir(/** @type {string} */ dir, /** @type {any} */ callback) {
        arrived()
        gate.then(() => fs.rmdir(dir, callback))
      },
    })
    return { slow, waits, goOn }
  }

  test('the package has two: what this is about', async (t) => {
    const file = newFile(t, '')
    fs.mkdirSync(`${file}.lock`)
    age(file, 60)
    const { slow, waits, goOn } = slowToRemove()
    const compromised = []
    const options = { stale: 2000, onCompromised: (/** @type {Error} */ error) => void compromised.push(error) }
    const second = lockfile.lock(file, { ...options, fs: slow })
    await waits
    const peer = new Peer(t)
    await byPackage(peer, file, { stale: 2000 })
    goOn()
    // Both were told that they hold it.
    const release = await second
    await release()
    await peer.kill()
  })

  test('one who runs the package and comes a moment later does not get it beside us', async (t) => {
    const file = newFile(t, '')
    fs.mkdirSync(`${file}.lock`)
    age(file, 60)
    const { slow, waits, goOn } = slowToRemove()
    const theirs = lockfile.lock(file, { stale: 2000, fs: slow })
    await waits
    const ours = tryAcquireLock(file, QUICK)
    // It has been exchanged: the directory is young again.
    while (!(await isLocked(file, PROTOCOL)).locked) await wait(1)
    goOn()
    const release = await theirs
    const lock = await ours
    // On a machine that stalls for 200 ms just here, our call has settled before.
    if (lock) assert.equal((await aborted(lock.signal)).code, 'ECOMPROMISED')
    assert.equal(await lockfile.check(file), true)
    await release()
    assert.deepEqual(names(path.dirname(file)), ['file'])
  })

  test('a much later process takes it over: the holder is told, and leaves the new lock alone', async (t) => {
    const file = newFile(t, '')
    fs.mkdirSync(`${file}.lock`)
    age(file, 60)
    const { slow, waits, goOn } = slowToRemove()
    const theirs = lockfile.lock(file, { stale: 2000, fs: slow })
    await waits
    const lock = await acquireLock(file, QUICK)
    goOn()
    const release = await theirs
    assert.equal((await aborted(lock.signal)).code, 'ECOMPROMISED')
    assert.equal((await failure(() => lock.release())).code, 'ECOMPROMISED')
    assert.equal(await lockfile.check(file), true)
    await release()
  })

  test('a holder that is stopped keeps its lock among those that run holdfast', { skip: whyNot.unix() }, async (t) => {
    const file = newFile(t, '')
    const peer = new Peer(t)
    await peer.acquire(file, QUICK)
    process.kill(/** @type {number} */ (peer.pid), 'SIGSTOP')
    age(file, 60)
    assert.equal(await tryAcquireLock(file, QUICK), null)
    assert.deepEqual(await isLocked(file, PROTOCOL), { locked: false })
    process.kill(/** @type {number} */ (peer.pid), 'SIGCONT')
    await peer.kill('SIGKILL')
    // It has no holder any more, and is as old as it looks.
    await (await acquireLock(file, { ...QUICK, timeout: GUARD })).release()
  })
})
