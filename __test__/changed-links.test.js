'use strict'

// A link that is changed while a call holds the lock of the file that it led to: what is written is that
// file, or nothing is.

const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { finished } = require('node:stream/promises')
const { describe, test } = require('node:test')
const { failure, holdfast, newDir, temps, whyNot } = require('./helpers.js')

/** Two files of one name, and a path that leads to one of them. @param {import('node:test').TestContext} t */
function scene(t) {
  const dir = newDir(t)
  for (const name of ['one', 'other']) {
    fs.mkdirSync(path.join(dir, name))
    fs.writeFileSync(path.join(dir, name, 'file.json'), JSON.stringify({ in: name }))
  }
  fs.symlinkSync('one', path.join(dir, 'current'))
  fs.symlinkSync('one/file.json', path.join(dir, 'link.json'))
  const flip = (/** @type {string} */ name) => {
    const target = name === 'current' ? 'other' : 'other/file.json'
    fs.symlinkSync(target, path.join(dir, 'new'))
    fs.renameSync(path.join(dir, 'new'), path.join(dir, name))
  }
  const content = (/** @type {string} */ name) => fs.readFileSync(path.join(dir, name, 'file.json'), 'utf8')
  return {
    dir,
    paths: /** @type {const} */ ([['current', path.join(dir, 'current', 'file.json')], ['link.json', path.join(dir, 'link.json')]]),
    flip,
    content,
    /** Whether the call has written the file that it had locked, or nothing, and never the other. @param {any} error */
    check(error) {
      assert.equal(content('other'), '{"in":"other"}')
      if (!error) return assert.notEqual(content('one'), '{"in":"one"}')
      assert.equal(error.code, 'ESTALE')
      assert.match(error.hint, /a link in it has been changed/)
      assert.equal(content('one'), '{"in":"one"}')
      for (const name of ['one', 'other', '.']) assert.deepEqual(temps(path.join(dir, name)), [])
    },
  }
}

/** @param {Promise<unknown>} call */
const errorOf = (call) => call.then(() => undefined, (error) => error)

describe('a link that is changed', { skip: whyNot.unix() }, () => {
  for (const index of [0, 1]) {
    const what = index === 0 ? 'to a directory' : 'to a file'

    test(`in the function of an update, ${what}`, async (t) => {
      const { paths, flip, check } = scene(t)
      const [link, file] = /** @type {readonly [string, string]} */ (paths[index])
      check(await errorOf(holdfast.updateJsonFile(file, (data) => {
        flip(link)
        data.n = 1
      }, { retryDelay: 1 })))
    })

    test(`in the function of a transaction, ${what}`, async (t) => {
      const { paths, flip, check } = scene(t)
      const [link, file] = /** @type {readonly [string, string]} */ (paths[index])
      check(await errorOf(holdfast.transaction([file], async (tx) => {
        flip(link)
        await tx.write(file, '{"new":1}')
      }, { retryDelay: 1 })))
    })

    test(`before a transaction reads or removes the file, ${what}`, async (t) => {
      const { paths, flip, content } = scene(t)
      const [link, file] = /** @type {readonly [string, string]} */ (paths[index])
      const error = await failure(holdfast.transaction([file], async (tx) => {
        flip(link)
        for (const read of [tx.read(file), tx.updateJson(file, () => {})]) assert.equal((await failure(read)).code, 'ESTALE')
        await tx.remove(file)
      }, { retryDelay: 1 }))
      assert.equal(error.code, 'ESTALE')
      assert.deepEqual([content('one'), content('other')], ['{"in":"one"}', '{"in":"other"}'])
    })

    test(`while a stream is open that holds the lock, ${what}`, async (t) => {
      const { paths, flip, check } = scene(t)
      const [link, file] = /** @type {readonly [string, string]} */ (paths[index])
      const stream = holdfast.createAtomicWriteStream(file, { lock: true })
      await new Promise((resolve) => stream.write('{"new":', resolve))
      flip(link)
      stream.end('1}')
      check(await errorOf(finished(stream)))
    })

    test(`while a restore waits for the lock, ${what}`, async (t) => {
      const { dir, paths, flip, check } = scene(t)
      const [link, file] = /** @type {readonly [string, string]} */ (paths[index])
      const backup = path.join(dir, 'backup')
      fs.writeFileSync(backup, '{"restored":1}')
      const lock = await holdfast.acquireLock(file, { kind: 'read' })
      const restored = errorOf(holdfast.restoreBackup(backup, file, { retryDelay: 1 }))
      // Where a writer waits no further reader gets the lock.
      for (let probe; (probe = await holdfast.tryAcquireLock(file, { kind: 'read' })); ) await probe.release()
      flip(link)
      await lock.release()
      check(await restored)
    })

    test(`under withLock, ${what}`, async (t) => {
      const { paths, flip, check } = scene(t)
      const [link, file] = /** @type {readonly [string, string]} */ (paths[index])
      // The lock that is held is not that of the file which the path leads to now: it is taken.
      await holdfast.withLock(file, async () => {
        flip(link)
        await assert.rejects(holdfast.updateJsonFile(path.join(path.dirname(file), 'none.json'), () => {}), { code: 'ENOENT' })
      })
      check({ code: 'ESTALE', hint: 'a link in it has been changed' })
    })
  }

  test('two files of a transaction whose links change places keep their contents apart', async (t) => {
    const { dir, content } = scene(t)
    const [a, b] = [path.join(dir, 'a'), path.join(dir, 'b')]
    fs.symlinkSync('one/file.json', a)
    fs.symlinkSync('other/file.json', b)
    const error = await failure(holdfast.transaction([a, b], async (tx) => {
      await tx.write(a, '{"for":"one"}')
      await tx.write(b, '{"for":"other"}')
      fs.renameSync(a, path.join(dir, 'c'))
      fs.renameSync(b, a)
      fs.renameSync(path.join(dir, 'c'), b)
    }, { retryDelay: 1 }))
    assert.equal(error.code, 'ESTALE')
    assert.deepEqual([content('one'), content('other')], ['{"in":"one"}', '{"in":"other"}'])
  })

  test('again and again beside updates loses none and mixes none up', async (t) => {
    const dir = newDir(t)
    for (const name of ['one', 'other']) {
      fs.mkdirSync(path.join(dir, name))
      fs.writeFileSync(path.join(dir, name, 'file.json'), JSON.stringify({ name, n: 0 }))
    }
    const link = path.join(dir, 'current')
    fs.symlinkSync('one', link)
    let isOver = false
    const flips = (async () => {
      for (let i = 0; !isOver; i++) {
        fs.symlinkSync(i % 2 ? 'one' : 'other', path.join(dir, 'new'))
        fs.renameSync(path.join(dir, 'new'), link)
        await new Promise((resolve) => setTimeout(resolve, 1))
      }
    })()
    const done = { one: 0, other: 0 }
    for (let i = 0; i < 300; i++) {
      /** @type {'one' | 'other'} */
      let name = 'one'
      const error = await errorOf(holdfast.updateJsonFile(path.join(link, 'file.json'), (data) => {
        name = data.name
        data.n++
      }, { durability: 'none', retries: 1 }))
      if (!error) done[name]++
      else assert.equal(error.code, 'ESTALE')
    }
    isOver = true
    await flips
    for (const name of /** @type {const} */ (['one', 'other'])) {
      assert.deepEqual(JSON.parse(fs.readFileSync(path.join(dir, name, 'file.json'), 'utf8')), { name, n: done[name] })
    }
  })

  test('to a file that the write replaces itself is no matter', async (t) => {
    const { dir, paths } = scene(t)
    const [, [, link]] = paths
    await holdfast.atomicWrite(link, 'replaced', { followSymlinks: false, lock: true })
    assert.equal(fs.lstatSync(link).isFile(), true)
    assert.equal(fs.readFileSync(path.join(dir, 'one', 'file.json'), 'utf8'), '{"in":"one"}')
  })
})
