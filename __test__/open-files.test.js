'use strict'

// Many calls at once in a process that may have few files open: all of them are done, a few at a time.

const assert = require('node:assert/strict')
const { spawn, spawnSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const { describe, test } = require('node:test')
const { newDir, tmpfs, whyNot } = require('./system.js')

const skip = whyNot.prlimit()
const program = path.join(__dirname, 'programs/open-files.js')

/**
 * Runs calls of a kind in a process with so many descriptors, of which the program itself has taken
 * `others`. What came of them.
 */
function run(t, kind, { limit, calls, others = 0, dir = newDir(t) }) {
  return new Promise((resolve, reject) => {
    const args = [`--nofile=${limit}:${limit}`, process.execPath, program, dir, kind, `${calls}`, `${others}`]
    const child = spawn('prlimit', args, { stdio: ['ignore', 'pipe', 'inherit'], timeout: 120_000, killSignal: 'SIGKILL' })
    let said = ''
    child.stdout.setEncoding('utf8').on('data', (text) => (said += text))
    child.on('error', reject)
    child.on('close', (code, signal) => (code === 0 ? resolve({ dir, ...JSON.parse(said) }) : reject(new Error(`${kind} ended with ${signal ?? code}: ${said}`))))
  })
}

const KINDS = [
  'updateJsonFile', 'withLock', 'withLock for a while', 'acquireLock', 'tryAcquireLock', 'atomicWrite with lock', 'atomicWrite',
  'streams', 'streams that are filled later', 'streams with lock', 'createBackup', 'restoreBackup', 'transactions',
  'withLock in withLock in withLock', 'acquireLock in withLock', 'a common lock inside and outside', 'all together',
]

describe('with few descriptors', { skip, concurrency: 2 }, () => {
  for (const [limit, calls, others] of /** @type {const} */ ([[256, 1000, 0], [64, 100, 0], [256, 100, 205]])) {
    const which = others ? `${limit} descriptors, of which the program has ${others}` : `${limit} descriptors`
    describe(which, { concurrency: 2 }, () => {
      for (const kind of KINDS) {
        // Where the callers wait for one lock, and have the locks for which its holder waits, it takes long.
        if (limit - others < 256 && kind.includes('common')) continue
        // These cost more than the others.
        const count = /backup|transaction|common|together|withLock in|streams with/i.test(kind) ? Math.min(calls, 100) : calls
        test(`${count} calls at once are all done: ${kind}`, async (t) => {
          const { dir, done, codes, before, after } = await run(t, kind, { limit, calls: count, others })
          assert.deepEqual(codes, {})
          assert.ok(done >= count)
          assert.equal(after.length, before.length, `the descriptors at rest are as many as before: ${after}`)
          assert.deepEqual(fs.readdirSync(dir).filter((name) => /\.tmp$|holdfast/.test(name)), [])
        })
      }
    })
  }

  // As many are done as there are, at the cost of a few descriptors.
  for (const [limit, calls, others] of /** @type {const} */ ([[256, 200, 0], [64, 1000, 0], [256, 200, 205]])) {
    const which = others ? `${limit} descriptors, of which the program has ${others}` : `${limit} descriptors`
    test(`a transaction of ${calls} files is done: ${which}`, async (t) => {
      const { dir, done, codes, before, after, within, others: theirs } = await run(t, 'one transaction', { limit, calls, others })
      assert.deepEqual([codes, done], [{}, 1])
      assert.ok(within <= before.length + limit / 8 + 8, `${within - before.length} descriptors are taken by the locks`)
      // Another process is refused the lock of the first file as that of the last one.
      assert.deepEqual(theirs, [null, null])
      assert.equal(after.length, before.length, `the descriptors at rest are as many as before: ${after}`)
      for (let number = 0; number < calls; number++) assert.equal(fs.readFileSync(path.join(dir, `part${number}`), 'utf8'), 'new')
      assert.deepEqual(fs.readdirSync(dir).filter((name) => /\.tmp$|holdfast|part.*lock/.test(name)), [])
    })
  }

  for (const way of ['recoverFromCrash', 'the next transaction']) {
    test(`${way} completes a transaction of 300 files with 64 descriptors`, { skip: whyNot.strace() }, async (t) => {
      const dir = newDir(t)
      const files = Array.from({ length: 300 }, (_, number) => path.join(dir, `part${number}`))
      for (const file of files) fs.writeFileSync(file, 'old')
      // The first rename decides.
      const strace = ['strace', '-f', '-qq', '-o', '/dev/null', '-e', 'trace=renameat', '-e', 'inject=renameat:signal=KILL:when=100']
      const changes = files.map((file) => [file, 'new'])
      const { signal } = spawnSync(strace[0], [...strace.slice(1), process.execPath, path.join(__dirname, 'programs/transact.js'), JSON.stringify({ changes })])
      assert.equal(signal, 'SIGKILL')
      assert.ok(files.some((file) => fs.readFileSync(file, 'utf8') === 'old'))
      const { codes, before, after } = await run(t, way, { limit: 64, calls: 300, dir })
      assert.deepEqual(codes, {})
      assert.equal(after.length, before.length, `the descriptors at rest are as many as before: ${after}`)
      for (const file of files) assert.equal(fs.readFileSync(file, 'utf8'), 'new')
      assert.deepEqual(fs.readdirSync(dir).filter((name) => /\.tmp$|holdfast|part.*lock/.test(name)), [])
    })
  }

  test('where each lock needs a descriptor, too large a transaction is told so before anything is done', { skip: whyNot.mount() }, async (t) => {
    const disk = tmpfs(t, 'size=16m')
    for (const name of ['lower', 'upper', 'work', 'merged']) fs.mkdirSync(path.join(disk, name))
    const merged = path.join(disk, 'merged')
    const options = ['lower', 'upper', 'work'].map((name) => `${name}dir=${path.join(disk, name)}`).join(',')
    if (spawnSync('mount', ['-t', 'overlay', 'none', '-o', options, merged]).status !== 0) return t.skip('may not mount overlays here')
    t.after(() => spawnSync('umount', ['-l', merged]))
    const { codes } = await run(t, 'one transaction', { limit: 64, calls: 100, dir: merged })
    const [[said = '', count] = []] = Object.entries(codes)
    assert.match(said, /^EMFILE: .*too many open files.*raise the limit/)
    assert.equal(count, 1)
    assert.deepEqual(fs.readdirSync(merged).filter((name) => name.includes('part')), [])
  })

  test('locks that are really held until there are no more descriptors: the next one is told so', async (t) => {
    const { held, error, after } = await run(t, 'held', { limit: 256, calls: 300 })
    assert.ok(held >= 115 && held < 256, `${held} are held`)
    assert.equal(error.code, 'EMFILE')
    assert.match(error.message, /^Failed to lock at .*: EMFILE: too many open files, open '.*'$/)
    assert.match(error.hint, /Each lock that is held, .* keeps one or two open until it ends: release some, or raise the limit/)
    assert.deepEqual(after, 'free again')
  })
})
