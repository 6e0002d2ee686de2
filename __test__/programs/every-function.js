'use strict'

// Calls every function once, in a directory on some file system, and checks what it leaves.
//
//   node every-function.js DIR    one line for each function; the exit code says whether all did what they should

const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { Readable } = require('node:stream')
const { pipeline } = require('node:stream/promises')
const holdfast = require('../..')

/** @typedef {(name: string, run: () => unknown) => Promise<void>} Step */

/** @type {Step} */
const plainly = async (_, run) => void (await run())

/**
 * @param {string} dir
 * @param {{ name?: string, step?: Step }} [options] the name of the file, and what runs each step
 */
async function everyFunction(dir, { name = 'state.json', step = plainly } = {}) {
  const at = (/** @type {string} */ file) => path.join(dir, file)
  const file = at(name)
  const read = () => fs.readFileSync(file, 'utf8')
  const count = (/** @type {{ n: number }} */ data) => void (data.n += 1)
  await step('atomicWrite', async () => {
    for (const durability of /** @type {const} */ (['none', 'file', 'full'])) {
      await holdfast.atomicWrite(file, durability, { durability })
      assert.equal(read(), durability)
    }
    await holdfast.atomicWriteJson(file, { n: 1 })
    assert.equal(read(), '{"n":1}')
  })
  await step('atomicWriteSync', () => holdfast.atomicWriteSync(file, '{"n":1}'))
  await step('createOnly', async () => {
    await holdfast.atomicWrite(at('created'), 'x', { createOnly: true })
    await assert.rejects(holdfast.atomicWrite(at('created'), 'y', { createOnly: true }), { code: 'EEXIST' })
    assert.equal(fs.readFileSync(at('created'), 'utf8'), 'x')
  })
  await step('makeDirs', () => holdfast.atomicWrite(at('made/below/it'), 'x', { makeDirs: true }))
  await step('many files at once', async () => {
    await Promise.all(Array.from({ length: 8 }, (_, i) => holdfast.atomicWrite(at(`many-${i}`), String(i))))
  })
  await step('createAtomicWriteStream', async () => {
    await pipeline(Readable.from(['{"n"', ':1}']), holdfast.createAtomicWriteStream(file))
    assert.equal(read(), '{"n":1}')
  })
  await step('updateJsonFile', async () => {
    await Promise.all(Array.from({ length: 8 }, () => holdfast.updateJsonFile(file, count)))
    assert.equal(read(), '{"n":9}')
  })
  await step('withLock', async () => {
    await holdfast.withLock(file, async () => assert.equal((await holdfast.isLocked(file)).locked, true))
    await holdfast.withLock(file, () => {}, { kind: 'read' })
  })
  await step("withLock, protocol: 'proper-lockfile'", () => holdfast.withLock(at('many-0'), () => {}, { protocol: 'proper-lockfile' }))
  await step('createBackup, listBackups', async () => {
    const backups = await Promise.all([1, 2, 3].map(() => holdfast.createBackup(file)))
    assert.equal(new Set(backups).size, 3)
    assert.deepEqual((await holdfast.listBackups(file)).map((backup) => backup.path).sort(), backups.sort())
    await holdfast.createBackup(file, { keep: 1, validate: 'json' })
    assert.equal((await holdfast.listBackups(file)).length, 1)
  })
  await step('restoreBackup, cleanupBackups', async () => {
    const [backup] = await holdfast.listBackups(file)
    await holdfast.atomicWrite(file, '{"n":0}')
    await holdfast.restoreBackup(/** @type {{ path: string }} */ (backup).path, file)
    assert.equal(read(), '{"n":9}')
    assert.equal((await holdfast.cleanupBackups(dir, /./, 0, { keepNewest: 0 })).length, 1)
  })
  await step('transaction', async () => {
    fs.writeFileSync(at('gone'), '')
    await holdfast.transaction([file, at('new'), at('gone')], async (tx) => {
      await tx.updateJson(file, count)
      await tx.write(at('new'), 'new')
      await tx.remove(at('gone'))
    })
    assert.deepEqual([read(), fs.readFileSync(at('new'), 'utf8'), fs.existsSync(at('gone'))], ['{"n":10}', 'new', false])
    // So many that they are synced all at once where that is safe.
    const many = Array.from({ length: 6 }, (_, i) => at(`many-${i}`))
    await holdfast.transaction(many, (tx) => Promise.all(many.map((one) => tx.write(one, 'x'))))
  })
  await step('openWal', async () => {
    const log = await holdfast.openWal(at('log'))
    await log.append('entries', [{ id: '1', op: 'insert', payload: 'x' }])
    await log.close()
    const reader = await holdfast.openWal(at('log'), { readOnly: true })
    const ids = []
    for await (const { id } of reader.replay('entries')) ids.push(id)
    await reader.close()
    assert.deepEqual(ids, ['1'])
  })
  await step('recoverFromCrash', async () => {
    const temp = (/** @type {string} */ of) => at(`.${of}.0123456789abcdef.tmp`)
    for (const [of, text] of [['missing.json', '{"whole":true}'], ['torn.json', '{"whole":true}']]) {
      fs.writeFileSync(temp(String(of)), String(text))
      fs.utimesSync(temp(String(of)), 1e9, 1e9)
    }
    fs.writeFileSync(at('torn.json'), '{"who')
    for (const of of ['missing.json', 'torn.json']) {
      const { actions } = await holdfast.recoverFromCrash(at(of))
      assert.equal(fs.readFileSync(at(of), 'utf8'), '{"whole":true}', JSON.stringify(actions))
    }
  })
  await step('nothing left', () => {
    const left = fs.readdirSync(dir).filter((each) => /\.(tmp|claim|txn|prepared|intent)$|^\.nfs|fuse_hidden/.test(each))
    assert.deepEqual(left, [])
  })
}

module.exports = { everyFunction }

if (require.main === module) {
  const dir = process.argv[2] ?? '.'
  const limit = 60_000
  /** @type {Step} */
  const told = async (name, run) => {
    const begun = Date.now()
    try {
      /** @type {NodeJS.Timeout | undefined} */
      let timer
      const late = new Promise((_, reject) => (timer = setTimeout(() => reject(new Error(`no answer in ${limit} ms`)), limit)))
      await Promise.race([run(), late]).finally(() => clearTimeout(timer))
      console.log(`${name}: ok (${Date.now() - begun} ms)`)
    } catch (error) {
      const { code, syscall, message, hint } = /** @type {import('../..').SessionFileError} */ (error)
      console.log(`${name}: ${code} ${syscall ?? ''} ${message} | ${hint ?? ''}`)
      process.exitCode = 1
    }
  }
  void everyFunction(dir, { step: told }).then(() => process.exit())
}
