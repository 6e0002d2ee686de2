'use strict'

// The addon can do what the user can whom the process belongs to. Under Node's permission model it does what that allows.

const assert = require('node:assert/strict')
const { spawnSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const { describe, test } = require('node:test')
const { newDir, root } = require('./helpers.js')

const permission = process.allowedNodeEnvironmentFlags.has('--permission') ? '--permission' : '--experimental-permission'
const whyNot = !process.allowedNodeEnvironmentFlags.has('--allow-addons') && 'this version of Node has no --allow-addons'

/**
 * Runs code with `holdfast` under the permission model, and gives what it prints.
 *
 * @param {string} code the body of an async function
 * @param {{ reads?: string[], writes?: string[] }} allowed
 */
function run(code, { reads = [], writes = [] }) {
  const flags = [root + path.sep + '*', ...reads].map((file) => `--allow-fs-read=${file}`).concat(writes.map((file) => `--allow-fs-write=${file}`))
  const { status, stdout, stderr } = spawnSync(process.execPath, [permission, '--allow-addons', '--no-warnings', ...flags, '-e', `
    const path = require('node:path')
    const holdfast = require(${JSON.stringify(path.join(root, 'index.js'))})
    const codeOf = async (call) => {
      try { await call(); return 'done' } catch (error) { return error.code + ' ' + error.permission }
    }
    void (async () => { ${code} })()`], { encoding: 'utf8', cwd: root, timeout: 60_000 })
  assert.equal(status, 0, stderr)
  return JSON.parse(stdout)
}

describe("under Node's permission model", { skip: whyNot }, () => {
  test('nothing is written, locked or removed where the process may only read', (t) => {
    const dir = newDir(t)
    const file = path.join(dir, 'file.json')
    fs.writeFileSync(file, '{"old":true}')
    const before = fs.readdirSync(dir)
    const outcomes = run(`
      const file = ${JSON.stringify(file)}
      const dir = path.dirname(file)
      const calls = {
        atomicWrite: () => holdfast.atomicWrite(file, '{}'),
        atomicWriteSync: () => holdfast.atomicWriteSync(file, '{}'),
        atomicWriteJson: () => holdfast.atomicWriteJson(file, {}),
        createAtomicWriteStream: () => holdfast.createAtomicWriteStream(file).end(),
        updateJsonFile: () => holdfast.updateJsonFile(file, () => ({})),
        updateJsonFileSync: () => holdfast.updateJsonFileSync(file, () => ({})),
        removeFile: () => holdfast.removeFile(file),
        withLock: () => holdfast.withLock(file, () => {}),
        withLockSync: () => holdfast.withLockSync(file, () => {}),
        acquireLock: () => holdfast.acquireLock(file),
        tryAcquireLock: () => holdfast.tryAcquireLock(file),
        transaction: () => holdfast.transaction([file], () => {}),
        createBackup: () => holdfast.createBackup(file),
        restoreBackup: () => holdfast.restoreBackup(file, file + '.restored'),
        cleanupBackups: () => holdfast.cleanupBackups(dir, /./),
        recoverFromCrash: () => holdfast.recoverFromCrash(dir),
        openWal: () => holdfast.openWal(path.join(dir, 'log')),
        LockManager: () => holdfast.lockManager.acquireWriteLock(dir),
        'proper-lockfile': () => require(${JSON.stringify(path.join(root, 'compat', 'proper-lockfile.js'))}).lock(file),
      }
      const outcomes = {}
      for (const [name, call] of Object.entries(calls)) outcomes[name] = await codeOf(call)
      outcomes.read = (await holdfast.readJsonFile(file)).old
      outcomes.isLocked = (await holdfast.isLocked(file)).locked
      console.log(JSON.stringify(outcomes))`, { reads: [`${dir}/*`] })
    const { read, isLocked, ...refused } = outcomes
    assert.deepEqual({ read, isLocked }, { read: true, isLocked: false })
    assert.equal(Object.keys(refused).length, 19)
    for (const [name, outcome] of Object.entries(refused)) assert.equal(outcome, 'ERR_ACCESS_DENIED FileSystemWrite', name)
    assert.deepEqual(fs.readdirSync(dir), before)
    assert.equal(fs.readFileSync(file, 'utf8'), '{"old":true}')
  })

  test('nothing is read where the process may not read', (t) => {
    const file = path.join(newDir(t), 'file.json')
    fs.writeFileSync(file, '{}')
    const outcomes = run(`
      const file = ${JSON.stringify(file)}
      console.log(JSON.stringify([
        await codeOf(() => holdfast.readJsonFile(file)), await codeOf(() => holdfast.readJsonFileSync(file)), await codeOf(() => holdfast.isLocked(file)),
        await codeOf(() => holdfast.listBackups(file)), await codeOf(() => holdfast.AtomicOperations.readFile(file)),
        await codeOf(() => holdfast.openWal(file, { readOnly: true })),
      ]))`, {})
    assert.deepEqual(outcomes, Array(6).fill('ERR_ACCESS_DENIED FileSystemRead'))
  })

  test('everything works in a directory that is allowed, and a file alone is not enough', (t) => {
    const dir = newDir(t)
    const allowed = path.join(dir, 'allowed')
    fs.mkdirSync(allowed)
    const alone = path.join(dir, 'alone')
    const outcomes = run(`
      const file = ${JSON.stringify(path.join(allowed, 'file.json'))}
      await holdfast.atomicWrite(file, '{"n":1}')
      await holdfast.updateJsonFile(file, (data) => { data.n += 1 })
      await holdfast.recoverFromCrash(path.dirname(file))
      const log = await holdfast.openWal(path.join(path.dirname(file), 'log'))
      await log.close()
      const relative = path.relative(process.cwd(), ${JSON.stringify(path.join(dir, 'outside'))})
      console.log(JSON.stringify([
        (await holdfast.readJsonFile(file)).n, await codeOf(() => holdfast.atomicWrite(${JSON.stringify(alone)}, '')), await codeOf(() => holdfast.atomicWrite(relative, '')),
        await codeOf(() => holdfast.atomicWrite(path.join(path.dirname(file), '..', 'outside'), '')),
      ]))`, { reads: [`${allowed}/*`, alone], writes: [`${allowed}/*`, alone] })
    assert.deepEqual(outcomes, [2, ...Array(3).fill('ERR_ACCESS_DENIED FileSystemWrite')])
    assert.deepEqual(fs.readdirSync(dir), ['allowed'])
  })
})
