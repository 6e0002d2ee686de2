'use strict'

// Updates on the calling thread: the promises of `updateJsonFile`, for those who cannot wait for a promise.

const { describe, test } = require('node:test')
const assert = require('node:assert/strict')
const { spawn, spawnSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const { assertFree, collector, failure, fullDisk, holdfast, names, newDir, root, temps, whyNot } = require('./helpers.js')
const { GUARD, Peer } = require('./programs/lock-peer.js')

const { SessionFileError, updateJsonFile, updateJsonFileSync, withLock } = holdfast

const text = (/** @type {string} */ file) => fs.readFileSync(file, 'utf8')

function newFile(/** @type {any} */ t, content = '{"count":0}') {
  const file = path.join(newDir(t), 'data.json')
  fs.writeFileSync(file, content)
  return file
}

test('reads, changes and writes, and returns a copy of what is there then', async (t) => {
  const file = newFile(t)
  const value = updateJsonFileSync(file, (data) => void data.count++)
  assert.deepEqual(value, { count: 1 })
  assert.equal(text(file), '{"count":1}')
  assert.deepEqual(updateJsonFileSync(file, () => ({ other: true })), { other: true })
  await assertFree(file)
  const missing = path.join(path.dirname(file), 'a', 'b.json')
  updateJsonFileSync(missing, (list) => void list.push(1), { defaultValue: [], makeDirs: true })
  assert.equal(text(missing), '[1]')
  assert.deepEqual(temps(path.dirname(file)), [])
})

test('says what is wrong, writes nothing, and frees the lock', async (t) => {
  const file = newFile(t)
  const mine = new Error('mine')
  for (const [at, update, code] of /** @type {[string, any, string | undefined][]} */ ([
    [file, () => { throw mine }, undefined],
    [file, async (/** @type {any} */ data) => void data.count++, 'ERR_INVALID_RETURN_VALUE'],
    [file, () => Promise.reject(new Error('unheard')), 'ERR_INVALID_RETURN_VALUE'],
    [file, () => Symbol('x'), 'ERR_INVALID_ARG_TYPE'],
    [`${file}.no`, () => {}, 'ENOENT'],
    [path.dirname(file), () => {}, 'EISDIR'],
  ])) {
    const error = await failure(async () => updateJsonFileSync(at, update))
    if (code === undefined) assert.equal(error, mine)
    else assert.equal(error.code, code)
    if (error instanceof SessionFileError) assert.deepEqual([error.path, error.operation, error.attempts], [at, 'update JSON', 1])
    assert.equal(text(file), '{"count":0}')
  }
  await assertFree(file)
  assert.deepEqual(names(path.dirname(file)).filter((name) => name.includes('.no')), [], 'no lock file for a file that is not there')
  fs.writeFileSync(file, '{"a":\n}')
  const bad = await failure(async () => updateJsonFileSync(file, () => {}))
  assert.deepEqual([bad.code, bad.line, bad.column], ['EBADJSON', 2, 1])
  await assertFree(file)
})

describe('the lock', { timeout: GUARD }, () => {
  test('of another process is waited for, up to `timeout`', async (t) => {
    const file = newFile(t)
    const peer = new Peer(t)
    await peer.run(async ({ holdfast, kept }, file) => {
      kept.lock = await holdfast.acquireLock(file)
    }, file)
    const error = await failure(async () => updateJsonFileSync(file, () => {}, { timeout: 20 }))
    assert.equal(error.code, 'ELOCKED')
    assert.equal(error.holder.pid, peer.pid)
    // It is released while this thread waits.
    const released = peer.run(({ kept }) => new Promise((resolve) => setTimeout(() => resolve(kept.lock.release()), 100)))
    assert.deepEqual(updateJsonFileSync(file, (data) => void data.count++), { count: 1 })
    await released
  })

  test('of a withLock around it is used; in an update of the same file it is a deadlock', async (t) => {
    const file = newFile(t)
    await withLock(file, () => {
      updateJsonFileSync(file, (data) => void data.count++, { timeout: 0 })
      updateJsonFileSync(file, (data) => void data.count++, { timeout: 0 })
    })
    assert.equal(text(file), '{"count":2}')
    for (const outer of [updateJsonFile, updateJsonFileSync]) {
      const error = await failure(async () => outer(file, () => void updateJsonFileSync(file, () => {})))
      assert.equal(error.code, 'EDEADLK')
    }
    await assertFree(file)
  })

  test('is given back between two attempts, and what another process has written meanwhile counts', { skip: whyNot.mount() }, async (t) => {
    const { dir, filler } = fullDisk(t)
    const file = path.join(dir, 'data.json')
    fs.truncateSync(filler, 8192 * 4)
    fs.writeFileSync(file, '{"count":0}')
    const { logger, entries } = collector()
    let runs = 0
    const sign = path.join(newDir(t), 'sign')
    const peer = new Peer(t)
    // It takes the lock as soon as the other one is in its pause, and makes room.
    const helped = peer.run(async ({ holdfast, fs }, file, filler, sign) => {
      while (!fs.existsSync(sign)) await new Promise((resolve) => setTimeout(resolve, 2))
      await holdfast.withLock(file, () => {
        fs.truncateSync(filler, 0)
        fs.writeFileSync(file, '{"count":10}')
      })
    }, file, filler, sign)
    const value = updateJsonFileSync(file, (data) => {
      runs++
      return { count: data.count + 1, list: 'x'.repeat(230_000) }
    }, {
      retries: 9, retryDelay: 20, logger: { ...logger, warn(fields, message) {
        logger.warn(fields, message)
        fs.writeFileSync(sign, '')
      } },
    })
    await helped
    assert.equal(value.count, 11)
    assert.equal(runs, 2, 'the function runs again only for another content')
    assert.ok(entries.some(({ message }) => message === 'Retrying atomic write'))
    assert.ok(!entries.some(({ message }) => message === 'Atomic write failed'))
    await assertFree(file)
  })
})

test('a full disk: the file stays, and the number of attempts is told', { skip: whyNot.mount() }, async (t) => {
  const { dir, filler } = fullDisk(t)
  const file = path.join(dir, 'data.json')
  fs.truncateSync(filler, 8192 * 4)
  fs.writeFileSync(file, '{"list":[]}')
  const error = await failure(async () => updateJsonFileSync(file, (data) => void data.list.push('x'.repeat(300_000)), { retries: 3, retryDelay: 1 }))
  assert.deepEqual([error.code, error.attempts, error.committed], ['ENOSPC', 3, false])
  assert.match(error.message, /Update JSON failed after 3 attempts: ENOSPC/)
  assert.equal(text(file), '{"list":[]}')
  assert.deepEqual(temps(dir), [])
  await assertFree(file)
})

test('works in an exit handler', async (t) => {
  const file = newFile(t)
  const program = `
    const { updateJsonFile, updateJsonFileSync } = require(${JSON.stringify(root)})
    process.on('exit', () => updateJsonFileSync(process.argv[1], (data) => void data.count++))
    updateJsonFile(process.argv[1], (data) => void data.count++).then(() => process.exit(0))`
  const { status, stderr } = spawnSync(process.execPath, ['-e', program, file], { encoding: 'utf8' })
  assert.equal(status, 0, stderr)
  assert.equal(text(file), '{"count":2}')
})

test('four processes that update, on the calling thread and not, while members are killed: each acknowledged update is there once', { timeout: GUARD }, async (t) => {
  const file = newFile(t, '{"count":0,"list":{}}')
  const acknowledged = new Map()
  const run = (/** @type {string} */ name, /** @type {boolean} */ sync, /** @type {number | undefined} */ killAfter) => new Promise((resolve, reject) => {
    const program = `
      const { updateJsonFile, updateJsonFileSync } = require(${JSON.stringify(root)})
      const [, file, name] = process.argv
      const one = (i) => (data) => void (data.count++, data.list[name] = i)
      ;(async () => {
        for (let i = 1; i <= 40; i++) {
          ${sync ? 'updateJsonFileSync' : 'await updateJsonFile'}(file, one(i), { durability: 'none', timeout: Infinity })
          require('node:fs').writeSync(1, i + '\\n')
        }
      })()`
    const child = spawn(process.execPath, ['-e', program, file, name], { stdio: ['ignore', 'pipe', 'inherit'] })
    let said = ''
    child.stdout.setEncoding('utf8').on('data', (chunk) => {
      said += chunk
      if (killAfter !== undefined && said.split('\n').length > killAfter) child.kill('SIGKILL')
    })
    child.on('error', reject)
    child.on('close', () => resolve(acknowledged.set(name, said.split('\n').length - 1)))
  })
  await Promise.all([run('a', true, undefined), run('b', false, undefined), run('c', true, 10), run('d', true, 15)])
  const { count, list } = JSON.parse(text(file))
  for (const [name, last] of acknowledged) assert.ok(list[name] === last || (list[name] === last + 1 && 'cd'.includes(name)), `${name}: ${last} acknowledged, ${list[name]} there`)
  assert.equal(count, Object.values(list).reduce((sum, last) => sum + last, 0))
  assert.equal(list.a + list.b, 80)
})
