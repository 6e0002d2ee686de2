'use strict'

// The class AtomicOperations: the examples of Vectra's documentation, run.

const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { describe, test } = require('node:test')
const { failure, fullDisk, holdfast, names, newDir, inChild, NOBODY, temps, whyNot } = require('./helpers.js')

const { AtomicOperations, SessionFileError } = holdfast

describe('AtomicOperations: the examples', () => {
  test('basic atomic write', async (t) => {
    const filePath = path.join(newDir(t), 'index.json')
    const data = '{"count":1}'
    // Simple write with default retry (3 attempts)
    await AtomicOperations.writeFile(filePath, data)
    assert.equal(fs.readFileSync(filePath, 'utf8'), data)
    // Custom retry configuration
    await AtomicOperations.writeFile(filePath, `${data} `, {
      retries: 5, // Try up to 5 times
      retryDelay: 200, // Start with 200ms delay
    })
    assert.equal(await AtomicOperations.readFile(filePath), `${data} `)
  })

  test('atomic JSON update', async (t) => {
    const filePath = path.join(newDir(t), 'index.json')
    await AtomicOperations.writeFile(filePath, '{"count":1}')
    const written = await AtomicOperations.updateJsonFile(filePath, (data) => {
      data.count++
      return data
    }, {
      retries: 3,
      retryDelay: 100,
    })
    assert.deepEqual(written, { count: 2 })
    assert.equal(fs.readFileSync(filePath, 'utf8'), '{"count":2}')
  })

  test('backup operations', async (t) => {
    const filePath = path.join(newDir(t), 'index.json')
    await AtomicOperations.writeFile(filePath, 'good')
    const riskyOperation = async () => {
      fs.writeFileSync(filePath, 'bad')
      throw new Error('risk')
    }
    const error = await failure(async () => {
      // Create backup before risky operation
      const backupPath = await AtomicOperations.createBackup(filePath)
      try {
        // Perform risky operation
        await riskyOperation()
      } catch (err) {
        // Restore from backup on failure
        await AtomicOperations.restoreBackup(backupPath, filePath)
        throw err
      }
    })
    assert.equal(error.message, 'risk')
    assert.equal(await AtomicOperations.readFile(filePath), 'good')
    assert.equal((await AtomicOperations.cleanupBackups(path.dirname(filePath), /index\.json/)).length, 0)
    assert.equal((await AtomicOperations.cleanupBackups(path.dirname(filePath), /index\.json/, 0)).length, 1)
  })

  test('handling concurrent updates: a persistent failure tells the number of attempts', { skip: whyNot.mount() }, async (t) => {
    const { dir } = fullDisk(t)
    const filePath = path.join(dir, 'index.json')
    for (const write of [
      () => AtomicOperations.writeFile(filePath, Buffer.alloc(100_000), { retryDelay: 1 }),
      () => AtomicOperations.updateJsonFile(filePath, () => 'x'.repeat(100_000), { retryDelay: 1, defaultValue: {}, lock: false }),
    ]) {
      const err = await failure(write)
      assert.ok(err.message.includes('after 3 attempts'), err.message)
      assert.ok(err instanceof SessionFileError)
      assert.deepEqual([err.code, err.attempts, err.committed], ['ENOSPC', 3, false])
      assert.match(err.cause.message, /^ENOSPC/)
    }
    assert.deepEqual(names(dir), ['filler'])
  })
})

describe('AtomicOperations: trying again', () => {
  test('attempt n waits retryDelay * 2 ** (n - 2)', async (t) => {
    const file = path.join(newDir(t), 'index.json')
    fs.writeFileSync(file, '{}')
    /** @type {number[]} */
    const times = []
    const error = await failure(() => AtomicOperations.updateJsonFile(file, () => {
      times.push(performance.now())
      throw new Error('not now')
    }, { retries: 4, retryDelay: 20 }))
    assert.equal(times.length, 4)
    const waits = times.slice(1).map((time, i) => time - /** @type {number} */ (times[i]))
    // A timer may be a millisecond early, and late by any time.
    for (const [i, least] of [20, 40, 80].entries()) assert.ok(/** @type {number} */ (waits[i]) >= least - 2, `${waits}`)
    assert.equal(error.message, `Failed to update JSON at ${file}: Update JSON failed after 4 attempts: not now`)
  })

  test('what the updater throws is tried again, each time on a fresh parse, and succeeds in the end', async (t) => {
    const file = path.join(newDir(t), 'index.json')
    fs.writeFileSync(file, '{"count":1}')
    let calls = 0
    const result = await AtomicOperations.updateJsonFile(file, async (data) => {
      data.count += 10
      if (++calls < 3) throw new Error(`call ${calls}`)
      return data
    }, { retryDelay: 1 })
    assert.equal(calls, 3)
    assert.deepEqual(result, { count: 11 })
    assert.equal(fs.readFileSync(file, 'utf8'), '{"count":11}')
  })

  test('what it throws in the end is the cause, whatever it is', async (t) => {
    const file = path.join(newDir(t), 'index.json')
    fs.writeFileSync(file, '{"count":1}')
    for (const value of [new RangeError('three'), 'text', undefined, null, { a: 1 }]) {
      const error = await failure(() => AtomicOperations.updateJsonFile(file, () => { throw value }, { retryDelay: 0 }))
      assert.ok(error instanceof SessionFileError)
      assert.equal(error.cause, value)
      assert.equal(error.attempts, 3)
      assert.match(error.message, /after 3 attempts/)
    }
    assert.equal(fs.readFileSync(file, 'utf8'), '{"count":1}')
    assert.deepEqual(temps(path.dirname(file)), [])
  })

  test('what does not pass fails at once', { skip: whyNot.root() }, async (t) => {
    const dir = newDir(t)
    const file = path.join(dir, 'index.json')
    fs.writeFileSync(file, '{}')
    let calls = 0
    const update = (/** @type {string} */ path) => AtomicOperations.updateJsonFile(path, () => { calls++ }, { retryDelay: 60_000 })
    for (const [call, code] of /** @type {[() => Promise<unknown>, string][]} */ ([
      [() => AtomicOperations.writeFile(dir, 'x', { retryDelay: 60_000 }), 'EISDIR'],
      [() => AtomicOperations.writeFile(path.join(file, 'x'), 'x', { retryDelay: 60_000 }), 'ENOTDIR'],
      [() => AtomicOperations.writeFile('/dev/null', 'x', { retryDelay: 60_000 }), 'EINVAL'],
      [() => AtomicOperations.readFile(dir, { retryDelay: 60_000 }), 'EISDIR'],
      [() => AtomicOperations.readFile(path.join(dir, 'missing'), { retryDelay: 60_000 }), 'ENOENT'],
      [() => update(dir), 'EISDIR'],
      [() => update(path.join(file, 'x')), 'ENOTDIR'],
      [() => update(path.join(dir, 'missing')), 'ENOENT'],
      [() => AtomicOperations.createBackup(dir, { retryDelay: 60_000 }), 'EISDIR'],
      [() => AtomicOperations.restoreBackup(file, dir, { retryDelay: 60_000 }), 'EISDIR'],
    ])) {
      const error = await failure(call)
      assert.deepEqual([error.code, error.attempts], [code, 1], error.message)
      assert.doesNotMatch(error.message, /attempts/)
    }
    fs.writeFileSync(file, '{"a":')
    const corrupt = await failure(() => update(file))
    assert.deepEqual([corrupt.code, corrupt.attempts, corrupt.line], ['EBADJSON', 1, 1])
    assert.equal(calls, 0)
    const program = async (/** @type {any} */ { file }, /** @type {any} */ { holdfast, outcome }) =>
      outcome(() => holdfast.AtomicOperations.writeFile(file, 'x', { retryDelay: 60_000 }))
    const denied = await inChild(program, { file }, { user: NOBODY })
    assert.deepEqual([denied.code, denied.attempts], ['EACCES', 1])
  })

  test('can be cancelled while it waits', async (t) => {
    const file = path.join(newDir(t), 'index.json')
    fs.writeFileSync(file, '{}')
    const controller = new AbortController()
    const error = await failure(() => AtomicOperations.updateJsonFile(file, () => {
      setTimeout(() => controller.abort('why'), 5)
      throw new Error('again')
    }, { retryDelay: 60_000, signal: controller.signal }))
    assert.deepEqual([error.name, error.cause], ['AbortError', 'why'])
  })
})

describe('AtomicOperations.readFile', () => {
  test('reads as fs.readFile does', async (t) => {
    const file = path.join(newDir(t), 'file')
    for (const bytes of [Buffer.from(''), Buffer.from('text é😀\r\n'), Buffer.from('\ufeffwith mark'), Buffer.from('61ff62c3e28263f09f9880eda080', 'hex'), Buffer.alloc(3 << 20, 'é')]) {
      fs.writeFileSync(file, bytes)
      assert.equal(await AtomicOperations.readFile(file), fs.readFileSync(file, 'utf8'))
    }
    const error = await failure(() => AtomicOperations.readFile(`${file}2`))
    assert.ok(error instanceof SessionFileError)
    assert.deepEqual([error.operation, error.code, error.syscall, error.path], ['read file', 'ENOENT', 'open', `${file}2`])
  })

  test('checks its arguments', async () => {
    for (const call of [
      () => AtomicOperations.readFile(/** @type {any} */ (1)),
      () => AtomicOperations.readFile('x', { retries: 0 }),
      () => AtomicOperations.readFile('x', /** @type {any} */ ({ encoding: 'utf8' })),
      () => AtomicOperations.updateJsonFile('x', /** @type {any} */ (1)),
      () => AtomicOperations.updateJsonFile('x', () => {}, /** @type {any} */ ({ retry: 1 })),
    ]) {
      const error = await failure(call)
      assert.ok(error instanceof TypeError || error instanceof RangeError, `${error}`)
    }
  })
})
