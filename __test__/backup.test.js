'use strict'

// Backups: what is there is never overwritten, what is in place is whole, and what comes back
// comes back in one step.

const assert = require('node:assert/strict')
const { spawn } = require('node:child_process')
const { once } = require('node:events')
const fs = require('node:fs')
const path = require('node:path')
const { describe, test } = require('node:test')
const { pathToFileURL } = require('node:url')
const { setTimeout: wait } = require('node:timers/promises')
const { NOBODY, collector, failure, fullDisk, holdfast, inChild, modeOf, names, newDir, root, temps, whyNot } = require('./helpers.js')

const {
  acquireLock, atomicWrite, cleanupBackups, createBackup, isLocked, listBackups, recoverFromCrash, restoreBackup, SessionFileError, updateJsonFile, withLock,
} = holdfast

const DAY = 24 * 60 * 60 * 1000
const MiB = 1024 * 1024

/** The names of everything but lock files. @param {string} directory */
const files = (dir) => names(dir).filter((name) => !name.endsWith('.lock'))

/** @param {import('node:test').TestContext} t @param {string} [content] */
function setUp(t, content = '{"level":1}') {
  const dir = newDir(t)
  const file = path.join(dir, 'state.json')
  fs.writeFileSync(file, content)
  return { dir, file }
}

describe('createBackup', () => {
  test('copies the file to <path>.<ms since epoch>.backup', async (t) => {
    const { dir, file } = setUp(t)
    const before = Date.now()
    const backup = await createBackup(file)
    const [, time] = /** @type {RegExpExecArray} */ (/^.*\/state\.json\.(\d+)\.backup$/.exec(backup))
    assert.ok(Number(time) >= before && Number(time) <= Date.now())
    assert.equal(fs.readFileSync(backup, 'utf8'), '{"level":1}')
    assert.deepEqual(files(dir), ['state.json', path.basename(backup)])
    assert.notEqual(fs.statSync(backup).ino, fs.statSync(file).ino)
  })

  test('gives the path as it was given: relative, or a URL', async (t) => {
    const { dir, file } = setUp(t)
    const relative = await inChild(async (_args, { holdfast }) => holdfast.createBackup('state.json'), {}, { cwd: dir })
    assert.match(relative, /^state\.json\.\d+\.backup$/)
    assert.match(await createBackup(pathToFileURL(file)), new RegExp(`^${file}\\.\\d+\\.backup$`))
  })

  test('never overwrites: a name that exists, as a file or anything else, moves on by a millisecond', async (t) => {
    const { dir, file } = setUp(t)
    t.mock.method(Date, 'now', () => 1_000_000)
    fs.writeFileSync(`${file}.1000000.backup`, 'a file')
    fs.mkdirSync(`${file}.1000001.backup`)
    fs.symlinkSync('nowhere', `${file}.1000002.backup`)
    const made = await Promise.all(Array.from({ length: 20 }, () => createBackup(file)))
    assert.deepEqual(made.sort(), Array.from({ length: 20 }, (_, i) => `${file}.${1_000_003 + i}.backup`))
    assert.equal(fs.readFileSync(`${file}.1000000.backup`, 'utf8'), 'a file')
    assert.equal(fs.readlinkSync(`${file}.1000002.backup`), 'nowhere')
    assert.equal(fs.existsSync(path.join(dir, 'nowhere')), false)
    for (const backup of made) assert.equal(fs.readFileSync(backup, 'utf8'), '{"level":1}')
    assert.deepEqual(temps(dir), [])
  })

  test('several processes never get the same name', async (t) => {
    const { file } = setUp(t)
    const program = async (/** @type {any} */ { file }, /** @type {any} */ { holdfast }) => {
      Date.now = () => 5000
      return Promise.all(Array.from({ length: 25 }, () => holdfast.createBackup(file)))
    }
    const made = (await Promise.all([1, 2, 3, 4].map(() => inChild(program, { file })))).flat()
    assert.equal(new Set(made).size, 100)
    assert.equal((await listBackups(file)).length, 100)
  })

  test('keeps permission bits and owner', { skip: whyNot.unix() }, async (t) => {
    const { file } = setUp(t)
    for (const mode of [0o600, 0o644, 0o400, 0o777]) {
      fs.chmodSync(file, mode)
      if (process.getuid?.() === 0) fs.chownSync(file, NOBODY.uid, NOBODY.gid)
      const backup = await createBackup(file)
      assert.equal(modeOf(backup), mode)
      const [one, other] = [fs.statSync(file), fs.statSync(backup)]
      assert.deepEqual([other.uid, other.gid], [one.uid, one.gid])
    }
  })

  test('a private file is never open to others, not even on the way', { skip: whyNot.root() || whyNot.strace() }, async (t) => {
    const { dir, file } = setUp(t)
    fs.chmodSync(file, 0o600)
    const log = path.join(dir, 'trace')
    const program = async (/** @type {any} */ { file }, /** @type {any} */ { holdfast }) => holdfast.createBackup(file)
    await inChild(program, { file }, { command: ['strace', '-f', '-o', log, '-e', 'trace=openat'] })
    const made = fs.readFileSync(log, 'utf8').split('\n').filter((line) => line.includes('O_CREAT') && line.includes('.state.json.'))
    assert.equal(made.length, 1)
    assert.match(/** @type {string} */ (made[0]), /, 0600\)/)
  })

  test('copies what a symbolic link leads to, beside the link', { skip: whyNot.unix() }, async (t) => {
    const { dir, file } = setUp(t)
    fs.mkdirSync(path.join(dir, 'links'))
    const link = path.join(dir, 'links', 'link')
    fs.symlinkSync('../state.json', link)
    const backup = await createBackup(link)
    assert.equal(path.dirname(backup), path.dirname(link))
    assert.ok(fs.lstatSync(backup).isFile())
    assert.equal(fs.readFileSync(backup, 'utf8'), '{"level":1}')
    fs.writeFileSync(file, 'changed')
    await restoreBackup(backup, link)
    assert.ok(fs.lstatSync(link).isSymbolicLink())
    assert.equal(fs.readFileSync(file, 'utf8'), '{"level":1}')
  })

  test("refuses a corrupt file with validate: 'json', and leaves nothing", async (t) => {
    const { dir, file } = setUp(t)
    for (const [text, code] of [['{"level":', 'EBADJSON'], ['', 'EEMPTYJSON'], ['{}{}', 'EBADJSON']]) {
      fs.writeFileSync(file, /** @type {string} */ (text))
      const error = await failure(() => createBackup(file, { validate: 'json', keep: 1 }))
      assert.ok(error instanceof SessionFileError)
      assert.deepEqual([error.code, error.operation, error.attempts], [code, 'create backup', 1])
      assert.deepEqual(files(dir), ['state.json'])
    }
  })

  test('a corrupt file does not evict the last good backup', async (t) => {
    const { file } = setUp(t)
    const good = await createBackup(file, { validate: 'json', keep: 2 })
    fs.writeFileSync(file, '{"level":')
    for (let i = 0; i < 5; i++) await failure(() => createBackup(file, { validate: 'json', keep: 2 }))
    assert.deepEqual((await listBackups(file)).map(({ path }) => path), [good])
    await restoreBackup(good, file)
    assert.equal(fs.readFileSync(file, 'utf8'), '{"level":1}')
  })

  test('keep leaves the newest, and only prunes backups of this file', async (t) => {
    const { dir, file } = setUp(t)
    const others = ['state.json.1.backup2', 'state.json.backup', 'state.json.x.backup', 'state.json2.1.backup', 'state.json.1.2.backup', 'xstate.json.1.backup', 'state.json.-1.backup', 'state.json. 1.backup']
    for (const name of others) fs.writeFileSync(path.join(dir, name), 'other')
    fs.mkdirSync(`${file}.3.backup`)
    for (const time of [1, 2, 10, 9]) fs.writeFileSync(`${file}.${time}.backup`, '{}')
    const made = await createBackup(file, { keep: 3 })
    assert.deepEqual(files(dir), ['state.json', 'state.json.3.backup', 'state.json.9.backup', 'state.json.10.backup', path.basename(made), ...others].sort())
    await createBackup(file, { keep: 1 })
    assert.equal((await listBackups(file)).length, 1)
    // One with a time to come is older all the same: the clock was wrong then, or is so now.
    fs.writeFileSync(`${file}.8000000000000.backup`, '{}')
    const last = await createBackup(file, { keep: 2, validate: 'json' })
    assert.equal(last, `${file}.8000000000001.backup`)
    assert.deepEqual((await listBackups(file)).map(({ path }) => path), [last, `${file}.8000000000000.backup`])
    const newer = await createBackup(file, { keep: 2 })
    assert.deepEqual((await listBackups(file)).map(({ path }) => path), [newer, last])
    // Behind this one there is no time that a date can have. The new one is not removed for it.
    fs.writeFileSync(`${file}.8640000000000000.backup`, '{}')
    const beside = await createBackup(file, { keep: 1 })
    assert.ok((await listBackups(file)).some(({ path }) => path === beside))
  })

  test('keep removes nothing when the new backup fails', { skip: whyNot.mount() }, async (t) => {
    const { dir, filler } = fullDisk(t)
    fs.truncateSync(filler, fs.statSync(filler).size - 96 * 1024)
    const file = path.join(dir, 'file')
    fs.writeFileSync(file, Buffer.alloc(40_000, 'x'))
    const backup = await createBackup(file, { keep: 1 })
    const before = files(dir)
    const error = await failure(() => createBackup(file, { keep: 1, retries: 2, retryDelay: 1 }))
    assert.deepEqual([error.code, error.operation, error.attempts], ['ENOSPC', 'create backup', 2])
    assert.match(error.message, /^Failed to create backup at .*: Create backup failed after 2 attempts: ENOSPC/)
    assert.deepEqual(files(dir), before)
    assert.equal(fs.readFileSync(backup).length, 40_000)
  })

  test('is one version in full while the file is being replaced', async (t) => {
    const { file } = setUp(t)
    const text = (/** @type {number} */ i) => Buffer.alloc(300_000, 97 + (i % 26))
    await atomicWrite(file, text(0))
    let over = false
    const replacing = (async () => {
      for (let i = 1; !over; i++) await atomicWrite(file, text(i), { durability: 'none' })
    })()
    const seen = new Set()
    for (let i = 0; i < 40; i++) {
      const found = fs.readFileSync(await createBackup(file, { durability: 'none' }))
      assert.equal(found.length, 300_000)
      assert.equal(new Set(found).size, 1, 'parts of several versions')
      seen.add(found[0])
    }
    t.diagnostic(`${seen.size} versions`)
    over = true
    await replacing
  })

  test('reports what is wrong', async (t) => {
    const { dir, file } = setUp(t)
    for (const [source, code, syscall] of [
      [path.join(dir, 'missing'), 'ENOENT', 'open'], [dir, 'EISDIR', 'open'], [path.join(file, 'below'), 'ENOTDIR', 'open'],
      ['/dev/null', 'EINVAL', 'open'],
    ]) {
      const error = await failure(() => createBackup(/** @type {string} */ (source)))
      assert.deepEqual([error.code, error.syscall, error.operation, error.path], [code, syscall, 'create backup', source])
    }
    for (const [args, pattern] of /** @type {[any[], RegExp][]} */ ([
      [[1], /"path"/], [[file, { keep: 0 }], /"keep"/], [[file, { keep: 1.5 }], /"keep"/], [[file, { mode: 1 }], /Unknown option "mode"/],
      [[file, { lock: true }], /Unknown option "lock"/], [[file, { validate: 'xml' }], /"validate"/],
    ])) assert.match((await failure(() => createBackup(args[0], args[1]))).message, pattern)
    const aborted = await failure(() => createBackup(file, { signal: AbortSignal.abort('why') }))
    assert.deepEqual([aborted.name, aborted.cause], ['AbortError', 'why'])
    assert.deepEqual(files(dir), ['state.json'])
  })

  test('copies 100 MiB, and can be cancelled in it', async (t) => {
    const { dir, file } = setUp(t)
    const bytes = Buffer.alloc(100 * MiB, 'some bytes ')
    fs.writeFileSync(file, bytes)
    assert.ok(fs.readFileSync(await createBackup(file)).equals(bytes))
    const controller = new AbortController()
    const copying = createBackup(file, { signal: controller.signal })
    setTimeout(() => controller.abort(), 5)
    const error = await copying.then(() => undefined, (error) => error)
    assert.ok(error === undefined || error.name === 'AbortError')
    assert.equal(files(dir).length, error ? 2 : 3)
  })

  test('is cancelled at once in the wait for its next attempt, and so is restoreBackup', { skip: whyNot.mount() }, async (t) => {
    const { dir, filler } = fullDisk(t)
    const file = path.join(dir, 'state.json')
    const backup = path.join(newDir(t), 'state.json.1.backup')
    fs.truncateSync(filler, fs.statSync(filler).size - 64 * 1024)
    for (const at of [file, backup]) fs.writeFileSync(at, Buffer.alloc(60 * 1024, 'x'))
    // In a child, because a call that went on waiting would do so for weeks.
    const ends = await inChild(async ({ file, backup }, { holdfast, outcome }) => {
      const { createBackup, isLocked, restoreBackup } = holdfast
      const ends = []
      for (const begin of [(options) => createBackup(file, options), (options) => restoreBackup(backup, file, options)]) {
        const controller = new AbortController()
        const messages = []
        const take = (_, message) => {
          messages.push(message)
          if (message.startsWith('Retrying')) setImmediate(() => controller.abort('enough'))
        }
        const logger = { debug: take, warn: take, error: take }
        const { name, code } = await outcome(() => begin({ signal: controller.signal, logger, retryDelay: 2 ** 31 - 1 }))
        const { locked } = await isLocked(file)
        // Nor does it hold up the calls behind it.
        const next = await outcome(() => restoreBackup(backup, file, { retries: 1 }))
        ends.push([name, code, messages.at(-1), locked, next.code])
      }
      return ends
    }, { file, backup })
    for (const end of ends) assert.deepEqual(end, ['AbortError', 'ABORT_ERR', 'Retrying atomic write', false, 'ENOSPC'])
    assert.equal(ends.length, 2)
    assert.deepEqual(files(dir), ['filler', 'state.json'])
  })

  test('logs as a write does', async (t) => {
    const { file } = setUp(t)
    const { logger, entries } = collector()
    const backup = await createBackup(file, { logger })
    await restoreBackup(backup, file, { logger })
    const four = ['Starting atomic write', 'Temp file written', 'Temp file renamed to target', 'Atomic write completed successfully']
    assert.deepEqual(entries.map(({ message }) => message), [...four, ...four])
    assert.equal(entries[1]?.fields.size, 11)
  })
})

describe('restoreBackup', () => {
  test('brings the content back, and keeps the mode of the target', { skip: whyNot.unix() }, async (t) => {
    const { dir, file } = setUp(t)
    fs.chmodSync(file, 0o600)
    const backup = await createBackup(file)
    fs.chmodSync(file, 0o640)
    fs.writeFileSync(file, 'something else')
    await restoreBackup(backup, file)
    assert.equal(fs.readFileSync(file, 'utf8'), '{"level":1}')
    assert.equal(modeOf(file), 0o640)
    // Where there is no target, those of the backup.
    fs.unlinkSync(file)
    await restoreBackup(pathToFileURL(backup), pathToFileURL(file))
    assert.equal(modeOf(file), 0o600)
    await restoreBackup(backup, path.join(dir, 'a/b'), { makeDirs: true, mode: 0o611 })
    assert.equal(modeOf(path.join(dir, 'a/b')), 0o611)
    assert.equal(fs.readFileSync(backup, 'utf8'), '{"level":1}')
    assert.deepEqual(temps(dir), [])
  })

  test("refuses a corrupt backup with validate: 'json'", async (t) => {
    const { dir, file } = setUp(t)
    const backup = path.join(dir, 'state.json.7.backup')
    fs.writeFileSync(backup, '{"level":')
    const error = await failure(() => restoreBackup(backup, file, { validate: 'json' }))
    assert.deepEqual([error.code, error.operation, error.path, error.line], ['EBADJSON', 'restore backup', file, 1])
    assert.equal(fs.readFileSync(file, 'utf8'), '{"level":1}')
    assert.deepEqual(temps(dir), [])
  })

  test('reports what is wrong, and leaves the target as it was', async (t) => {
    const { dir, file } = setUp(t)
    const missing = path.join(dir, 'missing')
    const error = await failure(() => restoreBackup(missing, file))
    assert.deepEqual([error.code, error.syscall, error.operation, error.path, error.cause.path], ['ENOENT', 'open', 'restore backup', file, missing])
    assert.equal((await failure(() => restoreBackup(dir, file))).code, 'EISDIR')
    assert.equal((await failure(() => restoreBackup(file, dir))).code, 'EISDIR')
    assert.equal((await failure(() => restoreBackup(file, path.join(missing, 'x')))).code, 'ENOENT')
    for (const [args, pattern] of /** @type {[any[], RegExp][]} */ ([
      [[1, file], /"backupPath"/], [[file, 1], /"targetPath"/], [[file, file, { keep: 1 }], /Unknown option "keep"/], [[file, file, { timeout: -1 }], /"timeout"/],
    ])) assert.match((await failure(() => restoreBackup(args[0], args[1], args[2]))).message, pattern)
    assert.equal(fs.readFileSync(file, 'utf8'), '{"level":1}')
    assert.deepEqual(temps(dir), [])
  })

  test('waits for the lock of the target, times out, can be cancelled, and can do without', async (t) => {
    const { file } = setUp(t)
    const backup = await createBackup(file)
    fs.writeFileSync(file, 'new')
    const lock = await acquireLock(file)
    const error = await failure(() => restoreBackup(backup, file, { timeout: 20 }))
    assert.deepEqual([error.code, error.operation], ['ELOCKED', 'restore backup'])
    const controller = new AbortController()
    const cancelled = restoreBackup(backup, file, { signal: controller.signal })
    setTimeout(() => controller.abort(), 10)
    assert.equal((await failure(() => cancelled)).name, 'AbortError')
    assert.equal(fs.readFileSync(file, 'utf8'), 'new')
    const waiting = restoreBackup(backup, file)
    await wait(20)
    assert.equal(fs.readFileSync(file, 'utf8'), 'new')
    await lock.release()
    await waiting
    assert.equal(fs.readFileSync(file, 'utf8'), '{"level":1}')
    assert.equal((await isLocked(file)).locked, false)

    fs.writeFileSync(file, 'new')
    const other = await acquireLock(file)
    await restoreBackup(backup, file, { lock: false })
    assert.equal(fs.readFileSync(file, 'utf8'), '{"level":1}')
    await other.release()
  })

  test('inside withLock works under the lock, one after another with updates there', async (t) => {
    const { file } = setUp(t)
    const backup = await createBackup(file)
    await withLock(file, async () => {
      await updateJsonFile(file, (data) => void (data.level = 5))
      const steps = [
        updateJsonFile(file, async (data) => (await wait(20), void (data.a = data.level))),
        restoreBackup(backup, file),
        updateJsonFile(file, (data) => void (data.b = data.level)),
      ]
      const results = await Promise.all(steps)
      assert.deepEqual(results, [{ level: 5, a: 5 }, undefined, { level: 1, b: 1 }])
    })
    assert.deepEqual(JSON.parse(fs.readFileSync(file, 'utf8')), { level: 1, b: 1 })
    // What was started under the lock and not awaited is still done under it.
    /** @type {Promise<void>[]} */
    const started = []
    await withLock(file, () => {
      started.push(restoreBackup(backup, file))
    })
    assert.equal(fs.readFileSync(file, 'utf8'), '{"level":1}')
    await Promise.all(started)
  })

  test('in an update of the target would wait for itself: EDEADLK', async (t) => {
    const { dir, file } = setUp(t)
    const backup = await createBackup(file)
    await updateJsonFile(file, async (data) => {
      const error = await failure(() => restoreBackup(backup, file))
      assert.deepEqual([error.code, error.operation], ['EDEADLK', 'restore backup'])
      await restoreBackup(backup, path.join(dir, 'other.json'))
      data.level = 2
    })
    assert.equal(fs.readFileSync(file, 'utf8'), '{"level":2}')
  })

  test('beside updates by several processes never mixes with one of them', async (t) => {
    const { file } = setUp(t, '{"count":0,"log":[]}')
    const backup = await createBackup(file)
    const program = async (/** @type {any} */ { file, backup, restores }, /** @type {any} */ { holdfast }) => {
      for (let i = 0; i < 40; i++) {
        if (restores) await holdfast.restoreBackup(backup, file)
        else await holdfast.updateJsonFile(file, (/** @type {any} */ data) => { data.count++; data.log.push(data.count) })
      }
    }
    await Promise.all([true, false, false, false].map((restores) => inChild(program, { file, backup, restores })))
    const { count, log } = JSON.parse(fs.readFileSync(file, 'utf8'))
    assert.deepEqual(log, Array.from({ length: count }, (_, i) => i + 1))
    assert.deepEqual(temps(path.dirname(file)), [])
  })

  test('keeps the target when the disk is full, and leaves nothing', { skip: whyNot.mount() }, async (t) => {
    const { dir, filler } = fullDisk(t)
    const source = path.join(newDir(t), 'state.json.1.backup')
    fs.writeFileSync(source, Buffer.alloc(200_000, 'x'))
    fs.truncateSync(filler, fs.statSync(filler).size - 64 * 1024)
    const file = path.join(dir, 'state.json')
    fs.writeFileSync(file, 'old')
    const error = await failure(() => restoreBackup(source, file, { retryDelay: 1 }))
    assert.deepEqual([error.code, error.attempts, error.committed], ['ENOSPC', 3, false])
    assert.match(error.message, /Restore backup failed after 3 attempts: ENOSPC/)
    assert.equal(fs.readFileSync(file, 'utf8'), 'old')
    assert.deepEqual(files(dir), ['filler', 'state.json'])
  })

  test('killed at any moment leaves the target old or restored, whole, and its lock free', { skip: whyNot.unix() }, async (t) => {
    const { dir, file } = setUp(t, 'a'.repeat(3 * MiB))
    const backups = [await createBackup(file)]
    await atomicWrite(file, 'b'.repeat(3 * MiB))
    backups.push(await createBackup(file))
    const source = `
      const { restoreBackup } = require(${JSON.stringify(root)})
      const [file, ...backups] = ${JSON.stringify([file, ...backups])}
      ;(async () => {
        console.log('ready')
        for (let i = 0; ; i++) await restoreBackup(backups[i % 2], file, { durability: 'none' })
      })()`
    let left = 0
    for (let round = 0; round < 25; round++) {
      const child = spawn(process.execPath, ['-e', source], { stdio: ['ignore', 'pipe', 'inherit'] })
      await once(/** @type {import('node:stream').Readable} */ (child.stdout), 'data')
      await wait(round % 13)
      child.kill('SIGKILL')
      await once(child, 'close')
      const found = fs.readFileSync(file, 'utf8')
      assert.ok(found === 'a'.repeat(3 * MiB) || found === 'b'.repeat(3 * MiB), `round ${round}: ${found.length} bytes`)
      const orphans = temps(dir)
      assert.ok(orphans.length <= 1, `${orphans}`)
      left += orphans.length
      for (const name of orphans) fs.unlinkSync(path.join(dir, name))
      assert.equal((await isLocked(file)).locked, false)
    }
    t.diagnostic(`${left} times a temp file was left`)
  })
})

describe('listBackups', () => {
  test('gives path, time and size, the newest first', async (t) => {
    const { file } = setUp(t)
    for (const [time, text] of [[9, 'x'], [100, 'xx'], [20, '']]) fs.writeFileSync(`${file}.${time}.backup`, `${text}`)
    fs.mkdirSync(`${file}.5.backup`)
    fs.writeFileSync(`${file}.5.backups`, '')
    fs.writeFileSync(`${file}.99999999999999999999.backup`, '')
    assert.deepEqual(await listBackups(file), [
      { path: `${file}.100.backup`, createdAt: new Date(100), size: 2 },
      { path: `${file}.20.backup`, createdAt: new Date(20), size: 0 },
      { path: `${file}.9.backup`, createdAt: new Date(9), size: 1 },
    ])
    fs.unlinkSync(file)
    assert.equal((await listBackups(file)).length, 3)
  })

  test('of a file that has none is empty, and of a directory that is not there an error', async (t) => {
    const { dir, file } = setUp(t)
    assert.deepEqual(await listBackups(file), [])
    assert.deepEqual(await listBackups(path.join(dir, 'missing')), [])
    const error = await failure(() => listBackups(path.join(dir, 'missing', 'file')))
    assert.deepEqual([error.code, error.operation], ['ENOENT', 'list backups'])
  })

  test('takes special characters in names as they are', async (t) => {
    const dir = newDir(t)
    for (const name of ['a+b (1) [x].json', 'é😀', '.hidden', '-', 'x'.repeat(220)]) {
      const file = path.join(dir, name)
      fs.writeFileSync(file, name)
      const backup = await createBackup(file)
      assert.deepEqual((await listBackups(file)).map(({ path }) => path), [backup])
    }
    assert.deepEqual(temps(dir), [])
  })
})

describe('when the clock has been ahead', () => {
  for (const ahead of [DAY, 3000 * DAY]) {
    test(`by ${ahead / DAY} days, the newest backup is the one that was made last, and none is removed for being older`, async (t) => {
      const { file } = setUp(t)
      const now = Date.now()
      const made = []
      let clock = now
      const at = t.mock.method(Date, 'now', () => clock)
      for (const [time, level] of [[now - DAY, 1], [now + ahead, 2], [now, 3], [now - 2 * DAY, 4], [now + 5, 5]]) {
        clock = time
        fs.writeFileSync(file, `{"level":${level}}`)
        made.unshift(await createBackup(file, { keep: 10 }))
        assert.deepEqual((await listBackups(file)).map(({ path }) => path), made)
      }
      at.mock.restore()
      await restoreBackup((await listBackups(file))[0]?.path ?? '', file)
      assert.equal(fs.readFileSync(file, 'utf8'), '{"level":5}')
      const last = await createBackup(file, { keep: 3 })
      assert.deepEqual((await listBackups(file)).map(({ path }) => path), [last, ...made.slice(0, 2)])
    })
  }

  test('a backup is as old as its file says, or a later one of the same file', async (t) => {
    const { dir, file } = setUp(t)
    const now = Date.now()
    const ago = (/** @type {number} */ days) => new Date(now - days * DAY)
    // By their names all of these are yet to be made. The first one was made when the clock was ahead.
    const backups = [[1000, -1000], [1001, 9], [1002, 8], [1003, 3], [1004, 5], [1005, 0]].map(([day, age]) => {
      const backup = `${file}.${now + (day ?? 0) * DAY}.backup`
      fs.writeFileSync(backup, '{}')
      fs.utimesSync(backup, ago(age ?? 0), ago(age ?? 0))
      return path.basename(backup)
    })
    // How old this one is cannot be told.
    const other = path.join(dir, `other.json.${now + DAY}.backup`)
    fs.writeFileSync(other, '{}')
    fs.utimesSync(other, ago(-1000), ago(-1000))
    assert.deepEqual((await cleanupBackups(dir, /./)).sort(), backups.slice(0, 3))
    // The one that seems to be younger than the next one is not.
    assert.deepEqual((await cleanupBackups(dir, /./, 4 * DAY)).sort(), backups.slice(3, 5))
    const made = path.basename(await createBackup(file))
    assert.deepEqual(await cleanupBackups(dir, /./, DAY), [])
    // Every age is at least 0.
    assert.deepEqual((await cleanupBackups(dir, /./, 0, { keepNewest: 0 })).sort(), [path.basename(other), backups[5], made].sort())
  })

  test('with anyName every file has an age of at least 0', async (t) => {
    const dir = newDir(t)
    fs.writeFileSync(path.join(dir, 'ahead.log'), '')
    const ahead = new Date(Date.now() + 1000 * DAY)
    fs.utimesSync(path.join(dir, 'ahead.log'), ahead, ahead)
    assert.deepEqual(await cleanupBackups(dir, /./, DAY, { anyName: true }), [])
    assert.deepEqual(await cleanupBackups(dir, /./, 0, { anyName: true }), ['ahead.log'])
  })

  for (const ahead of [90_000, DAY, 3000 * DAY]) {
    test(`what a writer that takes no lock has left ${ahead / 1000} s ahead is dealt with`, async (t) => {
      const { dir, file } = setUp(t)
      const temp = path.join(dir, '.state.json.123e4567-e89b-12d3-a456-426614174000.tmp')
      fs.writeFileSync(temp, '{}')
      const time = new Date(Date.now() + ahead)
      fs.utimesSync(temp, time, time)
      const { actions } = await recoverFromCrash(file)
      assert.deepEqual(actions.map(({ action, path }) => [action, path]), [['removed', temp]])
    })
  }
})

describe('a name that leaves no room for the time', () => {
  test('is shortened in the name of the backup, which is found, kept apart from others and restored', async (t) => {
    const dir = newDir(t)
    const [file, other] = ['y', 'z'].map((last) => path.join(dir, 'y'.repeat(249) + last))
    for (const name of [file, other]) fs.writeFileSync(name, name.slice(-1))
    const first = await createBackup(file)
    assert.match(path.basename(first), /^y{217}\.[0-9a-f]{16}\.\d{13}\.backup$/)
    assert.deepEqual((await listBackups(file)).map(({ path }) => path), [first])
    assert.deepEqual(await listBackups(other), [])
    const second = await createBackup(file, { keep: 1 })
    assert.deepEqual((await listBackups(file)).map(({ path }) => path), [second])
    fs.writeFileSync(file, 'changed')
    await restoreBackup(second, file)
    assert.equal(fs.readFileSync(file, 'utf8'), 'y')
    assert.deepEqual(await cleanupBackups(dir, /^y/, 0, { keepNewest: 0 }), [path.basename(second)])
  })
})

describe('cleanupBackups', () => {
  test('removes backups that match and are old, by the time in their names', async (t) => {
    const { dir, file } = setUp(t)
    const now = Date.now()
    const old = [8 * DAY, 7 * DAY + 5000].map((age) => `state.json.${now - age}.backup`)
    const young = [0, DAY, 7 * DAY - 60_000].map((age) => `state.json.${now - age}.backup`)
    const other = `other.json.${now - 30 * DAY}.backup`
    const not = ['state.json.1.backup.tmp', 'state.json.1', 'state.json.x.backup', '1.backup', '.1.backup']
    for (const name of [...old, ...young, other, ...not]) fs.writeFileSync(path.join(dir, name), '')
    fs.mkdirSync(path.join(dir, 'state.json.1.backup'))
    fs.symlinkSync('state.json', path.join(dir, 'state.json.2.backup'))
    assert.deepEqual((await cleanupBackups(dir, /^state/)).sort(), old.sort())
    assert.deepEqual(files(dir), ['state.json', 'state.json.1.backup', 'state.json.2.backup', ...young, other, ...not].sort())
    assert.deepEqual((await cleanupBackups(dir, /./, DAY / 2)).sort(), [...young.slice(1), other].sort())
    assert.ok(fs.existsSync(file))
    await createBackup(file)
    assert.equal((await cleanupBackups(pathToFileURL(dir), /json/, 0, { keepNewest: 0 })).length, 2)
    assert.deepEqual(await cleanupBackups(dir, /json/, Infinity), [])
  })

  test('a pattern with the flag g or y misses no name, and stays as it was', async (t) => {
    for (const flags of ['g', 'y', 'gy', '']) {
      const dir = newDir(t)
      const made = Array.from({ length: 20 }, (_, i) => `file.${1000 + i}.backup`)
      for (const name of made) fs.writeFileSync(path.join(dir, name), '')
      const pattern = new RegExp('file', flags)
      pattern.lastIndex = 3
      assert.deepEqual((await cleanupBackups(dir, pattern)).sort(), made)
      assert.equal(pattern.lastIndex, 3)
    }
  })

  test('with anyName takes any file that matches, by the time of its last change, but no lock and no temp file', async (t) => {
    const dir = newDir(t)
    const old = new Date(Date.now() - 8 * DAY)
    const all = ['a.log', 'b.log', 'new.log', '.file.lock', '.file.0123456789abcdef.tmp', 'c.log.1.backup', 'x.tmp', 'y.lock']
    for (const name of all) {
      fs.writeFileSync(path.join(dir, name), '')
      if (name !== 'new.log') fs.utimesSync(path.join(dir, name), old, old)
    }
    fs.mkdirSync(path.join(dir, 'dir.log'))
    fs.utimesSync(path.join(dir, 'dir.log'), old, old)
    assert.deepEqual((await cleanupBackups(dir, /log/, undefined, { anyName: true })).sort(), ['a.log', 'b.log', 'c.log.1.backup'])
    assert.deepEqual((await cleanupBackups(dir, /./, 0, { anyName: true })).sort(), ['new.log', 'x.tmp', 'y.lock'])
    assert.deepEqual(names(dir), ['.file.0123456789abcdef.tmp', '.file.lock', 'dir.log'])
  })

  test('reports what is wrong, after it has removed what it could', { skip: whyNot.root() }, async (t) => {
    const { dir } = setUp(t)
    const error = await failure(() => cleanupBackups(path.join(dir, 'missing'), /./))
    assert.deepEqual([error.code, error.operation], ['ENOENT', 'clean up backups'])
    for (const args of /** @type {any[][]} */ ([[1, /x/], [dir, 'x'], [dir, /x/, -1], [dir, /x/, '1'], [dir, /x/, 1, { anyname: true }]])) {
      const error = await failure(() => cleanupBackups(.../** @type {[any, any]} */ (args)))
      assert.ok(error instanceof TypeError || error instanceof RangeError, `${error}`)
    }
    // In a sticky directory a user may remove only their own files.
    const shared = path.join(dir, 'shared')
    fs.mkdirSync(shared)
    fs.chmodSync(shared, 0o1777)
    for (const time of [1, 2, 3]) fs.writeFileSync(path.join(shared, `f.${time}.backup`), '')
    fs.chownSync(path.join(shared, 'f.1.backup'), NOBODY.uid, NOBODY.gid)
    fs.chownSync(path.join(shared, 'f.3.backup'), NOBODY.uid, NOBODY.gid)
    const program = async (/** @type {any} */ { shared }, /** @type {any} */ { holdfast, outcome }) => outcome(() => holdfast.cleanupBackups(shared, /./))
    const denied = await inChild(program, { shared }, { user: NOBODY })
    assert.deepEqual([denied.code, denied.syscall], ['EPERM', 'unlink'])
    assert.deepEqual(names(shared), ['f.2.backup'])
  })

  test('by several processes at once is no error', async (t) => {
    const dir = newDir(t)
    for (let i = 0; i < 300; i++) fs.writeFileSync(path.join(dir, `f.${i}.backup`), '')
    const program = async (/** @type {any} */ { dir }, /** @type {any} */ { holdfast }) => holdfast.cleanupBackups(dir, /f/)
    const removed = (await Promise.all([1, 2, 3].map(() => inChild(program, { dir })))).flat()
    assert.equal(removed.length, 300)
    assert.equal(new Set(removed).size, 300)
    assert.deepEqual(names(dir), [])
  })
})
