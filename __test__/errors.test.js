'use strict'

const assert = require('node:assert/strict')
const { spawnSync } = require('node:child_process')
const { getEventListeners } = require('node:events')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const { describe, test } = require('node:test')
const util = require('node:util')
const { NOBODY, collector, failure, fullDisk, holdfast, inChild, mount, names, newDir, temps, tinyDisk, whyNot } = require('./helpers.js')

const { SessionFileError, atomicWrite, atomicWriteJson, atomicWriteSync } = holdfast

/** @type {Record<string, (file: string, data?: any, options?: any) => any>} */
const functions = { atomicWrite, atomicWriteSync, atomicWriteJson: (file, data, options) => atomicWriteJson(file, data, options) }

const TEMP = '\\.[0-9a-f]{16}\\.tmp'

/** A text as a pattern that matches it. @param {string} text */
function literally(text) {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
}

/** `<dir>/.<name>.<hex>.tmp` as a pattern. @param {string} file */
function tempOf(file) {
  return `${literally(`${path.dirname(file)}/.${path.basename(file)}`)}${TEMP}`
}

/**
 * Checks everything about an error from the system.
 *
 * @param {any} error
 * @param {object} expected
 * @param {string} expected.file the path of the call
 * @param {string} expected.code
 * @param {string} expected.syscall
 * @param {string} expected.cause its message, as a pattern
 * @param {RegExp | undefined} expected.hint
 * @param {number} [expected.attempts] more than one: the error is of those that are tried again, and all attempts failed
 * @param {boolean} [expected.committed]
 * @param {boolean} [plain] the error has travelled from another process as plain values
 */
function check(error, { file, code, syscall, cause, hint, attempts = 1, committed = false }, plain = false) {
  const shown = util.inspect(error)
  if (!plain) {
    assert.ok(error instanceof SessionFileError && error instanceof Error, shown)
    assert.equal(error.constructor, SessionFileError)
    assert.ok(error.cause instanceof Error, shown)
    assert.ok(util.types.isNativeError(error), shown)
    const header = error.stack.slice(0, error.stack.indexOf('\n    at '))
    assert.equal(header, `SessionFileError: ${error.message}`, 'the stack begins with the message')
  }
  const errno = -os.constants.errno[code]
  assert.equal(error.name, 'SessionFileError')
  assert.equal(error.path, file)
  assert.equal(error.operation ?? 'atomic write', 'atomic write')
  assert.equal(error.code, code, shown)
  assert.equal(error.errno, errno)
  assert.equal(error.syscall, syscall)
  assert.equal(error.attempts, attempts)
  assert.equal(error.committed, committed)
  assert.equal(error.cause.code, code)
  assert.equal(error.cause.errno, errno)
  assert.equal(error.cause.syscall, syscall)
  assert.match(error.cause.message, new RegExp(`^${cause}$`))
  const after = attempts > 1 ? `Atomic write failed after ${attempts} attempts: ` : ''
  assert.equal(error.message, `Failed to atomic write at ${file}: ${after}${error.cause.message}`)
  if (hint === undefined) assert.equal(error.hint, undefined)
  else assert.match(error.hint, hint)
}

/** Fails in the named way with each function, and leaves `dir` as it is. */
async function failsWith(dir, file, expected, options = {}) {
  const before = names(dir)
  for (const [name, write] of Object.entries(functions)) {
    const error = await failure(() => write(file, 'new', { retryDelay: 0, ...options }))
    check(error, { file, ...expected })
    assert.ok(error.stack.includes(__filename), `${name}: the frames of the caller are in the stack: ${error.stack}`)
    assert.deepEqual(names(dir), before, name)
  }
}

describe('errors of the system', { skip: whyNot.unix() }, () => {
  test('ENOENT: a directory in the path is missing', async (t) => {
    const dir = newDir(t)
    for (const [missing, inIt] of [['a', 'a/file'], ['a/b', 'a/b/file']]) {
      await failsWith(dir, `${dir}/${inIt}`, {
        code: 'ENOENT', syscall: 'open', cause: literally(`ENOENT: no such file or directory, open '${dir}/${missing}'`), hint: /makeDirs/,
      })
    }
  })

  test('EISDIR: the path names a directory', async (t) => {
    const dir = newDir(t)
    const file = path.join(dir, 'it')
    fs.mkdirSync(file)
    const cause = `EISDIR: illegal operation on a directory, rename '${tempOf(file)}' -> '${literally(file)}'`
    await failsWith(dir, file, { code: 'EISDIR', syscall: 'rename', cause, hint: /folder/ })
    const { cause: { path: from, dest } } = await failure(() => atomicWrite(file, 'new'))
    assert.match(from, new RegExp(`^${tempOf(file)}$`))
    assert.equal(dest, file)
  })

  test('ENOTDIR: a file stands where a directory should be', async (t) => {
    const dir = newDir(t)
    fs.writeFileSync(path.join(dir, 'file'), 'old')
    await failsWith(dir, `${dir}/file/new`, {
      code: 'ENOTDIR', syscall: 'open', cause: literally(`ENOTDIR: not a directory, open '${dir}/file'`), hint: /file/,
    })
    assert.equal(fs.readFileSync(path.join(dir, 'file'), 'utf8'), 'old')
  })

  test('ENAMETOOLONG: a name is longer than the file system takes', async (t) => {
    const dir = newDir(t)
    const file = path.join(dir, 'n'.repeat(256))
    await failsWith(dir, file, { code: 'ENAMETOOLONG', syscall: 'lstat', cause: literally(`ENAMETOOLONG: name too long, lstat '${file}'`), hint: /too long/ })
    const inLong = path.join(dir, 'n'.repeat(256), 'file')
    await failsWith(dir, inLong, {
      code: 'ENAMETOOLONG', syscall: 'open', cause: literally(`ENAMETOOLONG: name too long, open '${path.dirname(inLong)}'`), hint: /too long/,
    })
  })

  test('ELOOP: links lead in a circle', async (t) => {
    const dir = newDir(t)
    const file = path.join(dir, 'ping')
    fs.symlinkSync('pong', file)
    fs.symlinkSync('ping', path.join(dir, 'pong'))
    await failsWith(dir, file, {
      code: 'ELOOP', syscall: 'open', cause: `ELOOP: too many symbolic links encountered, open '${literally(dir)}/p[io]ng'`, hint: /links/,
    })
  })

  test('EINVAL: the path names a device', async (t) => {
    const dir = newDir(t)
    const file = path.join(dir, 'null')
    fs.symlinkSync('/dev/null', file)
    await failsWith(dir, file, { code: 'EINVAL', syscall: 'rename', cause: `EINVAL: invalid argument, rename '/dev/null'`, hint: /regular file/ })
    assert.ok(fs.lstatSync('/dev/null').isCharacterDevice())
  })

  test('EACCES: the directory may not be written', { skip: whyNot.root() }, async (t) => {
    const dir = newDir(t)
    const file = path.join(dir, 'file')
    fs.writeFileSync(file, 'old', { mode: 0o666 })
    const program = async ({ file }, { holdfast, outcome }) => [
      await outcome(() => holdfast.atomicWrite(file, 'new', { retries: 5 })),
      await outcome(() => holdfast.atomicWriteSync(file, 'new', { retries: 5 })),
      await outcome(() => holdfast.atomicWriteJson(file, 'new', { retries: 5 })),
    ]
    for (const error of await inChild(program, { file }, { user: NOBODY })) {
      check(error, { file, code: 'EACCES', syscall: 'open', cause: `EACCES: permission denied, open '${tempOf(file)}'`, hint: /permission/ }, true)
    }
    fs.chmodSync(dir, 0o700)
    for (const error of await inChild(program, { file }, { user: NOBODY })) {
      assert.equal(error.code, 'EACCES')
      assert.equal(error.attempts, 1)
    }
    assert.equal(fs.readFileSync(file, 'utf8'), 'old')
    assert.deepEqual(names(dir), ['file'])
  })

  test('ENOSPC: the disk is full, after all attempts', { skip: whyNot.mount() }, async (t) => {
    const dir = tinyDisk(t, 'size=64k')
    const file = path.join(dir, 'file')
    fs.writeFileSync(file, 'old')
    const data = Buffer.alloc(1 << 20, 'n').toString()
    for (const write of Object.values(functions)) {
      const error = await failure(() => write(file, data, { retryDelay: 0 }))
      check(error, { file, code: 'ENOSPC', syscall: 'write', cause: 'ENOSPC: no space left on device, write', attempts: 3, hint: /disk is full/ })
      assert.equal(error.message, `Failed to atomic write at ${file}: Atomic write failed after 3 attempts: ENOSPC: no space left on device, write`)
      assert.equal(fs.readFileSync(file, 'utf8'), 'old')
      assert.deepEqual(names(dir), ['file'])
    }
  })

  test('ENOSPC: the only attempt is not counted in the message', { skip: whyNot.mount() }, async (t) => {
    const { dir } = fullDisk(t)
    const file = path.join(dir, 'file')
    const error = await failure(() => atomicWrite(file, Buffer.alloc(1 << 20), { retries: 1 }))
    check(error, { file, code: 'ENOSPC', syscall: 'write', cause: 'ENOSPC: no space left on device, write', hint: /disk is full/ })
  })

  test('ENOSPC: no room even for the name', { skip: whyNot.mount() }, async (t) => {
    const dir = tinyDisk(t, 'nr_inodes=3')
    fs.writeFileSync(path.join(dir, 'a'), '')
    fs.writeFileSync(path.join(dir, 'b'), '')
    const file = path.join(dir, 'file')
    await failsWith(dir, file, {
      code: 'ENOSPC', syscall: 'open', cause: `ENOSPC: no space left on device, open '${tempOf(file)}'`, attempts: 3, hint: /disk is full/,
    })
  })

  test('EROFS: the file system is mounted read-only', { skip: whyNot.mount() }, async (t) => {
    const dir = tinyDisk(t, 'ro')
    const file = path.join(dir, 'file')
    await failsWith(dir, file, { code: 'EROFS', syscall: 'open', cause: `EROFS: read-only file system, open '${tempOf(file)}'`, hint: /read-only/ })
  })

  test('EBUSY: the file is a mount of its own, as in containers', { skip: whyNot.mount() }, async (t) => {
    const dir = newDir(t)
    const disk = tinyDisk(t)
    const file = path.join(disk, 'file')
    fs.writeFileSync(path.join(dir, 'outside'), 'old')
    fs.writeFileSync(file, '')
    mount(t, file, '--bind', path.join(dir, 'outside'))
    const cause = `EBUSY: resource busy or locked, rename '${tempOf(file)}' -> '${literally(file)}'`
    await failsWith(disk, file, { code: 'EBUSY', syscall: 'rename', cause, attempts: 3, hint: /mount/i })
    assert.equal(fs.readFileSync(file, 'utf8'), 'old')
  })

  test('EFBIG: the file would be larger than the process may write', async (t) => {
    const dir = newDir(t)
    const file = path.join(dir, 'file')
    fs.writeFileSync(file, 'old')
    const errors = await inChild(async ({ file }, { holdfast, outcome }) => [
      await outcome(() => holdfast.atomicWrite(file, Buffer.alloc(3 << 20), { retries: 5 })),
      await outcome(() => holdfast.atomicWriteSync(file, 'n'.repeat(100_000), { retries: 5 })),
      await outcome(() => holdfast.atomicWriteJson(file, 'n'.repeat(100_000), { retries: 5 })),
    ], { file }, { command: ['sh', '-c', 'ulimit -f 8; exec "$@"', 'sh'] })
    for (const error of errors) check(error, { file, code: 'EFBIG', syscall: 'write', cause: 'EFBIG: file too large, write', hint: /ulimit/ }, true)
    assert.equal(fs.readFileSync(file, 'utf8'), 'old')
    assert.deepEqual(names(dir), ['file'])
  })

  test('ENOENT: the working directory is gone and the path is relative', async () => {
    const [gone, absolute] = await inChild(async (_, { holdfast, fs, path, outcome }) => {
      const dir = fs.mkdtempSync(path.join(require('node:os').tmpdir(), 'holdfast-test-'))
      process.chdir(dir)
      fs.rmdirSync(dir)
      const gone = [
        await outcome(() => holdfast.atomicWrite('file', 'new')), await outcome(() => holdfast.atomicWriteSync('file', 'new')),
      ]
      fs.mkdirSync(dir)
      const absolute = await outcome(() => holdfast.atomicWrite(path.join(dir, 'file'), 'new'))
      fs.rmSync(dir, { recursive: true })
      return [gone, absolute]
    })
    for (const error of gone) {
      assert.equal(error.name, 'SessionFileError')
      assert.equal(error.code, 'ENOENT')
      assert.equal(error.path, 'file')
      assert.equal(error.committed, false)
    }
    assert.equal(absolute, 'success')
  })

  test('a failed directory sync is reported with committed: true, and the new content is in place', { skip: whyNot.strace() }, async (t) => {
    const dir = newDir(t)
    const file = path.join(dir, 'file')
    // The second fsync of the write is that of the directory.
    const command = ['strace', '-f', '-qq', '-o', '/dev/null', '-e', 'trace=fsync', '-e', 'inject=fsync:error=EIO:when=2']
    for (const name of ['atomicWrite', 'atomicWriteSync']) {
      fs.writeFileSync(file, 'old')
      const error = await inChild(async ({ file, name }, { holdfast, outcome }) => outcome(() => holdfast[name](file, 'new')), { file, name }, { command })
      check(error, {
        file, code: 'EIO', syscall: 'fsync', cause: literally(`EIO: i/o error, fsync '${dir}'`), committed: true, hint: /in place/,
      }, true)
      assert.equal(fs.readFileSync(file, 'utf8'), 'new')
      assert.deepEqual(names(dir), ['file'])
    }
  })

  test('the path is reported as it was passed: relative, not normalised, as a URL', async (t) => {
    const dir = newDir(t)
    const relative = path.relative(process.cwd(), dir)
    for (const given of [`${relative}/missing/file`, `./${relative}/./missing//file`, `${dir}/missing/é 😀`]) {
      for (const write of Object.values(functions)) {
        const error = await failure(() => write(given, 'new'))
        assert.equal(error.path, given)
        assert.ok(error.message.startsWith(`Failed to atomic write at ${given}: ENOENT: `), error.message)
      }
    }
    const error = await failure(() => atomicWrite(new URL(`file://${dir}/missing/a%20b`), 'new'))
    assert.equal(error.path, `${dir}/missing/a b`)
  })

  test('attempts counts what was tried, also when the last error was another one', { skip: whyNot.mount() }, async (t) => {
    const { dir } = fullDisk(t)
    const file = path.join(dir, 'file')
    const seen = collector()
    // While the second attempt is waited for, a directory takes the target's place and makes room.
    const logger = { ...seen.logger, warn() {
      fs.rmSync(path.join(dir, 'filler'), { force: true })
      fs.mkdirSync(file, { recursive: true })
    } }
    const error = await failure(() => atomicWrite(file, Buffer.alloc(128 << 10), { logger, retryDelay: 300, retries: 9 }))
    assert.equal(error.code, 'EISDIR')
    assert.equal(error.attempts, seen.of('Starting atomic write').length)
    assert.ok(error.attempts > 1)
    assert.equal(error.message, `Failed to atomic write at ${file}: ${error.cause.message}`)
  })

  test('cause is not enumerable, as the language has it, and an error prints its fields', async (t) => {
    const error = await failure(() => atomicWrite(path.join(newDir(t), 'missing/file'), 'new'))
    assert.equal(Object.prototype.propertyIsEnumerable.call(error, 'cause'), false)
    const shown = util.inspect(error)
    for (const part of ['ENOENT', 'attempts: 1', 'committed: false', '[cause]']) assert.ok(shown.includes(part), shown)
    assert.equal(Object.prototype.toString.call(error), '[object Error]')
    assert.equal(String(error), `SessionFileError: ${error.message}`)
  })
})

describe('stacks', () => {
  test('show the function that called, and those that awaited it', async (t) => {
    const missing = path.join(newDir(t), 'missing/file')
    for (const write of Object.values(functions)) {
      async function theCaller() {
        await write(missing, 'new')
      }
      async function itsCaller() {
        await theCaller()
      }
      async function* theGenerator() {
        yield 1
        await itsCaller()
      }
      async function theLoop() {
        for await (const _ of theGenerator());
      }
      const { stack } = await failure(theLoop)
      for (const name of ['theCaller', 'itsCaller', 'theGenerator', 'theLoop']) assert.ok(stack.includes(name), `${name} in ${stack}`)
      assert.match(stack.slice(stack.indexOf('\n    at ')), /^\n {4}at (?:async )?theCaller /, 'the first frame is that of the caller')
    }
  })

  test('show the caller across timers and large writes that take long', { skip: whyNot.mount() }, async (t) => {
    const { dir } = fullDisk(t)
    async function awaitingCaller() {
      await new Promise(setImmediate)
      await atomicWrite(path.join(dir, 'file'), Buffer.alloc(2 << 20), { retryDelay: 5 })
    }
    const { stack } = await failure(awaitingCaller)
    assert.ok(stack.includes('awaitingCaller'), stack)
  })
})

describe('SessionFileError', () => {
  test('is one class for require and import, wherever the error comes from', async (t) => {
    const esm = await import('../index.mjs')
    assert.equal(esm.SessionFileError, SessionFileError)
    const missing = path.join(newDir(t), 'missing/file')
    assert.ok((await failure(() => esm.atomicWrite(missing, 'new'))) instanceof SessionFileError)
    assert.ok((await failure(() => atomicWrite(missing, 'new'))) instanceof esm.SessionFileError)
  })

  test('can be made by hand with the error behind it', () => {
    const cause = Object.assign(new Error('ELOCKED: held by 12'), { code: 'ELOCKED', errno: -11, syscall: 'flock' })
    const error = new SessionFileError('/a/b', 'lock', cause)
    assert.equal(error.message, 'Failed to lock at /a/b: ELOCKED: held by 12')
    assert.equal(error.cause, cause)
    const { name, path: at, operation, code, errno, syscall, attempts, committed } = error
    assert.deepEqual({ name, at, operation, code, errno, syscall, attempts, committed }, {
      name: 'SessionFileError', at: '/a/b', operation: 'lock', code: 'ELOCKED', errno: -11, syscall: 'flock', attempts: 1, committed: false,
    })
    assert.ok(error instanceof Error)
    assert.ok(error.stack?.includes(__filename))
  })

  test('can be made by hand without one', () => {
    const error = new SessionFileError('a', 'update JSON')
    assert.equal(error.message, 'Failed to update JSON at a: unknown error')
    assert.equal('cause' in error, false)
    assert.equal(error.code, undefined)
    assert.equal(error.errno, undefined)
    assert.equal(error.syscall, undefined)
    assert.equal(error.committed, false)
  })

  test('takes whatever was thrown as its cause', () => {
    assert.equal(new SessionFileError('a', 'lock', 'a text').message, 'Failed to lock at a: a text')
    assert.equal(new SessionFileError('a', 'lock', 'a text').cause, 'a text')
    assert.equal(new SessionFileError('a', 'lock', new TypeError('wrong')).message, 'Failed to lock at a: wrong')
    for (const cause of [0, false, {}, null, Symbol('s'), () => {}, 1n]) {
      const error = new SessionFileError('a', 'lock', cause)
      assert.ok(error.message.startsWith('Failed to lock at a: '))
      assert.equal(error.cause, cause)
      assert.equal(error.code, undefined)
    }
  })

  test('can be made with a cause that has no text', () => {
    const mute = [Object.create(null), { toString: null, valueOf: null }, { toString() { throw new Error('mute') } }]
    for (const cause of mute) {
      const error = new SessionFileError('a', 'lock', cause)
      assert.equal(error.cause, cause)
      assert.ok(error.message.startsWith('Failed to lock at a: '))
    }
  })

  test('is known by another copy of the package, and by no class that is made of it', async () => {
    const modules = Object.keys(require.cache).filter((file) => !file.endsWith('.node') && file.startsWith(path.join(__dirname, '..')) && !file.includes('node_modules'))
    const before = modules.map((file) => require.cache[file])
    for (const file of modules) delete require.cache[file]
    const other = require('../index.js')
    modules.forEach((file, index) => (require.cache[file] = before[index]))
    assert.notEqual(other.SessionFileError, SessionFileError)
    const error = await other.atomicWrite('missing/file', '').catch((/** @type {unknown} */ thrown) => thrown)
    assert.equal(error instanceof SessionFileError, true)
    assert.equal(new SessionFileError('path', 'atomic write') instanceof other.SessionFileError, true)
    class Mine extends SessionFileError {}
    assert.equal(error instanceof Mine, false)
    assert.equal(new Mine('path', 'atomic write') instanceof Mine, true)
    assert.equal(new Mine('path', 'atomic write') instanceof other.SessionFileError, true)
    for (const none of [undefined, null, 'text', new Error('text'), {}, () => {}]) assert.equal(/** @type {unknown} */ (none) instanceof SessionFileError, false)
  })

  test('can be extended', () => {
    class Mine extends SessionFileError {}
    const error = new Mine('a', 'lock')
    assert.ok(error instanceof Mine && error instanceof SessionFileError)
    assert.equal(error.name, 'SessionFileError')
  })
})

describe('cancelling', () => {
  /** @param {any} error @param {unknown} reason */
  function checkAborted(error, reason) {
    assert.ok(error instanceof Error, util.inspect(error))
    assert.equal(error.name, 'AbortError')
    assert.equal(error.code, 'ABORT_ERR')
    assert.equal(error.cause, reason)
  }

  for (const name of ['atomicWrite', 'atomicWriteJson']) {
    const write = /** @type {any} */ (functions[name])

    test(`${name} does nothing with a signal that is aborted already`, async (t) => {
      const dir = newDir(t)
      const file = path.join(dir, 'file')
      for (const given of [[], [new Error('mine')], ['a text'], [null], [0]]) {
        const signal = AbortSignal.abort(...given)
        const error = await failure(() => write(file, 'new', { signal, makeDirs: true }))
        checkAborted(error, signal.reason)
        assert.ok(error.stack.includes(__filename), error.stack)
        assert.deepEqual(names(dir), [])
        assert.equal(getEventListeners(signal, 'abort').length, 0)
      }
    })

    test(`${name} succeeds with a signal that is aborted afterwards`, async (t) => {
      const dir = newDir(t)
      const file = path.join(dir, 'file')
      const controller = new AbortController()
      await write(file, 'new', { signal: controller.signal })
      controller.abort()
      await new Promise(setImmediate)
      assert.equal(fs.readFileSync(file, 'utf8').replaceAll('"', ''), 'new')
      assert.deepEqual(names(dir), ['file'])
    })
  }

  test('a large write stops, nothing has changed, and no temp is left', async (t) => {
    const dir = newDir(t)
    const file = path.join(dir, 'file')
    fs.writeFileSync(file, 'old')
    const before = fs.statSync(file, { bigint: true })
    const data = Buffer.alloc(200 << 20, 'n')
    for (const durability of ['none', 'full']) {
      const controller = new AbortController()
      const reason = new Error('changed my mind')
      const done = failure(() => atomicWrite(file, data, { signal: controller.signal, durability }))
      while (temps(dir).length === 0) await new Promise(setImmediate)
      controller.abort(reason)
      const error = await done
      checkAborted(error, reason)
      assert.ok(error.stack.includes(__filename), error.stack)
      assert.equal(fs.readFileSync(file, 'utf8'), 'old')
      assert.equal(fs.statSync(file, { bigint: true }).ctimeNs, before.ctimeNs)
      assert.deepEqual(names(dir), ['file'])
      assert.equal(getEventListeners(controller.signal, 'abort').length, 0)
    }
  })

  /** Aborts in the wait before the second attempt. @param {string} file @returns {Promise<{ error: any, after: string[] }>} `after`: what is logged after the abort */
  function abortInTheWait(file) {
    // In a child, because a write that went on waiting would do so for weeks.
    return inChild(async ({ file }, { holdfast, outcome }) => {
      const controller = new AbortController()
      const messages = []
      const logger = {
        debug: (_, message) => messages.push(message),
        error: (_, message) => messages.push(message),
        warn(_, message) {
          messages.push(message)
          setImmediate(() => controller.abort('enough'))
        },
      }
      const options = { signal: controller.signal, logger, retryDelay: 2 ** 31 - 1 }
      const error = await outcome(() => holdfast.atomicWrite(file, Buffer.alloc(1 << 20), options))
      return { error, after: messages.slice(messages.indexOf('Retrying atomic write') + 1) }
    }, { file })
  }

  test('a write that waits for its next attempt settles at once', { skip: whyNot.mount() }, async (t) => {
    const { dir } = fullDisk(t)
    const { error } = await abortInTheWait(path.join(dir, 'file'))
    assert.equal(error.name, 'AbortError')
    assert.equal(error.code, 'ABORT_ERR')
    assert.deepEqual(names(dir), ['filler'])
  })

  test('a write that waits for its next attempt does not begin it, nor log that it does', { skip: whyNot.mount() }, async (t) => {
    const { after } = await abortInTheWait(path.join(fullDisk(t).dir, 'file'))
    assert.equal(after.includes('Starting atomic write'), false, `${after}`)
  })

  test('whenever it comes, the outcome is true: AbortError and the old file, or success and the new one', async (t) => {
    const dir = newDir(t)
    const file = path.join(dir, 'file')
    const data = Buffer.alloc(20 << 20, 'n')
    let cancelled = 0
    for (let round = 0; round < 60; round++) {
      fs.writeFileSync(file, 'old')
      const controller = new AbortController()
      const done = atomicWrite(file, data, { signal: controller.signal, durability: round % 2 ? 'none' : 'full' }).then(() => 'success', (error) => error)
      for (let turn = 0; turn < round * 4; turn++) await new Promise(setImmediate)
      controller.abort()
      const ended = await done
      if (ended === 'success') {
        assert.equal(fs.statSync(file).size, data.length)
      } else {
        cancelled++
        checkAborted(ended, controller.signal.reason)
        assert.equal(fs.readFileSync(file, 'utf8'), 'old')
      }
      assert.deepEqual(names(dir), ['file'])
    }
    assert.notEqual(cancelled, 0, 'no write was cancelled')
  })

  test('a write that has been renamed stands', async (t) => {
    const file = path.join(newDir(t), 'file')
    fs.writeFileSync(file, 'old')
    const controller = new AbortController()
    const logger = {
      warn() {}, error() {},
      /** @param {object} _ @param {string} message */
      debug(_, message) { if (message === 'Temp file renamed to target') controller.abort() },
    }
    await atomicWrite(file, 'new', { signal: controller.signal, logger })
    assert.ok(controller.signal.aborted)
    assert.equal(fs.readFileSync(file, 'utf8'), 'new')
  })

  test('one signal cancels many writes, and only those', async (t) => {
    const dir = newDir(t)
    const controller = new AbortController()
    const { signal } = controller
    const data = Buffer.alloc(4 << 20, 'n')
    const stopped = Array.from({ length: 40 }, (_, i) => atomicWrite(path.join(dir, `stopped-${i}`), data, { signal }).then(() => 'success', (error) => error))
    const others = Array.from({ length: 40 }, (_, i) => atomicWrite(path.join(dir, `other-${i}`), 'new'))
    controller.abort('enough')
    await Promise.all(others)
    for (const [i, ended] of (await Promise.all(stopped)).entries()) {
      const exists = fs.existsSync(path.join(dir, `stopped-${i}`))
      assert.equal(exists, ended === 'success')
      if (ended !== 'success') checkAborted(ended, 'enough')
    }
    assert.equal(names(dir).filter((name) => name.startsWith('other-')).length, 40)
    assert.deepEqual(temps(dir), [])
    assert.equal(getEventListeners(signal, 'abort').length, 0)
  })

  test('many writes with one signal leave no listener behind', async (t) => {
    const dir = newDir(t)
    const { signal } = new AbortController()
    for (let round = 0; round < 5; round++) {
      await Promise.allSettled(Array.from({ length: 100 }, (_, i) => atomicWrite(path.join(dir, i % 3 ? `${i}` : `missing/${i}`), 'new', { signal, durability: 'none' })))
      assert.equal(getEventListeners(signal, 'abort').length, 0)
    }
    await failure(() => atomicWriteJson(path.join(dir, 'json'), undefined, { signal }))
    await failure(() => atomicWrite(path.join(dir, 'x'), /** @type {any} */ (1), { signal }))
    assert.equal(getEventListeners(signal, 'abort').length, 0)
  })

  test('many writes at once with one signal make Node warn of nothing', async (t) => {
    const dir = newDir(t)
    const { signal } = new AbortController()
    /** @type {Error[]} */
    const warnings = []
    const take = (/** @type {Error} */ warning) => void warnings.push(warning)
    process.on('warning', take)
    t.after(() => process.off('warning', take))
    await Promise.all(Array.from({ length: 100 }, (_, i) => atomicWrite(path.join(dir, `${i}`), 'new', { signal, durability: 'none' })))
    await new Promise(setImmediate)
    assert.deepEqual(warnings.map(String), [])
  })

  test('signals made of others work', async (t) => {
    const dir = newDir(t)
    const controller = new AbortController()
    const signal = AbortSignal.any([new AbortController().signal, controller.signal])
    await atomicWrite(path.join(dir, 'file'), 'new', { signal })
    controller.abort('enough')
    checkAborted(await failure(() => atomicWrite(path.join(dir, 'file'), 'newer', { signal })), 'enough')
    assert.equal(fs.readFileSync(path.join(dir, 'file'), 'utf8'), 'new')
  })
})

// As in a container that may have no more processes.
describe('when the system refuses a thread', { skip: whyNot.root() || spawnSync('prlimit', ['--version']).error !== undefined }, () => {
  test('calls fail, those that come later too, and no longer than that', async (t) => {
    const dir = newDir(t)
    fs.chmodSync(dir, 0o777)
    const file = path.join(dir, 'file')
    const told = await inChild(async ({ file }, { holdfast, outcome }) => {
      const { spawn } = require('node:child_process')
      const limit = (/** @type {string} */ how) => `prlimit --pid ${process.pid} --nproc=${how}:4096 && echo done`
      // Once there may be no more processes it is too late to start one.
      const limiter = spawn('sh', ['-c', `${limit('1')} && read go && ${limit('4096')}`])
      const done = () => new Promise((resolve) => limiter.stdout.once('data', resolve))
      await done()
      const first = await outcome(() => holdfast.atomicWrite(file, '1'))
      const together = await Promise.all(['2', '3', '4'].map((text) => outcome(() => holdfast.atomicWrite(file, text))))
      holdfast.atomicWriteSync(file, 'synchronous')
      const others = await Promise.all([
        outcome(() => holdfast.atomicWrite(file, '5', { lock: true })),
        outcome(() => holdfast.updateJsonFile(file, () => 6)),
        outcome(() => holdfast.createBackup(file)),
        outcome(() => holdfast.restoreBackup(file, file)),
        outcome(() => require('node:stream/promises').pipeline(['7'], holdfast.createAtomicWriteStream(file))),
      ])
      limiter.stdin.end('go\n')
      await done()
      await holdfast.atomicWrite(`${file}.2`, 'later')
      await holdfast.atomicWrite(file, 'later')
      return { first, together, others }
    }, { file }, { user: NOBODY })
    assert.match(told.first.message, /EAGAIN: .*, pthread_create$/)
    assert.equal(told.first.committed, false)
    for (const error of [...told.together, ...told.others]) assert.equal(error.code, 'EAGAIN', JSON.stringify(error))
    assert.equal(fs.readFileSync(file, 'utf8'), 'later')
    assert.deepEqual(names(dir).filter((name) => !name.endsWith('.lock')), ['file', 'file.2'])
  })
})
