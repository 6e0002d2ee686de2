'use strict'

// Which errors are retried, how often, and after which waits. The waits are read from the log,
// not from a clock.

const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { describe, test } = require('node:test')
const { NOBODY, collector, failure, fullDisk, holdfast, inChild, mount, names, newDir, tinyDisk, whyNot } = require('./helpers.js')

const { atomicWrite, atomicWriteJson, atomicWriteSync } = holdfast
/** @type {Record<string, (file: string, data: string, options: object) => unknown>} */
const functions = { atomicWrite, atomicWriteSync, atomicWriteJson }

/** More than a full disk takes. */
const MUCH = 'n'.repeat(512 << 10)

const starts = 'Starting atomic write'
const retries = 'Retrying atomic write'

describe('on a full disk', { skip: whyNot.mount() }, () => {
  for (const { options, waits } of [
    { options: {}, waits: [100, 200] },
    { options: { retries: 4 }, waits: [100, 200, 400] },
    { options: { retries: 2 }, waits: [100] },
    { options: { retries: 1 }, waits: [] },
    { options: { retries: 1, retryDelay: 2 ** 31 - 1 }, waits: [] },
    { options: { retries: 6, retryDelay: 0 }, waits: [0, 0, 0, 0, 0] },
    { options: { retryDelay: 0 }, waits: [0, 0] },
    { options: { retries: 6, retryDelay: 3 }, waits: [3, 6, 12, 24, 48] },
    { options: { retries: 5, retryDelay: 0.5 }, waits: [0.5, 1, 2, 4] },
  ]) {
    for (const [name, write] of Object.entries(functions)) {
      test(`${name} with ${JSON.stringify(options)} makes ${waits.length + 1} attempts, with waits of ${waits.join(', ') || 'none'} ms`, async (t) => {
        const { dir } = fullDisk(t)
        const file = path.join(dir, 'file')
        const { logger, of } = collector()
        const error = await failure(() => write(file, MUCH, { ...options, logger }))
        assert.equal(error.code, 'ENOSPC')
        assert.equal(error.attempts, waits.length + 1)
        assert.equal(of(starts).length, waits.length + 1)
        assert.deepEqual(of(retries).map(({ fields, level }) => ({ level, ...fields })), waits.map((delay, i) => (
          { level: 'warn', targetPath: file, attempt: i + 2, delay, errorCode: 'ENOSPC' }
        )))
        assert.deepEqual(names(dir), ['filler'])
      })
    }
  }

  test('every attempt has a temp file of its own', async (t) => {
    const { dir } = fullDisk(t)
    const { logger, of } = collector()
    await failure(() => atomicWrite(path.join(dir, 'file'), MUCH, { retries: 20, retryDelay: 0, logger }))
    assert.equal(new Set(of(starts).map(({ fields }) => fields.tempPath)).size, 20)
  })

  for (const name of ['atomicWrite', 'atomicWriteJson']) {
    test(`${name} succeeds when there is room again before a later attempt`, async (t) => {
      const { dir, filler } = fullDisk(t)
      const file = path.join(dir, 'file')
      const seen = collector()
      const logger = { ...seen.logger, warn: (fields, message) => {
        seen.logger.warn(fields, message)
        fs.rmSync(filler, { force: true })
      } }
      await functions[name]?.(file, 'n'.repeat(128 << 10), { logger, retries: 9, retryDelay: 50 })
      assert.equal(fs.statSync(file).size, (128 << 10) + (name === 'atomicWriteJson' ? 2 : 0))
      assert.ok(seen.of(retries).length >= 1)
      assert.equal(seen.of(starts).length, seen.of(retries).length + 1)
      assert.equal(seen.entries.at(-1)?.message, 'Atomic write completed successfully')
      assert.deepEqual(names(dir), ['file'])
    })
  }

  test('atomicWriteSync succeeds when another process makes room before a later attempt', async (t) => {
    const { dir, filler } = fullDisk(t)
    const file = path.join(dir, 'file')
    fs.writeFileSync(file, '')
    const write = inChild(async ({ file }, { holdfast }) => {
      const attempts = []
      const logger = { debug() {}, error() {}, warn: (fields) => attempts.push(fields.attempt) }
      holdfast.atomicWriteSync(file, 'n'.repeat(128 << 10), { logger, retries: 12, retryDelay: 20 })
      return attempts
    }, { file })
    // The temp file of the first attempt has come and gone: that attempt has failed.
    const gone = new Promise((resolve) => {
      let seen = 0
      const watcher = fs.watch(dir, (_, name) => {
        if (!name?.endsWith('.tmp') || ++seen < 2) return
        watcher.close()
        resolve(undefined)
      })
    })
    await Promise.race([gone, write])
    fs.rmSync(filler)
    const attempts = await write
    assert.equal(attempts[0], 2)
    assert.equal(fs.statSync(file).size, 128 << 10)
    assert.deepEqual(names(dir), ['file'])
  })

  test('writes that wait for their next attempt hold up no other, however many they are', async (t) => {
    const { dir } = fullDisk(t)
    const elsewhere = newDir(t)
    const settled = await inChild(async ({ dir, elsewhere }, { holdfast, path }) => {
      let settled = 0
      let waiting = 0
      const all = new Promise((resolve) => {
        const logger = { debug() {}, error() {}, warn: () => ++waiting === 500 && resolve(undefined) }
        for (let i = 0; i < 500; i++) {
          // They would wait for weeks: the process ends by itself, below.
          holdfast.atomicWrite(path.join(dir, `${i}`), 'n'.repeat(512 << 10), { logger, retryDelay: 2 ** 31 - 1 }).finally(() => settled++)
        }
      })
      await all
      for (let i = 0; i < 100; i++) await holdfast.atomicWrite(path.join(elsewhere, `${i}`), 'new')
      setTimeout(() => process.exit(0), 0)
      return settled
    }, { dir, elsewhere })
    assert.equal(settled, 0)
    assert.equal(names(elsewhere).length, 100)
    assert.deepEqual(names(dir), ['filler'])
  })
})

describe('what passes is tried again', { skip: whyNot.unix() }, () => {
  test('EBUSY', { skip: whyNot.mount() }, async (t) => {
    const [dir, disk] = [newDir(t), tinyDisk(t)]
    const file = path.join(disk, 'file')
    fs.writeFileSync(path.join(dir, 'outside'), 'old')
    fs.writeFileSync(file, '')
    mount(t, file, '--bind', path.join(dir, 'outside'))
    for (const write of Object.values(functions)) {
      const { logger, of } = collector()
      const error = await failure(() => write(file, 'new', { logger, retries: 4, retryDelay: 1 }))
      assert.equal(error.code, 'EBUSY')
      assert.deepEqual(of(retries).map(({ fields }) => [fields.attempt, fields.delay, fields.errorCode]), [[2, 1, 'EBUSY'], [3, 2, 'EBUSY'], [4, 4, 'EBUSY']])
    }
  })

  test('EMFILE', async (t) => {
    const dir = newDir(t)
    const ended = await inChild(async ({ dir }, { holdfast, fs, path }) => {
      const open = []
      await holdfast.atomicWrite(path.join(dir, 'first'), 'new')
      try {
        for (;;) open.push(fs.openSync('/dev/null'))
      } catch (error) {
        if (error.code !== 'EMFILE') throw error
      }
      const codes = []
      const logger = {
        debug() {}, error() {},
        warn(fields) {
          codes.push(fields.errorCode)
          for (const descriptor of open.splice(0)) fs.closeSync(descriptor)
        },
      }
      await holdfast.atomicWrite(path.join(dir, 'second'), 'new', { logger, retries: 9 })
      return codes
    }, { dir }, { command: ['sh', '-c', 'ulimit -n 128; exec "$@"', 'sh'] })
    assert.equal(ended[0], 'EMFILE')
    assert.deepEqual(names(dir), ['first', 'second'])
  })
})

describe('what does not pass fails at once', { skip: whyNot.unix() }, () => {
  /** @type {Record<string, (dir: string) => string>} what makes the error, and the path to write */
  const permanent = {
    ENOENT: (dir) => path.join(dir, 'missing/file'),
    EISDIR: (dir) => dir,
    ENOTDIR(dir) {
      fs.writeFileSync(path.join(dir, 'file'), 'old')
      return path.join(dir, 'file/new')
    },
    ENAMETOOLONG: (dir) => path.join(dir, 'n'.repeat(256)),
    ELOOP(dir) {
      fs.symlinkSync('loop', path.join(dir, 'loop'))
      return path.join(dir, 'loop')
    },
    EINVAL(dir) {
      fs.symlinkSync('/dev/null', path.join(dir, 'device'))
      return path.join(dir, 'device')
    },
  }
  for (const [code, make] of Object.entries(permanent)) {
    test(code, async (t) => {
      const file = make(newDir(t))
      for (const write of Object.values(functions)) {
        const { logger, of } = collector()
        // A wait between attempts would take weeks.
        const error = await failure(() => write(file, 'new', { logger, retries: 10, retryDelay: 2 ** 31 - 1 }))
        assert.equal(error.code, code)
        assert.equal(error.attempts, 1)
        assert.equal(of(starts).length, 1)
        assert.equal(of(retries).length, 0)
      }
    })
  }

  test('EROFS', { skip: whyNot.mount() }, async (t) => {
    const dir = tinyDisk(t, 'ro')
    const { logger, of } = collector()
    const error = await failure(() => atomicWrite(path.join(dir, 'file'), 'new', { logger, retries: 10, retryDelay: 2 ** 31 - 1 }))
    assert.deepEqual([error.code, error.attempts, of(retries).length], ['EROFS', 1, 0])
  })

  test('EACCES, EPERM and EFBIG', { skip: whyNot.root() }, async (t) => {
    const dir = newDir(t)
    const [open, sticky] = [newDir(t), newDir(t)]
    fs.chmodSync(open, 0o777)
    fs.chmodSync(sticky, 0o1777)
    fs.writeFileSync(path.join(sticky, 'file'), 'old')
    const attempt = (/** @type {string} */ at, /** @type {number} */ size) => inChild(
      ({ file, size }, { holdfast, outcome }) => outcome(() => holdfast.atomicWrite(file, Buffer.alloc(size), { retries: 10, retryDelay: 2 ** 31 - 1 })),
      { file: path.join(at, 'file'), size },
      { user: NOBODY, command: ['sh', '-c', 'ulimit -f 8; exec "$@"', 'sh'] },
    )
    const errors = [await attempt(dir, 1), await attempt(sticky, 1), await attempt(open, 100_000)]
    assert.deepEqual(errors.map(({ code, attempts }) => [code, attempts]), [['EACCES', 1], ['EPERM', 1], ['EFBIG', 1]])
    for (const at of [dir, open]) assert.deepEqual(names(at), [])
    assert.deepEqual(names(sticky), ['file'])
  })
})
