'use strict'

// The forms of data that atomicWrite takes, as fs.writeFile does.

const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { getEventListeners, once } = require('node:events')
const { Readable, PassThrough } = require('node:stream')
const { describe, test } = require('node:test')
const vm = require('node:vm')
const { collector, failure, fullDisk, holdfast, inChild, names, newDir, whyNot } = require('./helpers.js')

const { atomicWrite, atomicWriteSync, createAtomicWriteStream, isLocked, transaction, withLock } = holdfast

const withoutLocks = (dir) => names(dir).filter((name) => !name.endsWith('.lock'))

/** Each makes a new source of the same content. */
const sources = {
  array: () => ['é', Buffer.from('bc'), new Uint16Array([0x6564]), new DataView(new ArrayBuffer(1))],
  set: () => new Set(['é', Buffer.from('bcde\0')]),
  generator: function* () { yield 'é'; yield ''; yield Buffer.alloc(0); yield Buffer.from('bcde\0') },
  'iterable of promises': () => [Promise.resolve('é'), Promise.resolve(Buffer.from('bcde\0'))],
  'async generator': async function* () { yield 'é'; await null; yield Buffer.from('bcde\0') },
  'async iterable': () => ({ [Symbol.asyncIterator]: () => sources['async generator']() }),
  Readable: () => Readable.from(['é', Buffer.from('bcde\0')]),
  'Readable of bytes': () => Readable.from([Buffer.from('ébcde\0')], { objectMode: false }),
  'web ReadableStream': () => Readable.toWeb(Readable.from([Buffer.from('ébcde\0')], { objectMode: false })),
  Blob: () => new Blob(['é', 'bcde\0']),
  'generator of another realm': () => vm.runInNewContext(`(function* () { yield 'é'; yield new Uint8Array([98, 99, 100, 101, 0]) })()`),
}

describe('atomicWrite', () => {
  for (const [kind, make] of Object.entries(sources)) {
    test(`writes what comes from: ${kind}`, async (t) => {
      const dir = newDir(t)
      const file = path.join(dir, 'file')
      for (const options of [undefined, { lock: true }, { durability: 'none', mode: 0o600, validate: undefined }]) {
        await atomicWrite(file, make(), options)
        assert.equal(fs.readFileSync(file, 'utf8'), 'ébcde\0')
      }
      if (!/promises|another realm/.test(kind)) {
        await fs.promises.writeFile(path.join(dir, 'theirs'), kind === 'Blob' ? make().stream() : make())
        assert.deepEqual(fs.readFileSync(path.join(dir, 'theirs')), fs.readFileSync(file))
      }
      assert.equal((await failure(() => atomicWrite(file, make(), { createOnly: true }))).code, 'EEXIST')
      assert.equal(fs.readFileSync(file, 'utf8'), 'ébcde\0')
    })
  }

  test('an encoding is that of the strings, as an option or in its place', async (t) => {
    const file = path.join(newDir(t), 'file')
    await atomicWrite(file, ['é', Buffer.from('é')], { encoding: 'latin1' })
    assert.deepEqual(fs.readFileSync(file), Buffer.from('e9c3a9', 'hex'))
    await atomicWrite(file, ['e9', 'ff'], 'hex')
    assert.deepEqual(fs.readFileSync(file), Buffer.from('e9ff', 'hex'))
    await atomicWrite(file, 'é', 'latin1')
    assert.deepEqual(fs.readFileSync(file), Buffer.from([0xe9]))
    atomicWriteSync(file, 'éé', 'latin1')
    assert.deepEqual(fs.readFileSync(file), Buffer.from([0xe9, 0xe9]))
    await holdfast.createHoldfast({ durability: 'none' }).atomicWrite(file, 'é', 'latin1')
    assert.deepEqual(fs.readFileSync(file), Buffer.from([0xe9]))
    const stream = createAtomicWriteStream(file, 'latin1')
    stream.end('ééé')
    await once(stream, 'close')
    assert.deepEqual(fs.readFileSync(file), Buffer.from([0xe9, 0xe9, 0xe9]))
    await transaction([file], (tx) => tx.write(file, 'é', 'latin1'))
    assert.deepEqual(fs.readFileSync(file), Buffer.from([0xe9]))
  })

  test('an error of the source is the error of the call, and nothing is left', async (t) => {
    const dir = newDir(t)
    const file = path.join(dir, 'file')
    fs.writeFileSync(file, 'old')
    const error = new Error('the source fails')
    for (const source of [
      (function* () { throw error })(),
      (function* () { yield 'a'; throw error })(),
      (async function* () { yield Buffer.alloc(1 << 20); throw error })(),
      (function* () { yield Promise.reject(error) })(),
      Readable.from((async function* () { yield 'a'; throw error })()),
      new Readable({ read() { this.destroy(error) } }),
      new ReadableStream({ pull(controller) { controller.error(error) } }),
      { [Symbol.iterator]() { throw error } },
      { [Symbol.asyncIterator]: () => ({ next: () => { throw error } }) },
    ]) {
      assert.equal(await failure(() => atomicWrite(file, source, { lock: true })), error)
      assert.deepEqual([withoutLocks(dir), fs.readFileSync(file, 'utf8'), (await isLocked(file)).locked], [['file'], 'old', false])
    }
    // It fails before it is read.
    const missing = fs.createReadStream(path.join(dir, 'missing'))
    const closed = new Promise((resolve) => missing.on('close', resolve))
    assert.equal((await failure(() => atomicWrite(file, missing, { onTempFile: () => closed }))).code, 'ENOENT')
    assert.deepEqual([withoutLocks(dir), fs.readFileSync(file, 'utf8')], [['file'], 'old'])
  })

  test('a piece that is neither text nor bytes is refused by name, and nothing is left', async (t) => {
    const dir = newDir(t)
    const file = path.join(dir, 'file')
    for (const piece of [1, null, {}, ['a'], new ArrayBuffer(1), Symbol('piece')]) {
      const error = await failure(() => atomicWrite(file, ['a', piece]))
      assert.deepEqual([error.name, error.code], ['TypeError', 'ERR_INVALID_ARG_TYPE'])
      assert.match(error.message, /"data"/)
    }
    const gone = new Uint8Array(8)
    structuredClone(gone.buffer, { transfer: [gone.buffer] })
    assert.equal((await failure(() => atomicWrite(file, [gone]))).code, 'ERR_INVALID_ARG_VALUE')
    assert.deepEqual(names(dir), [])
  })

  test('stops a source when the write fails, and when it is aborted, also one that never goes on', async (t) => {
    const dir = newDir(t)
    const file = path.join(dir, 'file')
    const never = () => new Promise(() => {})
    const hanging = {
      generator: () => ({ source: (async function* () { yield 'a'; await never() })(), isStopped: () => true }),
      Readable: () => {
        const source = new PassThrough()
        source.write('a')
        return { source, isStopped: () => source.destroyed }
      },
      ReadableStream: () => {
        let stopped = false
        return { source: new ReadableStream({ start: (controller) => controller.enqueue(Buffer.from('a')), pull: never, cancel() { stopped = true } }), isStopped: () => stopped }
      },
      iterator: () => {
        let stopped = false
        return { source: { [Symbol.asyncIterator]: () => ({ next: never, return() { stopped = true } }) }, isStopped: () => stopped }
      },
    }
    for (const [kind, make] of Object.entries(hanging)) {
      const controller = new AbortController()
      const { source, isStopped } = make()
      const writing = failure(() => atomicWrite(file, source, { signal: controller.signal, onTempFile: () => { setImmediate(() => controller.abort()) } }))
      const error = await writing
      assert.equal(error.name, 'AbortError', `${kind}: ${error.stack}`)
      await new Promise((resolve) => setImmediate(resolve))
      assert.ok(isStopped(), kind)
      assert.deepEqual(names(dir), [])
      const refused = make()
      assert.equal((await failure(() => atomicWrite(path.join(dir, 'missing', 'file'), refused.source))).code, 'ENOENT')
      await new Promise((resolve) => setImmediate(resolve))
      assert.ok(refused.isStopped(), kind)
    }
    const source = new PassThrough()
    assert.equal((await failure(() => atomicWrite(file, source, { signal: AbortSignal.abort() }))).name, 'AbortError')
    assert.ok(source.destroyed)
  })

  test('a source may use its memory again for the next piece', async (t) => {
    const file = path.join(newDir(t), 'file')
    for (const size of [10, 100_000, 1 << 20]) {
      const memory = Buffer.alloc(size)
      await atomicWrite(file, (function* () { for (let i = 1; i <= 8; i++) yield memory.fill(i) })(), { durability: 'none' })
      const found = fs.readFileSync(file)
      assert.equal(found.length, 8 * size)
      for (let i = 0; i < 8; i++) assert.ok(found.subarray(i * size, (i + 1) * size).every((byte) => byte === i + 1), `${size}, ${i}`)
    }
  })

  test('never has more than a little of the content in memory', async (t) => {
    const { most, size } = await inChild(
      async ({ file }, { holdfast, fs }) => {
        let most = 0
        const before = process.memoryUsage().rss
        await holdfast.atomicWrite(file, (async function* () {
          for (let i = 0; i < 3000; i++) {
            most = Math.max(most, process.memoryUsage().rss - before)
            yield Buffer.alloc(i % 2 ? 100_000 : 30_000, i)
          }
        })(), { durability: 'none' })
        return { most, size: fs.statSync(file).size }
      },
      { file: path.join(newDir(t), 'file') },
    )
    assert.equal(size, 195_000_000)
    assert.ok(most < size / 2, `${most} bytes more`)
  })

  test('is tried again until the first piece is read, and not from then on', { skip: whyNot.mount() }, async (t) => {
    const { dir, filler } = fullDisk(t)
    const { entries, logger } = collector()
    const error = await failure(() => atomicWrite(path.join(dir, 'file'), [Buffer.alloc(200_000)], { retries: 3, retryDelay: 1, logger }))
    assert.deepEqual([error.code, error.attempts], ['ENOSPC', 1])
    assert.equal(entries.filter(({ message }) => message.startsWith('Retrying')).length, 0)
    assert.deepEqual(names(dir), ['filler'])
    fs.rmSync(filler)
    await atomicWrite(path.join(dir, 'file'), [Buffer.alloc(200_000)])
  })

  test('a source may read the file that it replaces, and use its lock', async (t) => {
    const file = path.join(newDir(t), 'file')
    fs.writeFileSync(file, 'old')
    await withLock(file, () => atomicWrite(file, (async function* () {
      yield await fs.promises.readFile(file)
      yield* fs.createReadStream(file)
      yield ' and new'
    })(), { lock: true }))
    assert.equal(fs.readFileSync(file, 'utf8'), 'oldold and new')
  })

  test('is traced once, and logged as other writes', async (t) => {
    const file = path.join(newDir(t), 'file')
    const { entries, logger } = collector()
    const { tracingChannel } = require('node:diagnostics_channel')
    const seen = []
    const start = ({ path: target, operation }) => seen.push([operation, target])
    const channel = tracingChannel('holdfast:write')
    channel.start.subscribe(start)
    t.after(() => channel.start.unsubscribe(start))
    await atomicWrite(file, ['a', 'b'], { logger })
    assert.deepEqual(seen, [['atomic write', file]])
    assert.equal(entries.at(-1).message, 'Atomic write completed successfully')
    assert.equal(entries.at(-1).fields.size, 2)
  })

  test('leaves no listeners on a signal or a source', async (t) => {
    const file = path.join(newDir(t), 'file')
    const controller = new AbortController()
    for (let i = 0; i < 20; i++) await atomicWrite(file, ['a'], { signal: controller.signal, durability: 'none' })
    assert.equal(getEventListeners(controller.signal, 'abort').length, 0)
  })
})
