'use strict'

// Locks of what is mounted: the root of a volume, which several containers may have, each under a path of
// its own, and a file that is mounted by itself.

const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { describe, test } = require('node:test')
const { failure, holdfast, inChild, mount, newDir } = require('./helpers.js')
const { whyNot } = require('./system.js')

const { acquireLock, isLocked, tryAcquireLock, updateJsonFile, withLock } = holdfast

/** What to put before a command, so that it has `what` mounted at `at`, as in a container. */
const contained = (/** @type {string} */ what, /** @type {string} */ at) => ['unshare', '-m', 'sh', '-c', 'mount --make-rprivate / && mount --bind "$1" "$2" && shift 2 && exec "$@"', 'sh', what, at]

/** Tries a lock, and says whether it was held. */
const tries = async (/** @type {any} */ { path, kind }, /** @type {any} */ { holdfast }) => {
  const lock = await holdfast.tryAcquireLock(path, { kind })
  const { locked } = await holdfast.isLocked(path)
  await lock?.release()
  return { got: lock !== null, locked }
}

describe('the lock of a volume', { skip: whyNot.namespaces() }, () => {
  test('is one for all who have it mounted, under whatever path', async (t) => {
    const above = newDir(t)
    const [volume, one, two, three] = ['volume', 'one', 'two', 'three'].map((name) => path.join(above, name))
    for (const each of [volume, one, two, three]) fs.mkdirSync(each)
    mount(t, one, '--bind', volume)
    mount(t, two, '--bind', volume)
    const lock = await acquireLock(one)
    assert.equal(await tryAcquireLock(two), null)
    assert.equal((await isLocked(two)).holder?.pid, process.pid)
    assert.deepEqual(fs.readdirSync(volume), ['.holdfast.root.lock'])
    // As another container.
    const command = contained(volume, three)
    assert.deepEqual(await inChild(tries, { path: three }, { command }), { got: false, locked: true })
    await lock.release()
    assert.deepEqual(await inChild(tries, { path: three }, { command }), { got: true, locked: true })
    const reading = await acquireLock(two, { kind: 'read' })
    assert.deepEqual(await inChild(tries, { path: three, kind: 'read' }, { command }), { got: true, locked: true })
    assert.deepEqual(await inChild(tries, { path: three }, { command }), { got: false, locked: true })
    await reading.release()
    // The locks of files in it are others, and the caller holds this one.
    await withLock(`${one}/`, async () => {
      await updateJsonFile(path.join(two, 'file'), (value) => ({ n: value.n + 1 }), { defaultValue: { n: 0 } })
      assert.equal((await failure(acquireLock(two, { timeout: 0 }))).code, 'ELOCKED')
      assert.equal((await failure(withLock(two, () => {}))).code, 'EDEADLK')
    })
    assert.deepEqual(JSON.parse(fs.readFileSync(path.join(volume, 'file'), 'utf8')), { n: 1 })
    // Beside the mount points there is nothing.
    assert.deepEqual(fs.readdirSync(above).sort(), ['one', 'three', 'two', 'volume'])
  })
})

describe('the lock of a file that is mounted by itself', { skip: whyNot.namespaces() }, () => {
  test('is refused, and the hint says why: it would exclude nobody who has the file elsewhere', async (t) => {
    const above = newDir(t)
    const [file, at] = [path.join(above, 'file.json'), path.join(above, 'mounted.json')]
    fs.writeFileSync(file, '{"n":1}')
    fs.writeFileSync(at, '')
    mount(t, at, '--bind', file)
    for (const call of [() => withLock(at, () => assert.fail('it has no lock')), () => acquireLock(at, { kind: 'read' }), () => tryAcquireLock(at), () => isLocked(at), () => updateJsonFile(at, () => ({}))]) {
      const error = await failure(call)
      assert.equal(error.code, 'EBUSY')
      assert.match(error.hint, /single-file bind mount.*Mount its folder instead/)
    }
    assert.deepEqual(fs.readdirSync(above).sort(), ['file.json', 'mounted.json'])
    assert.equal(fs.readFileSync(file, 'utf8'), '{"n":1}')
    // Where it is not mounted by itself, it has its lock.
    await withLock(file, async () => assert.equal((await isLocked(file)).locked, true))
  })
})
