'use strict'

// Recovery after a crash, on real files. The cases themselves are in
// tests/recovery.rs.

const { describe, test } = require('node:test')
const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { setTimeout } = require('node:timers/promises')
const { collector, failure, holdfast, inChild, modeOf, names, newDir, whyNot } = require('./helpers.js')

const { acquireLock, atomicWrite, createBackup, recoverFromCrash, SessionFileError, setDefaults, updateJsonFile, withLock } = holdfast

const HEX = '0123456789abcdef'
const UUID = '123e4567-e89b-12d3-a456-426614174000'
const NOW = { minAge: 0 }

/** Makes files by name, with old timestamps. */
function put(dir, files, age = 3600) {
  // The same time for all: which of two is older may matter.
  const then = Date.now() / 1000 - age
  for (const [name, content] of Object.entries(files)) {
    const file = path.join(dir, name)
    fs.mkdirSync(path.dirname(file), { recursive: true })
    fs.writeFileSync(file, content)
    fs.utimesSync(file, then, then)
  }
}

const read = (dir, name) => fs.readFileSync(path.join(dir, name), 'utf8')

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
      const dir = newDir(t)
      put(dir, { ...files, 'b.json.tmp': 'not asked for' })
      const report = await recoverFromCrash(path.join(dir, 'a.json'))
      assert.deepEqual(short(report), expected)
      assert.equal(report.complete, true)
      assert.deepEqual(names(dir).filter((name) => !name.endsWith('.lock')), [...Object.keys(left), 'b.json.tmp'])
      for (const [name, content] of Object.entries(left)) assert.equal(read(dir, name), content)
      assert.deepEqual(await recoverFromCrash(path.join(dir, 'a.json')), { actions: [], complete: true })
    }
  })

  test('a corrupt file is replaced by what is good, keeps its mode, and is kept aside', { skip: whyNot.unix() }, async (t) => {
    const dir = newDir(t)
    const file = path.join(dir, 'a.json')
    const temp = `.a.json.${HEX}.tmp`
    put(dir, { 'a.json': '{"torn', [temp]: '{"good":1}' })
    fs.chmodSync(file, 0o640)
    fs.chmodSync(path.join(dir, temp), 0o600)
    const { actions } = await recoverFromCrash(file)
    const [aside, restored] = actions
    assert.equal(aside.action, 'setAside')
    assert.match(aside.to, /\/a\.json\.corrupt-\d{13}$/)
    assert.equal(fs.readFileSync(aside.to, 'utf8'), '{"torn')
    assert.deepEqual([restored.action, restored.path, restored.to], ['restored', path.join(dir, temp), file])
    assert.equal(read(dir, 'a.json'), '{"good":1}')
    assert.equal(modeOf(file), 0o640)
  })

  test('a backup made by createBackup is left for its user to go back to', async (t) => {
    const dir = newDir(t)
    const file = path.join(dir, 'a.json')
    put(dir, { 'a.json': '{"n":1}' })
    const backup = await createBackup(file)
    fs.writeFileSync(file, '')
    const { actions } = await recoverFromCrash(file)
    assert.deepEqual(actions.map(({ action }) => action), ['left'])
    assert.equal(fs.readFileSync(backup, 'utf8'), '{"n":1}')
  })

  test('a file that is as it should be is not locked, and neither is a dry run', async (t) => {
    const dir = newDir(t)
    put(dir, { 'a.json': '{}' })
    await recoverFromCrash(path.join(dir, 'a.json'))
    assert.deepEqual(names(dir), ['a.json'])
    put(dir, { 'a.json': '{', 'a.json.bak': '{}' })
    const report = await recoverFromCrash(path.join(dir, 'a.json'), { dryRun: true })
    assert.deepEqual(short(report), [['a.json', 'setAside'], ['a.json.bak', 'restored']])
    assert.deepEqual(names(dir), ['a.json', 'a.json.bak'])
    assert.equal(read(dir, 'a.json'), '{')
  })

  test('it waits for the lock of a file that has to change', async (t) => {
    const dir = newDir(t)
    const file = path.join(dir, 'a.json')
    put(dir, { 'a.json.bak': '{"n":1}' })
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
    assert.deepEqual(names(dir), ['.a.json.lock', 'a.json.bak'])
    await lock.release()
    assert.deepEqual(short(await waiting), [['a.json.bak', 'restored']])
  })

  test('inside withLock it works under the lock that is held, inside an update it would wait for itself', async (t) => {
    const dir = newDir(t)
    const file = path.join(dir, 'a.json')
    put(dir, { 'a.json.bak': '{"n":1}' })
    const report = await withLock(file, () => recoverFromCrash(file, { timeout: 0 }))
    assert.deepEqual(short(report), [['a.json.bak', 'restored']])
    put(dir, { 'a.json.bak': '{"n":0}' })
    const error = await failure(() => updateJsonFile(file, () => recoverFromCrash(file)))
    assert.equal(error.code, 'EDEADLK')
    // Without the lock the caller is responsible.
    const other = await acquireLock(file)
    assert.deepEqual(short(await recoverFromCrash(file, { lock: false })), [['a.json.bak', 'removed']])
    await other.release()
  })

  test('an update that runs meanwhile is neither lost nor overwritten', async (t) => {
    const dir = newDir(t)
    const file = path.join(dir, 'a.json')
    for (let round = 0; round < 20; round++) {
      fs.rmSync(file, { force: true })
      put(dir, { 'a.json.bak': '{"n":1}' })
      const update = updateJsonFile(file, (data) => void (data.n += 10), { defaultValue: { n: 0 }, durability: 'none' })
      await Promise.all([update, recoverFromCrash(file)])
      // The one or the other came first.
      assert.ok([10, 11].includes(JSON.parse(read(dir, 'a.json')).n))
    }
  })
})

describe('recoverFromCrash of a directory', () => {
  test('orphans are removed, files of live processes stay', async (t) => {
    const dir = newDir(t)
    put(dir, {
      'a.json': '{}',
      [`.a.json.${HEX}.tmp`]: '{"n":1}',
      [`.b.txt.${UUID}.tmp`]: 'half a te',
      'c.json.tmp': '{}',
      'c.json.bak': '{}',
      [`below/.d.${HEX}.tmp`]: '',
    })
    put(dir, { [`.young.${HEX}.tmp`]: '' }, 0)
    const report = await recoverFromCrash(dir)
    assert.deepEqual(short(report), [[`.a.json.${HEX}.tmp`, 'removed'], [`.b.txt.${UUID}.tmp`, 'removed'], [`.young.${HEX}.tmp`, 'left']])
    assert.ok(report.actions.every(({ path: file, reason }) => path.isAbsolute(file) && reason.length > 0))
    assert.deepEqual(names(dir), [`.young.${HEX}.tmp`, 'a.json', 'below', 'c.json.bak', 'c.json.tmp'])
    assert.deepEqual(short(await recoverFromCrash(dir, { recursive: true })), [[`.young.${HEX}.tmp`, 'left'], [`.d.${HEX}.tmp`, 'removed']])
    assert.deepEqual(short(await recoverFromCrash(dir, { ...NOW, legacy: true, promote: true })), [
      ['c.json.tmp', 'promoted'], ['c.json.bak', 'removed'], [`.young.${HEX}.tmp`, 'removed'],
    ])
  })

  test('a file whose lock is held is left alone, and the others are not', async (t) => {
    const dir = newDir(t)
    put(dir, { 'a.json': '{', [`.a.json.${HEX}.tmp`]: '{}', [`.b.json.${HEX}.tmp`]: '{}' })
    await withLock(path.join(dir, 'a.json'), async () => {
      const report = await recoverFromCrash(dir, { promote: true })
      assert.deepEqual(short(report), [[`.a.json.${HEX}.tmp`, 'left'], [`.b.json.${HEX}.tmp`, 'promoted']])
    })
    assert.deepEqual(short(await recoverFromCrash(dir)), [['a.json', 'setAside'], [`.a.json.${HEX}.tmp`, 'restored']])
  })

  test('one bad entry does not hide the others', { skip: whyNot.root() }, async (t) => {
    const dir = newDir(t)
    put(dir, { [`.a.${HEX}.tmp`]: '', 'dark/x': '', [`.b.${HEX}.tmp`]: '' })
    fs.chmodSync(path.join(dir, 'dark'), 0)
    fs.chmodSync(path.join(dir, `.a.${HEX}.tmp`), 0)
    fs.chmodSync(dir, 0o777)
    const report = await inChild(
      async ({ dir }, { holdfast }) => {
        const { actions, complete } = await holdfast.recoverFromCrash(dir, { recursive: true })
        return { complete, actions: actions.map(({ action, error }) => [action, error?.name, error?.code, error?.operation]) }
      },
      { dir },
      { user: { uid: 65534, gid: 65534 } },
    )
    const denied = ['failed', 'SessionFileError', 'EACCES', 'recover']
    assert.deepEqual(report, { complete: false, actions: [denied, ['removed', null, null, null], denied] })
  })

  test('several at once do everything once', async (t) => {
    const dir = newDir(t)
    for (let i = 0; i < 200; i++) put(dir, { [`.a${i}.json.${HEX}.tmp`]: '{}', [`b${i}.json.bak`]: '{}' })
    const reports = await Promise.all(Array.from({ length: 8 }, () => recoverFromCrash(dir, { promote: true, legacy: true })))
    const did = reports.flatMap(({ actions }) => actions).filter(({ action }) => action !== 'left')
    assert.ok(did.every(({ action }) => action === 'promoted' || action === 'restored'))
    assert.equal(new Set(did.map(({ to }) => to)).size, did.length)
    const rest = await recoverFromCrash(dir, { promote: true, legacy: true })
    assert.equal(did.length + rest.actions.length, 400)
    assert.equal(names(dir).filter((name) => /^[ab]\d+\.json$/.test(name)).length, 400)
  })

  test('a directory that does not exist is an error, and so is one that cannot be', async (t) => {
    const dir = newDir(t)
    for (const [asked, code] of [[path.join(dir, 'missing', 'a.json'), 'ENOENT'], [path.join(dir, 'file', 'a.json'), 'ENOTDIR']]) {
      put(dir, { file: '' })
      const error = await failure(() => recoverFromCrash(asked))
      assert.ok(error instanceof SessionFileError)
      assert.deepEqual([error.code, error.operation, error.path], [code, 'recover', asked])
      assert.match(error.message, /^Failed to recover from a crash at /)
    }
  })

  test('it can be cancelled', async (t) => {
    const dir = newDir(t)
    put(dir, { [`.a.${HEX}.tmp`]: '' })
    const error = await failure(() => recoverFromCrash(dir, { signal: AbortSignal.abort('enough') }))
    assert.deepEqual([error.name, error.cause], ['AbortError', 'enough'])
    assert.equal(names(dir).length, 1)
  })

  test('what was done is logged', async (t) => {
    const dir = newDir(t)
    put(dir, { 'a.json': '{', [`.a.json.${HEX}.tmp`]: '{}', [`.b.${HEX}.tmp`]: '' })
    const { entries, logger } = collector()
    await recoverFromCrash(dir, { logger, dryRun: true })
    assert.deepEqual(entries, [])
    await recoverFromCrash(dir, { logger })
    assert.deepEqual(entries.map(({ level, message, fields }) => [level, message, fields.action, fields.operation]), [
      ['warn', 'Recovered after a crash', 'setAside', 'recover'],
      ['warn', 'Recovered after a crash', 'restored', 'recover'],
      ['debug', 'Left after a crash', 'removed', 'recover'],
    ])
    put(dir, { [`.b.${HEX}.tmp`]: '' })
    const bad = () => {
      throw new Error('no')
    }
    assert.equal((await recoverFromCrash(dir, { logger: { debug: bad, warn: bad, error: bad } })).actions.length, 1)
  })

  test('arguments are checked before anything happens', async () => {
    for (const [call, name, code, text] of [
      [() => recoverFromCrash(7), 'TypeError', 'ERR_INVALID_ARG_TYPE', 'pathOrDir'],
      [() => recoverFromCrash('x', { minage: 1 }), 'TypeError', 'ERR_INVALID_ARG_VALUE', 'Did you mean "minAge"?'],
      [() => recoverFromCrash('x', { minAge: -1 }), 'RangeError', 'ERR_OUT_OF_RANGE', 'minAge'],
      [() => recoverFromCrash('x', { promote: 'yes' }), 'TypeError', 'ERR_INVALID_ARG_TYPE', 'promote'],
      [() => recoverFromCrash('x', { validate: true }), 'TypeError', 'ERR_INVALID_ARG_VALUE', "\"validate\" option must be 'json' or false"],
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
  test('sweeps a directory once, as it is first written to, and only what is of no use', async (t) => {
    const dir = newDir(t)
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
    put(dir, { ...orphans, ...useful })
    put(dir, { [`.young.${HEX}.tmp`]: '' }, 0)
    put(dir, { [`below/.x.${HEX}.tmp`]: '' })
    const result = await inChild(
      async ({ dir, hex }, { holdfast, fs, path }) => {
        const temps = () => fs.readdirSync(dir).filter((name) => name.endsWith('.tmp')).sort()
        const write = () => holdfast.atomicWrite(path.join(dir, 'b.txt'), 'b')
        await write()
        const before = temps()
        holdfast.setDefaults({ cleanup: 'onFirstWrite' })
        await write()
        let after
        for (const end = Date.now() + 30_000; Date.now() < end && (after = temps()).length > before.length - 3; ) await new Promise((resolve) => setTimeout(resolve, 5))
        // Once is enough.
        const again = path.join(dir, `.again.${hex}.tmp`)
        fs.writeFileSync(again, '')
        fs.utimesSync(again, 1, 1)
        await write()
        await new Promise((resolve) => setTimeout(resolve, 100))
        return { before: before.length, after, again: fs.existsSync(again), written: fs.readFileSync(path.join(dir, 'b.txt'), 'utf8') }
      },
      { dir, hex: HEX },
    )
    assert.deepEqual(result, {
      before: 7,
      after: [`.corrupt.json.${HEX}.tmp`, `.missing.json.${HEX}.tmp`, `.young.${HEX}.tmp`, 'a.json.tmp'],
      again: true,
      written: 'b',
    })
    assert.ok(fs.existsSync(path.join(dir, 'below', `.x.${HEX}.tmp`)))
    for (const name of Object.keys(useful)) assert.ok(fs.existsSync(path.join(dir, name)), name)
  })

  test('a write to a directory that cannot be swept succeeds all the same', { skip: whyNot.root() }, async (t) => {
    const dir = newDir(t)
    fs.chmodSync(dir, 0o333)
    const outcome = await inChild(
      async ({ dir }, { holdfast, path, outcome }) => {
        holdfast.setDefaults({ cleanup: 'onFirstWrite' })
        return outcome(() => holdfast.atomicWrite(path.join(dir, 'a'), 'a'))
      },
      { dir },
      { user: { uid: 65534, gid: 65534 } },
    )
    assert.equal(outcome, 'success')
    assert.deepEqual(names(dir), ['a'])
  })
})
