'use strict'

// `onTempFile`: what callers may do between the making of a temp file and the writing of it, and what becomes of the file if they fail.

const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { once } = require('node:events')
const { spawn } = require('node:child_process')
const { AsyncLocalStorage } = require('node:async_hooks')
const { describe, test } = require('node:test')
const { collector, failure, fullDisk, holdfast, names, newDir, whyNot } = require('./helpers.js')

const { acquireLock, atomicWrite, atomicWriteJson, atomicWriteSync, createAtomicWriteStream, isLocked, metrics, recoverFromCrash, updateJsonFile, updateJsonFileSync, withLock } = holdfast

/** All functions that have the option, called alike. Each writes `{"n":1}`. */
const functions = {
  atomicWrite: (file, options) => atomicWrite(file, '{"n":1}', options),
  'atomicWrite of an iterable': (file, options) => atomicWrite(file, ['{"n"', ':1}'], options),
  atomicWriteJson: (file, options) => atomicWriteJson(file, { n: 1 }, options),
  atomicWriteSync: async (file, options) => atomicWriteSync(file, '{"n":1}', options),
  createAtomicWriteStream: async (file, options) => {
    const stream = createAtomicWriteStream(file, options)
    stream.end('{"n":1}')
    await once(stream, 'close')
  },
  updateJsonFile: (file, options) => updateJsonFile(file, () => ({ n: 1 }), { defaultValue: {}, ...options }),
  updateJsonFileSync: async (file, options) => updateJsonFileSync(file, () => ({ n: 1 }), { defaultValue: {}, ...options }),
  'atomicWrite under a lock': (file, options) => atomicWrite(file, '{"n":1}', { lock: true, ...options }),
  'atomicWriteSync under a lock': async (file, options) => atomicWriteSync(file, '{"n":1}', { lock: true, ...options }),
}
const isSync = (name) => name.includes('Sync')
const withoutLocks = (dir) => names(dir).filter((name) => !name.endsWith('.lock'))

for (const [name, call] of Object.entries(functions)) {
  describe(`onTempFile of ${name}`, () => {
    test('sees each temp file, whose path is true, empty and beside the file, which is still the old one', async (t) => {
      const dir = newDir(t)
      const file = path.join(dir, 'a.json')
      fs.writeFileSync(file, '{"n":0}')
      const seen = []
      await call(file, {
        onTempFile(tempPath) {
          seen.push([path.dirname(tempPath), withoutLocks(dir), fs.readFileSync(tempPath, 'utf8'), fs.readFileSync(file, 'utf8')])
          seen.push(path.basename(tempPath))
        },
      })
      const [[where, beside, temp, old], tempName] = seen
      assert.deepEqual([where, beside.sort(), temp, old], [dir, [tempName, 'a.json'].sort(), '', '{"n":0}'])
      assert.equal(seen.length, 2)
      assert.deepEqual([withoutLocks(dir), fs.readFileSync(file, 'utf8')], [['a.json'], '{"n":1}'])
    })

    test('stops the write with the very error that it throws, and leaves nothing', async (t) => {
      const dir = newDir(t)
      const file = path.join(dir, 'a.json')
      for (const thrown of [new RangeError('not this one'), Object.assign(new Error('kind'), { kind: 'system', exhausted: true }), 'text', { kind: 'system', exhausted: true }]) {
        for (const hook of isSync(name) ? [() => { throw thrown }] : [() => { throw thrown }, async () => { throw thrown }]) {
          let calls = 0
          const found = await outcome(() => call(file, { onTempFile: () => (calls++, hook()) }))
          assert.equal(found.error, thrown)
          assert.equal(calls, 1, 'it is not tried again')
          assert.deepEqual(withoutLocks(dir), [])
        }
      }
      fs.writeFileSync(file, '{"n":0}')
      const error = new Error('no')
      assert.equal((await outcome(() => call(file, { onTempFile() { throw error } }))).error, error)
      assert.deepEqual([withoutLocks(dir), fs.readFileSync(file, 'utf8')], [['a.json'], '{"n":0}'])
      assert.equal((await isLocked(file)).locked, false)
      await call(file, {})
      assert.equal(fs.readFileSync(file, 'utf8'), '{"n":1}')
    })

    test('must be a function', async (t) => {
      const dir = newDir(t)
      for (const wrong of [null, true, 'x', {}]) {
        const error = await failure(() => call(path.join(dir, 'a'), { onTempFile: wrong }))
        assert.deepEqual([error.name, error.code], ['TypeError', 'ERR_INVALID_ARG_TYPE'])
        assert.match(error.message, /"onTempFile"/)
      }
      assert.deepEqual(names(dir), [])
    })
  })
}

/** How a call ends, also where what it throws is no error. */
async function outcome(run) {
  try {
    return { value: await run() }
  } catch (error) {
    return { error }
  }
}

describe('onTempFile', () => {
  test('is awaited: nothing is written before it is done', async (t) => {
    const file = path.join(newDir(t), 'a')
    const order = []
    for (const call of [functions.atomicWrite, functions.createAtomicWriteStream, functions.updateJsonFile, functions['atomicWrite of an iterable']]) {
      fs.rmSync(file, { force: true })
      await call(file, {
        async onTempFile(tempPath) {
          for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve))
          order.push(fs.statSync(tempPath).size)
        },
      })
    }
    assert.deepEqual(order, [0, 0, 0, 0])
  })

  test('has attributes set that the file keeps, as far as the write does not set them itself', { skip: process.platform === 'win32' }, async (t) => {
    const file = path.join(newDir(t), 'a')
    await atomicWrite(file, 'x', { onTempFile: (tempPath) => fs.promises.utimes(tempPath, 1, 1), mode: 0o600 })
    assert.equal(fs.statSync(file).mode & 0o777, 0o600)
  })

  test('runs in the async context of its call', async (t) => {
    const file = path.join(newDir(t), 'a.json')
    const storage = new AsyncLocalStorage()
    for (const [name, call] of Object.entries(functions)) {
      const seen = await storage.run(name, async () => {
        let inside
        fs.rmSync(file, { force: true })
        await call(file, { onTempFile() { inside = storage.getStore() } })
        return inside
      })
      assert.equal(seen, name)
    }
  })

  test('is called again for each attempt', { skip: whyNot.mount() }, async (t) => {
    const { dir, filler } = fullDisk(t)
    const file = path.join(dir, 'a.json')
    for (const name of ['atomicWrite', 'atomicWriteSync', 'atomicWriteJson', 'updateJsonFile', 'updateJsonFileSync']) {
      const long = { n: 'x'.repeat(60_000) }
      const write = {
        atomicWrite: (options) => atomicWrite(file, JSON.stringify(long), options),
        atomicWriteSync: async (options) => atomicWriteSync(file, JSON.stringify(long), options),
        atomicWriteJson: (options) => atomicWriteJson(file, long, options),
        updateJsonFile: (options) => updateJsonFile(file, () => long, { ...options, defaultValue: {}, lock: false }),
        updateJsonFileSync: async (options) => updateJsonFileSync(file, () => long, { ...options, defaultValue: {}, lock: false }),
      }[name]
      const paths = new Set()
      const error = await failure(() => write({ retries: 3, retryDelay: 1, onTempFile: (tempPath) => void paths.add(tempPath) }))
      assert.deepEqual([error.code, error.attempts, paths.size], ['ENOSPC', 3, 3], name)
      assert.deepEqual(names(dir), ['filler'])
    }
    const { entries, logger } = collector()
    let attempts = 0
    await atomicWrite(file, Buffer.alloc(60_000), { retries: 3, retryDelay: 1, logger, onTempFile() { if (++attempts === 2) fs.rmSync(filler) } })
    assert.equal(fs.statSync(file).size, 60_000)
    assert.deepEqual(entries.filter(({ message }) => message.startsWith('Retrying')).map(({ level, fields }) => [level, fields.attempt, fields.errorCode]), [['warn', 2, 'ENOSPC']])
  })

  test('an abort does not wait for it, and leaves nothing', async (t) => {
    const dir = newDir(t)
    const file = path.join(dir, 'a.json')
    for (const call of [functions.atomicWrite, functions.atomicWriteJson, functions.updateJsonFile, functions['atomicWrite of an iterable'], functions['atomicWrite under a lock']]) {
      const controller = new AbortController()
      const error = await failure(() => call(file, { signal: controller.signal, onTempFile: () => (controller.abort(), new Promise(() => {})) }))
      assert.equal(error.name, 'AbortError')
      assert.deepEqual(withoutLocks(dir), [])
      assert.equal((await isLocked(file)).locked, false)
    }
    const stream = createAtomicWriteStream(file, { onTempFile: () => (setImmediate(() => stream.destroy()), new Promise(() => {})) })
    await once(stream, 'close')
    assert.deepEqual(withoutLocks(dir), [])
  })

  test('is called for each of many calls at once, which are not merged', async (t) => {
    const file = path.join(newDir(t), 'a.json')
    const before = metrics().writes.merged
    const paths = new Set()
    const onTempFile = (tempPath) => void paths.add(tempPath)
    await Promise.all(Array.from({ length: 10 }, () => atomicWrite(file, '{"n":0}', { onTempFile })))
    assert.equal(paths.size, 10)
    await Promise.all(Array.from({ length: 10 }, () => updateJsonFile(file, (data) => { data.n++ }, { onTempFile })))
    assert.deepEqual([paths.size, metrics().writes.merged - before, JSON.parse(fs.readFileSync(file, 'utf8'))], [20, 0, { n: 10 }])
  })

  test('may write the same file and others itself', async (t) => {
    const dir = newDir(t)
    const [a, b] = ['a', 'b'].map((name) => path.join(dir, name))
    await atomicWrite(a, 'outer', {
      async onTempFile() {
        await atomicWrite(a, 'inner')
        await atomicWrite(b, 'other', { lock: true })
        assert.equal(fs.readFileSync(a, 'utf8'), 'inner')
      },
    })
    assert.deepEqual([fs.readFileSync(a, 'utf8'), fs.readFileSync(b, 'utf8')], ['outer', 'other'])
  })

  test('of a synchronous write cannot make another one, and must not be asynchronous', async (t) => {
    const dir = newDir(t)
    const [a, b] = ['a', 'b'].map((name) => path.join(dir, name))
    for (const nested of [() => atomicWriteSync(a, 'x'), () => atomicWriteSync(b, 'x'), () => updateJsonFileSync(a, () => 1, { defaultValue: {} })]) {
      const error = await failure(async () => atomicWriteSync(a, 'y', { onTempFile: nested }))
      assert.equal(error.code, 'EDEADLK')
      assert.match(error.message, /onTempFile/)
    }
    const error = await failure(async () => atomicWriteSync(a, 'y', { onTempFile: async () => {} }))
    assert.deepEqual([error.name, error.code], ['TypeError', 'ERR_INVALID_RETURN_VALUE'])
    assert.deepEqual(names(dir), [])
    atomicWriteSync(a, 'y')
    assert.equal(fs.readFileSync(a, 'utf8'), 'y')
  })

  test('works under the lock of a withLock around it, which is held while it runs', async (t) => {
    const file = path.join(newDir(t), 'a.json')
    await withLock(file, async () => {
      for (const [name, call] of Object.entries(functions)) {
        await call(file, { onTempFile: isSync(name) ? () => {} : async () => assert.equal((await isLocked(file)).locked, true) })
      }
    })
    const lock = await acquireLock(file, { timeout: 0 })
    await lock.release()
  })

  test('a killed process leaves the old file, and a temp file that recovery removes', { skip: process.platform === 'win32' }, async (t) => {
    const dir = newDir(t)
    const file = path.join(dir, 'a.json')
    for (const program of [
      "atomicWrite(file, '{}', { onTempFile: hook, lock: true })",
      "updateJsonFile(file, () => ({}), { onTempFile: hook })",
      "atomicWriteSync(file, '{}', { onTempFile(tempPath) { require('fs').writeSync(1, tempPath); for (;;) {} } })",
    ]) {
      fs.writeFileSync(file, '{"n":0}')
      const child = spawn(process.execPath, ['-e', `
        const { atomicWrite, atomicWriteSync, updateJsonFile } = require(${JSON.stringify(path.join(__dirname, '..'))})
        const file = ${JSON.stringify(file)}
        const hook = (tempPath) => new Promise(() => { process.stdout.write(tempPath); setInterval(() => {}, 1000) })
        ${program}`], { stdio: ['ignore', 'pipe', 'inherit'] })
      t.after(() => child.kill('SIGKILL'))
      const [said] = await once(child.stdout, 'data')
      const tempPath = String(said)
      assert.ok(fs.existsSync(tempPath))
      child.kill('SIGKILL')
      await once(child, 'exit')
      assert.equal(fs.readFileSync(file, 'utf8'), '{"n":0}')
      await recoverFromCrash(file)
      assert.deepEqual(withoutLocks(dir), ['a.json'])
      assert.equal(fs.readFileSync(file, 'utf8'), '{"n":0}')
    }
  })
})
