'use strict'

// A log has one writer, by whatever path it is reached; and a writer whose log is taken away acknowledges
// nothing more.

const { describe, test } = require('node:test')
const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { openWal, tryAcquireLock } = require('../index.js')
const { asPerson, failure, inChild, readableByAll } = require('./helpers.js')
const { Program, fastDir, newDir, outcomeOf, run, tmpfs, whyNot } = require('./system.js')

const LOCK = '.holdfast.wal.lock'
const entry = (/** @type {string} */ id) => [{ id, op: /** @type {const} */ ('insert'), payload: id }]

/** Starts a writer in a process of its own. */
const writer = (t, dir, options = {}, more = {}) => new Program(t, 'wal-writer.js', { args: [dir, JSON.stringify(options)], ...more })

/** The same in a mount namespace of its own, in which `volume` is mounted at `at`: as in a container. */
function contained(t, volume, at, options = {}) {
  const under = ['unshare', '-m', 'sh', '-c', 'mount --make-rprivate / && mount --bind "$1" "$2" && shift 2 && exec "$@"', 'sh', volume, at]
  return writer(t, at, options, { under })
}

/** The ids in a log, which is opened for that. */
async function idsIn(dir, collection = 'c') {
  const wal = await openWal(dir, { memtable: false })
  try {
    const ids = []
    for await (const { id } of wal.replay(collection)) ids.push(id)
    assert.deepEqual(wal.damage, [])
    return ids
  } finally {
    await wal.close()
  }
}

describe('two containers that mount one volume', { skip: whyNot.namespaces() }, () => {
  test('have one writer at a time, and the next has what the one before has acknowledged', async (t) => {
    const dir = newDir(t)
    const [volume, one, two] = ['volume', 'one', 'two'].map((name) => path.join(dir, name))
    for (const each of [volume, one, two]) fs.mkdirSync(each)
    const first = contained(t, volume, one)
    assert.deepEqual(await first.next(), { open: 'resolved', damage: 0 })
    assert.equal(await first.ask({ append: ['c', 'first'] }), 'resolved')
    const refused = contained(t, volume, two, { timeout: 0 })
    assert.equal((await refused.next()).open, 'ELOCKED')
    const outside = await failure(openWal(volume, { timeout: 0 }))
    assert.equal(outside.code, 'ELOCKED')
    const waiting = contained(t, volume, two, { timeout: 100_000 })
    first.tell({ run: ['c', 'run'] })
    let acknowledged = 0
    while (acknowledged < 20) acknowledged = await first.next()
    first.kill()
    const { lines } = await first.outcome()
    acknowledged = lines.at(-1) ?? acknowledged
    assert.deepEqual(await waiting.next(), { open: 'resolved', damage: 0 })
    assert.equal(await waiting.ask({ append: ['c', 'second'] }), 'resolved')
    assert.equal(await waiting.ask({ close: true }), 'resolved')
    const ids = await idsIn(volume)
    const expected = ['first', ...Array.from({ length: acknowledged }, (_, index) => `run.${index + 1}`)]
    assert.deepEqual(ids.slice(0, expected.length), expected)
    // One more may have been written when the process was killed.
    assert.ok(ids.length <= expected.length + 2)
    assert.equal(ids.at(-1), 'second')
  })
})

describe('a log below a directory that its writer may not write to', () => {
  test('opens at the root of a volume whose surroundings are read-only', { skip: whyNot.namespaces() }, async (t) => {
    const [outer, volume] = [tmpfs(t, 'size=1m'), newDir(t)]
    const at = path.join(outer, 'log')
    fs.mkdirSync(at)
    const under = ['unshare', '-m', 'sh', '-c', 'mount --make-rprivate / && mount --bind "$1" "$2" && mount -o remount,ro,bind "$3" && shift 3 && exec "$@"', 'sh', volume, at, outer]
    const program = writer(t, at, {}, { under })
    assert.deepEqual(await program.next(), { open: 'resolved', damage: 0 })
    assert.equal(await program.ask({ append: ['c', 'a'] }), 'resolved')
    const other = writer(t, volume, { timeout: 0 })
    assert.equal((await other.next()).open, 'ELOCKED')
    assert.equal(await program.ask({ close: true }), 'resolved')
    assert.deepEqual(await idsIn(volume), ['a'])
  })

  test('opens in a directory of another user, and excludes all who lock beside it', { skip: whyNot.people() }, async (t) => {
    const above = newDir(t)
    const dir = path.join(above, 'log')
    fs.mkdirSync(dir)
    fs.chownSync(dir, 1234, 1234)
    const program = path.join(readableByAll(), '__test__')
    fs.cpSync(__dirname, program, { recursive: true })
    const person = (options = {}) => writer(t, dir, options, { under: ['env', '-C', '/', ...asPerson({ uid: 1234 })], root: readableByAll() })
    // The lock of the directory, beside it, is the one that other versions of holdfast take.
    const beside = await tryAcquireLock(dir)
    assert.ok(beside)
    assert.equal((await person({ timeout: 0 }).next()).open, 'ELOCKED')
    await beside.release()
    fs.rmSync(path.join(above, '.log.lock'), { force: true })
    const own = person()
    assert.equal((await own.next()).open, 'resolved')
    assert.equal(await tryAcquireLock(dir), null)
    assert.equal((await failure(openWal(dir, { timeout: 0 }))).code, 'ELOCKED')
    assert.equal(await own.ask({ append: ['c', 'a'] }), 'resolved')
    assert.equal(await own.ask({ close: true }), 'resolved')
    assert.deepEqual(await idsIn(dir), ['a'])
  })
})

describe('a log that is taken away while it is open', () => {
  const rename = (/** @type {string} */ from) => fs.renameSync(from, `${from}.old`)
  const cases = /** @type {[string, (log: string) => void][]} */ ([
    ['its lock file is removed', (log) => fs.rmSync(path.join(log, LOCK))],
    ['its lock file is replaced', (log) => {
      fs.writeFileSync(path.join(log, 'new'), '')
      fs.renameSync(path.join(log, 'new'), path.join(log, LOCK))
    }],
    ['it is removed', (log) => fs.rmSync(log, { recursive: true })],
    ['it is removed and made anew', (log) => {
      fs.rmSync(log, { recursive: true })
      fs.mkdirSync(log)
    }],
    ['it is moved away and replaced', (log) => {
      rename(log)
      fs.cpSync(`${log}.old`, log, { recursive: true })
    }],
    ['a collection is removed', (log) => fs.rmSync(path.join(log, 'c'), { recursive: true })],
    ['a collection is moved away', (log) => rename(path.join(log, 'c'))],
    ['a segment is removed', (log) => fs.rmSync(path.join(log, 'c', 'wal_current.avro'))],
    ['a segment is replaced by a copy', (log) => {
      const segment = path.join(log, 'c', 'wal_current.avro')
      fs.copyFileSync(segment, `${segment}.copy`)
      fs.renameSync(`${segment}.copy`, segment)
    }],
  ])
  for (const syncMode of /** @type {const} */ (['perBatch', 'never'])) {
    for (const [what, act] of cases) {
      test(`${what}: nothing more is acknowledged ('${syncMode}')`, { skip: whyNot.unix() }, async (t) => {
        const log = path.join(fastDir(t), 'log')
        const wal = await openWal(log, { syncMode })
        await wal.append('c', entry('a'))
        act(log)
        // A name is looked at once in some milliseconds, unless a batch has just been synced.
        let error
        for (let number = 0; !error && number < 100_000; number++) error = await wal.append('c', entry(`b${number}`)).then(() => {}, (failed) => failed)
        assert.equal(error.code, 'EWALMOVED')
        assert.equal(error.committed, false)
        assert.match(error.message, /'.*log/)
        assert.match(error.hint, /open it again/)
        assert.equal(await outcomeOf(wal.append('d', entry('c'))), 'EWALMOVED')
        assert.equal(await outcomeOf(wal.checkpoint('c', 1n)), 'EWALMOVED')
        assert.equal(await outcomeOf(wal.flush()), 'EWALMOVED')
        assert.match(wal.stats().poisoned ?? '', /removed|replaced|moved|renamed/)
        assert.equal(await outcomeOf(wal.close()), 'EWALMOVED')
        // It can be opened anew, and used.
        const again = await openWal(log, { recovery: 'skipCorrupt' })
        await again.append('c', entry('again'))
        await again.close()
      })
    }
  }

  // Linux 6.13 gives a file whose times were asked for a new time at the next write, which the next sync then has to
  // write, too: a third of what a group costs.
  test('is looked for without a question about times', { skip: whyNot.strace() }, async (t) => {
    const trace = path.join(newDir(t), 'trace')
    const command = ['strace', '-f', '-qq', '-o', trace, '-P', LOCK, '-P', 'wal_current.avro', '-e', 'trace=%%stat']
    await inChild(async ({ log }, { holdfast }) => {
      const wal = await holdfast.openWal(log)
      for (let number = 0; number < 50; number++) await wal.append('c', [{ id: `${number}`, op: 'insert', payload: 'x' }])
      await wal.close()
    }, { log: path.join(fastDir(t), 'log') }, { command })
    const looks = fs.readFileSync(trace, 'utf8').split('\n').filter((line) => /"wal_current\.avro"/.test(line))
    const [cheap, other] = [looks.filter((line) => /statx\(.*, STATX_INO, /.test(line)), looks.filter((line) => !/statx\(.*, STATX_INO, /.test(line))]
    assert.ok(cheap.length >= 50, `${cheap.length} of ${looks.length} looks`)
    assert.ok(other.length < 10, other.join('\n'))
  })

  test('its lock file is removed again and again, and other processes go on with it: all that any has acknowledged is there', { skip: whyNot.unix() }, async (t) => {
    const log = path.join(newDir(t), 'log')
    /** @type {string[]} */
    const acknowledged = []
    let program = writer(t, log)
    assert.equal((await program.next()).open, 'resolved')
    for (let round = 1; round <= 12; round++) {
      program.tell({ run: ['c', `r${round}`] })
      // It is in the middle of its appends.
      while ((await program.next()) < 5);
      fs.rmSync(path.join(log, LOCK))
      fs.rmSync(path.join(log, '..', '.log.lock'), { force: true })
      const next = writer(t, log, { timeout: 100_000 })
      for (;;) {
        const line = await program.next()
        if (typeof line === 'number') {
          acknowledged.push(`r${round}.${line}`)
          continue
        }
        assert.equal(line, 'EWALMOVED')
        break
      }
      program.end()
      program = next
      assert.equal((await program.next()).open, 'resolved')
    }
    program.end()
    const ids = await idsIn(log)
    assert.equal(new Set(ids).size, ids.length)
    const all = new Set(ids)
    assert.deepEqual(acknowledged.filter((id) => !all.has(id)), [])
  })
})

describe('a log whose directory is renamed while it is open', { skip: whyNot.unix() }, () => {
  test('goes on in it, with new collections and segments, and nobody else opens it', async (t) => {
    const dir = newDir(t)
    const [before, after] = [path.join(dir, 'before'), path.join(dir, 'after')]
    const wal = await openWal(before, { segmentSize: 4096 })
    await wal.append('c', entry('a'))
    fs.renameSync(before, after)
    const ids = Array.from({ length: 300 }, (_, number) => `id${number}`)
    for (const id of ids) await wal.append('c', entry(id))
    await wal.append('new', entry('b'))
    const shown = []
    for await (const { id } of wal.replay('c')) shown.push(id)
    assert.deepEqual(shown, ['a', ...ids])
    assert.equal((await failure(openWal(after, { timeout: 0 }))).code, 'ELOCKED')
    assert.equal(fs.existsSync(before), false)
    await wal.close()
    assert.deepEqual(await idsIn(after), ['a', ...ids])
    assert.deepEqual(await idsIn(after, 'new'), ['b'])
    // The lock file goes with its last user, as others do.
    assert.deepEqual(fs.readdirSync(after).filter((name) => !name.startsWith('.')).sort(), ['c', 'new'])
  })
})
