'use strict'

// Kernel locks beside programs that lock the same file with proper-lockfile.

const { test } = require('node:test')
const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const lockfile = require('proper-lockfile')
const { assertFree, collector, failure, holdfast, newDir } = require('./helpers.js')

const { acquireLock, setLogger, tryAcquireLock, updateJsonFile, withLock } = holdfast

const FOREIGN = /locks this file with proper-lockfile/

async function newFile(/** @type {any} */ t, isHeld = true) {
  const file = path.join(newDir(t), 'data.json')
  fs.writeFileSync(file, '{}')
  if (isHeld) {
    const release = await lockfile.lock(file)
    t.after(() => release())
  }
  return file
}

test('the logger is told once for each file, by locks and updates', async (t) => {
  const { logger, entries } = collector()
  const told = () => entries.filter(({ message }) => FOREIGN.test(message))
  setLogger(logger)
  t.after(() => setLogger(null))
  const [first, second, free] = [await newFile(t), await newFile(t), await newFile(t, false)]
  const until = async (/** @type {number} */ count) => {
    while (told().length < count) await new Promise((resolve) => setTimeout(resolve, 2))
  }
  await withLock(first, () => {})
  await until(1)
  assert.deepEqual([told()[0]?.level, told()[0]?.fields], ['warn', { path: first, lockfile: `${first}.lock`, operation: 'lock' }])
  await updateJsonFile(second, () => {})
  await until(2)
  for (const file of [first, second, free]) {
    await withLock(file, () => {})
    await updateJsonFile(file, () => {})
    await withLock(file, () => {}, { kind: 'read' })
  }
  await new Promise((resolve) => setTimeout(resolve, 50))
  assert.equal(told().length, 2)
})

test('strictProtocol refuses, and frees what it has taken', async (t) => {
  const file = await newFile(t)
  for (const call of [() => withLock(file, () => assert.fail('it ran'), { strictProtocol: true }), () => acquireLock(file, { strictProtocol: true })]) {
    const error = await failure(call)
    assert.equal(error.code, 'ELOCKED')
    assert.match(error.message, /behind a lock of the package proper-lockfile \('.*data\.json\.lock'\)/)
  }
  assert.equal(await tryAcquireLock(file, { strictProtocol: true }), null)
  await assertFree(file)
  await withLock(file, () => {}, { strictProtocol: false })
})

test('what is no lock of that package, or one that was left behind, is nothing', async (t) => {
  const file = await newFile(t, false)
  const other = `${file}.lock`
  await withLock(file, () => {}, { strictProtocol: true })
  fs.writeFileSync(other, '')
  await withLock(file, () => {}, { strictProtocol: true })
  fs.rmSync(other)
  fs.mkdirSync(other)
  const old = new Date(Date.now() - 60_000)
  fs.utimesSync(other, old, old)
  await withLock(file, () => {}, { strictProtocol: true })
  // One of a clock that is ahead is fresh.
  const ahead = new Date(Date.now() + 60_000)
  fs.utimesSync(other, ahead, ahead)
  assert.equal((await failure(() => withLock(file, () => {}, { strictProtocol: true }))).code, 'ELOCKED')
})
