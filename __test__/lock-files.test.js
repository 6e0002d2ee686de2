'use strict'

// Lock files do not pile up: who removes them, and when.

const assert = require('node:assert/strict')
const { spawn, spawnSync } = require('node:child_process')
const { once } = require('node:events')
const fs = require('node:fs')
const path = require('node:path')
const { describe, test } = require('node:test')
const { failure, holdfast, mount, names, newDir, newFile, root, whyNot } = require('./helpers.js')
const { GUARD, LIMITS, Peer, lockFileOf } = require('./programs/lock-peer.js')

const { acquireLock, atomicWrite, recoverFromCrash, transaction, updateJsonFile, withLock } = holdfast

const pause = (/** @type {number} */ ms) => new Promise((resolve) => setTimeout(resolve, ms))

/** Why a directory cannot be mounted as a program's file system. */
function noBindfs() {
  if (process.getuid?.() !== 0) return 'only root can mount'
  if (!fs.existsSync('/dev/fuse')) return 'there is no /dev/fuse'
  return spawnSync('bindfs', ['--version']).status === 0 ? undefined : 'bindfs is not installed'
}

/** Waits until there is no lock file in a directory. @param {string} dir */
async function untilNone(dir) {
  for (const begun = Date.now(); names(dir).some((name) => name.endsWith('.lock')); await pause(10)) {
    assert.ok(Date.now() - begun < GUARD, `${names(dir)}`)
  }
}

/**
 * Runs a program to its end, and returns how it ended and which lock files it has left.
 *
 * @param {import('node:test').TestContext} t
 * @param {string} program it has `holdfast`, `file` and `dir`
 * @param {NodeJS.Signals} [signal] sent when it says so
 */
async function end(t, program, signal) {
  const dir = newDir(t)
  const source = `
    const holdfast = require(${JSON.stringify(root)})
    const { Worker } = require('node:worker_threads')
    const dir = ${JSON.stringify(dir)}
    const file = ${JSON.stringify(path.join(dir, 'file'))}
    const fs = require('node:fs')
    ;(async () => { ${program} })()`
  const child = spawn(process.execPath, ['-e', source], { stdio: ['ignore', 'pipe', 'inherit'], timeout: GUARD, killSignal: 'SIGKILL' })
  if (signal) {
    await once(child.stdout, 'data')
    child.kill(signal)
  }
  const [code, by] = await once(child, 'exit')
  return { ended: by ?? code, left: names(dir).filter((name) => name.endsWith('.lock')) }
}

describe('a lock file', LIMITS, () => {
  test('goes when the lock has not been used for a while, whatever has used it', async (t) => {
    const dir = newDir(t)
    const at = (/** @type {string} */ name) => path.join(dir, name)
    await atomicWrite(at('a'), 'a', { lock: true })
    await updateJsonFile(at('b.json'), (data) => data, { defaultValue: {} })
    await withLock(at('c'), () => withLock(at('d'), () => {}, { kind: 'read' }))
    await transaction([at('e'), at('f')], (tx) => tx.write(at('e'), 'e'))
    fs.symlinkSync('g', at('link'))
    await withLock(at('link'), () => {})
    const held = await acquireLock(at('held'))
    const wal = await holdfast.openWal(at('log'))
    await Promise.all(Array.from({ length: 200 }, (_, i) => withLock(at(`many-${i}`), () => {})))
    for (const begun = Date.now(); names(dir).filter((name) => name.endsWith('.lock')).length > 2; await pause(10)) {
      assert.ok(Date.now() - begun < GUARD, `${names(dir)}`)
    }
    await pause(400)
    assert.deepEqual(names(dir).filter((name) => name.endsWith('.lock')), ['.held.lock', '.log.lock'], 'they are held')
    await held.release()
    await wal.close()
    await untilNone(dir)
    assert.deepEqual(names(dir), ['a', 'b.json', 'e', 'link', 'log'])
  })

  test('goes when the last of several processes has used it', async (t) => {
    const file = newFile(t)
    const peers = [new Peer(t), new Peer(t), new Peer(t)]
    await Promise.all(peers.map((peer) => peer.run(async ({ holdfast }, file, timeout) => {
      for (let i = 0; i < 50; i++) {
        await holdfast.withLock(file, () => {}, { timeout })
        // Long enough now and then that a process takes it for unused.
        await new Promise((resolve) => setTimeout(resolve, i % 10 === 0 ? 300 : 1))
      }
    }, file, GUARD)))
    await untilNone(path.dirname(file))
  })

  for (const [how, program, ended] of /** @type {[string, string, number][]} */ ([
    ['there is nothing more to do', '', 0],
    ['process.exit', 'process.exit(3)', 3],
    ['an exception', "setImmediate(() => { throw new Error('on purpose') }); process.on('uncaughtException', () => process.exit(1))", 1],
    ['an exit handler that uses it', "process.on('exit', () => holdfast.atomicWriteSync(file, 'x'))", 0],
  ])) {
    test(`goes when the process ends: ${how}`, async (t) => {
      const outcome = await end(t, `
        await holdfast.withLock(file, () => {})
        await holdfast.updateJsonFile(file + '.json', () => ({}), { defaultValue: {} })
        await holdfast.withLock(file, () => {}, { kind: 'read' })
        ${program}`)
      assert.deepEqual(outcome, { ended, left: [] })
    })
  }

  test('goes when the process ends by itself and has not released it', async (t) => {
    assert.deepEqual(await end(t, 'await holdfast.acquireLock(file)'), { ended: 0, left: [] })
  })

  test('goes when a thread ends that has not released it, and the process goes on', async (t) => {
    const outcome = await end(t, `
      const source = \`require(${JSON.stringify(root)}).acquireLock(\${JSON.stringify(file)}).then(() => process.exit())\`
      const worker = new Worker(source, { eval: true })
      worker.once('exit', () => {
        const timer = setInterval(() => {
          if (fs.existsSync(dir + '/.file.lock')) return
          clearInterval(timer)
          process.exit(5)
        }, 10)
      })`)
    assert.deepEqual(outcome, { ended: 5, left: [] })
  })

  for (const signal of /** @type {const} */ (['SIGTERM', 'SIGINT', 'SIGHUP'])) {
    test(`goes with ${signal}, of which the process dies as without a lock`, { skip: whyNot.unix() }, async (t) => {
      const idle = "await holdfast.withLock(file, () => {}); console.log('now'); setInterval(() => {}, 1000)"
      assert.deepEqual(await end(t, idle, signal), { ended: signal, left: [] })
      const busy = "await holdfast.withLock(file, () => {}); fs.writeSync(1, 'now'); for (;;) {}"
      assert.deepEqual(await end(t, busy, signal), { ended: signal, left: [] })
      // Under the lock something may still be written while the process dies.
      const held = "await holdfast.acquireLock(file); console.log('now'); setInterval(() => {}, 1000)"
      assert.deepEqual(await end(t, held, signal), { ended: signal, left: ['.file.lock'] })
    })
  }

  test('of a process that was killed goes with the next use, or with a recovery', { skip: whyNot.unix() }, async (t) => {
    const file = newFile(t, 'x')
    const dir = path.dirname(file)
    for (const next of [() => withLock(file, () => {}), () => withLock(file, () => {}, { kind: 'read' }), () => recoverFromCrash(dir), () => recoverFromCrash(file)]) {
      const peer = new Peer(t)
      await peer.acquire(file)
      peer.kill()
      await peer.ended
      assert.deepEqual(names(dir), ['.file.lock', 'file'])
      await next()
      await untilNone(dir)
    }
  })

  test('stays in a recovery while a process has the lock, and if it is none of holdfast', async (t) => {
    const file = newFile(t, 'x')
    const dir = path.dirname(file)
    fs.writeFileSync(path.join(dir, '.precious.lock'), 'precious')
    fs.mkdirSync(path.join(dir, '.dir.lock'))
    fs.symlinkSync('file', path.join(dir, '.link.lock'))
    fs.writeFileSync(path.join(dir, '.old.lock'), '')
    const peer = new Peer(t)
    await peer.acquire(file)
    assert.deepEqual((await recoverFromCrash(dir, { dryRun: true })).actions, [])
    assert.deepEqual(names(dir), ['.dir.lock', '.file.lock', '.link.lock', '.old.lock', '.precious.lock', 'file'])
    assert.deepEqual((await recoverFromCrash(dir)).actions, [])
    assert.deepEqual(names(dir), ['.dir.lock', '.file.lock', '.link.lock', '.precious.lock', 'file'])
    assert.equal(await holdfast.tryAcquireLock(file), null)
    await peer.release()
  })

  test('is not made by an update of a file that is not there and has no default', async (t) => {
    const dir = newDir(t)
    const file = path.join(dir, 'no.json')
    const never = () => assert.fail('it has been called')
    const all = await Promise.all(Array.from({ length: 20 }, () => failure(updateJsonFile(file, never))))
    assert.deepEqual(new Set(all.map((error) => error.code)), new Set(['ENOENT']))
    assert.deepEqual(names(dir), [])
    // One that has a default is served all the same, whatever comes before and after it.
    const mixed = await Promise.allSettled([
      updateJsonFile(file, never),
      updateJsonFile(file, (data) => ({ n: data.n + 1 }), { defaultValue: { n: 0 } }),
      updateJsonFile(file, (data) => ({ n: data.n + 1 })),
    ])
    assert.deepEqual(mixed.map(({ status }) => status), ['rejected', 'fulfilled', 'fulfilled'])
    assert.deepEqual(JSON.parse(fs.readFileSync(file, 'utf8')), { n: 2 })
    fs.rmSync(file)
    // The holder of the lock may be about to make the file.
    const lock = await acquireLock(file)
    const waiting = updateJsonFile(file, (data) => ({ n: data.n + 1 }))
    fs.writeFileSync(file, '{"n":5}')
    await lock.release()
    assert.deepEqual(await waiting, { n: 6 })
    await untilNone(dir)
  })

  test('stays where a removal is not safe: on a file system that is a program', { skip: noBindfs() }, async (t) => {
    const [source, point] = [newDir(t), newDir(t)]
    mount(t, point, '-t', 'fuse.bindfs', source)
    await withLock(path.join(point, 'file'), () => {})
    await pause(700)
    assert.deepEqual(names(point), ['.file.lock'])
  })

  test('made anew each time does not disturb who waits', async (t) => {
    const file = newFile(t)
    const peers = [new Peer(t), new Peer(t)]
    for (let i = 0; i < 40; i++) {
      const [holder, waiter] = i % 2 ? peers : peers.toReversed()
      await holder?.acquire(file)
      const waiting = waiter?.acquire(file)
      await holder?.release()
      await waiting
      await waiter?.release()
      if (i % 8 === 0) await pause(350)
      if (i % 16 === 0) assert.equal(fs.existsSync(lockFileOf(file)), false)
    }
  })
})
