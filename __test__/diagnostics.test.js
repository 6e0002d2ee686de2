'use strict'

// What is published on node:diagnostics_channel.

const assert = require('node:assert/strict')
const { AsyncLocalStorage } = require('node:async_hooks')
const diagnostics = require('node:diagnostics_channel')
const fs = require('node:fs')
const path = require('node:path')
const { afterEach, describe, test } = require('node:test')
const { setImmediate } = require('node:timers/promises')
const native = require('../lib/native/load.js')
const { failure, fullDisk, holdfast, inChild, newFile, newDir, whyNot } = require('./helpers.js')

const {
  AtomicOperations, LockManager, acquireLock, atomicWrite, atomicWriteJson, atomicWriteSync, createAtomicWriteStream, createBackup, createHoldfast, openWal, restoreBackup,
  transaction, tryAcquireLock, updateJsonFile, updateJsonFileSync, withLock,
} = holdfast

/** @type {(() => void)[]} */
const undo = []
afterEach(() => {
  for (const each of undo.splice(0)) each()
})

const EVENTS = /** @type {const} */ (['start', 'end', 'asyncStart', 'asyncEnd', 'error'])

/** Subscribes to a tracing channel, and keeps what it tells. @param {string} name */
function trace(name) {
  /** @type {{ event: string, context: any, error: unknown }[]} */
  const told = []
  const channel = diagnostics.tracingChannel(name)
  const subscribers = /** @type {any} */ (Object.fromEntries(
    EVENTS.map((event) => [event, (/** @type {any} */ context) => void told.push({ event, context, error: context.error })]),
  ))
  channel.subscribe(subscribers)
  undo.push(() => channel.unsubscribe(subscribers))
  return { told, events: () => told.map(({ event }) => event) }
}

/** Subscribes to a channel, and keeps what it tells. @param {string} name */
function listen(name) {
  /** @type {any[]} */
  const told = []
  const listener = (/** @type {unknown} */ message) => void told.push(message)
  diagnostics.subscribe(name, listener)
  undo.push(() => diagnostics.unsubscribe(name, listener))
  return told
}

const SUCCESS = ['start', 'end', 'asyncStart', 'asyncEnd']
const FAILURE = ['start', 'end', 'error', 'asyncStart', 'asyncEnd']

describe('tracing writes', () => {
  for (const [name, write, size] of /** @type {const} */ ([['atomicWrite', atomicWrite, 5], ['atomicWriteJson', atomicWriteJson, 7]])) {
    test(`${name}: one context, in the order of tracePromise`, async (t) => {
      const file = newFile(t)
      const { told, events } = trace('holdfast:write')
      const writing = write(file, 'bytes', { durability: 'none' })
      assert.deepEqual(events(), ['start', 'end'], 'they come with the call')
      await writing
      assert.deepEqual(events(), SUCCESS)
      assert.equal(new Set(told.map(({ context }) => context)).size, 1)
      assert.deepEqual(told[0]?.context, { operation: 'atomic write', path: file, size, durability: 'none', result: undefined })
      await write(file, 'bytes')
      assert.equal(told.at(-1)?.context.durability, 'full')
    })

    test(`${name} that fails: the error is that of the caller, with the caller's stack`, async (t) => {
      const file = path.join(newFile(t), 'no', 'dir')
      const { told, events } = trace('holdfast:write')
      async function theCaller() {
        await write(file, 'bytes')
      }
      const error = await failure(theCaller)
      assert.deepEqual(events(), FAILURE)
      assert.equal(told[2]?.error, error)
      assert.ok(error instanceof holdfast.SessionFileError)
      assert.equal(error.code, 'ENOENT')
      assert.match(error.stack, /theCaller/)
    })
  }

  test('atomicWriteSync: start and end, and error in between', async (t) => {
    const file = newFile(t)
    const { told, events } = trace('holdfast:write')
    atomicWriteSync(file, 'bytes', { durability: 'file' })
    assert.deepEqual(events(), ['start', 'end'])
    assert.deepEqual(told[0]?.context, { operation: 'atomic write', path: file, size: 5, durability: 'file', result: undefined })
    function theCaller() {
      atomicWriteSync(path.join(file, 'no'), 'bytes')
    }
    const error = await failure(theCaller)
    assert.deepEqual(events().slice(2), ['start', 'error', 'end'])
    assert.equal(told[3]?.error, error)
    assert.match(error.stack, /theCaller/)
  })

  test('createAtomicWriteStream: from the call until the file is replaced', async (t) => {
    const file = newFile(t)
    const storage = new AsyncLocalStorage()
    const { start, asyncEnd } = diagnostics.tracingChannel('holdfast:write')
    const { told, events } = trace('holdfast:write')
    start.bindStore(storage, () => 'span')
    undo.push(() => start.unbindStore(storage))
    const content = await new Promise((resolve) => {
      const look = () => resolve([fs.readFileSync(file, 'utf8'), storage.getStore()])
      asyncEnd.subscribe(look)
      undo.push(() => asyncEnd.unsubscribe(look))
      const stream = createAtomicWriteStream(file, { durability: 'file' })
      assert.deepEqual(events(), ['start', 'end'], 'they come with the call')
      assert.deepEqual(told[0]?.context, { operation: 'atomic write', path: file, size: 0, durability: 'file' })
      stream.write('by')
      stream.end('tes')
    })
    assert.deepEqual(content, ['bytes', 'span'])
    assert.deepEqual(events(), SUCCESS)
    assert.equal(new Set(told.map(({ context }) => context)).size, 1)
    assert.equal(told[0]?.context.size, 5)
  })

  test('createAtomicWriteStream that fails or is destroyed: the error is that of the stream', async (t) => {
    const file = newFile(t)
    const { told, events } = trace('holdfast:write')
    /** Until it is over: what it has failed with, if anything. @param {import('node:stream').Writable} stream */
    const over = (stream) => new Promise((resolve) => {
      /** @type {any} */
      let failed
      stream.once('error', (error) => (failed = error)).once('close', () => resolve(failed))
    })
    const error = await over(createAtomicWriteStream(path.join(file, 'no', 'dir')).end('bytes'))
    assert.deepEqual(events(), FAILURE)
    assert.equal(told[2]?.error, error)
    assert.equal(error.code, 'ENOENT')
    for (const why of [undefined, new Error('why')]) {
      told.length = 0
      const stream = createAtomicWriteStream(file)
      stream.write('bytes')
      assert.equal(await over(stream.destroy(why)), why)
      assert.deepEqual(events(), FAILURE)
      if (why) assert.equal(told[2]?.error, why)
      else assert.equal(/** @type {Error} */ (told[2]?.error).name, 'AbortError')
    }
    // The promise of a trace needs no handler.
    await setImmediate()
    assert.deepEqual(fs.readdirSync(path.dirname(file)), [])
  })

  test('wrong arguments are not traced', async (t) => {
    const { told } = trace('holdfast:write')
    await failure(() => atomicWrite(newFile(t), 1))
    await failure(() => atomicWriteSync('', 'x'))
    assert.deepEqual(told, [])
  })

  test('a store that is bound to the start is there until the end', async (t) => {
    const storage = new AsyncLocalStorage()
    const { start, asyncEnd } = diagnostics.tracingChannel('holdfast:update')
    start.bindStore(storage, () => 'span')
    undo.push(() => void start.unbindStore(storage))
    /** @type {unknown[]} */
    const seen = []
    const listener = () => void seen.push(storage.getStore())
    asyncEnd.subscribe(listener)
    undo.push(() => void asyncEnd.unsubscribe(listener))
    await updateJsonFile(newFile(t), () => void seen.push(storage.getStore()), { defaultValue: {} })
    assert.deepEqual(seen, ['span', 'span'])
    assert.equal(storage.getStore(), undefined)
  })
})

describe('tracing updates', () => {
  for (const [name, update] of /** @type {const} */ ([['updateJsonFile', updateJsonFile], ['AtomicOperations.updateJsonFile', AtomicOperations.updateJsonFile]])) {
    test(`${name}: each call, and not what is in the file`, async (t) => {
      const file = newFile(t)
      const { told, events } = trace('holdfast:update')
      const value = await update(file, (data) => void data.n++, { defaultValue: { n: 0 }, durability: 'none' })
      assert.deepEqual(value, { n: 1 })
      assert.deepEqual(events(), SUCCESS)
      assert.deepEqual(told[0]?.context, { operation: 'update JSON', path: file, durability: 'none', result: undefined })
      await Promise.all([1, 2, 3].map(() => update(file, (data) => void data.n++)))
      assert.equal(told.length, 16)
    })

    test(`${name}: what the function throws`, async (t) => {
      const { told, events } = trace('holdfast:update')
      const mine = new Error('mine')
      const error = await failure(() => update(newFile(t), () => { throw mine }, { defaultValue: {}, retries: 1 }))
      assert.deepEqual(events(), FAILURE)
      assert.equal(told[2]?.error, error)
    })
  }
})

describe('tracing locks', () => {
  test('the wait, the lock, and its return', async (t) => {
    const file = newFile(t)
    const { told, events } = trace('holdfast:lock')
    const acquired = listen('holdfast:lock:acquired')
    const released = listen('holdfast:lock:released')
    await withLock(file, () => {
      assert.deepEqual(events(), SUCCESS)
      assert.equal(acquired.length, 1)
      assert.equal(released.length, 0)
    })
    assert.deepEqual(told[0]?.context, { operation: 'lock', path: file, kind: 'write', result: undefined })
    const lock = await acquireLock(file, { kind: 'read' })
    await lock.release()
    await lock.release()
    assert.equal(told.at(-1)?.context.kind, 'read')
    assert.deepEqual(acquired.map(({ path, kind }) => [path, kind]), [[file, 'write'], [file, 'read']])
    assert.deepEqual(released.map(({ path, kind }) => [path, kind]), [[file, 'write'], [file, 'read']])
    for (const { waited } of acquired) assert.ok(waited >= 0)
    for (const { held } of released) assert.ok(held >= 0)
  })

  test('the proper-lockfile protocol is traced too', async (t) => {
    const file = newFile(t)
    const { events } = trace('holdfast:lock')
    const acquired = listen('holdfast:lock:acquired')
    const released = listen('holdfast:lock:released')
    await withLock(file, () => {}, { protocol: 'proper-lockfile' })
    assert.deepEqual([events(), acquired.length, released.length], [SUCCESS, 1, 1])
  })

  test('a lock that is not had is an error', async (t) => {
    const file = newFile(t)
    const lock = await acquireLock(file)
    const { told, events } = trace('holdfast:lock')
    const acquired = listen('holdfast:lock:acquired')
    assert.equal(await tryAcquireLock(file), null)
    const error = await failure(() => acquireLock(file, { timeout: 5 }))
    assert.deepEqual(events(), [...FAILURE, ...FAILURE])
    assert.equal(/** @type {any} */ (told[2]?.error).code, 'ELOCKED')
    assert.equal(told[7]?.error, error)
    assert.deepEqual(acquired, [])
    await lock.release()
  })

  test('each channel by itself', async (t) => {
    const file = newFile(t)
    const earlier = await acquireLock(`${file}-earlier`)
    const released = listen('holdfast:lock:released')
    await withLock(file, () => {})
    await earlier.release()
    assert.deepEqual(released.map(({ path }) => path), [file], 'there was no subscriber when the other was acquired')
  })
})

describe('tracing the other operations', () => {
  for (const protocol of /** @type {const} */ (['kernel', 'proper-lockfile'])) {
    test(`LockManager (${protocol}): its locks, and what it does not get`, async (t) => {
      const dir = newDir(t)
      const { told, events } = trace('holdfast:lock')
      const acquired = listen('holdfast:lock:acquired')
      const released = listen('holdfast:lock:released')
      const manager = new LockManager()
      const write = await manager.acquireWriteLock(dir, { protocol })
      assert.deepEqual(events(), SUCCESS)
      assert.deepEqual(told[0]?.context, { operation: 'lock', path: dir, kind: 'write', result: undefined })
      const read = await manager.acquireReadLock(dir, { protocol })
      assert.equal(await new LockManager().tryAcquireWriteLock(dir, { protocol }), null)
      assert.deepEqual(events().slice(4), FAILURE)
      const error = /** @type {any} */ (told.at(-1)?.error)
      assert.ok(error instanceof holdfast.SessionFileError)
      assert.deepEqual([error.code, error.path], ['ELOCKED', dir])
      assert.equal(await failure(() => new LockManager().acquireWriteLock(dir, { protocol, retries: 0 })), told.at(-1)?.error)
      await write.release()
      assert.deepEqual(released, [], 'a reader still uses it')
      await read.release()
      assert.deepEqual([acquired, released].map((all) => all.map(({ path, kind }) => [path, kind])), [[[dir, 'write']], [[dir, 'write']]])
    })
  }

  test('backups', async (t) => {
    const file = newFile(t)
    await atomicWrite(file, 'bytes')
    const { told, events } = trace('holdfast:backup')
    const backup = await createBackup(file, { durability: 'none' })
    await restoreBackup(backup, file)
    assert.deepEqual(events(), [...SUCCESS, ...SUCCESS])
    assert.deepEqual(told[0]?.context, { operation: 'create backup', path: file, durability: 'none', result: undefined })
    assert.deepEqual(told[4]?.context, { operation: 'restore backup', path: file, backup, durability: 'full', result: undefined })
    for (const call of [() => createBackup(`${file}-missing`), () => restoreBackup(`${file}-missing`, file)]) {
      told.length = 0
      const error = await failure(call)
      assert.deepEqual(events(), FAILURE)
      assert.equal(told[2]?.error, error)
    }
    told.length = 0
    await failure(() => createBackup(file, /** @type {any} */ ({ keep: 0 })))
    assert.deepEqual(told, [])
  })

  test('transactions', async (t) => {
    const dir = newDir(t)
    const paths = ['one', 'two'].map((name) => path.join(dir, name))
    const { told, events } = trace('holdfast:transaction')
    await transaction(paths, (tx) => tx.write(/** @type {string} */ (paths[0]), 'bytes'))
    assert.deepEqual(events(), SUCCESS)
    assert.deepEqual(told[0]?.context, { operation: 'transaction', paths, durability: 'full', result: undefined })
    const own = new Error('own')
    const thrown = await failure(() => transaction(paths, () => {
      throw own
    }, { durability: 'none' }))
    assert.deepEqual(events().slice(4), FAILURE)
    assert.deepEqual([thrown, told.at(-1)?.error, told.at(-1)?.context.durability], [own, own, 'none'])
  })

  test('write-ahead logs, and not what is in them', async (t) => {
    const dir = path.join(newDir(t), 'log')
    const { told } = trace('holdfast:wal')
    const wal = await openWal(dir)
    const entry = /** @type {const} */ ({ id: 'id', op: 'insert', payload: 'secret' })
    await wal.append('one', [entry, entry])
    await wal.writeBatch([{ collection: 'one', ...entry }, { collection: 'two', ...entry }])
    await wal.flush('one')
    await wal.checkpoint('one', 1n)
    const error = await failure(() => wal.append('../one', [entry]))
    await wal.close()
    const closed = await failure(() => wal.append('one', [entry]))
    const of = (/** @type {string} */ wanted) => told.filter(({ event }) => event === wanted).map(({ context: { result, error, ...about } }) => about)
    const calls = [
      { operation: 'open wal', dir },
      { operation: 'wal append', dir, collections: ['one'], entries: 2 },
      { operation: 'wal append', dir, collections: ['one', 'two'], entries: 2 },
      { operation: 'wal flush', dir, collections: ['one'] },
      { operation: 'wal checkpoint', dir, collections: ['one'] },
      { operation: 'wal append', dir, collections: ['../one'], entries: 1 },
      { operation: 'wal close', dir },
      { operation: 'wal append', dir, collections: ['one'], entries: 1 },
    ]
    for (const event of ['start', 'end', 'asyncStart', 'asyncEnd']) assert.deepEqual(of(event), calls)
    assert.deepEqual(told.filter(({ event }) => event === 'error').map(({ error }) => error), [error, closed])
    assert.ok(!JSON.stringify(told).includes('secret'))
    const other = await openWal(dir)
    assert.equal(await failure(() => openWal(dir, { timeout: 0 })), told.at(-1)?.error)
    await other.close()
  })
})

describe('steps of writes', () => {
  test('as they are logged, in the context of their call', async (t) => {
    const file = newFile(t)
    const storage = new AsyncLocalStorage()
    /** @type {[any, unknown][]} */
    const told = []
    const listener = (/** @type {unknown} */ message) => void told.push([message, storage.getStore()])
    diagnostics.subscribe('holdfast:write:step', listener)
    undo.push(() => diagnostics.unsubscribe('holdfast:write:step', listener))
    await storage.run('mine', () => atomicWrite(file, 'bytes'))
    assert.deepEqual(told.map(([{ step }]) => step), ['starting', 'written', 'renamed', 'completed'])
    for (const [{ path }, store] of told) assert.deepEqual([path, store], [file, 'mine'])
    const [{ tempPath, size }] = told[0] ?? []
    assert.equal(size, 5)
    assert.match(tempPath, /\.file\.[0-9a-f]{16}\.tmp$/)
    assert.ok(told[3]?.[0].duration > 0)
    told.length = 0
    atomicWriteSync(file, 'bytes')
    await createBackup(file)
    assert.equal(told.filter(([{ step }]) => step === 'completed').length, 2)
    told.length = 0
    await Promise.all(Array.from({ length: 50 }, (_, i) => atomicWrite(file, `${i}`, { durability: 'none' })))
    const count = (/** @type {string} */ name) => told.filter(([{ step }]) => step === name).length
    assert.equal(count('completed') + count('merged'), 50)
  })

  test('retries, with their delays, beside a logger', { skip: whyNot.mount() }, async (t) => {
    const { dir } = fullDisk(t)
    const steps = listen('holdfast:write:step')
    /** @type {string[]} */
    const logged = []
    const log = (/** @type {unknown} */ _, /** @type {string} */ message) => void logged.push(message)
    const options = { retries: 3, retryDelay: 2, logger: { debug: log, warn: log, error: log } }
    await failure(() => atomicWrite(path.join(dir, 'file'), 'n'.repeat(512 << 10), options))
    const retries = steps.filter(({ step }) => step === 'retrying').map(({ attempt, delay, code, duration }) => ({ attempt, delay, code, duration }))
    assert.deepEqual(retries, [
      { attempt: 2, delay: 2, code: 'ENOSPC', duration: undefined }, { attempt: 3, delay: 4, code: 'ENOSPC', duration: undefined },
    ])
    assert.equal(steps.length, logged.length)
  })
})

test('the native side reports no events without subscribers', async (t) => {
  const file = newFile(t)
  /** @type {boolean[]} */
  const observed = []
  const original = /** @type {any} */ (native.Port.prototype.write)
  t.mock.method(native.Port.prototype, 'write', /** @this {any} */ function (/** @type {any[]} */ ...args) {
    observed.push(args[4])
    return original.apply(this, args)
  })
  await atomicWrite(file, '1')
  trace('holdfast:write')
  listen('holdfast:lock:acquired')
  await atomicWrite(file, '2')
  const steps = listen('holdfast:write:step')
  await atomicWrite(file, '3')
  undo.splice(0).forEach((each) => each())
  await atomicWrite(file, '4')
  assert.deepEqual(observed, [false, false, true, false])
  assert.equal(steps.length, 4)
})

test('a subscriber that throws does not disturb the work; Node reports what it throws', async (t) => {
  const file = newFile(t)
  const told = await inChild(async ({ file }, { holdfast, fs }) => {
    const diagnostics = require('node:diagnostics_channel')
    /** @type {string[]} */
    const uncaught = []
    process.on('uncaughtException', (error) => uncaught.push(error.message))
    const fail = (/** @type {string} */ name) => () => {
      throw new Error(name)
    }
    for (const name of ['write', 'update', 'lock']) {
      const events = Object.fromEntries(['start', 'end', 'asyncStart', 'asyncEnd', 'error'].map((event) => [event, fail(`${name} ${event}`)]))
      diagnostics.tracingChannel(`holdfast:${name}`).subscribe(events)
    }
    for (const name of ['write:step', 'lock:acquired', 'lock:released']) diagnostics.subscribe(`holdfast:${name}`, fail(name))
    await holdfast.atomicWrite(file, 'text')
    const text = fs.readFileSync(file, 'utf8')
    holdfast.atomicWriteSync(file, '{"n":1}')
    const value = await holdfast.updateJsonFile(file, (/** @type {any} */ data) => void data.n++)
    const result = await holdfast.withLock(file, () => 'result')
    const { code } = await holdfast.atomicWrite(`${file}/no`, '').catch((/** @type {any} */ error) => error)
    await new Promise((resolve) => setImmediate(resolve))
    return { text, value, result, code, uncaught: [...new Set(uncaught)].sort() }
  }, { file })
  const { uncaught, ...rest } = told
  assert.deepEqual(rest, { text: 'text', value: { n: 2 }, result: 'result', code: 'ENOTDIR' })
  const four = (/** @type {string} */ name) => ['asyncEnd', 'asyncStart', 'end', 'start'].map((event) => `${name} ${event}`)
  assert.deepEqual(uncaught, [
    'lock:acquired', 'lock:released', ...four('lock'), ...four('update'), ...four('write'), 'write error', 'write:step',
  ].sort())
})

describe('holdfast/diagnostics', () => {
  const { channels } = require('../diagnostics.js')

  test('has every channel by its name', async () => {
    const tracing = Object.entries(channels).flatMap(([name, channel]) => 'asyncEnd' in channel ? [[name, String(channel.asyncEnd.name)]] : [])
    assert.deepEqual(tracing, ['write', 'update', 'lock', 'backup', 'transaction', 'wal'].map((name) => [name, `tracing:holdfast:${name}:asyncEnd`]))
    assert.deepEqual([channels.writeStep.name, channels.lockAcquired.name, channels.lockReleased.name], ['holdfast:write:step', 'holdfast:lock:acquired', 'holdfast:lock:released'])
    assert.equal((await import('../diagnostics.mjs')).channels, channels)
    assert.ok(Object.isFrozen(channels))
  })

  test('subscribers are called, and after unsubscribe no more', async (t) => {
    const file = newFile(t)
    /** @type {any[]} */
    const seen = []
    const subscribers = { asyncEnd: (/** @type {any} */ context) => void seen.push(context.path) }
    channels.write.subscribe(subscribers)
    await atomicWrite(file, 'new')
    channels.write.unsubscribe(subscribers)
    await atomicWrite(file, 'newer')
    assert.deepEqual(seen, [file])
  })
})

test('holdfast/diagnostics refuses an event that there is none of, and what is no function', () => {
  const { channels } = require('../diagnostics.js')
  assert.throws(() => channels.write.subscribe(/** @type {any} */ ({ asyncend() {} })), { name: 'TypeError', message: /asyncend/ })
  assert.throws(() => channels.lock.subscribe(/** @type {any} */ ({ start: 1 })), { name: 'TypeError', message: /start/ })
  assert.throws(() => channels.lock.subscribe(/** @type {any} */ (undefined)), { name: 'TypeError', message: /handlers/ })
  assert.equal(channels.write.hasSubscribers, false)
})

describe('within the trace of an update', () => {
  const NAMES = /** @type {const} */ (['update', 'lock', 'write'])

  /** Tells all events in their order, and in which update each came. @param {() => Promise<unknown>} run */
  async function told(run) {
    const { channels } = require('../diagnostics.js')
    /** @type {any[]} */
    const events = []
    const storage = new AsyncLocalStorage()
    channels.update.start.bindStore(storage, (context) => context)
    undo.push(() => void channels.update.start.unbindStore(storage))
    for (const name of NAMES) {
      const subscribers = /** @type {any} */ (Object.fromEntries(EVENTS.map((event) => [event, (/** @type {any} */ context) => {
        events.push({ what: `${name} ${event}`, context, within: storage.getStore() })
      }])))
      channels[name].subscribe(subscribers)
      undo.push(() => void channels[name].unsubscribe(subscribers))
    }
    await run()
    return events
  }

  test('its wait for the lock and its write are told, in its context and before its end', async (t) => {
    const file = newFile(t)
    const events = await told(() => updateJsonFile(file, (data) => void data.n++, { defaultValue: { n: 0 }, durability: 'none' }))
    assert.deepEqual(events.map(({ what }) => what), [
      'update start', 'lock start', 'lock end', 'update end', 'lock asyncStart', 'lock asyncEnd',
      'write start', 'write end', 'write asyncStart', 'write asyncEnd', 'update asyncStart', 'update asyncEnd',
    ])
    const update = events[0].context
    for (const { within } of events) assert.equal(within, update)
    const of = (/** @type {string} */ wanted) => events.find(({ what }) => what === wanted)?.context
    assert.deepEqual(of('lock start'), { operation: 'lock', path: file, kind: 'write', result: undefined })
    assert.deepEqual(of('write start'), { operation: 'atomic write', path: file, size: 7, durability: 'none', updates: 1, result: undefined })
  })

  test('each of several that share a write is told of it', async (t) => {
    const file = newFile(t)
    const events = await told(() => Promise.all([1, 2, 3].map(() => updateJsonFile(file, (data) => void data.n++, { defaultValue: { n: 0 } }))))
    const writes = events.filter(({ what }) => what === 'write start')
    assert.equal(new Set(writes.map(({ within }) => within)).size, 3)
    assert.ok(writes.some(({ context }) => context.updates > 1), 'they wait together')
    assert.equal(events.filter(({ what }) => what === 'lock asyncEnd').length, 3)
    assert.deepEqual(JSON.parse(fs.readFileSync(file, 'utf8')), { n: 3 })
  })

  test('nothing is told of a write where the text stays, nor of a lock where there is none', async (t) => {
    const file = newFile(t)
    fs.writeFileSync(file, '{}')
    const events = await told(() => updateJsonFile(file, () => {}, { lock: false }))
    assert.deepEqual(events.map(({ what }) => what), ['update start', 'update end', 'update asyncStart', 'update asyncEnd'])
  })

  test('a lock that is not had is an error of the wait; a file that is missing or no JSON is not', async (t) => {
    const file = newFile(t)
    const lock = await acquireLock(file)
    const events = await told(() => failure(() => updateJsonFile(file, () => {}, { timeout: 5, defaultValue: {} })))
    const error = events.find(({ what }) => what === 'lock error')?.context.error
    assert.deepEqual([error.code, error.operation, error.path], ['ELOCKED', 'lock', file])
    assert.equal(events.at(-1).what, 'update asyncEnd')
    await lock.release()
    const missing = await told(() => failure(() => updateJsonFile(file, () => {})))
    fs.writeFileSync(file, '{')
    const bad = await told(() => failure(() => updateJsonFile(file, () => {})))
    for (const events of [missing, bad]) {
      assert.deepEqual(events.filter(({ what }) => / error$/.test(what)).map(({ what }) => what).filter((what) => what !== 'update error'), [])
      assert.ok(events.some(({ what }) => what === 'lock asyncEnd'))
    }
  })

  test('a write that fails is told with its error', { skip: whyNot.mount() }, async (t) => {
    const file = path.join(fullDisk(t).dir, 'file')
    const events = await told(() => failure(() => updateJsonFile(file, () => 'n'.repeat(1 << 20), { defaultValue: '', retries: 1 })))
    assert.equal(events.find(({ what }) => what === 'write error')?.context.error.code, 'ENOSPC')
    assert.ok(!events.some(({ what }) => what === 'lock error'))
  })

  const ALL = [
    'update start', 'lock start', 'lock end', 'update end', 'lock asyncStart', 'lock asyncEnd',
    'write start', 'write end', 'write asyncStart', 'write asyncEnd', 'update asyncStart', 'update asyncEnd',
  ]

  test('the same with onTempFile, under a lock of the caller, and by functions with defaults of their own', async (t) => {
    const file = newFile(t)
    fs.writeFileSync(file, '{"n":0}')
    const add = (/** @type {any} */ data) => void data.n++
    for (const run of [
      () => updateJsonFile(file, add, { onTempFile() {} }),
      () => createHoldfast({ durability: 'none' }).updateJsonFile(file, add),
    ]) {
      assert.deepEqual((await told(run)).map(({ what }) => what), ALL)
    }
    const lock = ['lock start', 'lock end', 'lock asyncStart', 'lock asyncEnd']
    assert.deepEqual((await told(() => withLock(file, () => updateJsonFile(file, add)))).map(({ what }) => what), [...lock, ...ALL])
    assert.equal(JSON.parse(fs.readFileSync(file, 'utf8')).n, 3)
  })

  test('a wait in the queue of this process that is too long is an error of the wait', async (t) => {
    const file = newFile(t)
    const events = await told(async () => {
      /** @type {(value?: unknown) => void} */
      let end = () => {}
      const first = updateJsonFile(file, () => new Promise((resolve) => (end = resolve)), { defaultValue: {} })
      const error = await failure(() => updateJsonFile(file, () => {}, { timeout: 20 }))
      assert.equal(error.code, 'ELOCKED')
      end()
      await first
    })
    const errors = events.filter(({ what }) => / error$/.test(what))
    assert.deepEqual(errors.map(({ what, context }) => [what, context.error.code]), [['lock error', 'ELOCKED'], ['update error', 'ELOCKED']])
    assert.equal(errors[0]?.within, errors[1]?.context)
  })

  test('the same on the calling thread', async (t) => {
    const file = newFile(t)
    const events = await told(async () => updateJsonFileSync(file, (data) => void data.n++, { defaultValue: { n: 0 } }))
    assert.deepEqual(events.map(({ what }) => what), ['update start', 'lock start', 'lock end', 'write start', 'write end', 'update end'])
    for (const { within } of events) assert.equal(within, events[0].context)
    const lock = await acquireLock(file)
    const refused = await told(async () => failure(async () => updateJsonFileSync(file, () => {}, { timeout: 5 })))
    assert.equal(refused.find(({ what }) => what === 'lock error')?.context.error.code, 'ELOCKED')
    await lock.release()
  })
})
