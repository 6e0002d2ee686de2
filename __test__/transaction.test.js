'use strict'

const assert = require('node:assert/strict')
const { spawnSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const { describe, test } = require('node:test')
const { setTimeout: sleep } = require('node:timers/promises')
const {
  SessionFileError, acquireLock, atomicWrite, atomicWriteJson, recoverFromCrash, transaction, updateJsonFile, withLock,
} = require('../index.js')
const { fullDisk, inChild, failure } = require('./helpers.js')
const { Program, fastDir, newDir, ordinaryDisk, tmpfs, whyNot } = require('./system.js')

const FAST = { durability: /** @type {const} */ ('none') }
const GUARD = 120_000
const TEMPORARY = /\.(txn|tmp|prepared|intent)$/

const read = (file) => fs.readFileSync(file, 'utf8')
const exists = (file) => fs.existsSync(file)

/** What transactions and writes have left in a directory. */
const leftovers = (...dirs) => dirs.flatMap((at) => fs.readdirSync(at).filter((name) => TEMPORARY.test(name)))

/** Some files in a directory, by name. */
function files(at, contents) {
  return Object.entries(contents).map(([name, text]) => {
    const file = path.join(at, name)
    if (text !== null) fs.writeFileSync(file, text)
    return file
  })
}

describe('a transaction', { timeout: GUARD }, () => {
  test('writes, updates and removes several files together', async (t) => {
    const at = newDir(t)
    const [a, b, c, d] = files(at, { a: 'a', 'b.json': '{"n":1}', c: 'c', d: null })
    const outcome = await transaction([a, b, c, d], async (tx) => {
      await tx.write(a, Buffer.from('A'))
      assert.deepEqual(await tx.updateJson(b, (data) => ({ n: data.n + 1 })), { n: 2 })
      await tx.remove(c)
      await tx.updateJson(d, (data) => void data.list.push(1), { defaultValue: { list: [] }, indent: 1 })
      assert.deepEqual([read(a), read(b), read(c), exists(d)], ['a', '{"n":1}', 'c', false], 'nothing has changed yet')
    })
    assert.equal(outcome, undefined)
    assert.deepEqual([read(a), read(b), exists(c), read(d)], ['A', '{"n":2}', false, '{\n "list": [\n  1\n ]\n}'])
    assert.deepEqual(leftovers(at), [])
  })

  test('reads its own writes', async (t) => {
    const at = newDir(t)
    const [a, b] = files(at, { a: 'old', b: null })
    await transaction([a, b], async (tx) => {
      assert.equal(await tx.read(a, 'utf8'), 'old')
      const bytes = Buffer.from('new')
      await tx.write(a, bytes)
      bytes.fill('x')
      const own = await tx.read(a)
      assert.equal(String(own), 'new', 'the data was copied')
      own.fill('y')
      assert.equal(await tx.read(a, 'latin1'), 'new', 'and so was what was read')
      assert.equal((await failure(tx.read(b))).code, 'ENOENT')
      await tx.write(b, 'ff', { encoding: 'hex' })
      assert.deepEqual([...(await tx.read(b))], [255])
      await tx.remove(a)
      assert.equal((await failure(tx.read(a))).code, 'ENOENT')
      assert.equal((await failure(tx.updateJson(a, () => {}))).code, 'ENOENT')
      await tx.write(a, '{"n":1}')
      await tx.updateJson(a, (data) => void (data.n += 1))
      assert.equal(await tx.read(a, 'utf8'), '{"n":2}')
      assert.equal((await failure(tx.updateJson(b, () => {}))).code, 'EBADJSON')
    }, FAST)
    assert.equal(read(a), '{"n":2}')
  })

  test('keeps the order of operations on one file, and waits for those that are not awaited', async (t) => {
    const [a] = files(newDir(t), { a: '{"n":0}' })
    await transaction([a], (tx) => {
      for (let i = 0; i < 10; i++) tx.updateJson(a, async (data) => (await null, { n: data.n * 2 + 1 }))
    }, FAST)
    assert.equal(read(a), '{"n":1023}')
  })

  test('rolls back what a throw leaves, and throws it', async (t) => {
    const at = newDir(t)
    const [a, b] = files(at, { a: 'a', b: 'b' })
    for (const thrown of [new RangeError('no'), undefined, { code: 'ELOCKED', subject: a }]) {
      const caught = await failure(transaction([a, b], async (tx) => {
        await tx.write(a, 'A')
        await tx.remove(b)
        throw thrown
      }))
      assert.equal(caught, thrown)
    }
    assert.equal((await failure(transaction([a], (tx) => tx.updateJson(a, () => {})))).code, 'EBADJSON')
    assert.deepEqual([read(a), read(b), leftovers(at)], ['a', 'b', []])
    // The locks are free.
    await transaction([b, a], () => {}, { timeout: 0 })
  })

  test('rejects with the failure of an operation that is not awaited, which is reported nowhere else', async (t) => {
    const [a, b] = files(newDir(t), { a: '{}', b: '{' })
    const thrown = new RangeError('no')
    const fail = async () => {
      await sleep(1)
      throw thrown
    }
    assert.equal(await failure(transaction([a], (tx) => void tx.updateJson(a, fail), FAST)), thrown)
    // Later operations on the same file are handled as well, and those on other files.
    assert.equal((await failure(transaction([a, b], (tx) => {
      tx.write(a, 'A')
      for (let i = 0; i < 3; i++) tx.updateJson(b, () => {})
      tx.updateJson(a, fail)
    }, FAST))).code, 'EBADJSON')
    const other = new Error('the function itself')
    assert.equal(await failure(transaction([a], (tx) => {
      tx.updateJson(a, fail)
      throw other
    }, FAST)), other)
    // An unhandled rejection would have failed the test by now.
    await sleep(20)
    assert.deepEqual([read(a), read(b)], ['{}', '{'])
  })

  test('does not hide what befalls an operation while its function still runs', async (t) => {
    const [a] = files(newDir(t), { a: '{}' })
    const source = `
      const { transaction } = require(${JSON.stringify(path.join(__dirname, '..'))})
      process.on('unhandledRejection', (error) => console.log(error.message))
      transaction([process.argv[1]], async (tx) => {
        tx.updateJson(process.argv[1], () => { throw new Error('unheard') })
        tx.write(process.argv[1], 'A')
        await new Promise((resolve) => setTimeout(resolve, 50))
      }).then(() => console.log('over'))`
    const { stdout, stderr } = spawnSync(process.execPath, ['-e', source, a], { encoding: 'utf8', timeout: GUARD })
    assert.equal(stdout, 'unheard\nover\n', stderr)
  })

  test('is not kept from its work by what has the name of a record and is none', { skip: whyNot.unix() }, async (t) => {
    const at = newDir(t)
    const [a] = files(at, { a: 'a' })
    const name = (number, kind) => path.join(at, `.holdfast.${String(number).repeat(16)}.${kind}`)
    for (const kind of ['prepared', 'intent']) {
      fs.mkdirSync(name(1, kind))
      fs.symlinkSync('a', name(2, kind))
      fs.symlinkSync('nowhere', name(3, kind))
      assert.equal(spawnSync('mkfifo', [name(4, kind)]).status, 0)
      fs.writeFileSync(name(5, kind), 'a note')
    }
    await transaction([a], (tx) => tx.write(a, 'A'), FAST)
    assert.equal(read(a), 'A')
  })

  test('refuses paths that it does not name, and calls after its end', async (t) => {
    const at = newDir(t)
    const [a, b] = files(at, { a: 'a', b: 'b' })
    let late
    await transaction([a], async (tx) => {
      late = tx
      for (const attempt of [() => tx.read(b), () => tx.write(b, ''), () => tx.remove(b), () => tx.updateJson(b, () => {})]) {
        const error = await failure(attempt())
        assert.ok(error instanceof TypeError)
        assert.equal(error.code, 'ERR_INVALID_ARG_VALUE')
        assert.match(error.message, /must be one of the paths that the transaction names.*\/b'/)
      }
      await tx.write(path.join(at, '.', 'a'), 'A')
      await tx.read(`${at}/.//a`)
    }, FAST)
    for (const attempt of [() => late.read(a), () => late.write(a, ''), () => late.remove(a), () => late.updateJson(a, () => {})]) {
      assert.equal((await failure(attempt())).code, 'ERR_INVALID_STATE')
    }
    assert.deepEqual([read(a), read(b)], ['A', 'b'])
  })

  test('knows a file by whatever path', async (t) => {
    const at = newDir(t)
    const [a] = files(at, { a: '1' })
    const link = path.join(at, 'link')
    fs.symlinkSync('a', link)
    await transaction([a, link], async (tx) => {
      await tx.write(link, '2')
      assert.equal(await tx.read(a, 'utf8'), '2')
      await tx.write(a, '3')
    }, FAST)
    assert.equal(read(a), '3')
    assert.ok(fs.lstatSync(link).isSymbolicLink())
  })

  test('rejects misspelt and unknown options, and wrong arguments, before anything happens', async (t) => {
    const [a] = files(newDir(t), { a: 'a' })
    for (const [args, code] of [
      [['a', () => {}], 'ERR_INVALID_ARG_TYPE'],
      [[[], () => {}], 'ERR_INVALID_ARG_VALUE'],
      [[[a, 7], () => {}], 'ERR_INVALID_ARG_TYPE'],
      [[[a]], 'ERR_INVALID_ARG_TYPE'],
      [[[a], () => {}, { durability: 'file' }], 'ERR_INVALID_ARG_VALUE'],
      [[[a], () => {}, { makeDirs: 1 }], 'ERR_INVALID_ARG_TYPE'],
      [[[a], () => {}, { validate: 'xml' }], 'ERR_INVALID_ARG_VALUE'],
      [[[a], () => {}, { followSymlinks: true }], 'ERR_INVALID_ARG_VALUE'],
      [[[a], () => {}, { timeout: -1 }], 'ERR_OUT_OF_RANGE'],
    ]) {
      const error = await failure(transaction(...args))
      assert.ok(error instanceof TypeError || error instanceof RangeError)
      assert.equal(error.code, code)
    }
    assert.match((await failure(transaction([a, 7], () => {}))).message, /paths\[1\]/)
    await transaction([a], async (tx) => {
      assert.match((await failure(tx.write(a, 'x', { encodin: 'utf8' }))).message, /Did you mean "encoding"/)
      assert.equal((await failure(tx.write(a, 7))).code, 'ERR_INVALID_ARG_TYPE')
      assert.equal((await failure(tx.read(a, 'utf9'))).code, 'ERR_INVALID_ARG_VALUE')
    })
    assert.equal(read(a), 'a')
  })

  test('sets the mode, and leaves other files alone', { skip: whyNot.unix() }, async (t) => {
    const at = newDir(t)
    const [a, b] = files(at, { a: 'a', b: null })
    fs.chmodSync(a, 0o640)
    await transaction([a, b], async (tx) => (await tx.write(a, 'A'), tx.write(b, 'B')), FAST)
    assert.equal(fs.statSync(a).mode & 0o777, 0o640)
    await transaction([a, b], async (tx) => (await tx.write(a, 'A'), tx.write(b, 'B')), { ...FAST, mode: 0o600 })
    assert.deepEqual([a, b].map((file) => fs.statSync(file).mode & 0o777), [0o600, 0o600])
  })

  test('changes nothing when one of the files cannot be changed', async (t) => {
    const at = newDir(t)
    const [a] = files(at, { a: 'a' })
    const dir = path.join(at, 'dir')
    fs.mkdirSync(dir)
    const error = await failure(transaction([a, dir], async (tx) => (await tx.write(a, 'A'), tx.write(dir, 'B'))))
    assert.ok(error instanceof SessionFileError)
    assert.deepEqual([error.code, error.operation, error.path, error.committed], ['EISDIR', 'transaction', dir, false])
    const missing = path.join(at, 'no', 'file')
    const nowhere = await failure(transaction([a, missing], async (tx) => tx.write(a, 'A')))
    assert.deepEqual([nowhere.code, nowhere.path], ['ENOENT', missing])
    assert.deepEqual([read(a), leftovers(at)], ['a', []])
  })

  test('makes directories when it is asked to', async (t) => {
    const at = newDir(t)
    const [a, b] = ['x/y/a', 'x/z/b'].map((name) => path.join(at, name))
    const error = await failure(transaction([a, b], (tx) => tx.write(a, 'A')))
    assert.deepEqual([error.code, error.path], ['ENOENT', a])
    assert.ok(error.message.startsWith(`Failed to carry out the transaction at ${a}: ENOENT: no such file or directory, open '`), error.message)
    await transaction([a, b], async (tx) => (await tx.write(a, 'A'), tx.write(b, 'B')), { makeDirs: true })
    assert.deepEqual([read(a), read(b), leftovers(path.dirname(a), path.dirname(b))], ['A', 'B', []])
    const blocked = path.join(a, 'below')
    assert.deepEqual((({ code, path }) => [code, path])(await failure(transaction([b, blocked], () => {}, { makeDirs: true }))), ['ENOTDIR', blocked])
  })

  test('changes nothing when one of the files is not JSON and has to be', async (t) => {
    const at = newDir(t)
    const [a, b] = files(at, { a: '{}', b: '{}' })
    for (const [text, code] of [['{"torn', 'EBADJSON'], ['', 'EEMPTYJSON']]) {
      const error = await failure(transaction([a, b], async (tx) => (await tx.write(a, '{"n":1}'), tx.write(b, text)), { validate: 'json' }))
      assert.deepEqual([error.code, error.path, error.committed], [code, b, false])
      assert.deepEqual([read(a), read(b), leftovers(at)], ['{}', '{}', []])
    }
    await transaction([a, b], async (tx) => (await tx.write(a, '[1]'), tx.remove(b)), { validate: 'json' })
    assert.deepEqual([read(a), exists(b)], ['[1]', false])
  })

  test('changes fifty files', async (t) => {
    const at = newDir(t)
    const all = Array.from({ length: 50 }, (_, i) => path.join(at, `file-${i}`))
    for (const round of [1, 2]) {
      await transaction(all, async (tx) => {
        await Promise.all(all.map((file) => tx.write(file, `${file} ${round}`)))
      })
      for (const file of all) assert.equal(read(file), `${file} ${round}`)
    }
    await transaction([...all].reverse(), async (tx) => void all.map((file) => tx.remove(file)))
    assert.deepEqual(fs.readdirSync(at).filter((name) => !name.endsWith('.lock')), [])
  })

  test('takes its place in the order of the writes to each file', async (t) => {
    const [a, b] = files(newDir(t), { a: '', b: '' })
    for (let round = 0; round < 5; round++) {
      const before = [a, b].flatMap((file) => Array.from({ length: 5 }, (_, i) => atomicWrite(file, `before ${i}`, FAST)))
      let after
      await transaction([a, b], async (tx) => {
        await tx.write(a, `A ${round}`)
        await tx.write(b, `B ${round}`)
      }, FAST).then(() => {
        after = atomicWrite(a, `after ${round}`, FAST)
      })
      await Promise.all([...before, after])
      assert.deepEqual([read(a), read(b)], [`after ${round}`, `B ${round}`])
    }
  })
})

describe('locks of a transaction', { timeout: GUARD }, () => {
  test('wait for the holder of each, and name it on a timeout', async (t) => {
    const [a, b] = files(newDir(t), { a: 'a', b: 'b' })
    const lock = await acquireLock(b)
    const error = await failure(transaction([a, b], () => {}, { timeout: 30 }))
    assert.deepEqual([error.code, error.path, error.operation], ['ELOCKED', b, 'transaction'])
    assert.match(error.message, /after 30 ms.*this process/)
    const waiting = transaction([b, a], (tx) => tx.write(a, 'A'), FAST)
    await sleep(10)
    assert.equal(read(a), 'a')
    await lock.release()
    await waiting
    assert.equal(read(a), 'A')
  })

  test('are no longer waited for after an abort', async (t) => {
    const [a, b] = files(newDir(t), { a: 'a', b: 'b' })
    const lock = await acquireLock(b)
    const controller = new AbortController()
    const waiting = failure(transaction([a, b], () => {}, { signal: controller.signal }))
    await sleep(10)
    controller.abort('why')
    const error = await waiting
    assert.deepEqual([error.name, error.cause], ['AbortError', 'why'])
    await lock.release()
    const late = new AbortController()
    const hanging = failure(transaction([a, b], () => new Promise(() => {}), { signal: late.signal }))
    await sleep(10)
    late.abort()
    assert.equal((await hanging).name, 'AbortError')
    assert.equal((await failure(transaction([a], () => {}, { signal: AbortSignal.abort() }))).name, 'AbortError')
    await transaction([a, b], () => {}, { timeout: 5000 })
  })

  test('are free at once when the signal comes in the wait for the next attempt', { skip: whyNot.mount() }, async (t) => {
    const { dir: at } = fullDisk(t)
    const [a, b] = files(at, { a: '', b: '' })
    // In a child, because a commit that went on waiting would do so for weeks.
    const error = await inChild(async ({ a, b }, { holdfast, outcome }) => {
      const { metrics, transaction } = holdfast
      const controller = new AbortController()
      const looks = setInterval(() => {
        if (metrics().transactions.retries > 0) controller.abort('enough')
      }, 5)
      const error = await outcome(() => transaction([a, b], async (tx) => {
        await tx.write(a, Buffer.alloc(1 << 20))
        await tx.write(b, 'b')
      }, { signal: controller.signal, retryDelay: 2 ** 31 - 1 }))
      clearInterval(looks)
      await transaction([a, b], () => {}, { timeout: 5000 })
      return error
    }, { a, b })
    assert.deepEqual([error.name, error.code], ['AbortError', 'ABORT_ERR'])
    assert.deepEqual([read(a), read(b), leftovers(at)], ['', '', []])
  })

  test('held by withLock are worked under, some or all of them', async (t) => {
    const [a, b, c] = files(newDir(t), { a: '{"n":0}', b: 'b', c: 'c' })
    await withLock(a, async () => {
      await withLock(b, async () => {
        await transaction([a, b, c], async (tx) => {
          await tx.updateJson(a, (data) => void (data.n += 1))
          await tx.write(c, 'C')
        }, FAST)
        // Side by side they come one after the other.
        await Promise.all(Array.from({ length: 5 }, async (_, i) => {
          await transaction(i % 2 ? [a, b] : [b, a], (tx) => tx.updateJson(a, (data) => void (data.n += 1)), FAST)
          await updateJsonFile(a, (data) => void (data.n += 1), FAST)
        }))
      })
      assert.equal((await failure(transaction([a, b], (tx) => tx.write(b, 'B'), FAST).then(() => assert.equal(read(b), 'B')).then(() => { throw new Error('so') }))).message, 'so')
    })
    assert.deepEqual([read(a), read(c)], ['{"n":11}', 'C'])
    assert.equal((await failure(transaction([a], () => withLock(a, () => {})))).code, 'EDEADLK')
  })

  test('are not asked for again inside: that would never end', async (t) => {
    const [a, b] = files(newDir(t), { a: '{}', b: '{}' })
    for (const under of [(work) => work(), (work) => withLock(a, work)]) {
      await under(() => transaction([a, b], async (tx) => {
        assert.equal((await failure(updateJsonFile(a, () => {}))).code, 'EDEADLK')
        assert.equal((await failure(atomicWrite(b, '', { lock: true }))).code, 'EDEADLK')
        assert.equal((await failure(transaction([b], () => {}))).code, 'EDEADLK')
        assert.equal((await failure(tx.updateJson(a, () => tx.read(a)))).code, 'EDEADLK')
        await tx.updateJson(a, () => tx.write(b, 'other files may be used'))
      }, FAST))
    }
    await updateJsonFile(a, async () => {
      assert.equal((await failure(transaction([b, a], () => {}))).code, 'EDEADLK')
    })
  })

  test('held for reading are an error, and readers never see half of a transaction', async (t) => {
    const at = fastDir(t)
    const [a, b] = files(at, { a: '0', b: '0' })
    await withLock(a, async () => {
      assert.equal((await failure(transaction([b, a], () => {}))).code, 'EDEADLK')
    }, { kind: 'read' })
    let isOver = false
    let seen = 0
    const reader = (async () => {
      while (!isOver) {
        // In the order of the names in one directory, as every caller acquires them.
        await withLock(a, () => withLock(b, () => {
          assert.equal(read(a), read(b))
          seen++
        }, { kind: 'read' }), { kind: 'read' })
      }
    })()
    for (let i = 1; i <= 50; i++) {
      await transaction([b, a], async (tx) => {
        await tx.write(a, String(i))
        await tx.write(b, String(i))
      }, FAST)
    }
    isOver = true
    await reader
    assert.ok(seen > 0)
  })

  test('of calls in opposite orders never wait in a circle', async (t) => {
    const at = fastDir(t)
    const accounts = files(at, { a: '{"balance":9}', b: '{"balance":9}', c: '{"balance":9}' })
    await Promise.all(Array.from({ length: 60 }, (_, i) => {
      const order = i % 2 ? accounts : [...accounts].reverse()
      return transaction(order.slice(0, 2 + (i % 2)), async (tx) => {
        await tx.updateJson(order[0], (account) => void (account.balance -= 1))
        await tx.updateJson(order[1], (account) => void (account.balance += 1))
      }, { ...FAST, timeout: Infinity })
    }))
    assert.equal(accounts.reduce((sum, file) => sum + JSON.parse(read(file)).balance, 0), 27)
    assert.deepEqual(leftovers(at), [])
  })
})

/** Two directories, on two file systems where they can be mounted. */
function twoDisks(t) {
  const one = ordinaryDisk(t)
  const other = whyNot.mount() ? fastDir(t) : newDir(t, tmpfs(t, 'size=8m'))
  if (!whyNot.mount()) assert.notEqual(fs.statSync(one).dev, fs.statSync(other).dev)
  return [one, other]
}

/** Runs a transaction in another process that dies at the rename of this number: the first one decides. */
function dieAtRename(number, changes) {
  const program = path.join(__dirname, 'programs', 'transact.js')
  const { signal, stderr } = spawnSync('strace', [
    '-f', '-qq', '-o', '/dev/null', '-e', 'trace=rename,renameat,renameat2',
    '-e', `inject=rename,renameat,renameat2:signal=SIGKILL:when=${number}`,
    process.execPath, program, JSON.stringify({ changes, options: {} }),
  ], { encoding: 'utf8', timeout: GUARD })
  assert.equal(signal, 'SIGKILL', stderr)
}

describe('after a crash', { skip: whyNot.strace(), timeout: GUARD }, () => {
  test('nothing has happened before the decision', async (t) => {
    const [one, other] = twoDisks(t)
    const [[a], [b]] = [files(one, { a: 'a' }), files(other, { b: 'b' })]
    dieAtRename(1, [[a, 'A'], [b, 'B']])
    // The call that was about to be made may or may not have been.
    await recoverFromCrash(one)
    assert.ok(['ab', 'AB'].includes(read(a) + read(b)))
    assert.deepEqual(leftovers(one, other), [])
  })

  for (const [name, settle] of [
    ['recovery in the first directory', ([one]) => recoverFromCrash(one)],
    ['recovery in the other directory', ([, other]) => recoverFromCrash(other)],
    ['recovery of one file', ([, other]) => recoverFromCrash(path.join(other, 'b'))],
    ['the next transaction on any of the files', ([, other]) => transaction([path.join(other, 'b')], () => {})],
    ['a transaction that holds another of its locks', ([one, other]) => withLock(path.join(one, 'a'), () => transaction([path.join(one, 'a'), path.join(other, 'new')], () => {}))],
  ]) {
    test(`what was decided is completed by ${name}, on two file systems`, async (t) => {
      const dirs = twoDisks(t)
      const [one, other] = dirs
      const [[a, gone], [b]] = [files(one, { a: 'a', gone: 'gone' }), files(other, { b: 'b' })]
      const fresh = path.join(other, 'new')
      dieAtRename(2, [[a, 'A'], [gone, null], [b, 'B'], [fresh, 'NEW']])
      assert.deepEqual([read(b), exists(gone), exists(fresh)], ['b', true, false], 'it died in the middle')
      assert.notDeepEqual(leftovers(one, other), [])

      await recoverFromCrash(one, { dryRun: true })
      assert.equal(read(b), 'b')
      await settle(dirs)
      assert.deepEqual([read(a), exists(gone), read(b), read(fresh)], ['A', false, 'B', 'NEW'])
      assert.deepEqual(leftovers(one, other), [])
      assert.deepEqual((await recoverFromCrash(one)).actions, [])
    })
  }

  test('a file that another process has changed since is left as it is, and reported', async (t) => {
    const [one, other] = twoDisks(t)
    const [[a, gone], [b]] = [files(one, { a: 'a', gone: 'gone' }), files(other, { b: 'b' })]
    dieAtRename(2, [[a, 'A'], [gone, null], [b, 'B']])
    fs.writeFileSync(b, 'another process')
    fs.writeFileSync(gone, 'back again')
    const { actions } = await recoverFromCrash(one)
    assert.deepEqual([read(a), read(gone), read(b)], ['A', 'back again', 'another process'])
    const conflicts = actions.filter(({ action }) => action === 'conflict')
    assert.deepEqual(conflicts.map((action) => action.path), [gone, b])
    assert.equal(read(conflicts[1].to), 'B', 'what it would have got is kept')
    assert.match(path.basename(conflicts[1].to), /^b\.conflict-[0-9a-f]{16}$/)
    assert.deepEqual(leftovers(one, other), [])
  })

  test('the next transaction logs it', async (t) => {
    const [a, b] = files(newDir(t), { a: 'a', b: 'b' })
    dieAtRename(2, [[a, 'A'], [b, 'B']])
    fs.writeFileSync(b, 'another process')
    const entries = []
    const note = (fields, message) => entries.push([message, fields])
    await transaction([a], () => {}, { logger: { debug: note, warn: note, error: note } })
    assert.ok(entries.some(([message, fields]) => /left as it is/.test(message) && fields.targetPath === b))
    assert.equal(read(b), 'another process')
  })

  test('what concerns a file that the caller has locked for reading is an error, and no endless loop', async (t) => {
    const [a, b] = files(newDir(t), { a: 'a', b: 'b' })
    dieAtRename(2, [[a, 'A'], [b, 'B']])
    const error = await withLock(b, () => failure(transaction([a], () => {}, { timeout: 1000 })), { kind: 'read' })
    assert.equal(error.code, 'EDEADLK')
    await withLock(b, () => transaction([a], () => {}))
    assert.equal(read(a) + read(b), 'AB')
  })

  test('a directory that is not there is waited for', async (t) => {
    const one = newDir(t)
    const other = path.join(newDir(t), 'other')
    fs.mkdirSync(other)
    const [[a], [b]] = [files(one, { a: 'a' }), files(other, { b: 'b' })]
    dieAtRename(2, [[a, 'A'], [b, 'B']])
    for (const [hidden, asked] of [[other, a], [one, b]]) {
      fs.renameSync(hidden, `${hidden}-away`)
      const error = await failure(transaction([asked], () => {}))
      assert.deepEqual([error.code, error.operation, error.path], ['EUNSETTLED', 'transaction', asked])
      assert.ok(exists(error.cause.path), 'the record is named')
      // Another directory, an empty disk for example, is not mistaken for it.
      fs.mkdirSync(hidden)
      assert.equal((await failure(transaction([asked], () => {}))).code, 'EUNSETTLED')
      fs.rmdirSync(hidden)
      fs.renameSync(`${hidden}-away`, hidden)
    }
    await transaction([b], () => {})
    assert.equal(read(a) + read(b), 'AB')
    assert.deepEqual(leftovers(one, other), [])
  })
})

/** A reason not to make files immutable; `false` when there is none. */
const noChattr = whyNot.ext4() || (spawnSync('chattr', ['-V']).error ? 'needs chattr (e2fsprogs)' : false)

describe('a file that cannot be replaced', { skip: noChattr, timeout: GUARD }, () => {
  const immutable = (file, is) => assert.equal(spawnSync('chattr', [is ? '+i' : '-i', file]).status, 0)

  test('as the first one takes the decision back, as a later one leaves it to recovery', async (t) => {
    const at = ordinaryDisk(t)
    const [a, b] = files(at, { a: 'a', b: 'b' })
    const change = (first, second) => transaction([first, second], async (tx) => {
      await tx.write(first, 'new')
      await tx.write(second, 'new')
    })
    immutable(b, true)
    try {
      const undone = await failure(change(b, a))
      assert.deepEqual([undone.code, undone.committed, undone.path], ['EPERM', false, b])
      assert.deepEqual([read(a), read(b), leftovers(at)], ['a', 'b', []])

      const halfway = await failure(change(a, b))
      assert.deepEqual([halfway.code, halfway.committed, halfway.path], ['EPERM', true, b])
      assert.match(halfway.hint, /recoverFromCrash/)
      assert.deepEqual([read(a), read(b)], ['new', 'b'])
      // Every caller that wants the files has to complete it, too.
      assert.equal((await failure(transaction([a], () => {}))).code, 'EPERM')
      assert.equal((await recoverFromCrash(at)).complete, false)
    } finally {
      immutable(b, false)
    }
    await transaction([a], () => {})
    assert.deepEqual([read(a), read(b), leftovers(at)], ['new', 'new', []])
  })
})

test('a worker that is terminated in a transaction changes nothing and frees the locks', { timeout: GUARD }, async (t) => {
  const { Worker } = require('node:worker_threads')
  const [a, b] = files(newDir(t), { a: 'a', b: 'b' })
  const source = `
    const { parentPort, workerData } = require('node:worker_threads')
    require(workerData.holdfast).transaction(workerData.paths, async (tx) => {
      await tx.write(workerData.paths[0], 'A')
      parentPort.postMessage('inside')
      await new Promise(() => setInterval(() => {}, 1000))
    })`
  const worker = new Worker(source, { eval: true, workerData: { holdfast: path.join(__dirname, '..'), paths: [a, b] } })
  await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject))
  assert.equal((await failure(transaction([b], () => {}, { timeout: 0 }))).code, 'ELOCKED')
  await worker.terminate()
  await transaction([a, b], (tx) => tx.write(b, 'B'), FAST)
  assert.deepEqual([read(a), read(b)], ['a', 'B'])
})

test('a worker that is terminated in the middle of a commit releases the lock that it used after it', { timeout: GUARD }, async (t) => {
  const { Worker } = require('node:worker_threads')
  const at = newDir(t)
  const paths = files(at, Object.fromEntries(Array.from({ length: 40 }, (_, i) => [`file-${i}`, 'old'])))
  const source = `
    const { workerData } = require('node:worker_threads')
    const { transaction, withLock } = require(workerData.holdfast)
    const data = Buffer.alloc(1 << 20, 'new')
    withLock(workerData.paths[0], () => transaction(workerData.paths, (tx) => {
      for (const file of workerData.paths) tx.write(file, data)
    }))`
  const worker = new Worker(source, { eval: true, workerData: { holdfast: path.join(__dirname, '..'), paths } })
  const ended = new Promise((resolve) => worker.once('exit', resolve))
  let isOver = false
  worker.once('exit', () => (isOver = true))
  while (!isOver && leftovers(at).length < 5) await null
  worker.terminate()
  await withLock(paths[0], () => {
    assert.deepEqual(leftovers(at), [], 'nothing is under way any more')
    assert.equal(new Set(paths.map((file) => read(file).length)).size, 1, 'all or none')
  }, { timeout: 60_000 })
  await ended
})

describe('process.exit', { timeout: GUARD }, () => {
  const program = `
    const [holdfast, when, ...paths] = process.argv.slice(1)
    require(holdfast).transaction(paths, async (tx) => {
      for (const file of paths) await tx.write(file, 'new')
      if (when === 'inside') process.exit(7)
      else setTimeout(() => process.exit(7), Number(when))
    }).then(() => process.exit(7))`

  test('in the function of a transaction changes nothing, and during its commit all or nothing', async (t) => {
    const at = newDir(t)
    const paths = files(at, Object.fromEntries(Array.from({ length: 20 }, (_, i) => [`file-${i}`, 'old'])))
    for (const when of ['inside', 0, 1, 2, 4]) {
      for (const file of paths) fs.writeFileSync(file, 'old')
      const { status, stderr } = spawnSync(process.execPath, ['-e', program, path.join(__dirname, '..'), String(when), ...paths], { encoding: 'utf8', timeout: GUARD })
      assert.equal(status, 7, stderr)
      if (when === 'inside') assert.deepEqual(leftovers(at), [])
      // A started commit was waited for, or is completed now.
      assert.ok((await recoverFromCrash(at)).complete)
      const found = new Set(paths.map(read))
      assert.equal(found.size, 1, `${[...found]}`)
      if (when === 'inside') assert.ok(found.has('old'))
      assert.deepEqual(leftovers(at), [])
    }
  })
})

describe('two banks with the same accounts, in opposite orders', { timeout: GUARD }, () => {
  const TOTAL = 6 * 1000

  function open(t, dirs) {
    const accounts = Array.from({ length: 6 }, (_, i) => path.join(dirs[i % dirs.length], `account-${i}.json`))
    for (const file of accounts) fs.writeFileSync(file, '{"balance":1000}')
    return accounts
  }

  const bank = (t, accounts, seed, options) =>
    new Program(t, 'bank.js', { args: [JSON.stringify({ accounts: seed % 2 ? accounts : [...accounts].reverse(), options, seed })] })

  /** The sum that a read-only transaction sees: all or nothing, while others write and die. */
  async function total(accounts, options) {
    let sum = 0
    await transaction(accounts, async (tx) => {
      sum = 0
      for (const file of accounts) sum += JSON.parse(await tx.read(file, 'utf8')).balance
    }, options)
    return sum
  }

  test('lose no money and never wait in a circle', async (t) => {
    const dirs = [fastDir(t), newDir(t)]
    const accounts = open(t, dirs)
    const banks = [1, 2].map((seed) => bank(t, accounts, seed, { durability: 'none', timeout: 60_000 }))
    const until = Date.now() + 2000
    while (Date.now() < until) assert.equal(await total(accounts, { ...FAST, timeout: 60_000 }), TOTAL)
    const transfers = []
    for (const program of banks) {
      program.tell('stop')
      const { code, errors, lines } = await program.outcome()
      assert.equal(code, 0, errors)
      transfers.push(lines.length)
    }
    assert.ok(Math.min(...transfers) > 0, `${transfers}`)
    assert.equal(await total(accounts, FAST), TOTAL)
    assert.deepEqual(leftovers(...dirs), [])
    t.diagnostic(`${transfers} transfers`)
  })

  for (const { durability, rounds, disks } of [
    { durability: /** @type {const} */ ('none'), rounds: 10, disks: (t) => [fastDir(t), newDir(t)] },
    { durability: /** @type {const} */ ('full'), rounds: 8, disks: twoDisks },
  ]) {
    test(`lose no money when they are killed ('${durability}')`, { skip: whyNot.unix() }, async (t) => {
      const dirs = disks(t)
      const accounts = open(t, dirs)
      const options = { durability, timeout: 60_000 }
      const survivor = bank(t, accounts, 1, options)
      await survivor.next()
      let transfers = 0
      let found = 0
      for (let round = 0; round < rounds; round++) {
        const program = bank(t, accounts, 2 * round + 2, options)
        await program.next()
        await sleep(((round * 0.6180339887) % 1) * 30)
        program.kill()
        const { signal, lines } = await program.outcome()
        assert.equal(signal, 'SIGKILL')
        transfers += lines.length
        found += leftovers(...dirs).length > 0 ? 1 : 0
        if (round % 5 === 4) assert.equal(await total(accounts, options), TOTAL)
      }
      survivor.tell('stop')
      const { code, errors } = await survivor.outcome()
      assert.equal(code, 0, errors)
      // What is left belongs to no later transaction, or no caller has looked.
      for (const at of dirs) assert.ok((await recoverFromCrash(at)).complete)
      assert.deepEqual(leftovers(...dirs), [])
      assert.equal(await total(accounts, options), TOTAL)
      t.diagnostic(`${transfers} transfers by those that were killed, ${found} times something was left for the moment`)
    })
  }
})
