'use strict'

// The removal of a file for good, with what belongs to it.

const { describe, test } = require('node:test')
const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { NOBODY, assertFree, failure, holdfast, inChild, names, newDir, whyNot } = require('./helpers.js')
const { GUARD, Peer } = require('./programs/lock-peer.js')
const { fastDir } = require('./system.js')

const { SessionFileError, atomicWrite, createBackup, listBackups, removeFile, restoreBackup, updateJsonFile, withLock } = holdfast

function newFile(/** @type {any} */ t, content = '{}') {
  const file = path.join(newDir(t), 'data.json')
  fs.writeFileSync(file, content)
  return file
}

/** The names in its directory, without the lock file, which goes a little later. @param {string} file */
const left = (file) => names(path.dirname(file)).filter((name) => !name.endsWith('.lock'))

test('the file is gone, with what a killed process has left of it; others and backups stay', async (t) => {
  const file = newFile(t)
  const dir = path.dirname(file)
  const backup = await createBackup(file)
  fs.writeFileSync(`${file}.other`, '')
  await inChild(({ file }, { holdfast }) => {
    const stream = holdfast.createAtomicWriteStream(file)
    return new Promise((resolve) => stream.write('half', () => setTimeout(() => process.kill(process.pid, 'SIGKILL'), 0)) || resolve)
  }, { file }).catch(() => {})
  assert.ok(left(file).some((name) => name.endsWith('.tmp')), left(file).join())
  assert.equal(await removeFile(file), undefined)
  assert.deepEqual(left(file), [path.basename(backup), 'data.json.other'].sort())
  await assertFree(file)
  assert.equal(dir, path.dirname(file))
})

test('a backup is made before, and can be restored', async (t) => {
  const file = newFile(t, '{"a":1}')
  const backup = await removeFile(file, { backup: true })
  assert.equal(typeof backup, 'string')
  assert.deepEqual((await listBackups(file)).map((each) => each.path), [backup])
  assert.deepEqual(left(file), [path.basename(/** @type {string} */ (backup))])
  await restoreBackup(/** @type {string} */ (backup), file)
  assert.equal(fs.readFileSync(file, 'utf8'), '{"a":1}')
  await removeFile(file, { backup: { keep: 1 } })
  assert.equal((await listBackups(file)).length, 1)
})

test('if no backup can be made nothing is removed', async (t) => {
  const file = newFile(t, 'no json')
  const error = await failure(() => removeFile(file, { backup: { validate: 'json' } }))
  assert.ok(error instanceof SessionFileError)
  assert.deepEqual([error.code, error.operation, error.committed], ['EBADJSON', 'remove file', false])
  assert.deepEqual(left(file), ['data.json'])
  assert.match((await failure(() => removeFile(file, { backup: /** @type {any} */ ({ kep: 1 }) }))).message, /Unknown option "kep" for createBackup/)
  assert.match((await failure(() => removeFile(file, { backup: /** @type {any} */ (1) }))).message, /"backup" option must be of type boolean or object/)
  assert.deepEqual(left(file), ['data.json'])
})

test('says what is wrong', async (t) => {
  const file = newFile(t)
  const dir = path.dirname(file)
  fs.symlinkSync('a', `${dir}/a`)
  for (const [at, code] of [[`${file}.no`, 'ENOENT'], [dir, 'EISDIR'], [`${dir}/a`, 'ELOOP'], [`${dir}/no/file`, 'ENOENT'], ['/dev/null', 'EINVAL']]) {
    for (const lock of [true, false]) {
      const error = await failure(() => removeFile(/** @type {string} */ (at), { lock }))
      assert.deepEqual([error.code, error.path, error.operation, error.committed], [code, at, 'remove file', false], `${lock}`)
    }
  }
  assert.match((await failure(() => removeFile(`${file}.no`))).hint, /force/)
  assert.equal(await removeFile(`${file}.no`, { force: true }), undefined)
  const aborted = await failure(() => removeFile(file, { signal: AbortSignal.abort() }))
  assert.equal(aborted.code, 'ABORT_ERR')
  assert.ok(fs.existsSync(file))
})

test('a link: the file that it leads to, or with followSymlinks: false the link', { skip: whyNot.unix() }, async (t) => {
  const file = newFile(t)
  const link = path.join(path.dirname(file), 'link')
  fs.symlinkSync('data.json', link)
  await removeFile(link, { followSymlinks: false, lock: false })
  assert.deepEqual(left(file), ['data.json'])
  fs.symlinkSync('data.json', link)
  await removeFile(link)
  assert.deepEqual(left(file), ['link'])
  await updateJsonFile(link, () => {}, { defaultValue: { anew: true } })
  assert.equal(fs.readFileSync(file, 'utf8'), '{"anew":true}')
})

test('comes after the earlier writes and before the later ones', async (t) => {
  const file = newFile(t)
  const calls = []
  for (let i = 0; i < 20; i++) {
    const write = atomicWrite(file, 'w'.repeat(100_000), { durability: 'none' })
    // Where there is one to remove: the write before it has taken effect.
    calls.push(write, removeFile(file, { lock: false, durability: 'none' }))
  }
  await Promise.all([...calls, atomicWrite(file, 'last')])
  assert.equal(fs.readFileSync(file, 'utf8'), 'last')
})

describe('the lock', { timeout: GUARD }, () => {
  test('of another process is waited for; a withLock around it is used', async (t) => {
    const file = newFile(t)
    const peer = new Peer(t)
    await peer.acquire(file)
    assert.equal((await failure(() => removeFile(file, { timeout: 10 }))).code, 'ELOCKED')
    assert.ok(fs.existsSync(file))
    const removing = removeFile(file)
    await peer.release()
    await removing
    fs.writeFileSync(file, '{}')
    await withLock(file, () => removeFile(file, { timeout: 0, backup: true }))
    assert.equal(fs.existsSync(file), false)
    await assertFree(file)
  })
})

test('in a directory of another user nothing happens', { skip: whyNot.root() }, async (t) => {
  const file = newFile(t)
  fs.chmodSync(path.dirname(file), 0o755)
  const error = await inChild(({ file }, { holdfast, outcome }) => outcome(() => holdfast.removeFile(file, { lock: false })), { file }, { user: NOBODY })
  assert.equal(error.code, 'EACCES')
  assert.ok(fs.existsSync(file))
})

test('what is durable is synced before the call resolves, and a sync that fails is told as such', { skip: whyNot.strace() }, async (t) => {
  // On a file system where no removal needs a sync for another reason.
  const file = path.join(fastDir(t), 'data.json')
  const log = path.join(newDir(t), 'trace')
  for (const durability of /** @type {const} */ (['full', 'none'])) {
    fs.writeFileSync(file, '{}')
    await inChild(({ file, durability }, { holdfast }) => holdfast.removeFile(file, { durability }).then(() => 1), { file, durability }, { command: ['strace', '-f', '-y', '-o', log, '-e', 'trace=unlink,unlinkat,fsync,fdatasync,syncfs'] })
    const trace = fs.readFileSync(log, 'utf8')
    const [before, after] = trace.split(/unlinkat\([^\n]*"data\.json"/)
    assert.ok(before !== undefined && after !== undefined, trace)
    assert.equal(new RegExp(`fsync\\(\\d+<${path.dirname(file)}>\\) += 0`).test(after), durability === 'full', trace)
  }
  fs.writeFileSync(file, '{}')
  const error = await inChild(({ file }, { holdfast, outcome }) => outcome(() => holdfast.removeFile(file)), { file }, { command: ['strace', '-f', '-qq', '-o', '/dev/null', '-P', path.dirname(file), '-e', 'trace=fsync', '-e', 'inject=fsync:error=EIO'] })
  assert.deepEqual([error.code, error.committed], ['EIO', true])
  assert.match(error.hint, /may bring it back/)
  assert.equal(fs.existsSync(file), false)
})
