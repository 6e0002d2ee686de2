'use strict'

// What an error tells besides what failed: what to do, whether to try again, where it was caused.

const assert = require('node:assert/strict')
const { execFileSync } = require('node:child_process')
const fs = require('node:fs')
const net = require('node:net')
const path = require('node:path')
const lockfile = require('proper-lockfile')
const { describe, test } = require('node:test')
const { Peer } = require('./programs/lock-peer.js')
const { failure, fullDisk, holdfast, newDir, newFile, root, whyNot } = require('./helpers.js')

const {
  SessionFileError, acquireLock, atomicWrite, atomicWriteSync, createAtomicWriteStream, createBackup, isLocked, openWal, readJsonFile, recoverFromCrash,
  createHoldfast, readJsonFileSync, removeFile, restoreBackup, transaction, tryAcquireLock, updateJsonFile, updateJsonFileSync, withLock, withLockSync,
} = holdfast

describe('hints', () => {
  test('EBADJSON and EEMPTYJSON: the file, what was to be written, or the backup', async (t) => {
    const file = newFile(t)
    const good = `${file}.good`
    fs.writeFileSync(good, '{}')
    for (const [text, code] of [['{"a":\n1,}', 'EBADJSON'], ['', 'EEMPTYJSON']]) {
      fs.writeFileSync(file, text)
      for (const call of [() => updateJsonFile(file, () => {}), async () => updateJsonFileSync(file, () => {}), () => readJsonFile(file)]) {
        const error = await failure(call)
        assert.equal(error.code, code)
        assert.match(error.hint, /left as it was: (mend it|restore a backup)/)
        assert.equal(error.transient, false)
      }
      const backup = await failure(() => createBackup(file, { validate: 'json' }))
      assert.deepEqual([backup.code, /[Nn]o backup was made/.test(backup.hint)], [code, true], backup.hint)
      const restore = await failure(() => restoreBackup(file, good, { validate: 'json' }))
      assert.deepEqual([restore.code, /^The backup is /.test(restore.hint)], [code, true], restore.hint)
      const write = await failure(() => atomicWrite(good, text, { validate: 'json' }))
      assert.deepEqual([write.code, /^What was to be written is /.test(write.hint)], [code, true], write.hint)
    }
    assert.equal(fs.readFileSync(good, 'utf8'), '{}')
  })

  for (const holder of ['this process', 'another process']) {
    test(`ELOCKED: ${holder} has the lock`, async (t) => {
      const file = newFile(t)
      const peer = new Peer(t, { thread: holder === 'this process' })
      await peer.acquire(file)
      const error = await failure(() => acquireLock(file, { timeout: 5 }))
      assert.equal(error.code, 'ELOCKED')
      assert.equal(error.transient, true)
      if (holder === 'this process') assert.match(error.hint, /^This process has the lock itself/)
      else assert.match(error.hint, new RegExp(`^Wait longer .*process ${error.holder.pid} on `))
      await peer.release()
    })
  }

  test('ELOCKED: it is not known which process has the lock', async (t) => {
    const file = newFile(t)
    const peer = new Peer(t)
    // The note of the holder is for people: another program may have emptied it.
    await peer.acquire(file)
    fs.truncateSync(path.join(path.dirname(file), `.${path.basename(file)}.lock`), 0)
    const error = await failure(() => acquireLock(file, { timeout: 5 }))
    assert.equal(error.holder, undefined)
    assert.match(error.hint, /^Wait longer .*Which process has the lock is not known/)
    await peer.release()
  })

  test('ELOCKED: a log that has a writer', async (t) => {
    const dir = path.join(newDir(t), 'log')
    const wal = await openWal(dir)
    const error = await failure(() => openWal(dir, { timeout: 5 }))
    assert.deepEqual([error.code, /readOnly: true/.test(error.hint)], ['ELOCKED', true], error.hint)
    await wal.close()
  })

  test('EDEADLK: each way to wait for oneself has its own', async (t) => {
    const file = newFile(t)
    fs.writeFileSync(file, '{}')
    const again = await withLock(file, () => failure(() => withLock(file, () => {})))
    const inside = /** @type {any[]} */ ([])
    await updateJsonFile(file, async () => void inside.push(await failure(() => updateJsonFile(file, () => {}))))
    const reading = await withLock(file, () => failure(() => updateJsonFile(file, () => {})), { kind: 'read' })
    /** @type {any} */
    let flushing
    const wal = await openWal(path.join(path.dirname(file), 'log'), { onFlush: async () => void (flushing = await failure(() => wal.flush())) })
    await wal.append('a', [{ id: 'a', op: 'insert', payload: '' }])
    await wal.flush()
    await wal.close()
    for (const [error, hint] of [[again, /without asking for it again/], [inside[0], /the value of the update/], [reading, /kind: 'write'/], [flushing, /Return from `onFlush`/]]) {
      assert.equal(error.code, 'EDEADLK')
      assert.equal(error.transient, false)
      assert.match(error.hint, hint)
    }
  })

  test('EDEADLK: past a transaction, the hint says what to use and why', async (t) => {
    const file = newFile(t)
    fs.writeFileSync(file, '{}')
    await transaction([file], async () => {
      for (const [instead, call] of /** @type {[string, () => any][]} */ ([
        ['tx.write', () => atomicWrite(file, '')],
        ['tx.write', () => atomicWrite(file, '', { lock: true })],
        ['tx.write', async () => atomicWriteSync(file, '')],
        ['tx.updateJson', () => updateJsonFile(file, () => {})],
        ['tx.updateJson', async () => updateJsonFileSync(file, () => {})],
        ['tx.remove', () => removeFile(file)],
      ])) {
        const error = await failure(call)
        assert.deepEqual([error.code, error.transient], ['EDEADLK', false])
        assert.ok(error.message.endsWith(`: use ${instead}`), error.message)
        assert.match(error.hint, new RegExp(`^The function of a transaction changes its files by ${instead.replace('.', '\\.')} `))
      }
      const nested = await failure(() => transaction([file], () => {}))
      assert.deepEqual([nested.code, /by what the function that runs gets: .*`tx`/.test(nested.hint)], ['EDEADLK', true], nested.hint)
    })
  })

  test('ENOENT in a transaction: what can be done', async (t) => {
    const [file, other] = [newFile(t), newFile(t)]
    await transaction([file, other], async (tx) => {
      assert.equal((await failure(() => tx.read(file))).hint, 'There is no such file. `updateJson` begins with `defaultValue` then.')
      assert.equal((await failure(() => tx.rename(file, other))).hint, 'There is no such file.')
    })
  })

  test('EDEADLK: a lock on the calling thread, and a write in the function of another', async (t) => {
    const file = newFile(t)
    const again = await withLock(file, () => failure(async () => withLockSync(file, () => {})))
    assert.match(again.message, /EDEADLK: the lock .* is held by the caller itself/)
    assert.match(again.hint, /without asking for it again/)
    const inside = await failure(async () => atomicWriteSync(file, '', { onTempFile: () => atomicWriteSync(file, '') }))
    assert.equal(inside.code, 'EDEADLK')
    assert.match(inside.hint, /^Return from `onTempFile` first/)
  })

  test('ELOCKED: a lock that a kernel lock does not exclude', async (t) => {
    const file = newFile(t)
    fs.writeFileSync(file, '')
    const release = await lockfile.lock(file)
    const error = await failure(() => acquireLock(file, { strictProtocol: true }))
    await release()
    assert.deepEqual([error.code, error.transient], ['ELOCKED', true])
    assert.match(error.hint, /^Another program locks this file with the package proper-lockfile\. Use `protocol: 'proper-lockfile'`/)
  })

  test('FIFOs, sockets and devices: the hint says what they are', { skip: whyNot.unix() }, async (t) => {
    const dir = newDir(t)
    const [fifo, socket, device] = ['fifo', 'socket', 'device'].map((name) => path.join(dir, name))
    execFileSync('mkfifo', [fifo])
    const server = net.createServer()
    await new Promise((resolve) => server.listen(socket, () => resolve(undefined)))
    t.after(() => server.close())
    fs.symlinkSync('/dev/null', device)
    const disk = fs.readdirSync('/dev', { withFileTypes: true }).find((entry) => entry.isBlockDevice())
    if (disk) fs.symlinkSync(path.join('/dev', disk.name), path.join(dir, 'disk'))
    const disks = disk ? [[path.join(dir, 'disk'), 'a block device, as a disk is']] : []
    for (const [file = '', what] of [...disks, [fifo, 'a FIFO (a named pipe)'], [socket, 'a socket'], [device, 'a character device, as a terminal or /dev/null is']]) {
      for (const [verb, call] of /** @type {[string, () => any][]} */ ([
        ['replaced', () => atomicWrite(file, 'new')],
        ['replaced', async () => atomicWriteSync(file, 'new')],
        ['updated', () => updateJsonFile(file, () => {}, { defaultValue: {}, lock: false })],
        ['updated', async () => updateJsonFileSync(file, () => {}, { defaultValue: {}, lock: false })],
        ['read', () => readJsonFile(file)],
        ['read', async () => readJsonFileSync(file)],
        ['removed', () => removeFile(file, { lock: false })],
        ['replaced', () => new Promise((_, reject) => createAtomicWriteStream(file).on('error', reject).end('new'))],
        ['locked', async () => withLockSync(file, () => {})],
        ['backed up', () => createBackup(file)],
        ['locked', () => acquireLock(file)],
        ['recovered', () => recoverFromCrash(file)],
        ['part of a transaction', () => transaction([file], (tx) => tx.write(file, 'new'))],
        ['restored, or replaced by a backup', () => restoreBackup(file, path.join(dir, 'target'))],
        ['restored, or replaced by a backup', () => restoreBackup(__filename, file)],
      ])) {
        const error = await failure(call)
        assert.equal(error.code, 'EINVAL', `${verb} ${what}`)
        assert.equal(error.hint, `The path names ${what}. Only a regular file can be ${verb}.`)
      }
      assert.equal((await failure(() => openWal(file))).hint, `The path names ${what}. A log is a folder.`)
    }
  })
})

test('ErrorCode lists every code of the package', () => {
  const [, list = ''] = /export type ErrorCode =\n([^]*?)\n\n/.exec(`${fs.readFileSync(path.join(root, 'index.d.ts'), 'utf8')}\n\n`) ?? assert.fail()
  const listed = new Set(Array.from(list.matchAll(/'(E[A-Z]+)'/g), ([, code]) => code))
  const made = ['error/mod.rs', 'error/wal.rs'].flatMap((file) => Array.from(fs.readFileSync(path.join(root, 'src', file), 'utf8').matchAll(/=> "(E[A-Z]+)"/g), ([, code = '']) => code))
  // Those of JavaScript: a failure with plain fields, or an error's code.
  const sources = fs.readdirSync(path.join(root, 'lib'), { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.js'))
  for (const file of sources) {
    const code = fs.readFileSync(path.join(root, 'lib', file), 'utf8')
    made.push(...Array.from(code.matchAll(/(?:plain\('\w+', |code: )'(E[A-Z]{4,})'/g), ([, own = '']) => own))
  }
  assert.ok(made.includes('ELOCKED') && made.includes('EWALDAMAGED'))
  // A defect of ours, and two that become TypeErrors and RangeErrors.
  assert.deepEqual(Array.from(new Set(made)).filter((code) => !listed.has(code)).sort(), ['EINTERNAL', 'EWALAHEAD', 'EWALNAME'])
})

describe('transient', () => {
  test('what comes and goes, and what does not', async (t) => {
    const file = newFile(t)
    for (const code of ['ELOCKED', 'ENOSPC', 'EMFILE', 'EBUSY', 'EAGAIN', 'ESTALE']) {
      assert.equal(new SessionFileError(file, 'atomic write', Object.assign(new Error(code), { code })).transient, true, code)
    }
    for (const code of ['ENOENT', 'EISDIR', 'EACCES', 'EBADJSON', 'EDEADLK', 'EWALPOISONED', 'EROFS', undefined]) {
      assert.equal(new SessionFileError(file, 'atomic write', Object.assign(new Error('x'), { code })).transient, false, code)
    }
    assert.equal(new SessionFileError(file, 'wal append', Object.assign(new Error('EIO'), { code: 'EIO' })).transient, false, 'the log is poisoned')
    assert.equal(new SessionFileError(file, 'lock').transient, false)
    assert.equal((await failure(() => atomicWrite(path.join(file, 'missing/file'), 'new'))).transient, false)
  })

  test('a write on a full disk', { skip: whyNot.mount() }, async (t) => {
    const { dir } = fullDisk(t)
    assert.equal((await failure(() => atomicWrite(path.join(dir, 'file'), Buffer.alloc(1 << 20), { retries: 1 }))).transient, true)
  })
})

describe('toJSON', () => {
  test('has the name, the message, the code and the other fields, and sequence numbers as text', async (t) => {
    const file = path.join(newDir(t), 'missing', 'file')
    const error = await failure(() => atomicWrite(file, 'new'))
    const { name, message, path: at, operation, code, errno, syscall, attempts, committed, transient, hint } = error
    assert.deepEqual(JSON.parse(JSON.stringify(error)), { name, message, path: at, operation, code, errno, syscall, attempts, committed, transient, hint })
    assert.equal(JSON.parse(JSON.stringify({ error })).error.message, message)
    Object.assign(error, { first: 2n ** 60n, sequences: [1n, undefined] })
    const { first, sequences } = JSON.parse(JSON.stringify(error))
    assert.deepEqual([first, sequences], [`${2n ** 60n}`, ['1', null]])
    const aborted = await failure(() => atomicWrite(file, 'new', { signal: AbortSignal.abort() }))
    assert.deepEqual(JSON.parse(JSON.stringify(aborted)), { name: 'AbortError', message: aborted.message, code: 'ABORT_ERR' })
  })
})

describe('stacks begin with the frames of the caller', () => {
  /** @type {Record<string, (file: string, t: import('node:test').TestContext) => any>} */
  const calls = {
    atomicWrite: (file) => atomicWrite(`${file}/no/file`, 'new'),
    atomicWriteSync: (file) => atomicWriteSync(`${file}/no/file`, 'new'),
    'a wrong argument': (file) => atomicWrite(file, /** @type {any} */ (1)),
    'a wrong option': (file) => atomicWriteSync(file, '', /** @type {any} */ ({ no: 1 })),
    'a wrong argument of what is loaded later': (file) => withLock(file, /** @type {any} */ (1)),
    updateJsonFile: (file) => updateJsonFile(file, () => {}),
    updateJsonFileSync: (file) => updateJsonFileSync(file, () => {}),
    readJsonFile: (file) => readJsonFile(file),
    createBackup: (file) => createBackup(file),
    withLock: (file) => withLock(`${file}/no/file`, () => {}),
    isLocked: (file) => isLocked(`${file}/no/file`),
    transaction: (file) => transaction([`${file}/no/file`], () => {}),
    'a cancelled write': (file) => atomicWrite(file, 'new', { signal: AbortSignal.abort() }),
    openWal: (file) => openWal(`${file}/no/log`),
    removeFile: (file) => removeFile(file),
    readJsonFileSync: (file) => readJsonFileSync(file),
    withLockSync: (file) => withLockSync(`${file}/no/file`, () => {}),
    restoreBackup: (file) => restoreBackup(`${file}.backup`, file),
    'a surplus argument': (file) => /** @type {any} */ (atomicWrite)(file, '', {}, 1),
    'a write with onTempFile': (file) => atomicWrite(`${file}/no/file`, '', { onTempFile() {} }),
    'a write of pieces': (file) => atomicWrite(file, /** @type {any} */ ([1])),
    'a function of createHoldfast': (file) => createHoldfast({}).atomicWrite(`${file}/no/file`, ''),
    'a wrong default': () => createHoldfast(/** @type {any} */ ({ no: 1 })),
    'a primitive in the place of the content': (file) => updateJsonFile(file, () => /** @type {any} */ (1), { defaultValue: {} }),
    'a value without a text': (file) => updateJsonFile(file, () => /** @type {any} */ (() => {}), { defaultValue: {} }),
    'a primitive in a transaction': (file) => transaction([file], (tx) => tx.updateJson(file, () => /** @type {any} */ (1), { defaultValue: {} })),
    'a class of Vectra': (file) => holdfast.AtomicOperations.readFile(file),
    'a lock manager': () => new holdfast.LockManager().acquireWriteLock(path.join(__filename, 'no/dir')),
    'a checkpoint beyond the end': async (file) => {
      const wal = await openWal(`${file}.log`)
      try {
        await wal.append('a', [{ id: 'a', op: 'insert', payload: '' }])
        await wal.checkpoint('a', 99n)
      } finally {
        await wal.close()
      }
    },
    'a transaction that is over': async (file) => {
      /** @type {any} */
      let kept
      await transaction([file], (tx) => void (kept = tx))
      await kept.read(file)
    },
    'an append': async (file) => {
      const wal = await openWal(`${file}.log`)
      await wal.close()
      await wal.append('a', [])
    },
  }
  for (const [name, call] of Object.entries(calls)) {
    test(name, async (t) => {
      const file = newFile(t)
      async function theCaller() {
        await call(file, t)
      }
      for (const limit of [10, 3, 100]) {
        const before = Error.stackTraceLimit
        Error.stackTraceLimit = limit
        const { stack, message } = await failure(theCaller).finally(() => (Error.stackTraceLimit = before))
        assert.ok(stack.includes(`${message}\n`), stack)
        const [first = '', ...others] = stack.slice(stack.indexOf(message) + message.length + 1).split('\n')
        assert.ok(first.includes(__filename), `${limit}: ${stack}`)
        assert.ok(others.length < limit, stack)
        assert.ok(stack.includes('theCaller'), stack)
        assert.equal(Error.stackTraceLimit, before)
      }
    })
  }

  test('what a function of the caller throws keeps its own', async (t) => {
    const file = newFile(t)
    function theThrower() {
      throw new Error('mine')
    }
    const mine = await failure(() => withLock(file, theThrower))
    assert.match(mine.stack, /^Error: mine\n {4}at theThrower/)
    async function innerWrite() {
      await atomicWrite(path.join(file, 'no/file'), 'new')
    }
    const { stack } = await failure(() => withLock(file, innerWrite))
    assert.match(stack.split('\n')[1], /innerWrite/)
  })

  test("a program's own Error.prepareStackTrace, and a limit that cannot be changed, are respected", async (t) => {
    const file = path.join(newDir(t), 'no/file')
    const limit = /** @type {PropertyDescriptor} */ (Object.getOwnPropertyDescriptor(Error, 'stackTraceLimit'))
    t.after(() => {
      Error.prepareStackTrace = undefined
      Object.defineProperty(Error, 'stackTraceLimit', limit)
    })
    const sites = /** @type {any} */ ({})
    Error.prepareStackTrace = () => sites
    assert.equal((await failure(() => atomicWrite(file, ''))).stack, sites)
    Error.prepareStackTrace = undefined
    Object.defineProperty(Error, 'stackTraceLimit', { value: 4, writable: false, configurable: true })
    assert.equal((await failure(() => atomicWrite(file, ''))).code, 'ENOENT')
    Object.defineProperty(Error, 'stackTraceLimit', { value: undefined, writable: true, configurable: true })
    assert.equal((await failure(() => atomicWrite(file, ''))).code, 'ENOENT')
  })

  test('what a stream fails with shows no frames of the package', async (t) => {
    const stream = createAtomicWriteStream(path.join(newDir(t), 'no/file'))
    const error = await new Promise((resolve) => stream.once('error', resolve).end('bytes'))
    assert.doesNotMatch(error.stack, /[/\\]lib[/\\]api/)
  })

  test('a lock that is tried and not had is no error', async (t) => {
    const file = newFile(t)
    const lock = await acquireLock(file)
    assert.equal(await tryAcquireLock(file), null)
    await lock.release()
  })
})
