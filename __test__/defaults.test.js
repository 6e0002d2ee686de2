'use strict'

// Defaults of options: of the thread, and of the functions that createHoldfast makes.

const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { describe, test } = require('node:test')
const { Worker } = require('node:worker_threads')
const { once } = require('node:events')
const { collector, failure, fullDisk, holdfast, modeOf, names, newDir, whyNot } = require('./helpers.js')

const { createHoldfast, setDefaults, setLogger } = holdfast

/** Sets defaults of this thread until the test is over. */
function defaults(t, values) {
  t.after(() => setDefaults(Object.fromEntries(Object.keys(values).map((name) => [name, undefined]))))
  setDefaults(values)
}

/** The two ways to have defaults, called alike: functions for which they hold. */
const ways = {
  setDefaults: (t, values) => (defaults(t, values), holdfast),
  createHoldfast: (_t, values) => createHoldfast(values),
}

/** Under which durability each write is done that `run` makes, as its traces say. */
async function durabilities(run) {
  const seen = []
  const { tracingChannel } = require('node:diagnostics_channel')
  const watched = ['write', 'update', 'backup', 'transaction'].map((name) => tracingChannel(`holdfast:${name}`))
  const start = ({ operation, durability }) => seen.push(`${operation}: ${durability}`)
  for (const channel of watched) channel.start.subscribe(start)
  try {
    await run()
  } finally {
    for (const channel of watched) channel.start.unsubscribe(start)
  }
  return seen
}

for (const [name, way] of Object.entries(ways)) {
  describe(name, () => {
    test('durability holds for everything that writes, and the option of a call goes first', async (t) => {
      const dir = newDir(t)
      const file = path.join(dir, 'a.json')
      const { atomicWrite, atomicWriteJson, atomicWriteSync, createAtomicWriteStream, createBackup, restoreBackup, transaction, updateJsonFile, updateJsonFileSync } = way(t, { durability: 'file' })
      const seen = await durabilities(async () => {
        await atomicWrite(file, '{}')
        await atomicWriteJson(file, {})
        atomicWriteSync(file, '{}')
        createAtomicWriteStream(file).end('{}')
        await updateJsonFile(file, (data) => { data.n = 1 })
        updateJsonFileSync(file, (data) => { data.n = 2 })
        const backup = await createBackup(file)
        await restoreBackup(backup, file)
        await transaction([file], (tx) => tx.write(file, '{}'))
        await atomicWrite(file, '{}', { durability: 'none' })
        await atomicWrite(file, '{}', { durability: undefined, makeDirs: false })
      })
      assert.deepEqual(seen.filter((each) => !each.endsWith(': file')), ['transaction: full', 'atomic write: none'])
      assert.ok(seen.length >= 11, `${seen}`)
    })

    test('lock and timeout hold for writes, whose options have no timeout', async (t) => {
      const file = path.join(newDir(t), 'a.json')
      const functions = way(t, { lock: true, timeout: 1 })
      const lock = await createHoldfast().acquireLock(file)
      t.after(() => lock.release())
      const stream = () => new Promise((_, reject) => functions.createAtomicWriteStream(file).on('error', reject).end('x'))
      const update = () => functions.updateJsonFile(file, () => {}, { defaultValue: {} })
      for (const call of [() => functions.atomicWrite(file, 'x'), async () => functions.atomicWriteSync(file, 'x'), () => functions.atomicWriteJson(file, 1), stream, update, () => functions.withLock(file, () => {}), () => functions.acquireLock(file), () => functions.transaction([file], () => {})]) {
        const error = await failure(() => outside(call))
        assert.equal(error.code, 'ELOCKED', `${call}: ${error.stack}`)
      }
      await functions.atomicWrite(file, 'without', { lock: false })
      assert.equal(fs.readFileSync(file, 'utf8'), 'without')
    })

    test('indent holds for all that writes JSON', async (t) => {
      const dir = newDir(t)
      const { atomicWriteJson, transaction, updateJsonFile, updateJsonFileSync } = way(t, { indent: 1 })
      const [a, b, c, d] = ['a', 'b', 'c', 'd'].map((name) => path.join(dir, name))
      await atomicWriteJson(a, { n: 1 })
      await updateJsonFile(b, () => {}, { defaultValue: { n: 1 } })
      updateJsonFileSync(c, () => {}, { defaultValue: { n: 1 } })
      await transaction([d], (tx) => tx.updateJson(d, () => {}, { defaultValue: { n: 1 } }))
      for (const file of [a, b, c, d]) assert.equal(fs.readFileSync(file, 'utf8'), '{\n "n": 1\n}', file)
      await transaction([d], (tx) => tx.updateJson(d, (data) => { data.n = 2 }, { indent: 0 }))
      assert.equal(fs.readFileSync(d, 'utf8'), '{"n":2}')
    })

    test("indent: 'keep' keeps the form in updates, and means one line for atomicWriteJson", async (t) => {
      const file = path.join(newDir(t), 'a.json')
      const { atomicWriteJson, updateJsonFile } = way(t, { indent: 'keep' })
      fs.writeFileSync(file, '{\n\t"n": 1\n}')
      await updateJsonFile(file, (data) => { data.n = 2 })
      assert.equal(fs.readFileSync(file, 'utf8'), '{\n\t"n": 2\n}')
      await atomicWriteJson(file, { n: 3 })
      assert.equal(fs.readFileSync(file, 'utf8'), '{"n":3}')
    })

    test('newFileMode holds for new files, and mode goes first', { skip: process.platform === 'win32' }, async (t) => {
      const dir = newDir(t)
      const { atomicWrite, atomicWriteSync, transaction, updateJsonFile } = way(t, { newFileMode: 0o600 })
      const [a, b, c, d, e] = ['a', 'b', 'c', 'd', 'e'].map((name) => path.join(dir, name))
      await atomicWrite(a, '')
      atomicWriteSync(b, '')
      await updateJsonFile(c, () => {}, { defaultValue: {} })
      await transaction([d], (tx) => tx.write(d, ''))
      await atomicWrite(e, '', { mode: 0o640 })
      assert.deepEqual([a, b, c, d, e].map(modeOf), [0o600, 0o600, 0o600, 0o600, 0o640])
    })

    test('retries hold', { skip: whyNot.mount() }, async (t) => {
      const file = path.join(fullDisk(t).dir, 'a')
      const { atomicWrite, transaction } = way(t, { retries: 2 })
      const data = Buffer.alloc(1 << 20)
      for (const call of [() => atomicWrite(file, data, { retryDelay: 0 }), () => transaction([file], (tx) => tx.write(file, data), { retryDelay: 0 })]) {
        const error = await failure(call)
        assert.deepEqual([error.code, error.attempts], ['ENOSPC', 2])
      }
      assert.equal((await failure(() => atomicWrite(file, data, { retries: 1 }))).attempts, 1)
    })

    test('logger is told of writes, backups and locks that are held for long', async (t) => {
      const file = path.join(newDir(t), 'a')
      const { entries, logger } = collector()
      const { atomicWrite, createBackup, withLock } = way(t, { logger })
      await atomicWrite(file, 'x')
      assert.equal(entries.at(-1).message, 'Atomic write completed successfully')
      await createBackup(file)
      const told = entries.length
      const warned = new Promise((resolve) => { logger.warn = (_, message) => resolve(message) })
      // The timer of the warning does not keep the process alive.
      const alive = setInterval(() => {}, 1000)
      t.after(() => clearInterval(alive))
      await withLock(file, async () => assert.equal(await warned, 'Lock held for long'), { warnAfter: 0 })
      await atomicWrite(file, 'y', { logger: null })
      assert.equal(entries.length, told)
    })

    test('undefined goes back to the own value of holdfast, and other names stay', async (t) => {
      const file = path.join(newDir(t), 'a')
      const functions = way(t, { durability: 'none', indent: 2 })
      functions.setDefaults({ durability: undefined })
      assert.deepEqual(await durabilities(() => functions.atomicWriteJson(file, { n: 1 })), ['atomic write: full'])
      assert.equal(fs.readFileSync(file, 'utf8'), '{\n  "n": 1\n}')
    })

    test('a wrong value or name is refused by name, and nothing is set', async (t) => {
      const file = path.join(newDir(t), 'a')
      const functions = way(t, {})
      for (const [wrong, named] of [
        [{ durability: 'fsync' }, '"durability"'], [{ lock: 'yes' }, '"lock"'], [{ timeout: -1 }, '"timeout"'], [{ indent: 11 }, '"indent"'], [{ retries: 0 }, '"retries"'],
        [{ logger: {} }, '"logger"'], [{ newFileMode: 0o1000 }, '"newFileMode"'], [{ timeOut: 1 }, 'Did you mean "timeout"?'], [{ mode: 0o600 }, '"mode"'],
      ]) {
        const error = await failure(() => functions.setDefaults({ durability: 'none', ...wrong }))
        assert.match(error.code, /^ERR_/)
        assert.ok(error.message.includes(named), error.message)
        if (name === 'createHoldfast') assert.equal((await failure(() => createHoldfast(wrong))).message.includes(named), true)
      }
      assert.deepEqual(await durabilities(() => functions.atomicWrite(file, 'x')), ['atomic write: full'])
    })

    test('a stream, a log and its consumers have the defaults of what made them', async (t) => {
      const dir = path.join(newDir(t), 'log')
      const { entries, logger } = collector()
      const { openWal } = way(t, { timeout: 1, logger })
      const wal = await openWal(dir)
      assert.equal((await failure(() => openWal(dir))).code, 'ELOCKED')
      await wal.append('c', [{ id: 'a', op: 'insert', payload: 'x' }])
      const consumer = await wal.consumer('name', 'c')
      assert.equal((await failure(() => wal.consumer('name', 'c'))).code, 'ELOCKED')
      const reader = await openWal(dir, { readOnly: true })
      assert.equal((await failure(() => reader.consumer('name', 'c'))).code, 'ELOCKED')
      await reader.close()
      await consumer.close()
      await wal.close()
      assert.deepEqual(entries, [])
    })

    test("Vectra's classes take no lock, timeout, indent and retries", async (t) => {
      const dir = newDir(t)
      const file = path.join(dir, 'a.json')
      const { AtomicOperations, LockManager } = way(t, { lock: true, indent: 2, timeout: 0, retries: 1, durability: 'none', newFileMode: 0o600 })
      const lock = await createHoldfast().acquireLock(file)
      const seen = await durabilities(() => outside(() => AtomicOperations.writeFile(file, '{}')))
      await lock.release()
      assert.deepEqual(seen, ['atomic write: none'])
      if (process.platform !== 'win32') assert.equal(modeOf(file), 0o600)
      await AtomicOperations.updateJsonFile(file, () => ({ n: 1 }))
      assert.equal(fs.readFileSync(file, 'utf8'), '{"n":1}')
      const manager = new LockManager()
      const held = await manager.acquireWriteLock(dir)
      await held.release()
    })
  })
}

/** Runs it where no lock is held by the caller. */
function outside(run) {
  return new Promise((resolve) => setImmediate(resolve)).then(run)
}

describe('createHoldfast', () => {
  test('has all functions of the package, each with the defaults', async () => {
    const own = createHoldfast()
    assert.deepEqual(Object.keys(own).sort(), Object.keys(holdfast).sort())
    // Those that take no options with a default.
    const same = Object.keys(own).filter((name) => own[name] === holdfast[name]).sort()
    assert.deepEqual(same, ['LockManager', 'SessionFileError', 'createHoldfast', 'listBackups', 'lockManager', 'metrics', 'resetMetrics'])
    for (const [name, value] of Object.entries(own)) if (typeof value === 'function') assert.equal(value.name, name)
    const methods = (each) => Object.getOwnPropertyNames(each).filter((name) => typeof each[name] === 'function').sort()
    assert.deepEqual(methods(own.AtomicOperations), methods(holdfast.AtomicOperations))
  })

  test('names the wrong option of a call, and the function', async () => {
    const own = createHoldfast({ durability: 'none' })
    const error = await failure(() => own.atomicWrite('x', 'y', { durabilty: 'none' }))
    assert.equal(error.message, 'Unknown option "durabilty" for atomicWrite. Did you mean "durability"?')
    assert.equal((await failure(() => own.updateJsonFile('x', () => {}, null))).code, 'ERR_INVALID_ARG_TYPE')
  })

  test('neither sees what the thread has set, nor is it seen there', async (t) => {
    const file = path.join(newDir(t), 'a.json')
    const { entries, logger } = collector()
    defaults(t, { durability: 'none', indent: 2, timeout: 1 })
    setLogger(logger)
    t.after(() => setLogger(null))
    const own = createHoldfast()
    const [first, second] = [collector(), collector()]
    const other = createHoldfast({ logger: first.logger })
    assert.deepEqual(await durabilities(() => own.atomicWriteJson(file, { n: 1 })), ['atomic write: full'])
    assert.equal(fs.readFileSync(file, 'utf8'), '{"n":1}')
    assert.deepEqual(entries, [])
    await other.atomicWrite(file, 'x')
    assert.deepEqual(entries, [])
    const before = first.entries.length
    assert.ok(before > 0)
    other.setLogger(second.logger)
    await other.atomicWrite(file, 'x')
    assert.deepEqual([first.entries.length, second.entries.length > 0, entries.length], [before, true, 0])
    other.setDefaults({ durability: 'file' })
    assert.deepEqual(await durabilities(() => own.atomicWrite(file, 'x')), ['atomic write: full'])
    assert.deepEqual(await durabilities(() => holdfast.atomicWrite(file, 'x')), ['atomic write: none'])
    assert.ok(entries.length > 0)
  })

  test('hears inside a function of the user no defaults of the call that runs it', async (t) => {
    const dir = newDir(t)
    const [a, b] = ['a', 'b'].map((name) => path.join(dir, name))
    const own = createHoldfast({ indent: 2 })
    own.updateJsonFileSync(a, () => { holdfast.updateJsonFileSync(b, () => {}, { defaultValue: { n: 1 } }) }, { defaultValue: { n: 1 } })
    assert.deepEqual([a, b].map((file) => fs.readFileSync(file, 'utf8')), ['{\n  "n": 1\n}', '{"n":1}'])
  })

  test('refuses cleanup, which is one of the process, and says whose it is', async () => {
    const error = await failure(() => createHoldfast({ cleanup: 'off' }))
    assert.equal(error.code, 'ERR_INVALID_ARG_VALUE')
    assert.match(error.message, /"cleanup".*setDefaults of the package/)
    assert.equal((await failure(() => createHoldfast().setDefaults({ cleanup: 'off' }))).code, 'ERR_INVALID_ARG_VALUE')
    for (const wrong of [null, 7, 'full', []]) assert.equal((await failure(() => createHoldfast(wrong))).code, 'ERR_INVALID_ARG_TYPE')
  })

  test('an error of it shows the caller', async (t) => {
    const own = createHoldfast()
    const missing = path.join(newDir(t), 'missing', 'file')
    async function theCaller() {
      await own.atomicWrite(missing, 'x')
    }
    const error = await failure(theCaller)
    assert.match(error.stack, /theCaller/)
  })
})

describe('setDefaults', () => {
  test('holds from the next call on, not for what runs', async (t) => {
    const file = path.join(newDir(t), 'a.json')
    t.after(() => setDefaults({ indent: undefined }))
    const update = holdfast.updateJsonFile(file, () => {}, { defaultValue: { n: 1 } })
    setDefaults({ indent: 2 })
    await update
    assert.equal(fs.readFileSync(file, 'utf8'), '{"n":1}')
  })

  test('a worker thread has defaults of its own', async (t) => {
    const dir = newDir(t)
    defaults(t, { indent: 2 })
    const worker = new Worker(`
      const { setDefaults, atomicWriteJson } = require(${JSON.stringify(path.join(__dirname, '..'))})
      const path = require('node:path')
      void (async () => {
        await atomicWriteJson(path.join(${JSON.stringify(dir)}, 'before'), { n: 1 })
        setDefaults({ indent: 1 })
        await atomicWriteJson(path.join(${JSON.stringify(dir)}, 'after'), { n: 1 })
      })()`, { eval: true })
    await once(worker, 'exit')
    await holdfast.atomicWriteJson(path.join(dir, 'here'), { n: 1 })
    const text = (name) => fs.readFileSync(path.join(dir, name), 'utf8')
    assert.deepEqual(names(dir).map((name) => [name, text(name)]), [['after', '{\n "n": 1\n}'], ['before', '{"n":1}'], ['here', '{\n  "n": 1\n}']])
  })

  test('the functions of proper-lockfile take none', async (t) => {
    const file = path.join(newDir(t), 'a')
    fs.writeFileSync(file, '')
    defaults(t, { retries: 5, timeout: 1, lock: true })
    const lockfile = require('../compat/proper-lockfile.js')
    const release = await lockfile.lock(file)
    // With the default it would try for half a minute, and then say the same: `stale` runs out before.
    const error = await failure(() => lockfile.lock(file, { stale: 5000 }))
    assert.equal(error.code, 'ELOCKED')
    await release()
  })
})
