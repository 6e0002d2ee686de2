'use strict'

// What a crash has left is put in order, on real files. The cases themselves are in
// tests/recovery.rs.

const { describe, test } = require('node:test')
const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { setTimeout } = require('node:timers/promises')
const { collector, failure, holdfast, inChild, modeOf, names, newFolder, notRoot, notUnix } = require('./helpers.js')

const { acquireLock, atomicWrite, createBackup, recoverFromCrash, SessionFileError, setDefaults, updateJsonFile, withLock } = holdfast

const HEX = '0123456789abcdef'
const UUID = '123e4567-e89b-12d3-a456-426614174000'
const NOW = { minAge: 0 }

/** Makes files by name, long ago. */
function put(folder, files, age = 3600) {
  // One moment for all: which of two is older may matter.
  const then = Date.now() / 1000 - age
  for (const [name, content] of Object.entries(files)) {
    const file = path.join(folder, name)
    fs.mkdirSync(path.dirname(file), { recursive: true })
    fs.writeFileSync(file, content)
    fs.utimesSync(file, then, then)
  }
}

const read = (folder, name) => fs.readFileSync(path.join(folder, name), 'utf8')

const short = ({ actions }) => actions.map(({ path: file, action }) => [path.basename(file), action])

describe('recoverFromCrash of a file', () => {
  test("S2's cases", async (t) => {
    for (const [files, expected, left] of [
      [{ 'a.json.tmp': '{"n":2}' }, [['a.json.tmp', 'promoted']], { 'a.json': '{"n":2}' }],
      [{ 'a.json.tmp': '{"n":' }, [['a.json.tmp', 'removed']], {}],
      [{ 'a.json.bak': '{"n":1}' }, [['a.json.bak', 'restored']], { 'a.json': '{"n":1}' }],
      [{ 'a.json.bak': '{"n":1}', 'a.json.tmp': '{"n":' }, [['a.json.bak', 'restored'], ['a.json.tmp', 'removed']], { 'a.json': '{"n":1}' }],
      [{ 'a.json': '{"n":1}', 'a.json.tmp': '{"n":2}' }, [['a.json.tmp', 'removed']], { 'a.json': '{"n":1}' }],
      [{ 'a.json': '{"n":1}', 'a.json.bak': '{"n":0}' }, [['a.json.bak', 'removed']], { 'a.json': '{"n":1}' }],
    ]) {
      const folder = newFolder(t)
      put(folder, { ...files, 'b.json.tmp': 'not asked for' })
      const report = await recoverFromCrash(path.join(folder, 'a.json'))
      assert.deepEqual(short(report), expected)
      assert.equal(report.complete, true)
      assert.deepEqual(names(folder).filter((name) => !name.endsWith('.lock')), [...Object.keys(left), 'b.json.tmp'])
      for (const [name, content] of Object.entries(left)) assert.equal(read(folder, name), content)
      assert.deepEqual(await recoverFromCrash(path.join(folder, 'a.json')), { actions: [], complete: true })
    }
  })

  test('a corrupt file is replaced by what is good, keeps its mode, and is kept aside', { skip: notUnix }, async (t) => {
    const folder = newFolder(t)
    const file = path.join(folder, 'a.json')
    const temp = `.a.json.${HEX}.tmp`
    put(folder, { 'a.json': '{"torn', [temp]: '{"good":1}' })
    fs.chmodSync(file, 0o640)
    fs.chmodSync(path.join(folder, temp), 0o600)
    const { actions } = await recoverFromCrash(file)
    const [aside, restored] = actions
    assert.equal(aside.action, 'setAside')
    assert.match(aside.to, /\/a\.json\.corrupt-\d{13}$/)
    assert.equal(fs.readFileSync(aside.to, 'utf8'), '{"torn')
    assert.deepEqual([restored.action, restored.path, restored.to], ['restored', path.join(folder, temp), file])
    assert.equal(read(folder, 'a.json'), '{"good":1}')
    assert.equal(modeOf(file), 0o640)
  })

  test('a backup made by createBackup is left for its user to go back to', async (t) => {
    const folder = newFolder(t)
    const file = path.join(folder, 'a.json')
    put(folder, { 'a.json': '{"n":1}' })
    const backup = await createBackup(file)
    fs.writeFileSync(file, '')
    const { actions } = await recoverFromCrash(file)
    assert.deepEqual(actions.map(({ action }) => action), ['left'])
    assert.equal(fs.readFileSync(backup, 'utf8'), '{"n":1}')
  })

  test('a file that is as it should be is not locked, and neither is a dry run', async (t) => {
    const folder = newFolder(t)
    put(folder, { 'a.json': '{}' })
    await recoverFromCrash(path.join(folder, 'a.json'))
    assert.deepEqual(names(folder), ['a.json'])
    put(folder, { 'a.json': '{', 'a.json.bak': '{}' })
    const report = await recoverFromCrash(path.join(folder, 'a.json'), { dryRun: true })
    assert.deepEqual(short(report), [['a.json', 'setAside'], ['a.json.bak', 'restored']])
    assert.deepEqual(names(folder), ['a.json', 'a.json.bak'])
    assert.equal(read(folder, 'a.json'), '{')
  })

  test('it waits for the lock of a file that has to change', async (t) => {
    const folder = newFolder(t)
    const file = path.join(folder, 'a.json')
    put(folder, { 'a.json.bak': '{"n":1}' })
    const lock = await acquireLock(file)
    const error = await failure(() => recoverFromCrash(file, { timeout: 20 }))
    assert.ok(error instanceof SessionFileError)
    assert.deepEqual([error.code, error.operation, error.path], ['ELOCKED', 'recover', file])
    const waiting = recoverFromCrash(file)
    const controller = new AbortController()
    const cancelled = failure(() => recoverFromCrash(file, { signal: controller.signal }))
    await setTimeout(50)
    controller.abort()
    assert.equal((await cancelled).name, 'AbortError')
    assert.deepEqual(names(folder), ['.a.json.lock', 'a.json.bak'])
    await lock.release()
    assert.deepEqual(short(await waiting), [['a.json.bak', 'restored']])
  })

  test('inside withLock it works under the lock that is held, inside an update it would wait for itself', async (t) => {
    const folder = newFolder(t)
    const file = path.join(folder, 'a.json')
    put(folder, { 'a.json.bak': '{"n":1}' })
    const report = await withLock(file, () => recoverFromCrash(file, { timeout: 0 }))
    assert.deepEqual(short(report), [['a.json.bak', 'restored']])
    put(folder, { 'a.json.bak': '{"n":0}' })
    const error = await failure(() => updateJsonFile(file, () => recoverFromCrash(file)))
    assert.equal(error.code, 'EDEADLK')
    // Without the lock it is the caller's affair.
    const other = await acquireLock(file)
    assert.deepEqual(short(await recoverFromCrash(file, { lock: false })), [['a.json.bak', 'removed']])
    await other.release()
  })

  test('an update that runs meanwhile is neither lost nor overwritten', async (t) => {
    const folder = newFolder(t)
    const file = path.join(folder, 'a.json')
    for (let round = 0; round < 20; round++) {
      fs.rmSync(file, { force: true })
      put(folder, { 'a.json.bak': '{"n":1}' })
      const update = updateJsonFile(file, (data) => void (data.n += 10), { defaultValue: { n: 0 }, durability: 'none' })
      await Promise.all([update, recoverFromCrash(file)])
      // The one or the other came first.
      assert.ok([10, 11].includes(JSON.parse(read(folder, 'a.json')).n))
    }
  })
})

describe('recoverFromCrash of a folder', () => {
  test('orphans go, what may be alive stays', async (t) => {
    const folder = newFolder(t)
    put(folder, {
      'a.json': '{}',
      [`.a.json.${HEX}.tmp`]: '{"n":1}',
      [`.b.txt.${UUID}.tmp`]: 'half a te',
      'c.json.tmp': '{}',
      'c.json.bak': '{}',
      [`below/.d.${HEX}.tmp`]: '',
    })
    put(folder, { [`.young.${HEX}.tmp`]: '' }, 0)
    const report = await recoverFromCrash(folder)
    assert.deepEqual(short(report), [[`.a.json.${HEX}.tmp`, 'removed'], [`.b.txt.${UUID}.tmp`, 'removed'], [`.young.${HEX}.tmp`, 'left']])
    assert.ok(report.actions.every(({ path: file, reason }) => path.isAbsolute(file) && reason.length > 0))
    assert.deepEqual(names(folder), [`.young.${HEX}.tmp`, 'a.json', 'below', 'c.json.bak', 'c.json.tmp'])
    assert.deepEqual(short(await recoverFromCrash(folder, { recursive: true })), [[`.young.${HEX}.tmp`, 'left'], [`.d.${HEX}.tmp`, 'removed']])
    assert.deepEqual(short(await recoverFromCrash(folder, { ...NOW, legacy: true, promote: true })), [
      ['c.json.tmp', 'promoted'], ['c.json.bak', 'removed'], [`.young.${HEX}.tmp`, 'removed'],
    ])
  })

  test('a file whose lock is held is left alone, and the others are not', async (t) => {
    const folder = newFolder(t)
    put(folder, { 'a.json': '{', [`.a.json.${HEX}.tmp`]: '{}', [`.b.json.${HEX}.tmp`]: '{}' })
    await withLock(path.join(folder, 'a.json'), async () => {
      const report = await recoverFromCrash(folder, { promote: true })
      assert.deepEqual(short(report), [[`.a.json.${HEX}.tmp`, 'left'], [`.b.json.${HEX}.tmp`, 'promoted']])
    })
    assert.deepEqual(short(await recoverFromCrash(folder)), [['a.json', 'setAside'], [`.a.json.${HEX}.tmp`, 'restored']])
  })

  test('one bad entry does not hide the others', { skip: notRoot }, async (t) => {
    const folder = newFolder(t)
    put(folder, { [`.a.${HEX}.tmp`]: '', 'dark/x': '', [`.b.${HEX}.tmp`]: '' })
    fs.chmodSync(path.join(folder, 'dark'), 0)
    fs.chmodSync(path.join(folder, `.a.${HEX}.tmp`), 0)
    fs.chmodSync(folder, 0o777)
    const report = await inChild(
      async ({ folder }, { holdfast }) => {
        const { actions, complete } = await holdfast.recoverFromCrash(folder, { recursive: true })
        return { complete, actions: actions.map(({ action, error }) => [action, error?.name, error?.code, error?.operation]) }
      },
      { folder },
      { user: { uid: 65534, gid: 65534 } },
    )
    const denied = ['failed', 'SessionFileError', 'EACCES', 'recover']
    assert.deepEqual(report, { complete: false, actions: [denied, ['removed', null, null, null], denied] })
  })

  test('several at once do everything once', async (t) => {
    const folder = newFolder(t)
    for (let i = 0; i < 200; i++) put(folder, { [`.a${i}.json.${HEX}.tmp`]: '{}', [`b${i}.json.bak`]: '{}' })
    const reports = await Promise.all(Array.from({ length: 8 }, () => recoverFromCrash(folder, { promote: true, legacy: true })))
    const did = reports.flatMap(({ actions }) => actions).filter(({ action }) => action !== 'left')
    assert.ok(did.every(({ action }) => action === 'promoted' || action === 'restored'))
    assert.equal(new Set(did.map(({ to }) => to)).size, did.length)
    const rest = await recoverFromCrash(folder, { promote: true, legacy: true })
    assert.equal(did.length + rest.actions.length, 400)
    assert.equal(names(folder).filter((name) => /^[ab]\d+\.json$/.test(name)).length, 400)
  })

  test('a folder that does not exist is an error, and so is one that cannot be', async (t) => {
    const folder = newFolder(t)
    for (const [asked, code] of [[path.join(folder, 'missing', 'a.json'), 'ENOENT'], [path.join(folder, 'file', 'a.json'), 'ENOTDIR']]) {
      put(folder, { file: '' })
      const error = await failure(() => recoverFromCrash(asked))
      assert.ok(error instanceof SessionFileError)
      assert.deepEqual([error.code, error.operation, error.path], [code, 'recover', asked])
      assert.match(error.message, /^Failed to recover from a crash at /)
    }
  })

  test('it can be cancelled', async (t) => {
    const folder = newFolder(t)
    put(folder, { [`.a.${HEX}.tmp`]: '' })
    const error = await failure(() => recoverFromCrash(folder, { signal: AbortSignal.abort('enough') }))
    assert.deepEqual([error.name, error.cause], ['AbortError', 'enough'])
    assert.equal(names(folder).length, 1)
  })

  test('what was done is logged', async (t) => {
    const folder = newFolder(t)
    put(folder, { 'a.json': '{', [`.a.json.${HEX}.tmp`]: '{}', [`.b.${HEX}.tmp`]: '' })
    const { entries, logger } = collector()
    await recoverFromCrash(folder, { logger, dryRun: true })
    assert.deepEqual(entries, [])
    await recoverFromCrash(folder, { logger })
    assert.deepEqual(entries.map(({ level, message, fields }) => [level, message, fields.action, fields.operation]), [
      ['warn', 'Recovered after a crash', 'setAside', 'recover'],
      ['warn', 'Recovered after a crash', 'restored', 'recover'],
      ['debug', 'Left after a crash', 'removed', 'recover'],
    ])
    put(folder, { [`.b.${HEX}.tmp`]: '' })
    const bad = () => {
      throw new Error('no')
    }
    assert.equal((await recoverFromCrash(folder, { logger: { debug: bad, warn: bad, error: bad } })).actions.length, 1)
  })

  test('arguments are checked before anything happens', async () => {
    for (const [call, name, code, text] of [
      [() => recoverFromCrash(7), 'TypeError', 'ERR_INVALID_ARG_TYPE', 'pathOrDir'],
      [() => recoverFromCrash('x', { minage: 1 }), 'TypeError', 'ERR_INVALID_ARG_VALUE', 'Did you mean "minAge"?'],
      [() => recoverFromCrash('x', { minAge: -1 }), 'RangeError', 'ERR_OUT_OF_RANGE', 'minAge'],
      [() => recoverFromCrash('x', { promote: 'yes' }), 'TypeError', 'ERR_INVALID_ARG_TYPE', 'promote'],
      [() => recoverFromCrash('x', { validate: 'xml' }), 'TypeError', 'ERR_INVALID_ARG_VALUE', 'validate'],
      [() => recoverFromCrash('x', { retries: 1 }), 'TypeError', 'ERR_INVALID_ARG_VALUE', 'retries'],
      [() => setDefaults(), 'TypeError', 'ERR_INVALID_ARG_TYPE', 'defaults'],
      [() => setDefaults(null), 'TypeError', 'ERR_INVALID_ARG_TYPE', 'defaults'],
      [() => setDefaults({ cleanup: true }), 'TypeError', 'ERR_INVALID_ARG_TYPE', 'cleanup'],
      [() => setDefaults({ cleanup: 'always' }), 'TypeError', 'ERR_INVALID_ARG_VALUE', 'cleanup'],
      [() => setDefaults({ clean: 'off' }), 'TypeError', 'ERR_INVALID_ARG_VALUE', 'cleanup'],
    ]) {
      const error = await failure(call)
      assert.deepEqual([error.name, error.code], [name, code])
      assert.ok(error.message.includes(text), error.message)
    }
  })
})

describe("setDefaults({ cleanup: 'onFirstWrite' })", () => {
  test('sweeps a folder once, as it is first written to, and only what is of no use', async (t) => {
    const folder = newFolder(t)
    const orphans = {
      'good.json': '{}',
      [`.good.json.${HEX}.tmp`]: '{"n":1}',
      [`.torn.json.${HEX}.tmp`]: '{"n":',
      [`.gone.txt.${UUID}.tmp`]: 'text',
    }
    const useful = {
      'corrupt.json': '{',
      [`.corrupt.json.${HEX}.tmp`]: '{}',
      [`.missing.json.${HEX}.tmp`]: '{}',
      'a.json.tmp': '{}',
      'a.json.bak': '{}',
    }
    put(folder, { ...orphans, ...useful })
    put(folder, { [`.young.${HEX}.tmp`]: '' }, 0)
    put(folder, { [`below/.x.${HEX}.tmp`]: '' })
    const result = await inChild(
      async ({ folder, hex }, { holdfast, fs, path }) => {
        const temps = () => fs.readdirSync(folder).filter((name) => name.endsWith('.tmp')).sort()
        const write = () => holdfast.atomicWrite(path.join(folder, 'b.txt'), 'b')
        await write()
        const before = temps()
        holdfast.setDefaults({ cleanup: 'onFirstWrite' })
        await write()
        let after
        for (const end = Date.now() + 30_000; Date.now() < end && (after = temps()).length > before.length - 3; ) await new Promise((resolve) => setTimeout(resolve, 5))
        // Once is enough.
        const again = path.join(folder, `.again.${hex}.tmp`)
        fs.writeFileSync(again, '')
        fs.utimesSync(again, 1, 1)
        await write()
        await new Promise((resolve) => setTimeout(resolve, 100))
        return { before: before.length, after, again: fs.existsSync(again), written: fs.readFileSync(path.join(folder, 'b.txt'), 'utf8') }
      },
      { folder, hex: HEX },
    )
    assert.deepEqual(result, {
      before: 7,
      after: [`.corrupt.json.${HEX}.tmp`, `.missing.json.${HEX}.tmp`, `.young.${HEX}.tmp`, 'a.json.tmp'],
      again: true,
      written: 'b',
    })
    assert.ok(fs.existsSync(path.join(folder, 'below', `.x.${HEX}.tmp`)))
    for (const name of Object.keys(useful)) assert.ok(fs.existsSync(path.join(folder, name)), name)
  })

  test('a write to a folder that cannot be swept succeeds all the same', { skip: notRoot }, async (t) => {
    const folder = newFolder(t)
    fs.chmodSync(folder, 0o333)
    const outcome = await inChild(
      async ({ folder }, { holdfast, path, outcome }) => {
        holdfast.setDefaults({ cleanup: 'onFirstWrite' })
        return outcome(() => holdfast.atomicWrite(path.join(folder, 'a'), 'a'))
      },
      { folder },
      { user: { uid: 65534, gid: 65534 } },
    )
    assert.equal(outcome, 'success')
    assert.deepEqual(names(folder), ['a'])
  })
})
