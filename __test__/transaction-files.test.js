'use strict'

// Files of a transaction in its own function: what it says of them, how they are renamed, and what would write past
// it.

const { describe, test } = require('node:test')
const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { pipeline } = require('node:stream/promises')
const { Readable } = require('node:stream')
const { failure, holdfast, modeOf, names, newDir, whyNot } = require('./helpers.js')

const { atomicWrite, transaction } = holdfast

function newFiles(/** @type {any} */ t) {
  const dir = newDir(t)
  const [a, b, c] = ['a.json', 'b.json', 'c.json'].map((name) => path.join(dir, name))
  fs.writeFileSync(/** @type {string} */ (a), '{"a":1}', { mode: 0o600 })
  fs.writeFileSync(/** @type {string} */ (b), '{"b":1}')
  return /** @type {{ dir: string, a: string, b: string, c: string }} */ ({ dir, a, b, c })
}

const text = (/** @type {string} */ file) => fs.readFileSync(file, 'utf8')

test('it resolves to what its function returns', async (t) => {
  const { a } = newFiles(t)
  assert.equal(await transaction([a], () => 5), 5)
  assert.equal(await transaction([a], async (tx) => tx.read(a, 'utf8')), '{"a":1}')
  assert.equal(await transaction([a], (tx) => tx.write(a, '{}')), undefined)
  const mine = new Error('mine')
  assert.equal(await failure(() => transaction([a], () => Promise.reject(mine))), mine)
})

test('exists and list tell what the transaction would leave', async (t) => {
  const { a, b, c } = newFiles(t)
  await transaction([c, a, b, a], async (tx) => {
    assert.deepEqual([await tx.exists(a), await tx.exists(c)], [true, false])
    assert.deepEqual(await tx.list(), [{ path: c, exists: false, isChanged: false }, { path: a, exists: true, isChanged: false }, { path: b, exists: true, isChanged: false }])
    tx.remove(a).catch(() => {})
    tx.write(c, 'new').catch(() => {})
    // In the order of the calls.
    assert.deepEqual(await tx.list(), [{ path: c, exists: true, isChanged: true }, { path: a, exists: false, isChanged: true }, { path: b, exists: true, isChanged: false }])
    assert.deepEqual([await tx.exists(a), await tx.exists(c)], [false, true])
    assert.match((await failure(() => tx.exists(`${a}.other`))).message, /"path" argument must be one of the paths/)
  })
  assert.deepEqual([fs.existsSync(a), text(c)], [false, 'new'])
})

describe('rename', () => {
  test('gives the content to a new file, with its permissions', { skip: whyNot.unix() }, async (t) => {
    const { dir, a, c } = newFiles(t)
    await transaction([a, c], (tx) => tx.rename(a, c))
    assert.equal(text(c), '{"a":1}')
    assert.equal(modeOf(c), 0o600, 'what was private stays so')
    assert.deepEqual(names(dir).filter((name) => !name.endsWith('.lock')), ['b.json', 'c.json'])
  })

  test('replaces a file, which keeps its permissions, and takes staged content along', { skip: whyNot.unix() }, async (t) => {
    const { a, b, c } = newFiles(t)
    fs.chmodSync(b, 0o640)
    await transaction([a, b, c], async (tx) => {
      await tx.write(a, 'staged')
      await tx.rename(a, b)
      assert.equal(await tx.read(b, 'utf8'), 'staged')
      assert.equal((await failure(() => tx.read(a))).code, 'ENOENT')
      // And on: the second one at the same time as the first in the other direction.
      await Promise.all([tx.rename(b, c), tx.rename(c, b), tx.rename(b, b)])
    })
    assert.deepEqual([fs.existsSync(a), text(b), fs.existsSync(c)], [false, 'staged', false])
    assert.equal(modeOf(b), 0o640)
  })

  test('of a file that is not there, or of one that the transaction does not name, is refused', async (t) => {
    const { a, b, c } = newFiles(t)
    const error = await failure(() => transaction([a, b, c], (tx) => tx.rename(c, a)))
    assert.deepEqual([error.code, error.path], ['ENOENT', c])
    assert.match((await failure(() => transaction([a, b], (tx) => tx.rename(a, c)))).message, /"to" argument must be one of the paths/)
    assert.match((await failure(() => transaction([a, b], (tx) => tx.rename(c, a)))).message, /"from" argument must be one of the paths/)
    assert.deepEqual([text(a), text(b)], ['{"a":1}', '{"b":1}'])
  })

  test('is taken back with the rest', async (t) => {
    const { a, b, c } = newFiles(t)
    await failure(() => transaction([a, b, c], async (tx) => {
      await tx.rename(a, c)
      throw new Error('no')
    }))
    assert.deepEqual([text(a), fs.existsSync(c)], ['{"a":1}', false])
  })
})

describe('what would write past the transaction', () => {
  /** @type {[string, RegExp, (h: any, file: string, other: string) => unknown][]} */
  const ways = [
    ['atomicWrite', /use tx\.write/, (h, file) => h.atomicWrite(file, 'past')],
    ['atomicWrite with lock', /use tx\.write/, (h, file) => h.atomicWrite(file, 'past', { lock: true })],
    ['atomicWrite with createOnly', /use tx\.write/, (h, file) => h.atomicWrite(file, 'past', { createOnly: true })],
    ['atomicWriteJson', /use tx\.write/, (h, file) => h.atomicWriteJson(file, 'past')],
    ['atomicWriteSync', /use tx\.write/, (h, file) => h.atomicWriteSync(file, 'past')],
    ['updateJsonFile', /use tx\.updateJson/, (h, file) => h.updateJsonFile(file, () => ({ past: 1 }))],
    ['updateJsonFile without lock', /use tx\.updateJson/, (h, file) => h.updateJsonFile(file, () => ({ past: 1 }), { lock: false })],
    ['updateJsonFileSync', /use tx\.updateJson/, (h, file) => h.updateJsonFileSync(file, () => ({ past: 1 }), { lock: false })],
    ['AtomicOperations.updateJsonFile', /use tx\.updateJson/, (h, file) => h.AtomicOperations.updateJsonFile(file, () => ({ past: 1 }), { lock: false })],
    ['AtomicOperations.writeFile', /use tx\.write/, (h, file) => h.AtomicOperations.writeFile(file, 'past')],
    ['removeFile', /use tx\.remove/, (h, file) => h.removeFile(file, { lock: false })],
    ['restoreBackup', /use tx\.write/, (h, file, other) => h.restoreBackup(other, file, { lock: false })],
    ['createAtomicWriteStream', /use tx\.write/, (h, file) => pipeline(Readable.from(['past']), h.createAtomicWriteStream(file))],
  ]
  for (const [way, advice, call] of ways) {
    test(`${way} is refused, by whatever path the file is reached, and nothing is changed`, async (t) => {
      const { dir, a, b } = newFiles(t)
      const other = path.join(dir, 'other')
      fs.writeFileSync(other, 'other')
      fs.symlinkSync(dir, `${dir}/loop`)
      fs.symlinkSync('a.json', `${dir}/link`)
      await transaction([a, b], async (tx) => {
        for (const spelt of [a, `${dir}/./a.json`, `${dir}/loop/a.json`, `${dir}/link`, path.relative(process.cwd(), a)]) {
          const error = await failure(async () => call(holdfast, spelt, other))
          assert.equal(error.code, 'EDEADLK', spelt)
          assert.match(error.message, advice)
        }
        await tx.write(a, 'by the transaction')
      })
      assert.deepEqual([text(a), text(b)], ['by the transaction', '{"b":1}'])
      assert.deepEqual(names(dir).filter((name) => name.endsWith('.tmp')), [])
    })
  }

  test('also where there is no such file yet, under a link that leads to it', async (t) => {
    const { dir, c } = newFiles(t)
    fs.symlinkSync('c.json', `${dir}/link`)
    await transaction([c], async () => {
      for (const spelt of [c, `${dir}/link`]) assert.equal((await failure(() => atomicWrite(spelt, 'past'))).code, 'EDEADLK')
    })
    assert.equal(fs.existsSync(c), false)
  })

  test('other files, other contexts and the time after it are as ever', async (t) => {
    const { a, b, c } = newFiles(t)
    /** @type {(value?: unknown) => void} */
    let go = () => {}
    const started = new Promise((resolve) => (go = resolve))
    // A request that runs beside it.
    const beside = started.then(() => atomicWrite(a, 'beside'))
    /** @type {Promise<void> | undefined} */
    let late
    await transaction([a], async (tx) => {
      await atomicWrite(c, 'c')
      await atomicWrite(b, 'b')
      go()
      await beside
      late = new Promise((resolve) => setTimeout(resolve, 50)).then(() => atomicWrite(a, 'late'))
      await tx.exists(a)
    })
    await late
    assert.deepEqual([text(a), text(b), text(c)], ['late', 'b', 'c'])
  })
})
