'use strict'

// `AtomicFileStorage` in the place of the storage that the package `vectra` has.

const assert = require('node:assert/strict')
const { spawn } = require('node:child_process')
const { once } = require('node:events')
const fs = require('node:fs')
const path = require('node:path')
const readline = require('node:readline')
const { describe, test } = require('node:test')
const { AtomicFileStorage } = require('../vectra.js')
const { failure, modeOf, names, newDir, tinyDisk, whyNot } = require('./helpers.js')
const { cleanUp, fastDir } = require('./system.js')

/** The package, which brings many others and is not installed everywhere. @type {any} */
let vectra
try {
  vectra = require('vectra')
} catch (error) {
  if (/** @type {any} */ (error).code !== 'MODULE_NOT_FOUND') throw error
}
const noVectra = vectra === undefined && 'the package vectra is not installed'

/** What a call gives, or the code with which it fails. @param {() => Promise<any>} call */
async function outcome(call) {
  try {
    return { value: await call() }
  } catch (error) {
    return { code: /** @type {any} */ (error).code }
  }
}

test('every method does what LocalFileStorage does', { skip: noVectra || whyNot.unix() }, async (t) => {
  const seen = await Promise.all([vectra.LocalFileStorage, AtomicFileStorage].map(async (Storage) => {
    const dir = newDir(t)
    const storage = new Storage(dir)
    /** @type {any[]} */
    const told = []
    const call = async (/** @type {string} */ method, /** @type {any[]} */ ...args) => {
      const result = await outcome(() => storage[method](...args))
      told.push([method, args[0], JSON.parse(JSON.stringify(result).replaceAll(dir, ''))])
    }
    await call('createFolder', 'a/b')
    await call('createFolder', 'a/b')
    await call('createFolder', '')
    for (const [name, content] of [['a/text.txt', 'é'], ['a/bytes.BIN', Buffer.from([0, 255])], ['a/none', ''], ['a/text.txt', 'again'], ['missing/file', '']]) await call('createFile', name, content)
    for (const [name, content] of [['a/text.txt', 'other'], ['a/new.json', '{}'], ['a/b', ''], ['missing/file', '']]) await call('upsertFile', name, content)
    for (const name of ['a/text.txt', 'a/bytes.BIN', 'a/none', 'missing', 'a']) await call('readFile', name)
    for (const name of ['a', 'a/text.txt', 'a/none', 'missing', '']) await call('pathExists', name)
    for (const name of ['a', 'a/text.txt', 'a/bytes.BIN', 'a/none', 'missing']) await call('getDetails', name)
    for (const name of ['', 'a/b', 'missing', 'a/none']) await call('listFiles', name)
    const list = async (/** @type {string} */ name) => (await storage.listFiles(name)).map((/** @type {any} */ entry) => ({ ...entry, path: entry.path.replace(dir, '') })).sort((/** @type {any} */ a, /** @type {any} */ b) => (a.name < b.name ? -1 : 1))
    told.push(await list('a'))
    for (const name of ['a/text.txt', 'a/b']) await call('deleteFile', name)
    told.push(await list('a'), modeOf(path.join(dir, 'a/new.json')))
    await call('deleteFolder', 'a')
    return [...told, names(dir)]
  }))
  assert.deepEqual(seen[1], seen[0])
})

test('knows the extensions that the package knows', { skip: noVectra }, async (t) => {
  const dir = newDir(t)
  const storage = new AtomicFileStorage(dir)
  assert.ok(vectra.FileExt.length > 80)
  for (const extension of [...vectra.FileExt, 'unknown', '', 'JSON']) {
    fs.writeFileSync(path.join(dir, `f.${extension}`), '')
    const { fileType } = await storage.getDetails(`f.${extension}`)
    assert.equal(fileType, vectra.FileStorageUtilities.getFileType(`f.${extension}`), extension)
  }
})

describe('AtomicFileStorage', () => {
  test('without a root, paths are what they are', async (t) => {
    const dir = newDir(t)
    const storage = new AtomicFileStorage()
    await storage.createFile(path.join(dir, 'file'), 'text')
    assert.equal(String(await storage.readFile(path.join(dir, 'file'))), 'text')
    assert.equal((await storage.getDetails('')).isFolder, true)
  })

  test('of many that make one file, one succeeds, and the others fail with EEXIST', async (t) => {
    const dir = newDir(t)
    const results = await Promise.allSettled(Array.from({ length: 20 }, (_, i) => new AtomicFileStorage(dir).createFile('file', String(i))))
    const failed = results.flatMap((result) => (result.status === 'rejected' ? [result.reason.code] : []))
    assert.deepEqual(failed, Array(19).fill('EEXIST'))
    assert.equal(fs.readFileSync(path.join(dir, 'file'), 'utf8'), String(results.findIndex(({ status }) => status === 'fulfilled')))
    assert.deepEqual(names(dir), ['file'])
  })

  test('what is not there counts as deleted, as the interface says', async (t) => {
    const dir = newDir(t)
    const storage = new AtomicFileStorage(dir)
    await storage.deleteFile('missing')
    await storage.deleteFolder('missing')
    fs.writeFileSync(path.join(dir, 'file'), '')
    fs.symlinkSync('file', path.join(dir, 'link'))
    assert.equal((await failure(storage.deleteFolder('file'))).code, 'ENOTDIR')
    await storage.deleteFile('link')
    assert.deepEqual(names(dir), ['file'])
  })

  test('lists what the filter says, and no temp files and locks', async (t) => {
    const dir = newDir(t)
    const storage = new AtomicFileStorage(dir)
    fs.mkdirSync(path.join(dir, 'folder'))
    for (const name of ['file', '.hidden', 'x.lock', '.index.json.0123456789abcdef.tmp', '.index.json.lock', '.vectra.lock']) fs.writeFileSync(path.join(dir, name), '')
    const listed = async (/** @type {any} */ filter) => (await storage.listFiles('', filter)).map(({ name }) => name).sort()
    assert.deepEqual(await listed(undefined), ['.hidden', 'file', 'folder', 'x.lock'])
    assert.deepEqual(await listed('all'), ['.hidden', 'file', 'folder', 'x.lock'])
    assert.deepEqual(await listed('files'), ['.hidden', 'file', 'x.lock'])
    assert.deepEqual(await listed('folders'), ['folder'])
  })

  test('a path that cannot be looked at is not one that is missing', { skip: whyNot.unix() }, async (t) => {
    const dir = newDir(t)
    fs.symlinkSync('loop', path.join(dir, 'loop'))
    assert.equal((await failure(new AtomicFileStorage(dir).pathExists('loop'))).code, 'ELOOP')
    assert.equal(await new AtomicFileStorage(dir).pathExists('missing'), false)
  })

  test('a full disk leaves the file as it was', { skip: whyNot.mount() }, async (t) => {
    const dir = tinyDisk(t)
    const storage = new AtomicFileStorage(dir, { durability: 'none' })
    await storage.upsertFile('file', 'old')
    assert.equal((await failure(storage.upsertFile('file', 'x'.repeat(100_000)))).code, 'ENOSPC')
    assert.equal((await failure(storage.createFile('new', 'x'.repeat(100_000)))).code, 'ENOSPC')
    assert.equal(String(await storage.readFile('file')), 'old')
    assert.deepEqual(names(dir), ['file'])
  })

  test('refuses options that it does not know', () => {
    assert.throws(() => new AtomicFileStorage('dir', /** @type {any} */ ({ durabilty: 'none' })), { message: /Did you mean "durability"/ })
  })
})

test('an index of the package has every item that two processes were told is in it, though they are killed', { skip: noVectra || whyNot.unix() }, async (t) => {
  const dir = path.join(fastDir(t), 'index')
  const open = () => new vectra.LocalIndex(dir, undefined, new AtomicFileStorage())
  await open().createIndex({ version: 1 })
  /** @type {Set<string>} */
  const told = new Set()
  const program = path.join(__dirname, 'programs/vectra-index-writer.js')
  /** Runs a writer until it has been told of some items, and then kills it. @param {string} name @param {number} items */
  const writeUntilKilled = async (name, items) => {
    const writer = spawn(process.execPath, [program, dir, name], { stdio: ['ignore', 'pipe', 'inherit'] })
    cleanUp(t, () => writer.kill('SIGKILL'))
    const exit = once(writer, 'exit')
    let left = items
    for await (const id of readline.createInterface({ input: writer.stdout })) {
      told.add(id)
      if (--left === 0) setTimeout(() => writer.kill('SIGKILL'), Math.random() * 10)
    }
    assert.deepEqual(await exit, [null, 'SIGKILL'])
    // Whatever it was at, the other one finds an index.
    const { items: there } = await open().getIndexStats()
    assert.ok(there >= 1)
  }
  await Promise.all(['a', 'b'].map(async (writer) => {
    for (let round = 0; round < 4; round++) await writeUntilKilled(`${writer}${round}`, 5 + Math.floor(Math.random() * 20))
  }))
  const items = await open().listItems()
  const there = new Set(items.map((/** @type {any} */ { id }) => id))
  assert.equal(there.size, items.length)
  assert.ok(told.size >= 40)
  assert.deepEqual([...told].filter((id) => !there.has(id)), [])
  // What was under way when a writer was killed may be in it: one item of each.
  assert.ok(there.size - told.size <= 8)
  const [best] = await open().queryItems([1, 1], '', 1)
  assert.equal(best.item.metadata.text.length, 500)
})
