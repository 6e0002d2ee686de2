'use strict'

// The history of a file in its backups: when none is made, which stay, and the way back to the newest
// good one.

const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { spawn } = require('node:child_process')
const { once } = require('node:events')
const { describe, test } = require('node:test')
const { failure, fullDisk, holdfast, inChild, names, newDir, temps, whyNot } = require('./helpers.js')

const { AtomicOperations, cleanupBackups, createBackup, createBackupSync, listBackups, recoverFromCrash, restoreLatest } = holdfast

const HOUR = 60 * 60 * 1000
const DAY = 24 * HOUR
/** A Monday, 12:30 in UTC. */
const NOON = Date.UTC(2024, 0, 15, 12, 30)

/** @param {import('node:test').TestContext} t @param {string} [content] @param {string} [name] */
function setUp(t, content = '{"level":1}', name = 'state.json') {
  const dir = newDir(t)
  const file = path.join(dir, name)
  fs.writeFileSync(file, content)
  return { dir, file }
}

/** @param {string} file @param {Record<number, string>} contents by the times of the backups */
function putBackups(file, contents) {
  for (const [time, content] of Object.entries(contents)) fs.writeFileSync(`${file}.${time}.backup`, content)
}

/** The times of the backups, the newest first. @param {string} file */
const times = async (file) => (await listBackups(file)).map(({ createdAt }) => createdAt.getTime())

/** @param {import('node:test').TestContext} t @param {number} time */
const at = (t, time) => (t.mock.restoreAll(), t.mock.method(Date, 'now', () => time))

describe('onlyIfChanged', () => {
  test('makes no backup of the bytes that the newest good one has', async (t) => {
    const { file } = setUp(t)
    const first = await createBackup(file, { onlyIfChanged: true })
    assert.equal(await createBackup(file, { onlyIfChanged: true }), first)
    assert.equal(createBackupSync(file, { onlyIfChanged: true }), first)
    fs.writeFileSync(file, '{"level":2}')
    fs.utimesSync(file, fs.statSync(first).atime, fs.statSync(first).mtime)
    const second = await createBackup(file, { onlyIfChanged: true })
    assert.notEqual(second, first)
    assert.equal(fs.readFileSync(second, 'utf8'), '{"level":2}')
    fs.writeFileSync(file, '{"level":1}')
    assert.notEqual(await createBackup(file, { onlyIfChanged: true }), first, 'an older one does not count')
    assert.equal((await listBackups(file)).length, 3)
  })

  test('passes over a newer one that is no good, and makes no second copy of corrupt bytes', async (t) => {
    const { file } = setUp(t)
    putBackups(file, { 1000: '{"level":1}', 2000: '{"lev' })
    assert.equal(await createBackup(file, { onlyIfChanged: true }), `${file}.1000.backup`)
    fs.writeFileSync(file, '{"lev')
    assert.equal(await createBackup(file, { onlyIfChanged: true }), `${file}.2000.backup`)
    assert.equal((await listBackups(file)).length, 2)
  })
})

describe('minInterval', () => {
  test('makes none while the newest good one is young, by the clock of the call', async (t) => {
    const { file } = setUp(t)
    at(t, NOON)
    const first = await createBackup(file)
    at(t, NOON + 999)
    assert.equal(await createBackup(file, { minInterval: 1000 }), first)
    at(t, NOON + 1000)
    assert.notEqual(await createBackup(file, { minInterval: 1000 }), first)
  })

  test('a young one that is no good does not count', async (t) => {
    const { file } = setUp(t)
    at(t, NOON)
    putBackups(file, { [NOON - 10 * HOUR]: '{}', [NOON - 1]: '{"tor' })
    const made = await createBackup(file, { minInterval: HOUR })
    assert.equal(made, `${file}.${NOON}.backup`)
  })

  test('after the clock was ahead, one whose age cannot be told does not stop backups', async (t) => {
    const { file } = setUp(t)
    const ahead = Date.now() + 100 * DAY
    putBackups(file, { [ahead]: '{}' })
    fs.utimesSync(`${file}.${ahead}.backup`, ahead / 1000, ahead / 1000)
    const made = await createBackup(file, { minInterval: HOUR })
    assert.equal(made, `${file}.${ahead + 1}.backup`)
    assert.equal(await createBackup(file, { minInterval: HOUR }), made, 'the age of this one is told by its last change')
  })
})

describe('keep', () => {
  test('leaves the newest of so many hours, days and weeks (UTC, from Monday), and of all the last', async (t) => {
    const { file } = setUp(t)
    const old = [
      NOON - 5 * 60_000, // 12:25, the same hour
      NOON - HOUR, // 11:30
      NOON - HOUR - 10 * 60_000, // 11:20
      NOON - 2 * HOUR, // 10:30
      NOON - DAY, // Sunday 14
      NOON - DAY - HOUR,
      NOON - 2 * DAY, // Saturday 13
      NOON - 8 * DAY, // Sunday 7
      NOON - 14 * DAY, // Monday 1
    ]
    putBackups(file, Object.fromEntries(old.map((time) => [time, '{}'])))
    at(t, NOON)
    await createBackup(file, { keep: { last: 2, hourly: 2, daily: 2, weekly: 3 } })
    // last: now and 12:25; hourly: now and 11:30; daily: now and Sunday 14; weekly: now, 14, 7.
    assert.deepEqual(await times(file), [NOON, old[0], old[1], old[4], old[7]])
    const after = await cleanupBackups(file, { keep: { last: 2, hourly: 2, daily: 2, weekly: 3 } })
    assert.deepEqual(after, [], 'the same rule again removes nothing')
  })

  test('never removes the newest good one for a new one that is corrupt', async (t) => {
    const { file } = setUp(t, '{"torn')
    putBackups(file, { 1000: '{"a":1}', 2000: '{"a":2}', 3000: '{"a' })
    const made = await createBackup(file, { keep: 1 })
    assert.deepEqual((await listBackups(file)).map((backup) => backup.path), [made, `${file}.2000.backup`])
  })

  test('says what is wrong with it', async (t) => {
    const { file } = setUp(t)
    for (const [keep, message] of [
      [{}, /"keep" option must say how many/], [{ monthly: 1 }, /Unknown option "monthly"/], [[1], /"keep" option must be of type number or an object/],
      [{ daily: 0 }, /"daily" option is out of range/], [0, /out of range/],
    ]) await assert.rejects(() => createBackup(file, /** @type {any} */ ({ keep })), { message })
    assert.deepEqual(await listBackups(file), [])
  })
})

describe('createBackupSync', () => {
  test('makes a backup, logs as a write does, and fails with the errors of createBackup', async (t) => {
    const { dir, file } = setUp(t)
    /** @type {string[]} */
    const said = []
    const log = (/** @type {object} */ _fields, /** @type {string} */ message) => void said.push(message)
    const made = createBackupSync(file, { logger: { debug: log, info: log, warn: log, error: log }, keep: 2 })
    assert.equal(fs.readFileSync(made, 'utf8'), '{"level":1}')
    assert.ok(said.length > 0)
    assert.throws(() => createBackupSync(path.join(dir, 'missing')), { code: 'ENOENT', operation: 'create backup' })
    fs.writeFileSync(file, '{')
    assert.throws(() => createBackupSync(file, { validate: 'json' }), { code: 'EBADJSON' })
    assert.throws(() => createBackupSync(file, /** @type {any} */ ({ signal: AbortSignal.abort() })), /Unknown option "signal"/)
    assert.equal((await listBackups(file)).length, 1)
    assert.deepEqual(temps(dir), [])
  })
})

describe('cleanupBackups', () => {
  test('of a file removes old ones, and never the newest good one unless it is told', async (t) => {
    const { file } = setUp(t)
    putBackups(file, { 1000: '{"a":1}', 2000: '{"a":2}', 3000: '{"a', 4000: '' })
    fs.writeFileSync(`${file}.txt.1000.backup`, 'of another file')
    assert.deepEqual((await cleanupBackups(file)).sort(), ['state.json.1000.backup', 'state.json.3000.backup', 'state.json.4000.backup'])
    assert.deepEqual(await cleanupBackups(file, { maxAge: 0 }), [])
    assert.deepEqual(await cleanupBackups(file, { maxAge: 0, keepNewest: 0 }), ['state.json.2000.backup'])
    assert.equal(fs.existsSync(`${file}.txt.1000.backup`), true)
  })

  test('with keepNewest keeps so many good ones, with keep those of its counts, with maxAge the young ones', async (t) => {
    const { file } = setUp(t, 'text', 'notes.txt')
    const now = Date.now()
    putBackups(file, { 1000: 'a', 2000: 'b', 3000: '', 4000: 'c', [now - HOUR]: 'd' })
    await cleanupBackups(file, { keepNewest: 3 })
    assert.deepEqual(await times(file), [now - HOUR, 4000, 2000])
    await cleanupBackups(file, { keep: 1, maxAge: 2 * HOUR, keepNewest: 0 })
    assert.deepEqual(await times(file), [now - HOUR])
  })

  test('of a directory keeps the newest good one of each file; the class of Vectra does not', async (t) => {
    const { dir, file } = setUp(t)
    putBackups(file, { 1000: '{}', 2000: '{}' })
    putBackups(path.join(dir, 'other'), { 1000: 'x', 2000: 'y' })
    assert.deepEqual((await cleanupBackups(dir, /backup$/, 0)).sort(), ['other.1000.backup', 'state.json.1000.backup'])
    assert.deepEqual(await cleanupBackups(dir, /^other/, 0, { keepNewest: 0 }), ['other.2000.backup'])
    assert.deepEqual(await AtomicOperations.cleanupBackups(dir, /backup$/, 0), ['state.json.2000.backup'])
  })

  test('by several processes at once leaves the newest good one', async (t) => {
    const { file } = setUp(t)
    putBackups(file, Object.fromEntries(Array.from({ length: 60 }, (_, number) => [1000 + number, number > 50 ? '{' : '{}'])))
    const program = async (/** @type {any} */ { file }, /** @type {any} */ { holdfast }) => holdfast.cleanupBackups(file, { maxAge: 0 })
    const removed = await Promise.all([1, 2, 3].map(() => inChild(program, { file })))
    assert.deepEqual(await times(file), [1050])
    assert.equal(removed.flat().length, 59)
  })

  test('says what is wrong with its arguments', async (t) => {
    const { dir, file } = setUp(t)
    await assert.rejects(() => cleanupBackups(dir, /** @type {any} */ ('state')), { code: 'ERR_INVALID_ARG_TYPE', message: /"pattern" argument/ })
    await assert.rejects(() => cleanupBackups(file, /** @type {any} */ ({ maxage: 1 })), /Did you mean "maxAge"/)
    await assert.rejects(() => /** @type {any} */ (cleanupBackups)(file, { maxAge: 1 }, 5), /"pattern" argument/)
  })
})

describe('restoreLatest', () => {
  test('restores the newest good backup, and says which were passed over and why', async (t) => {
    const { file } = setUp(t, '{"torn')
    putBackups(file, { 1000: '{"a":1}', 2000: '{"a":2}', 3000: '{"a', 4000: '' })
    const { backup, skipped } = await restoreLatest(file)
    assert.equal(backup.path, `${file}.2000.backup`)
    assert.deepEqual(skipped.map((skip) => skip.path), [`${file}.4000.backup`, `${file}.3000.backup`])
    assert.match(skipped[0]?.reason ?? '', /empty/)
    assert.match(skipped[1]?.reason ?? '', /not JSON/)
    assert.equal(fs.readFileSync(file, 'utf8'), '{"a":2}')
    assert.equal((await listBackups(file)).length, 4)
  })

  test('with a schema takes the newest one that passes it, sync or async', async (t) => {
    const { file } = setUp(t, '{}')
    putBackups(file, { 1000: '{"a":1}', 2000: '{"a":"two"}', 3000: '{"a' })
    for (const wrap of [(/** @type {any} */ result) => result, async (/** @type {any} */ result) => result]) {
      const validate = (/** @type {any} */ value) => wrap(typeof value.a === 'number' ? { value } : { issues: [{ message: 'no number', path: ['a'] }] })
      const { backup, skipped } = await restoreLatest(file, { schema: { '~standard': { version: 1, vendor: 'test', validate } } })
      assert.equal(backup.createdAt.getTime(), 1000)
      assert.match(skipped[1]?.reason ?? '', /a: no number/)
      assert.equal(fs.readFileSync(file, 'utf8'), '{"a":1}')
    }
  })

  test('changes nothing when none is good', async (t) => {
    const { dir, file } = setUp(t, 'as it was', 'notes.txt')
    const none = await failure(() => restoreLatest(file))
    assert.equal(none.code, 'ENOENT')
    assert.match(none.message, /has no backups/)
    putBackups(file, { 1000: 'no JSON', 2000: '' })
    const bad = await failure(() => restoreLatest(file, { validate: 'json' }))
    assert.equal(bad.code, 'ENOENT')
    assert.match(bad.message, /none of its 2 backups is good/)
    assert.equal(fs.readFileSync(file, 'utf8'), 'as it was')
    assert.deepEqual(temps(dir), [])
  })
})

describe('recoverFromCrash with backups', () => {
  for (const isDir of [false, true]) {
    test(`restores a corrupt file from the newest good one, and sets it aside (${isDir ? 'directory' : 'file'})`, async (t) => {
      const { dir, file } = setUp(t, '{"torn')
      putBackups(file, { 1000: '{"a":1}', 2000: '{"a":2}', 3000: '{"a' })
      const target = isDir ? dir : file
      const without = await recoverFromCrash(target)
      assert.match(without.actions.at(-1)?.reason ?? '', /3 backups.*`backups: true`/)
      const before = names(dir)
      const dry = await recoverFromCrash(target, { backups: true, dryRun: true })
      assert.deepEqual(dry.actions.map(({ action }) => action), ['setAside', 'restored'])
      assert.deepEqual(names(dir), before)
      const { actions, complete } = await recoverFromCrash(target, { backups: true })
      assert.equal(complete, true)
      assert.deepEqual(actions.map(({ action, path, to }) => [action, path, action === 'restored' ? to : fs.readFileSync(/** @type {string} */ (to), 'utf8')]), [
        ['setAside', file, '{"torn'],
        ['restored', `${file}.2000.backup`, file],
      ])
      assert.equal(fs.readFileSync(file, 'utf8'), '{"a":2}')
      assert.equal((await listBackups(file)).length, 3)
      assert.deepEqual(temps(dir), [])
      assert.deepEqual((await recoverFromCrash(target, { backups: true })).actions, [])
    })
  }

  test('takes what a write has left first, and leaves a missing file and one without a good backup', async (t) => {
    const { dir, file } = setUp(t, '{"torn')
    putBackups(file, { 1000: '{"a":1}' })
    fs.writeFileSync(`${file}.tmp`, '{"newer":1}')
    await recoverFromCrash(file, { backups: true, minAge: 0 })
    assert.equal(fs.readFileSync(file, 'utf8'), '{"newer":1}')
    fs.rmSync(file)
    assert.deepEqual((await recoverFromCrash(file, { backups: true })).actions, [])
    assert.equal(fs.existsSync(file), false)
    const other = path.join(dir, 'other.json')
    fs.writeFileSync(other, '{')
    putBackups(other, { 1: '[' })
    const { actions } = await recoverFromCrash(other, { backups: true })
    assert.deepEqual(actions.map(({ action }) => action), ['left'])
    assert.match(actions[0]?.reason ?? '', /its backup is not good either/)
    assert.equal(fs.readFileSync(other, 'utf8'), '{')
  })
})

test('killed at any moment leaves good backups, and a file that is good or has one', async (t) => {
  const { dir, file } = setUp(t)
  // Each round: a torn file, as another program leaves it, is recovered; then updates with backups.
  const program = `
    const { atomicWriteJson, cleanupBackups, createBackup, recoverFromCrash } = require(${JSON.stringify(path.join(__dirname, '..'))})
    const fs = require('node:fs')
    const file = ${JSON.stringify(file)}
    ;(async () => {
      for (let turn = 1; ; turn++) {
        await atomicWriteJson(file, { turn, text: 'x'.repeat(20000) }, { durability: 'none' })
        await createBackup(file, { onlyIfChanged: true, keep: { last: 2, daily: 2 } })
        fs.writeFileSync(file, '{"torn')
        await recoverFromCrash(file, { backups: true })
        await cleanupBackups(file, { maxAge: 0 })
        console.log(turn)
      }
    })()`
  let rounds = 0
  for (let kill = 0; kill < 25; kill++) {
    const child = spawn(process.execPath, ['-e', program], { stdio: ['ignore', 'pipe', 'inherit'] })
    child.stdout.on('data', (text) => (rounds += String(text).trim().split('\n').length))
    await once(child.stdout, 'data')
    await new Promise((resolve) => setTimeout(resolve, kill * 1.7))
    child.kill('SIGKILL')
    await once(child, 'close')
    const { complete } = await recoverFromCrash(file, { backups: true })
    assert.equal(complete, true)
    assert.equal(JSON.parse(fs.readFileSync(file, 'utf8')).text.length, 20000)
    const backups = await listBackups(file)
    assert.ok(backups.length > 0)
    for (const { path } of backups) JSON.parse(fs.readFileSync(path, 'utf8'))
    // That of a backup is an orphan of the backup's.
    await recoverFromCrash(dir)
    assert.deepEqual(temps(dir), [])
  }
  assert.ok(rounds >= 25, `${rounds} rounds`)
})

test('on a full disk leaves every good backup', { skip: whyNot.mount() }, async (t) => {
  const { dir, filler } = fullDisk(t)
  fs.rmSync(filler)
  const file = path.join(dir, 'state.json')
  const content = JSON.stringify({ text: 'x'.repeat(20_000) })
  fs.writeFileSync(file, content)
  putBackups(file, { 1000: content, 2000: '{"a":2}' })
  fs.writeFileSync(file, content.replace('x', 'y'))
  assert.throws(() => fs.writeFileSync(filler, Buffer.alloc(1 << 20)), { code: 'ENOSPC' })
  const before = names(dir)
  for (const call of [
    () => createBackup(file, { keep: 1, retries: 1 }),
    async () => createBackupSync(file, { onlyIfChanged: true, keep: { last: 1 }, retries: 1 }),
  ]) assert.equal((await failure(call)).code, 'ENOSPC')
  assert.deepEqual(names(dir), before)
  // A backup that stands for a new one needs no room, nor does cleaning up.
  assert.equal(await createBackup(file, { minInterval: Infinity, keep: 2 }), `${file}.2000.backup`)
  assert.deepEqual(await cleanupBackups(file, { keep: 1 }), ['state.json.1000.backup'])
  fs.writeFileSync(file, '{"torn')
  fs.writeFileSync(filler, Buffer.alloc(1 << 16), { flag: 'r+' })
  const { actions, complete } = await recoverFromCrash(file, { backups: true })
  assert.deepEqual([actions.map(({ action }) => action), complete], [['setAside', 'restored'], true])
  assert.equal(fs.readFileSync(file, 'utf8'), '{"a":2}')
})

describe("another user's files", { skip: whyNot.people() }, () => {
  /** @param {import('node:test').TestContext} t */
  function planted(t) {
    const { dir, file } = setUp(t, '{"torn')
    fs.chownSync(dir, 5501, 5501)
    fs.chmodSync(dir, 0o1777)
    fs.chownSync(file, 5501, 5501)
    putBackups(file, { 1000: '{"mine":true}', 2000: '{"planted":true}' })
    fs.chownSync(`${file}.1000.backup`, 5501, 5501)
    fs.chownSync(`${file}.2000.backup`, 5502, 5502)
    return { dir, file }
  }
  const person = { uid: 5501 }

  test('in a folder that is open to all are no good backups', async (t) => {
    for (const [program, restored] of /** @type {[any, string][]} */ ([
      [async (/** @type {any} */ { file }, /** @type {any} */ { holdfast }) => (await holdfast.restoreLatest(file)).skipped[0].reason, 'mine'],
      [async (/** @type {any} */ { file }, /** @type {any} */ { holdfast }) => {
        const schema = { '~standard': { version: 1, vendor: 'any', validate: (/** @type {any} */ value) => ({ value }) } }
        return (await holdfast.restoreLatest(file, { schema })).skipped[0].reason
      }, 'mine'],
      [async (/** @type {any} */ { file }, /** @type {any} */ { holdfast }) => (await holdfast.recoverFromCrash(file, { backups: true })).actions.length, 'mine'],
    ])) {
      const { file } = planted(t)
      const said = await inChild(program, { file }, { person })
      assert.deepEqual(JSON.parse(fs.readFileSync(file, 'utf8')), { [restored]: true })
      if (typeof said === 'string') assert.match(said, /another user/)
    }
  })

  test('do not stand for a backup, and keep none of the own from staying', async (t) => {
    const { file } = planted(t)
    fs.writeFileSync(file, '{"planted":true}')
    const made = await inChild(async ({ file }, { holdfast }) => holdfast.createBackup(file, { onlyIfChanged: true }), { file }, { person })
    assert.notEqual(made, `${file}.2000.backup`)
    const removed = await inChild(async ({ file }, { holdfast, fs }) => {
      fs.unlinkSync((await holdfast.listBackups(file))[0].path)
      return holdfast.cleanupBackups(file, { maxAge: 0 })
    }, { file }, { person })
    // The folder's owner may.
    assert.deepEqual(removed, ['state.json.2000.backup'])
    assert.equal(fs.existsSync(`${file}.1000.backup`), true)
  })
})

test('createHoldfast has the same functions with its defaults', async (t) => {
  const { file } = setUp(t)
  const own = holdfast.createHoldfast({ durability: 'none' })
  putBackups(file, { 1000: '{}', 2000: '{}' })
  assert.deepEqual(await own.cleanupBackups(file), ['state.json.1000.backup'])
  assert.deepEqual(await own.cleanupBackups(file, { maxAge: 0, keepNewest: 0 }), ['state.json.2000.backup'])
  const made = own.createBackupSync(file)
  fs.writeFileSync(file, '{"later":1}')
  assert.equal((await own.restoreLatest(file)).backup.path, made)
  assert.equal(fs.readFileSync(file, 'utf8'), '{"level":1}')
})
