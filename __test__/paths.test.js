'use strict'

// Paths that lead to no file that could be replaced, and working directories that no path leads to.

const assert = require('node:assert/strict')
const { spawnSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const { describe, test } = require('node:test')
const { NOBODY, failure, holdfast, inChild, names, newDir, whyNot } = require('./helpers.js')

/** Every function that takes the path of a file. @type {Record<string, (file: string) => unknown>} */
const calls = {
  atomicWrite: (file) => holdfast.atomicWrite(file, 'new', { makeDirs: true }),
  'atomicWrite with a lock': (file) => holdfast.atomicWrite(file, 'new', { lock: true }),
  atomicWriteSync: (file) => holdfast.atomicWriteSync(file, 'new', { lock: true }),
  atomicWriteJson: (file) => holdfast.atomicWriteJson(file, {}),
  createAtomicWriteStream: (file) => new Promise((_, reject) => holdfast.createAtomicWriteStream(file).on('error', reject).end('new')),
  updateJsonFile: (file) => holdfast.updateJsonFile(file, () => {}, { defaultValue: {} }),
  'updateJsonFile without a lock': (file) => holdfast.updateJsonFile(file, () => {}, { defaultValue: {}, lock: false }),
  transaction: (file) => holdfast.transaction([file], (tx) => tx.write(file, 'new')),
  createBackup: (file) => holdfast.createBackup(file),
  restoreBackup: (file) => {
    const backup = path.join(newDir(), 'backup')
    fs.writeFileSync(backup, 'new')
    return holdfast.restoreBackup(backup, file)
  },
  withLock: (file) => holdfast.withLock(file, () => {}),
  'withLock in the protocol of proper-lockfile': (file) => holdfast.withLock(file, () => {}, { protocol: 'proper-lockfile' }),
  'tryAcquireLock in the protocol of proper-lockfile': (file) => holdfast.tryAcquireLock(file, { protocol: 'proper-lockfile' }),
  tryAcquireLock: (file) => holdfast.tryAcquireLock(file),
}

describe('a path that names no file is refused before anything is done', { skip: whyNot.linux() }, () => {
  for (const [name, call] of Object.entries(calls)) {
    test(`${name}: a pipe, a device, and links to them`, async (t) => {
      const dir = newDir(t)
      const pipe = path.join(dir, 'pipe')
      spawnSync('mkfifo', [pipe])
      fs.symlinkSync('pipe', path.join(dir, 'link'))
      fs.symlinkSync('/dev/null', path.join(dir, 'null'))
      for (const file of [pipe, path.join(dir, 'link'), path.join(dir, 'null'), '/dev/null']) {
        const error = await failure(async () => call(file))
        assert.equal(error.code, 'EINVAL', file)
        assert.match(error.hint, ['pipe', 'link'].includes(path.basename(file)) ? /names a FIFO \(a named pipe\)/ : /names a character device, as a terminal or \/dev\/null is/)
      }
      assert.deepEqual(names(dir), ['link', 'null', 'pipe'])
      assert.deepEqual(names('/dev').filter((name) => name.includes('null') && name !== 'null'), [])
    })

    test(`${name}: what a process has open`, async (t) => {
      const dir = newDir(t)
      const descriptor = fs.openSync(path.join(dir, 'open'), 'w')
      t.after(() => fs.closeSync(descriptor))
      fs.symlinkSync(`/proc/self/fd/${descriptor}`, path.join(dir, 'link'))
      for (const file of ['/dev/stdout', '/dev/stdin', '/dev/fd/1', `/proc/self/fd/${descriptor}`, `/proc/${process.pid}/fd/${descriptor}`, path.join(dir, 'link')]) {
        const error = await failure(async () => call(file))
        assert.equal(error.code, 'EINVAL', file)
        assert.match(error.hint, /has open/)
      }
      assert.deepEqual(names(dir), ['link', 'open'])
      assert.equal(fs.readFileSync(path.join(dir, 'open'), 'utf8'), '')
    })
  }
})

describe('a relative path works where no path leads to the working directory', { skip: whyNot.linux() }, () => {
  /** What a program does in its working directory. */
  const program = async (/** @type {any} */ { take, give }, /** @type {any} */ { holdfast, fs, outcome }) => {
    const act = new Function('fs', 'spawnSync', take)
    const { spawnSync } = require('node:child_process')
    await holdfast.atomicWrite('before', 'old')
    act(fs, spawnSync)
    const outcomes = [
      await outcome(() => holdfast.atomicWrite('file', 'new')),
      await outcome(() => holdfast.atomicWriteSync('sync', 'new', { lock: true })),
      await outcome(() => holdfast.updateJsonFile('update.json', (/** @type {any} */ data) => void data.n++, { defaultValue: { n: 0 } })),
      await outcome(() => new Promise((resolve, reject) => holdfast.createAtomicWriteStream('stream').on('error', reject).end('new', resolve))),
      await outcome(() => holdfast.transaction(['file', 'tx'], async (/** @type {any} */ tx) => tx.write('tx', await tx.read('file', 'utf8')))),
      await outcome(async () => holdfast.restoreBackup(await holdfast.createBackup('file'), './restored')),
      await outcome(() => holdfast.withLock('file', () => {})),
      await outcome(() => holdfast.atomicWrite('sub/file', 'new', { makeDirs: true })),
    ]
    new Function('fs', 'spawnSync', give)(fs, spawnSync)
    return outcomes
  }
  const made = ['before', 'file', 'restored', 'stream', 'sub', 'sync', 'tx', 'update.json']
  const visible = (/** @type {string} */ dir) => names(dir).filter((name) => !name.startsWith('.') && !name.endsWith('.backup'))

  test('because a directory above it may not be searched', { skip: whyNot.root() }, async (t) => {
    const dir = newDir(t)
    const inside = path.join(dir, 'above', 'inside')
    fs.mkdirSync(inside, { recursive: true })
    for (const each of [path.join(dir, 'above'), inside]) fs.chownSync(each, NOBODY.uid, NOBODY.gid)
    const above = JSON.stringify(path.join(dir, 'above'))
    const outcomes = await inChild(program, { take: `fs.chmodSync(${above}, 0)`, give: `fs.chmodSync(${above}, 0o755)` }, { user: NOBODY, cwd: inside })
    assert.deepEqual(outcomes, outcomes.map(() => 'success'))
    assert.deepEqual(visible(inside), made)
  })

  test('because another file system is mounted over it', { skip: whyNot.mount() }, async (t) => {
    const dir = newDir(t)
    const inside = path.join(dir, 'above', 'inside')
    fs.mkdirSync(inside, { recursive: true })
    const above = path.join(dir, 'above')
    const take = `spawnSync('mount', ['-t', 'tmpfs', 'none', ${JSON.stringify(above)}]); fs.mkdirSync(${JSON.stringify(inside)})`
    const give = `spawnSync('umount', ['-l', ${JSON.stringify(above)}])`
    const outcomes = await inChild(program, { take, give }, { cwd: inside })
    assert.deepEqual(outcomes, outcomes.map(() => 'success'))
    assert.deepEqual(visible(inside), made)
  })

  test('because it is another directory of that name by now', async (t) => {
    const dir = newDir(t)
    const inside = path.join(dir, 'inside')
    fs.mkdirSync(inside)
    const [there, away] = [JSON.stringify(inside), JSON.stringify(`${inside}-away`)]
    const outcomes = await inChild(program, { take: `fs.renameSync(${there}, ${away}); fs.mkdirSync(${there})`, give: '' }, { cwd: inside })
    assert.deepEqual(outcomes, outcomes.map(() => 'success'))
    assert.deepEqual(visible(`${inside}-away`), made)
    assert.deepEqual(names(inside), [])
  })

  test('and where it has been removed the error says so', async (t) => {
    const dir = newDir(t)
    const inside = path.join(dir, 'inside')
    fs.mkdirSync(inside)
    const error = await inChild(async ({ inside }, { holdfast, fs, outcome }) => {
      process.cwd()
      fs.rmdirSync(inside)
      return outcome(() => holdfast.atomicWrite('file', 'new', { makeDirs: true }))
    }, { inside }, { cwd: inside })
    assert.equal(error.code, 'ENOENT')
    assert.match(error.message, /working directory of the process has been removed/)
    assert.deepEqual(names(dir), [])
  })
})
