'use strict'

// Values of another realm, and the package itself in another realm, as test runners have it: with a
// `process` and globals of one test file, whose timers may be fake.

const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { describe, test } = require('node:test')
const vm = require('node:vm')
const { holdfast, names, newDir, root } = require('./helpers.js')

/** A value of another realm. @param {string} code */
const foreign = (code) => vm.runInNewContext(code)

/** As jsdom has them: an AbortSignal that is no object of Node's. */
class ForeignSignal {
  aborted = false
  reason = undefined
  /** @type {Set<() => void>} */
  #listeners = new Set()

  /** @param {string} _type @param {() => void} listener */
  addEventListener(_type, listener) {
    this.#listeners.add(listener)
  }

  /** @param {string} _type @param {() => void} listener */
  removeEventListener(_type, listener) {
    this.#listeners.delete(listener)
  }

  abort() {
    this.aborted = true
    for (const listener of this.#listeners) listener()
  }
}

/** @param {unknown} value @returns {any} */
const any = (value) => value

describe('values of another realm', () => {
  for (const [name, code, expected] of [
    ['a Uint8Array', 'new Uint8Array([1, 2, 3])', [1, 2, 3]],
    ['an empty Uint8Array', 'new Uint8Array(0)', []],
    ['another typed array', 'new Uint16Array([258])', [2, 1]],
    ['a DataView', 'new DataView(new Uint8Array([7, 8]).buffer, 1)', [8]],
    ['an empty DataView', 'new DataView(new ArrayBuffer(0))', []],
  ]) {
    test(`${name} is written`, async (t) => {
      const file = path.join(newDir(t), 'file')
      await holdfast.atomicWrite(file, foreign(/** @type {string} */ (code)), foreign("({ durability: 'none' })"))
      assert.deepEqual([...fs.readFileSync(file)], expected)
      holdfast.atomicWriteSync(file, foreign(/** @type {string} */ (code)))
      assert.deepEqual([...fs.readFileSync(file)], expected)
    })
  }

  test('options, paths, patterns, payloads and URLs are taken', async (t) => {
    const dir = newDir(t)
    const file = path.join(dir, 'file')
    await holdfast.updateJsonFile(file, () => foreign('({ a: [1] })'), foreign("({ defaultValue: { b: 1 }, indent: 1 })"))
    assert.deepEqual(JSON.parse(fs.readFileSync(file, 'utf8')), { a: [1] })
    await holdfast.transaction(vm.runInNewContext('[file]', { file }), (tx) => tx.write(file, foreign('new Uint8Array([65])')))
    assert.equal(fs.readFileSync(file, 'utf8'), 'A')
    await holdfast.createBackup(file)
    assert.equal((await holdfast.cleanupBackups(dir, foreign('/^file/'), 0, foreign('({ keepNewest: 0 })'))).length, 1)
    // As whatwg-url makes it.
    await holdfast.atomicWrite(any({ href: `file://${file}`, protocol: 'file:' }), 'B')
    assert.equal(fs.readFileSync(file, 'utf8'), 'B')
    const wal = await holdfast.openWal(path.join(dir, 'log'))
    await wal.append('things', foreign("[{ id: 'a', op: 'insert', payload: new Uint8Array([1]) }]"))
    await wal.close()
  })

  test('a signal cancels', async (t) => {
    const file = path.join(newDir(t), 'file')
    const signal = new ForeignSignal()
    const lock = await holdfast.acquireLock(file)
    const waiting = holdfast.withLock(file, () => {}, { signal: any(signal) })
    signal.abort()
    await assert.rejects(waiting, { name: 'AbortError' })
    await lock.release()
    await assert.rejects(holdfast.atomicWrite(file, 'new', { signal: any(signal) }), { name: 'AbortError' })
  })

  test('what is no signal, no URL and no pattern is still refused', async (t) => {
    const file = path.join(newDir(t), 'file')
    for (const signal of [{ aborted: false }, {}, 'abort', null, new EventTarget()]) {
      await assert.rejects(holdfast.atomicWrite(file, 'new', { signal: any(signal) }), { code: 'ERR_INVALID_ARG_TYPE', message: /"signal" option/ })
    }
    await assert.rejects(holdfast.atomicWrite(any({ href: 'file:///tmp/x' }), 'new'), { code: 'ERR_INVALID_ARG_TYPE' })
    await assert.rejects(holdfast.cleanupBackups(path.dirname(file), any({ test: () => true })), { code: 'ERR_INVALID_ARG_VALUE' })
  })

  test('an error is the cause of a SessionFileError', () => {
    const cause = foreign("Object.assign(new Error('what happened'), { code: 'EIO' })")
    const error = new holdfast.SessionFileError('file', 'atomic write', cause)
    assert.equal(error.message, 'Failed to atomic write at file: what happened')
    assert.equal(error.code, 'EIO')
  })
})

/**
 * The package in a realm of its own, where nothing of the timers ever happens.
 *
 * @param {Record<string, unknown>} [globals]
 */
function inOtherRealm(globals = {}) {
  const never = () => ({ unref() {}, ref() {} })
  const fake = Object.assign(Object.create(process), { nextTick: never, on: () => {}, ...globals })
  const context = vm.createContext({
    process: fake, Buffer, URL, AbortController, EventTarget, TextDecoder, console,
    setTimeout: never, setImmediate: never, setInterval: never, queueMicrotask: never, clearTimeout: never,
    performance: { now: () => 0 },
  })
  /** @type {Map<string, { exports: any }>} */
  const loaded = new Map()
  /** @param {string} file @returns {any} */
  const load = (file) => {
    if (file.endsWith('.node')) return require(file)
    const known = loaded.get(file)
    if (known) return known.exports
    const module = { exports: {} }
    loaded.set(file, module)
    const run = vm.compileFunction(fs.readFileSync(file, 'utf8'), ['module', 'exports', 'require', '__filename', '__dirname'], { parsingContext: context, filename: file })
    run(module, module.exports, (/** @type {string} */ name) => {
      if (name.startsWith('node:') || require('node:module').isBuiltin(name)) return require(name)
      return load(require.resolve(path.resolve(path.dirname(file), name)))
    }, file, path.dirname(file))
    return module.exports
  }
  return load(path.join(root, 'index.js'))
}

describe('the package in another realm, with fake timers', () => {
  const own = inOtherRealm()

  /** @param {import('node:stream').Writable} stream @param {string} event */
  const emits = (stream, event) => new Promise((resolve, reject) => stream.once(event, resolve).once('error', event === 'error' ? resolve : reject))

  test('a stream ends, is destroyed, and is cancelled', async (t) => {
    const dir = newDir(t)
    const file = path.join(dir, 'file')
    const stream = own.createAtomicWriteStream(file)
    stream.write('a')
    stream.write('b')
    stream.end('c')
    await emits(stream, 'finish')
    assert.equal(fs.readFileSync(file, 'utf8'), 'abc')
    const destroyed = own.createAtomicWriteStream(file)
    destroyed.write('never')
    destroyed.destroy()
    await emits(destroyed, 'close')
    const cancelled = own.createAtomicWriteStream(file, { signal: AbortSignal.abort() })
    assert.equal(/** @type {any} */ (await emits(cancelled, 'error')).name, 'AbortError')
    assert.equal(fs.readFileSync(file, 'utf8'), 'abc')
    assert.deepEqual(names(dir), ['file'])
  })

  test('every other call ends, too', async (t) => {
    const dir = newDir(t)
    const file = path.join(dir, 'file.json')
    await own.atomicWrite(file, '{"n":0}', { lock: true })
    for (let i = 0; i < 30; i++) await own.updateJsonFile(file, (/** @type {any} */ data) => ({ n: data.n + 1 }))
    await Promise.all(Array.from({ length: 30 }, () => own.updateJsonFile(file, (/** @type {any} */ data) => ({ n: data.n + 1 }))))
    assert.equal(fs.readFileSync(file, 'utf8'), '{"n":60}')
    for (let i = 0; i < 200; i++) await own.withLock(file, () => {})
    for (let i = 0; i < 3; i++) await own.withLock(file, () => {}, { protocol: 'proper-lockfile' })
    await own.restoreBackup(await own.createBackup(file), file)
    await own.transaction([file], (/** @type {any} */ tx) => tx.updateJson(file, () => ({ n: 1 })))
    await own.recoverFromCrash(dir)
    assert.deepEqual({ ...(await own.AtomicOperations.updateJsonFile(file, (/** @type {any} */ data) => data)) }, { n: 1 })
    const wal = await own.openWal(path.join(dir, 'log'), { onFlush: () => {}, flushThreshold: 1 })
    await wal.append('things', [{ id: 'a', op: 'insert', payload: 'b' }])
    await wal.close()
  })

  test('an error of the system is told as it is', async (t) => {
    const failing = inOtherRealm({
      cwd() {
        throw Object.assign(new Error('ENOENT: process.cwd failed, uv_cwd'), { code: 'ENOENT', syscall: 'uv_cwd' })
      },
    })
    await assert.rejects(failing.atomicWrite('relative', 'new'), (/** @type {any} */ error) => {
      assert.equal(error.name, 'SessionFileError')
      assert.match(error.message, /process\.cwd failed/)
      assert.equal(error.code, 'ENOENT')
      return true
    })
    await assert.rejects(own.atomicWrite(path.join(newDir(t), 'no', 'file'), 'new'), { code: 'ENOENT', name: 'SessionFileError' })
  })
})
