'use strict'

// createAtomicWriteStream: the file keeps its content until all of the stream is written.

const assert = require('node:assert/strict')
const { AsyncLocalStorage } = require('node:async_hooks')
const { createHash } = require('node:crypto')
const { once } = require('node:events')
const fs = require('node:fs')
const path = require('node:path')
const { PassThrough, Readable, Writable } = require('node:stream')
const { pipeline } = require('node:stream/promises')
const { describe, test } = require('node:test')
const { setTimeout: wait } = require('node:timers/promises')
const { Worker } = require('node:worker_threads')
const { collector, failure, fullDisk, holdfast, inChild, modeOf, names, newDir, root, temps, whyNot } = require('./helpers.js')

const { acquireLock, atomicWrite, createAtomicWriteStream, isLocked, SessionFileError, updateJsonFile, withLock } = holdfast

const MiB = 1024 * 1024
/** @param {Parameters<typeof createAtomicWriteStream>} args */
const open = (...args) => createAtomicWriteStream(...args)

/** The end of a stream that is destroyed: its error, if it has one. @param {Writable} stream */
async function end(stream) {
  /** @type {any} */
  let failure
  stream.on('error', (error) => (failure = error))
  if (!stream.closed) await once(stream, 'close').catch(() => {})
  return failure
}

/** Waits until something is so. @param {() => unknown} condition */
async function until(condition) {
  while (!condition()) await wait(2)
}

describe('createAtomicWriteStream', () => {
  test('is a Writable whose bytes are the file once it has finished, and not before', async (t) => {
    const file = path.join(newDir(t), 'file')
    fs.writeFileSync(file, 'old')
    const stream = open(file)
    assert.ok(stream instanceof Writable)
    stream.write('one ')
    stream.write(Buffer.from('two '))
    stream.write(new Uint8Array(Buffer.from('three ')))
    await until(() => temps(path.dirname(file)).some((name) => fs.statSync(path.join(path.dirname(file), name)).size > 0))
    assert.equal(fs.readFileSync(file, 'utf8'), 'old')
    stream.on('finish', () => assert.equal(fs.readFileSync(file, 'utf8'), 'one two three four'))
    stream.end('four')
    await once(stream, 'close')
    assert.equal(stream.writableFinished, true)
    assert.deepEqual(names(path.dirname(file)), ['file'])
  })

  test('can be empty, and makes a file that was not there', async (t) => {
    const file = path.join(newDir(t), 'file')
    await pipeline(Readable.from([]), open(file))
    assert.equal(fs.readFileSync(file, 'utf8'), '')
  })

  test('keeps its order and every byte of many chunks of all sizes', async (t) => {
    const file = path.join(newDir(t), 'file')
    const hash = createHash('sha1')
    let size = 0
    function* chunks() {
      for (let i = 0; i < 400; i++) {
        const chunk = Buffer.alloc([1, 0, 17, 4096, 70_000, 3 * MiB][i % 6] ?? 0, `${i} `)
        hash.update(chunk)
        size += chunk.length
        yield chunk
      }
    }
    await pipeline(Readable.from(chunks()), open(file, { durability: 'none' }))
    assert.equal(fs.statSync(file).size, size)
    const found = createHash('sha1')
    for await (const chunk of fs.createReadStream(file)) found.update(chunk)
    assert.equal(found.digest('hex'), hash.digest('hex'))
  })

  test('keeps the order of chunks that wait together, large ones among small ones', async (t) => {
    const file = path.join(newDir(t), 'file')
    const stream = open(file, { durability: 'none' })
    const chunks = Array.from({ length: 200 }, (_, i) => Buffer.alloc(i % 7 === 3 ? MiB + i : i * 97, `${i},`))
    for (const chunk of chunks) stream.write(chunk)
    stream.end()
    await once(stream, 'close')
    assert.ok(fs.readFileSync(file).equals(Buffer.concat(chunks)))
  })

  test('holds the writer back', async (t) => {
    const file = path.join(newDir(t), 'file')
    const stream = open(file, { highWaterMark: 10 })
    assert.equal(stream.writableHighWaterMark, 10)
    assert.equal(stream.write('123456789'), true)
    assert.equal(stream.write('0'), false)
    await once(stream, 'drain')
    assert.equal(stream.writableLength, 0)
    stream.end()
    await once(stream, 'close')
    // A source of 100 MiB is never far ahead.
    const large = open(file, { durability: 'none' })
    let most = 0
    function* source() {
      for (let i = 0; i < 1600; i++) {
        most = Math.max(most, large.writableLength)
        yield Buffer.alloc(65536, i)
      }
    }
    await pipeline(Readable.from(source(), { highWaterMark: 1 }), large)
    assert.ok(most <= 4 * 65536, `${most} bytes waited`)
    assert.equal(fs.statSync(file).size, 100 * MiB)
  })

  test('encodes strings as Node does', async (t) => {
    const file = path.join(newDir(t), 'file')
    const stream = open(file, { encoding: 'latin1' })
    stream.write('é')
    stream.write('é', 'utf8')
    stream.write('6162', 'hex')
    stream.end('é')
    await once(stream, 'close')
    assert.deepEqual(fs.readFileSync(file), Buffer.from('e9c3a96162e9', 'hex'))
  })

  test('keeps mode and link, makes directories, sets the mode', { skip: whyNot.unix() }, async (t) => {
    const dir = newDir(t)
    const file = path.join(dir, 'file')
    fs.writeFileSync(file, 'old', { mode: 0o600 })
    fs.symlinkSync('file', path.join(dir, 'link'))
    await pipeline(Readable.from(['new']), open(path.join(dir, 'link')))
    assert.equal(fs.readFileSync(file, 'utf8'), 'new')
    assert.equal(modeOf(file), 0o600)
    await pipeline(Readable.from(['x']), open(path.join(dir, 'a/b/c'), { makeDirs: true, mode: 0o640 }))
    assert.equal(modeOf(path.join(dir, 'a/b/c')), 0o640)
    await pipeline(Readable.from(['x']), open(path.join(dir, 'link'), { followSymlinks: false }))
    assert.ok(fs.lstatSync(path.join(dir, 'link')).isFile())
    // The file that exists in the end counts.
    const late = open(path.join(dir, 'late'))
    late.write('new')
    await until(() => temps(dir).length > 0)
    fs.writeFileSync(path.join(dir, 'late'), 'secret', { mode: 0o600 })
    late.end()
    await once(late, 'close')
    assert.equal(modeOf(path.join(dir, 'late')), 0o600)
  })

  test('logs as a write does', async (t) => {
    const file = path.join(newDir(t), 'file')
    const { logger, entries } = collector()
    await pipeline(Readable.from(['abc', 'de']), open(file, { logger }))
    assert.deepEqual(entries.map(({ message }) => message), [
      'Starting atomic write', 'Temp file written', 'Temp file renamed to target', 'Atomic write completed successfully',
    ])
    assert.equal(entries[1]?.fields.size, 5)
    assert.equal(entries[3]?.fields.size, 5)
    entries.length = 0
    const stream = open(file, { logger })
    await new Promise((resolve) => stream.write('x', resolve))
    stream.destroy()
    await end(stream)
    assert.deepEqual(entries.map(({ message }) => message), ['Starting atomic write', 'Temp file cleaned up'])
  })

  test('checks its arguments when it is called', () => {
    for (const [path, options, pattern] of /** @type {[any, any, RegExp][]} */ ([
      [1, undefined, /"path"/], ['', undefined, /"path"/], ['x', { retries: 3 }, /Unknown option "retries"/],
      ['x', { retryDelay: 3 }, /Unknown option "retryDelay"/], ['x', { highWaterMark: 0 }, /"highWaterMark"/], ['x', { lock: 1 }, /"lock"/],
      ['x', { encoding: 'x' }, /"encoding"/], ['x', { mode: -1 }, /"mode"/], ['x', null, /"options"/],
    ])) assert.throws(() => open(path, options), pattern)
  })
})

describe('a stream that does not come to its end', () => {
  /** @param {import('node:test').TestContext} t */
  function setUp(t) {
    const dir = newDir(t)
    const file = path.join(dir, 'file')
    fs.writeFileSync(file, 'old')
    return {
      dir, file,
      assertUntouched() {
        assert.equal(fs.readFileSync(file, 'utf8'), 'old')
        assert.deepEqual(names(dir).filter((name) => !name.endsWith('.lock')), ['file'])
      },
    }
  }

  test('leaves nothing when it is destroyed, at any moment', async (t) => {
    const { file, dir, assertUntouched } = setUp(t)
    for (const when of [
      async () => {},
      async () => void (await wait(0)),
      async () => void (await until(() => temps(dir).length > 0)),
      async (/** @type {Writable} */ stream) => void (stream.write(Buffer.alloc(20 * MiB)), await wait(3)),
      async (/** @type {Writable} */ stream) => void (stream.write('x'), await wait(20)),
    ]) {
      for (const reason of [undefined, new Error('for this reason')]) {
        const stream = open(file)
        const ended = end(stream)
        await when(stream)
        stream.destroy(reason)
        assert.equal(await ended, reason)
        assertUntouched()
      }
    }
  })

  test('leaves nothing, or all, when it is destroyed while it commits', async (t) => {
    const { file, dir } = setUp(t)
    for (let round = 0; round < 30; round++) {
      const stream = open(file)
      const ended = end(stream)
      stream.end(`round ${round}`)
      await wait(round / 10)
      stream.destroy()
      await ended
      assert.match(fs.readFileSync(file, 'utf8'), /^(old|round \d+)$/)
      if (stream.writableFinished) assert.equal(fs.readFileSync(file, 'utf8'), `round ${round}`)
      assert.deepEqual(names(dir), ['file'])
    }
  })

  test('leaves nothing when its source fails, and passes the error on', async (t) => {
    const { file, assertUntouched } = setUp(t)
    async function* source() {
      yield 'half of '
      await wait(10)
      throw new RangeError('no more')
    }
    // A pipeline that fails does not wait until its streams are closed.
    const failing = open(file)
    const error = await failure(() => pipeline(Readable.from(source()), failing))
    assert.ok(error instanceof RangeError)
    await end(failing)
    assertUntouched()
    const [source2, cut] = [new PassThrough(), open(file)]
    const copying = pipeline(source2, cut)
    source2.write('half')
    await wait(10)
    source2.destroy()
    assert.equal((await failure(() => copying)).code, 'ERR_STREAM_PREMATURE_CLOSE')
    await end(cut)
    assertUntouched()
  })

  test('leaves nothing when it is aborted', async (t) => {
    const { file, assertUntouched } = setUp(t)
    const reason = new Error('changed my mind')
    for (const delay of [undefined, 0, 20]) {
      const controller = new AbortController()
      if (delay === undefined) controller.abort(reason)
      const stream = open(file, { signal: controller.signal })
      const ended = end(stream)
      stream.write('half')
      if (delay !== undefined) {
        await wait(delay)
        controller.abort(reason)
      }
      const error = await ended
      assert.deepEqual([error.name, error.code, error.cause], ['AbortError', 'ABORT_ERR', reason])
      assertUntouched()
    }
    const controller = new AbortController()
    const aborted = open(file)
    const copying = pipeline(new PassThrough(), aborted, { signal: controller.signal })
    controller.abort()
    assert.equal((await failure(() => copying)).name, 'AbortError')
    await end(aborted)
    assertUntouched()
  })

  test('an abort after the end either comes in time or has no effect', async (t) => {
    const { file, dir } = setUp(t)
    for (let round = 0; round < 40; round++) {
      fs.writeFileSync(file, 'old')
      const controller = new AbortController()
      const stream = open(file, { signal: controller.signal })
      const ended = end(stream)
      let finished = false
      stream.on('finish', () => (finished = true))
      stream.end('new')
      await wait(round / 8)
      controller.abort()
      const error = await ended
      assert.equal(fs.readFileSync(file, 'utf8'), finished ? 'new' : 'old')
      assert.equal(error?.name, finished ? undefined : 'AbortError')
      assert.deepEqual(names(dir), ['file'])
    }
  })

  test('reports why it cannot be opened, as an error event', async (t) => {
    const { dir, file } = setUp(t)
    for (const [target, code] of [['no/such/dir', 'ENOENT'], ['file/below', 'ENOTDIR'], ['x'.repeat(300), 'ENAMETOOLONG']]) {
      const stream = open(path.join(dir, String(target)))
      stream.end('x')
      const error = await end(stream)
      assert.ok(error instanceof SessionFileError, `${error}`)
      assert.deepEqual([error.code, error.operation, error.path, error.committed], [code, 'atomic write', path.join(dir, String(target)), false])
    }
    const onDir = open(dir)
    onDir.end('x')
    assert.equal((await end(onDir)).code, 'EISDIR')
    assert.equal(fs.readFileSync(file, 'utf8'), 'old')
    assert.deepEqual(names(dir), ['file'])
  })

  test('leaves nothing on a full disk', { skip: whyNot.mount() }, async (t) => {
    const { dir, filler } = fullDisk(t)
    const file = path.join(dir, 'file')
    fs.truncateSync(filler, fs.statSync(filler).size - 64 * 1024)
    fs.writeFileSync(file, 'old')
    const stream = open(file)
    const error = await failure(() => pipeline(Readable.from([Buffer.alloc(40_000), Buffer.alloc(100_000)]), stream))
    await end(stream)
    assert.deepEqual([error.code, error.syscall, error.committed], ['ENOSPC', 'write', false])
    assert.equal(fs.readFileSync(file, 'utf8'), 'old')
    assert.deepEqual(names(dir), ['file', 'filler'])
  })

  test('leaves nothing when the text is not JSON', async (t) => {
    const { file, assertUntouched } = setUp(t)
    const error = await failure(() => pipeline(Readable.from(['{"a":', '1']), open(file, { validate: 'json' })))
    assert.deepEqual([error.code, error.line, error.column], ['EBADJSON', 1, 6])
    assertUntouched()
    await pipeline(Readable.from(['{"a":', '1}']), open(file, { validate: 'json' }))
  })

  test('leaves nothing when the process ends', async (t) => {
    const { dir, file, assertUntouched } = setUp(t)
    for (const how of ['exit', 'drain', 'throw']) {
      const program = async (/** @type {any} */ { file, how }, /** @type {any} */ { holdfast }) => {
        const stream = holdfast.createAtomicWriteStream(file)
        await new Promise((resolve) => stream.write('half', resolve))
        stream.write(Buffer.alloc(8 << 20))
        if (how === 'exit') setImmediate(() => process.exit())
        if (how === 'throw') setImmediate(() => { process.exitCode = 0; process.on('uncaughtException', () => process.exit()); throw new Error() })
        return 'left open'
      }
      assert.equal(await inChild(program, { file, how }), 'left open')
      assertUntouched()
    }
    assert.deepEqual(names(dir), ['file'])
  })

  test('leaves nothing when its worker thread ends', async (t) => {
    const { file, dir, assertUntouched } = setUp(t)
    for (const delay of [0, 1, 5, 20]) {
      const worker = new Worker(`
        const { createAtomicWriteStream } = require(${JSON.stringify(root)})
        const { parentPort, workerData } = require('node:worker_threads')
        const stream = createAtomicWriteStream(workerData)
        stream.write('half', () => parentPort.postMessage('open'))
        stream.write(Buffer.alloc(30 << 20))
        setInterval(() => {}, 1000)
      `, { eval: true, workerData: file })
      await once(worker, 'message')
      await wait(delay)
      await worker.terminate()
      // The end of the thread does not wait for a pending operation that owns its memory.
      await until(() => temps(dir).length === 0)
      assertUntouched()
    }
  })
})

describe('streams and others', () => {
  test('take effect in call order with writes to the same file', async (t) => {
    const file = path.join(newDir(t), 'file')
    const stream = open(file)
    stream.write('stream')
    await atomicWrite(file, 'write')
    assert.equal(fs.readFileSync(file, 'utf8'), 'write')
    stream.end()
    await once(stream, 'finish')
    assert.equal(fs.readFileSync(file, 'utf8'), 'stream')
    // Many at once: the file is always one of them, whole.
    const texts = Array.from({ length: 20 }, (_, i) => `${i} `.repeat(5000))
    await Promise.all(texts.map((text) => pipeline(Readable.from([text.slice(0, 99), text.slice(99)]), open(file))))
    assert.ok(texts.includes(fs.readFileSync(file, 'utf8')))
    assert.deepEqual(names(path.dirname(file)), ['file'])
  })

  test('with lock: true hold the lock from the beginning to the end', async (t) => {
    const file = path.join(newDir(t), 'file.json')
    const stream = open(file, { lock: true })
    stream.write('{"n":')
    await until(() => temps(path.dirname(file)).length > 0)
    assert.equal((await isLocked(file)).locked, true)
    const update = updateJsonFile(file, (data) => void (data.n += 1))
    stream.end('1}')
    await update
    assert.deepEqual(JSON.parse(fs.readFileSync(file, 'utf8')), { n: 2 })
    assert.equal((await isLocked(file)).locked, false)
    for (const destroyed of [true, false]) {
      const other = open(file, { lock: true, validate: 'json' })
      other.write('{')
      await until(() => temps(path.dirname(file)).length > 0)
      if (destroyed) other.destroy()
      else other.end()
      await end(other)
      assert.equal((await isLocked(file)).locked, false)
    }
  })

  test('wait for the lock, and can be destroyed and aborted meanwhile', async (t) => {
    const file = path.join(newDir(t), 'file')
    const lock = await acquireLock(file)
    const controller = new AbortController()
    const aborted = open(file, { lock: true, signal: controller.signal })
    const destroyed = open(file, { lock: true })
    const waiting = open(file, { lock: true })
    for (const stream of [aborted, destroyed, waiting]) stream.end('x')
    const ends = [end(aborted), end(destroyed)]
    await wait(20)
    controller.abort()
    destroyed.destroy()
    assert.deepEqual((await Promise.all(ends)).map((error) => error?.name), ['AbortError', undefined])
    assert.deepEqual(temps(path.dirname(file)), [])
    assert.equal(fs.existsSync(file), false)
    await lock.release()
    await once(waiting, 'finish')
    assert.equal(fs.readFileSync(file, 'utf8'), 'x')
  })

  test('work under the lock that the caller holds', async (t) => {
    const file = path.join(newDir(t), 'file.json')
    await withLock(file, async () => {
      await pipeline(Readable.from(['{"n":', '1}']), open(file, { lock: true }))
      const stream = open(file, { lock: true })
      stream.write('{"n":5')
      await updateJsonFile(file, (data) => void (data.n += 1))
      assert.equal(fs.readFileSync(file, 'utf8'), '{"n":2}')
      stream.end('}')
      await once(stream, 'finish')
      assert.equal((await isLocked(file)).locked, true)
    })
    assert.equal(fs.readFileSync(file, 'utf8'), '{"n":5}')
    // A stream that outlives the lock acquires it itself for its commit.
    /** @type {Writable | undefined} */
    let late
    await withLock(file, () => {
      late = open(file, { lock: true })
      late.write('{')
      return until(() => temps(path.dirname(file)).length > 0)
    })
    assert.equal((await isLocked(file)).locked, false)
    late?.end('}')
    if (late) await once(late, 'finish')
    assert.equal((await isLocked(file)).locked, false)
    // In an update it would be overwritten by the update.
    await updateJsonFile(file, async () => {
      const stream = open(file, { lock: true })
      stream.end('{}')
      assert.equal((await end(stream)).code, 'EDEADLK')
    })
  })

  test('keep their async context', async (t) => {
    const file = path.join(newDir(t), 'file')
    const storage = new AsyncLocalStorage()
    const { logger, entries } = collector()
    const seen = new Set()
    const watching = { ...logger, debug: (/** @type {object} */ fields, /** @type {string} */ message) => (seen.add(storage.getStore()), logger.debug(fields, message)) }
    const stream = storage.run('mine', () => open(file, { logger: watching }))
    stream.end('x')
    await once(stream, 'close')
    assert.deepEqual([...seen], ['mine'])
    assert.equal(entries.length, 4)
  })
})
