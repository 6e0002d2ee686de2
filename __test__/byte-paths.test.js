'use strict'

// Names that are not UTF-8, which Unix allows: every function that takes a path takes them as a `Buffer`.

const assert = require('node:assert/strict')
const { spawnSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const { pathToFileURL } = require('node:url')
const { describe, test } = require('node:test')
const holdfast = require('../index.js')
const vectra = require('../vectra.js')
const { fromBytes, normalized, toBytes } = require('../lib/support/byte-paths.js')
const { newDir, root } = require('./helpers.js')

/** A name of é in Latin-1, of the character that Node writes for what is not UTF-8, and of halves of characters. */
const ODD = Buffer.from([0x63, 0x61, 0x66, 0xe9, 0xef, 0xbf, 0xbd, 0x2d, 0xf0, 0x9f, 0x98, 0x2e, 0x6a, 0x73, 0x6f, 0x6e])

/** @param {string | Buffer} dir @param {Buffer} name */
const inside = (dir, name) => Buffer.concat([Buffer.from(dir), Buffer.from('/'), name])

/** @param {string | Buffer} dir */
const names = (dir) => fs.readdirSync(dir, { encoding: 'buffer' }).map((name) => name.toString('latin1')).sort()

const skip = process.platform === 'linux' ? false : 'only Linux takes any bytes as a name'

/** A directory whose own name is not UTF-8 either. @param {import('node:test').TestContext} t */
function oddDir(t) {
  const dir = inside(newDir(t), Buffer.from([0x64, 0xff, 0xfe]))
  fs.mkdirSync(dir)
  return dir
}

describe('names that are not UTF-8', { skip }, () => {
  test('are kept byte for byte by every form of a write', async (t) => {
    const dir = oddDir(t)
    const file = inside(dir, ODD)
    const latin = () => assert.deepEqual(names(dir), [ODD.toString('latin1')])
    await holdfast.atomicWrite(file, 'one')
    latin()
    holdfast.atomicWriteSync(file, 'two')
    await holdfast.atomicWrite(file, ['th', 'ree'])
    await holdfast.atomicWriteJson(file, { n: 4 })
    await new Promise((resolve, reject) => holdfast.createAtomicWriteStream(file).on('error', reject).on('finish', () => resolve(undefined)).end('{"n":5}'))
    assert.equal(fs.readFileSync(file, 'utf8'), '{"n":5}')
    await holdfast.updateJsonFile(file, (data) => { data.n++ })
    holdfast.updateJsonFileSync(file, (data) => { data.n++ })
    assert.deepEqual(await holdfast.readJsonFile(file), { n: 7 })
    assert.deepEqual(holdfast.readJsonFileSync(file), { n: 7 })
    assert.equal(await vectra.AtomicOperations.readFile(file), '{"n":7}')
    await holdfast.withLock(file, () => {})
    await new Promise((resolve) => setTimeout(resolve, 600))
    latin()
    await holdfast.removeFile(file)
    assert.deepEqual(names(dir), [])
  })

  test('are shown to `onTempFile` as bytes that lead to the temp file', async (t) => {
    const dir = oddDir(t)
    const file = inside(dir, ODD)
    /** @type {any[]} */
    const seen = []
    const onTempFile = (/** @type {string} */ tempPath) => { seen.push(tempPath, fs.statSync(tempPath).isFile()) }
    await holdfast.atomicWrite(file, 'a', { onTempFile })
    holdfast.atomicWriteSync(file, 'b', { onTempFile })
    await holdfast.updateJsonFile(inside(dir, Buffer.from('u\xff', 'latin1')), () => ({}), { defaultValue: {}, onTempFile })
    assert.equal(seen.length, 6)
    for (let at = 0; at < 6; at += 2) assert.ok(Buffer.isBuffer(seen[at]) && seen[at + 1])
    // A path that a string leads to is shown as a string.
    await holdfast.atomicWrite(Buffer.from(path.join(newDir(t), 'plain')), 'a', { onTempFile })
    assert.equal(typeof seen[6], 'string')
  })

  test('have locks of their own, and share them with the URL and the string that lead there', async (t) => {
    const dir = oddDir(t)
    const [one, two] = [inside(dir, Buffer.from([0xe9])), inside(dir, Buffer.from([0xe8]))]
    const lock = await holdfast.acquireLock(one)
    assert.equal(await holdfast.tryAcquireLock(fromBytes(one)), null)
    const url = new URL(`${pathToFileURL(tempDirOf(dir)).href}/${[...dir.subarray(dir.lastIndexOf(0x2f) + 1)].map((byte) => `%${byte.toString(16)}`).join('')}/%E9`)
    assert.equal(await holdfast.tryAcquireLock(url), null)
    assert.equal((await holdfast.isLocked(one)).locked, true)
    // Not that of another byte: both are the same character to those who replace what is not UTF-8.
    assert.equal((await holdfast.isLocked(two)).locked, false)
    await holdfast.withLock(two, () => {})
    assert.equal(holdfast.withLockSync(two, () => 5), 5)
    await lock.release()
    // Likewise locks as proper-lockfile makes them, whose keys are strings.
    const first = await holdfast.acquireLock(one, { protocol: 'proper-lockfile' })
    const second = await holdfast.acquireLock(two, { protocol: 'proper-lockfile' })
    assert.deepEqual(names(dir).filter((name) => name.endsWith('.lock') && !name.startsWith('.')), ['\xe8.lock', '\xe9.lock'])
    await second.release()
    await first.release()
  })

  test('are files of a transaction, which refuses to be bypassed under them', async (t) => {
    const dir = oddDir(t)
    const [one, two] = [inside(dir, Buffer.from([0xe9])), inside(dir, Buffer.from([0xe8]))]
    await holdfast.transaction([one, two], async (tx) => {
      await tx.write(one, '1')
      await tx.write(two, '2')
      assert.equal(await tx.read(one, 'utf8'), '1')
      await assert.rejects(holdfast.atomicWrite(one, 'past it'), { code: 'EDEADLK' })
    })
    assert.deepEqual(names(dir).filter((name) => !name.endsWith('.lock')), ['\xe8', '\xe9'])
    assert.equal(fs.readFileSync(two, 'utf8'), '2')
    await assert.rejects(holdfast.transaction([one, two], async (tx) => {
      await tx.rename(one, two)
      throw new Error('taken back')
    }), { message: 'taken back' })
    assert.equal(fs.readFileSync(one, 'utf8'), '1')
  })

  test('are found by a recovery, whose report leads back to them', async (t) => {
    const dir = oddDir(t)
    const file = inside(dir, ODD)
    fs.writeFileSync(file, '{}')
    spawnSync(process.execPath, ['-e', `
      const file = Buffer.from(process.argv[1], 'hex')
      require(${JSON.stringify(root)}).atomicWrite(file, 'new', { onTempFile: () => process.kill(process.pid, 'SIGKILL') })
      setTimeout(() => {}, 60_000)`, file.toString('hex')])
    assert.equal(names(dir).filter((name) => !name.endsWith('.lock')).length, 2)
    const { actions } = await holdfast.recoverFromCrash(dir)
    const removed = actions.filter(({ action }) => action === 'removed').map((action) => toBytes(action.path))
    assert.ok(removed.length > 0)
    for (const name of removed) assert.deepEqual(name.subarray(0, dir.length), dir)
    assert.deepEqual(names(dir), [ODD.toString('latin1')])
  })

  test('have backups, whose paths lead back to them', async (t) => {
    const dir = oddDir(t)
    const file = inside(dir, ODD)
    fs.writeFileSync(file, '1')
    const backup = await holdfast.createBackup(file)
    fs.writeFileSync(file, '2')
    assert.deepEqual((await holdfast.listBackups(file)).map((found) => found.path), [backup])
    await holdfast.restoreBackup(backup, file)
    assert.equal(fs.readFileSync(file, 'utf8'), '1')
    assert.equal(fs.readFileSync(toBytes(backup), 'utf8'), '1')
    await holdfast.removeFile(file, { backup: true })
    assert.equal((await holdfast.listBackups(file)).length, 2)
  })

  test('hold a log, its copy and what follows it', async (t) => {
    const dir = inside(oddDir(t), Buffer.from([0x6c, 0xff]))
    const log = await holdfast.openWal(dir)
    await log.append('c', [{ op: 'insert', id: 'a', payload: Buffer.from('x') }])
    await log.backup(Buffer.concat([dir, Buffer.from('-copy')]))
    await log.close()
    const reader = await holdfast.openWal(Buffer.concat([dir, Buffer.from('-copy')]), { readOnly: true })
    const found = []
    for await (const entry of reader.replay('c')) found.push(entry.id)
    assert.deepEqual(found, ['a'])
    for await (const entry of reader.follow('c', { from: 1n })) if (entry) break
    await reader.close()
    const log2 = await holdfast.openWal(dir)
    await (await log2.consumer('name', 'c')).close()
    await log2.close()
    assert.deepEqual(names(dir.subarray(0, dir.lastIndexOf(0x2f))).filter((name) => !name.endsWith('.lock')), ['l\xff', 'l\xff-copy'])
  })

  test('lie in a working directory of such a name', (t) => {
    const dir = oddDir(t)
    const program = `const h = require(${JSON.stringify(root)}); h.atomicWrite('relative', 'a').then(() => h.atomicWriteSync(Buffer.from([0xff]), 'b'))`
    const { status, stderr } = spawnSync('sh', ['-c', 'cd "$0"/d* && exec "$1" -e "$2"', tempDirOf(dir), process.execPath, program], { encoding: 'utf8' })
    assert.equal(status, 0, stderr)
    assert.deepEqual(names(dir), ['relative', '\xff'])
  })

  test('are named in errors by a string that leads back to them', async (t) => {
    const file = inside(oddDir(t), ODD)
    for (const call of [() => holdfast.readJsonFile(file), () => holdfast.updateJsonFile(file, () => {}), () => holdfast.removeFile(file), () => holdfast.createBackup(file)]) {
      const error = await call().then(assert.fail, (/** @type {any} */ reason) => reason)
      assert.equal(error.code, 'ENOENT')
      assert.deepEqual(toBytes(error.path), file)
    }
  })
})

describe('a path as a Buffer', () => {
  test('is checked as a string is', async () => {
    for (const [bytes, code] of /** @type {const} */ ([[Buffer.alloc(0), 'ERR_INVALID_ARG_VALUE'], [Buffer.from('a\0b'), 'ERR_INVALID_ARG_VALUE'], [Buffer.from('s3://bucket/key'), 'ERR_INVALID_ARG_VALUE']])) {
      await assert.rejects(holdfast.atomicWrite(bytes, ''), { code, message: /"path" argument/ })
    }
    await assert.rejects(holdfast.atomicWrite(/** @type {any} */ (new Uint16Array(2)), ''), {
      code: 'ERR_INVALID_ARG_TYPE', message: 'The "path" argument must be of type string or an instance of Buffer or URL. Received an instance of Uint16Array',
    })
    const moved = Buffer.from(new ArrayBuffer(8))
    structuredClone(moved.buffer, { transfer: [moved.buffer] })
    await assert.rejects(holdfast.atomicWrite(moved, ''), { code: 'ERR_INVALID_ARG_VALUE', message: /transferred/ })
  })

  test('is read before the call returns', async (t) => {
    const dir = newDir(t)
    const bytes = Buffer.from(path.join(dir, 'a'))
    const writing = holdfast.atomicWrite(bytes, 'kept')
    bytes.fill(0x78)
    await writing
    assert.equal(fs.readFileSync(path.join(dir, 'a'), 'utf8'), 'kept')
  })

  test('has one string for all bytes, and leads back to them', () => {
    const pieces = [0xc3, 0xa9, 0xed, 0xb3, 0xbf, 0xf0, 0x9f, 0x98, 0x80, 0xff, 0x2f]
    let seed = 1
    const random = (/** @type {number} */ below) => (seed = (seed * 48271) % 2147483647) % below
    for (let round = 0; round < 20_000; round++) {
      const bytes = Buffer.from(Array.from({ length: random(12) }, () => random(3) ? random(256) : pieces[random(pieces.length)]))
      const text = fromBytes(bytes)
      assert.deepEqual(toBytes(text), bytes)
      assert.equal(normalized(text), text)
    }
    assert.equal(normalized('\udcc3\udca9'), 'é')
  })
})

/** @param {Buffer} dir */
function tempDirOf(dir) {
  return dir.subarray(0, dir.lastIndexOf(0x2f)).toString()
}
