'use strict'

// One behaviour, two implementations: what programs expect of the package `proper-lockfile` is
// asked of the package itself and of what stands in for it here. What differs on purpose is at
// the end.

const assert = require('node:assert/strict')
const { spawn } = require('node:child_process')
const { once } = require('node:events')
const fs = require('node:fs')
const path = require('node:path')
const { after, describe, test } = require('node:test')
const { setTimeout: wait } = require('node:timers/promises')
const { failure, names, newFile, newDir, whyNot } = require('./helpers.js')

const GUARD = 60_000
const LIMITS = { timeout: GUARD }
after(() => void setTimeout(() => process.exit(1), 10_000).unref())

const implementations = {
  'the package': require.resolve('proper-lockfile'),
  'holdfast/compat/proper-lockfile': require.resolve('../compat/proper-lockfile.js'),
}

/** @param {string} directory @param {number} seconds */
function age(dir, seconds) {
  const time = Date.now() / 1000 - seconds
  fs.utimesSync(dir, time, time)
}

/** What a call throws. @param {() => unknown} call @returns {any} */
function thrown(call) {
  try {
    call()
  } catch (error) {
    return error
  }
  assert.fail('it did not throw')
}

const HELD = { code: 'ELOCKED', message: 'Lock file is already being held' }
const NOT_ACQUIRED = { code: 'ENOTACQUIRED', message: 'Lock is not acquired/owned by you' }
const RELEASED = { code: 'ERELEASED', message: 'Lock is already released' }

for (const [name, module] of Object.entries(implementations)) {
  /** @type {typeof import('../compat/proper-lockfile.js')} */
  const lockfile = require(module)

  describe(name, { ...LIMITS, concurrency: true }, () => {
    test('exports lock, with the other functions as its properties', () => {
      assert.equal(lockfile, lockfile.lock)
      assert.deepEqual(Object.keys(lockfile).sort(), ['check', 'checkSync', 'lock', 'lockSync', 'unlock', 'unlockSync'])
    })

    test('locks by a directory beside the file, until it is released', async (t) => {
      const file = newFile(t, '')
      assert.equal(await lockfile.check(file), false)
      const release = await lockfile.lock(file)
      assert.deepEqual(names(path.dirname(file)), ['file', 'file.lock'])
      assert.deepEqual(fs.readdirSync(`${file}.lock`), [])
      assert.equal(await lockfile.check(file), true)
      assert.equal(await release(), undefined)
      assert.deepEqual(names(path.dirname(file)), ['file'])
      assert.equal(await lockfile.check(file), false)
      await (await lockfile(file))()
    })

    test('a lock that is held', async (t) => {
      const file = newFile(t, '')
      const release = await lockfile.lock(file)
      const error = await failure(() => lockfile.lock(file))
      assert.ok(error instanceof Error)
      assert.deepEqual({ code: error.code, message: error.message }, HELD)
      assert.equal(/** @type {any} */ (error).file, file)
      await release()
    })

    test('a lock that was not acquired, or is released', async (t) => {
      const file = newFile(t, '')
      await assert.rejects(lockfile.unlock(file), NOT_ACQUIRED)
      const release = await lockfile.lock(file)
      await release()
      await assert.rejects(release(), RELEASED)
      await assert.rejects(lockfile.unlock(file), NOT_ACQUIRED)
      const again = await lockfile.lock(file)
      await lockfile.unlock(file)
      await assert.rejects(again(), RELEASED)
      // Another process holds it.
      fs.mkdirSync(`${file}.lock`)
      await assert.rejects(lockfile.unlock(file), NOT_ACQUIRED)
      assert.ok(fs.existsSync(`${file}.lock`))
    })

    test('a file that is missing', async (t) => {
      const file = path.join(newDir(t), 'missing')
      for (const call of [lockfile.lock, lockfile.unlock, lockfile.check]) await assert.rejects(call(file), { code: 'ENOENT' })
      for (const call of [lockfile.lockSync, lockfile.unlockSync, lockfile.checkSync]) assert.throws(() => call(file), { code: 'ENOENT' })
      const release = await lockfile.lock(file, { realpath: false })
      assert.equal(await lockfile.check(file, { realpath: false }), true)
      await release()
      assert.deepEqual(names(path.dirname(file)), [])
    })

    test('a directory that is missing', async (t) => {
      const file = path.join(newDir(t), 'missing', 'file')
      const options = { realpath: false }
      await assert.rejects(lockfile.lock(file, options), { code: 'ENOENT' })
      assert.throws(() => lockfile.lockSync(file, options), { code: 'ENOENT' })
      assert.equal(await lockfile.check(file, options), false)
      assert.equal(lockfile.checkSync(file, options), false)
      await assert.rejects(lockfile.unlock(file, options), NOT_ACQUIRED)
    })

    test('options that are empty are left out', async (t) => {
      const file = newFile(t, '')
      for (const empty of /** @type {any[]} */ ([{ lockfilePath: null }, { lockfilePath: '' }, { stale: null }, { update: null }, { retries: null }])) {
        const release = await lockfile.lock(file, empty)
        assert.ok(fs.existsSync(`${file}.lock`), JSON.stringify(empty))
        await release()
      }
      fs.mkdirSync(`${file}.lock`)
      age(`${file}.lock`, 5)
      assert.equal(await lockfile.check(file, /** @type {any} */ ({ stale: null })), false)
    })

    test('options in other forms than the manual has', async (t) => {
      const file = newFile(t, '')
      const all = /** @type {any[]} */ ([
        { stale: false }, { stale: '5000' }, { update: false }, { update: '1500', stale: '4000' }, { realpath: 1 }, { onCompromised: null },
        { retry: 1, flag: 'a' }, { retries: { retries: '2', minTimeout: '1', retry: 1 } }, { retries: [] }, { retries: ['1', '2'] }, { retries: { forever: 1, unref: 0, retries: 0 } },
        { lockfilePath: 0 }, { fs: require('graceful-fs') }, { fs }, 'text', 5,
      ])
      for (const options of all) {
        const release = await lockfile.lock(file, options)
        assert.ok(fs.existsSync(`${file}.lock`))
        assert.equal(await lockfile.check(file, options), true)
        await release()
        await lockfile.lock(file, options)
        await lockfile.unlock(file, options)
        const { retries, ...ofSync } = Object(options)
        lockfile.lockSync(file, ofSync)
        assert.equal(lockfile.checkSync(file, ofSync), true)
        lockfile.unlockSync(file, ofSync)
        assert.deepEqual(names(path.dirname(file)), ['file'])
      }
      // A value that is false is as short as it gets; digits are a number.
      for (const [stale, seconds, isLocked] of /** @type {[any, number, boolean][]} */ ([[false, 1, true], [false, 3, false], ['5000', 3, true], ['5000', 7, false], ['1', 1, true]])) {
        fs.mkdirSync(`${file}.lock`)
        age(`${file}.lock`, seconds)
        assert.equal(await lockfile.check(file, { stale }), isLocked, `${stale}, ${seconds} s`)
        assert.equal(lockfile.checkSync(file, { stale }), isLocked)
        fs.rmdirSync(`${file}.lock`)
      }
      // The file of a lock may be missing if its path is taken as it is.
      for (const realpath of /** @type {any[]} */ ([0, '', null, false])) {
        await (await lockfile.lock(`${file}-missing`, { realpath }))()
        lockfile.lockSync(`${file}-missing`, { realpath })()
      }
      for (const realpath of /** @type {any[]} */ ([1, 'yes', {}])) await assert.rejects(lockfile.lock(`${file}-missing`, { realpath }), { code: 'ENOENT' })
      const release = await lockfile.lock(file)
      const start = performance.now()
      await assert.rejects(lockfile.lock(file, /** @type {any} */ ({ retries: { retries: '2', minTimeout: '20', factor: '1' } })), HELD)
      assert.ok(performance.now() - start >= 39)
      await release()
    })

    test('realpath: a symbolic link is its file, or is itself', async (t) => {
      const file = newFile(t, '')
      const link = path.join(path.dirname(file), 'link')
      fs.symlinkSync('file', link)
      const release = await lockfile.lock(link)
      assert.deepEqual(names(path.dirname(file)), ['file', 'file.lock', 'link'])
      await assert.rejects(lockfile.lock(file), HELD)
      assert.equal(await lockfile.check(file), true)
      assert.equal(await lockfile.check(link, { realpath: false }), false)
      await lockfile.unlock(file)
      await assert.rejects(release(), RELEASED)
      const own = await lockfile.lock(link, { realpath: false })
      assert.deepEqual(names(path.dirname(file)), ['file', 'link', 'link.lock'])
      await (await lockfile.lock(file))()
      await own()
    })

    test('lockfilePath', async (t) => {
      const file = newFile(t, '')
      const lockfilePath = path.join(path.dirname(file), 'elsewhere')
      const release = await lockfile.lock(file, { lockfilePath })
      assert.deepEqual(names(path.dirname(file)), ['elsewhere', 'file'])
      assert.equal(await lockfile.check(file, { lockfilePath }), true)
      assert.equal(await lockfile.check(file), false)
      await assert.rejects(lockfile.lock(file, { lockfilePath }), HELD)
      await release()
      await lockfile.lock(file, { lockfilePath })
      await lockfile.unlock(file, { lockfilePath })
      assert.deepEqual(names(path.dirname(file)), ['file'])
      const nowhere = path.join(path.dirname(file), 'no', 'where')
      await assert.rejects(lockfile.lock(file, { lockfilePath: nowhere }), { code: 'ENOENT' })
      assert.equal(await lockfile.check(file, { lockfilePath: nowhere }), false)
      await assert.rejects(lockfile.check(`${file}2`, { lockfilePath: nowhere }), { code: 'ENOENT' })
    })

    test('a path is what it is when the call is made', async (t) => {
      const file = newFile(t, '')
      const release = await lockfile.lock(path.relative(process.cwd(), file))
      assert.ok(fs.existsSync(`${file}.lock`))
      await lockfile.unlock(file)
      await assert.rejects(release(), RELEASED)
    })

    test('retries', async (t) => {
      const file = newFile(t, '')
      const first = await lockfile.lock(file)
      await assert.rejects(lockfile.lock(file, { retries: { retries: 3, minTimeout: 5, factor: 1 } }), HELD)
      const waiting = lockfile.lock(file, { retries: { retries: 1000, minTimeout: 10, maxTimeout: 10 } })
      const forever = lockfile.lock(file, { retries: { forever: true, minTimeout: 10, maxTimeout: 10, randomize: true } })
      await wait(50)
      await first()
      const holders = [waiting, forever].map((acquired) => acquired.then(async (release) => {
        assert.equal(await lockfile.check(file), true)
        await release()
      }))
      await Promise.all(holders)
      await (await lockfile.lock(file, { retries: 2 }))()
    })

    test('retries as pauses', async (t) => {
      const file = newFile(t, '')
      const release = await lockfile.lock(file)
      for (const retries of [[], [20], [20, 30]]) await assert.rejects(lockfile.lock(file, { retries }), HELD)
      const pauses = new Array(GUARD / 100).fill(100)
      const waiting = lockfile.lock(file, { retries: pauses })
      await wait(50)
      await release()
      await (await waiting)()
      lockfile.lockSync(file, /** @type {any} */ ({ retries: [] }))()
    })

    test('retries apply to every failure', async (t) => {
      const file = newFile(t, '')
      const dir = path.join(path.dirname(file), 'later')
      const waiting = lockfile.lock(file, { lockfilePath: path.join(dir, 'lock'), retries: { retries: 1000, minTimeout: 10, maxTimeout: 10 } })
      await wait(50)
      fs.mkdirSync(dir)
      await (await waiting)()
    })

    test('a lock that is stale is no lock', async (t) => {
      const file = newFile(t, '')
      fs.mkdirSync(`${file}.lock`)
      age(`${file}.lock`, 6)
      assert.equal(await lockfile.check(file), true)
      assert.equal(await lockfile.check(file, { stale: 5000 }), false)
      await assert.rejects(lockfile.lock(file), HELD)
      const release = await lockfile.lock(file, { stale: 5000 })
      assert.equal(await lockfile.check(file, { stale: 5000 }), true)
      await release()
      assert.deepEqual(names(path.dirname(file)), ['file'])
      // No time below two seconds.
      fs.mkdirSync(`${file}.lock`)
      age(`${file}.lock`, 1)
      assert.equal(await lockfile.check(file, { stale: 1 }), true)
      await assert.rejects(lockfile.lock(file, { stale: 1 }), HELD)
    })

    test('a lock is kept fresh', async (t) => {
      const file = newFile(t, '')
      const release = await lockfile.lock(file, { stale: 2000, update: 1 })
      const mtimes = new Set()
      const end = performance.now() + 2600
      while (performance.now() < end) {
        mtimes.add(fs.statSync(`${file}.lock`).mtimeMs)
        await wait(20)
      }
      assert.ok(mtimes.size >= 2 && mtimes.size <= 4, `${mtimes.size} times`)
      await release()
    })

    test('a lock that is removed is compromised', async (t) => {
      const file = newFile(t, '')
      /** @type {any} */
      const error = await new Promise((resolve, reject) => {
        const alive = setInterval(() => {}, 1000)
        lockfile.lock(file, { update: 1000, onCompromised: (error) => (clearInterval(alive), resolve(error)) })
          .then((release) => {
            fs.rmdirSync(`${file}.lock`)
            t.after(() => assert.rejects(release(), RELEASED))
          }, reject)
      })
      assert.ok(error instanceof Error)
      assert.equal(/** @type {any} */ (error).code, 'ECOMPROMISED')
      assert.match(error.message, /^ENOENT: no such file or directory, stat /)
      const { errno, syscall, path: dir } = /** @type {any} */ (error)
      assert.deepEqual({ errno, syscall, dir }, { errno: process.platform === 'win32' ? -4058 : -2, syscall: 'stat', dir: `${file}.lock` })
      await assert.rejects(lockfile.unlock(file), NOT_ACQUIRED)
      await (await lockfile.lock(file))()
    })

    test('a lock that another process has taken is compromised', async (t) => {
      const file = newFile(t, '')
      /** @type {any} */
      const error = await new Promise((resolve, reject) => {
        const alive = setInterval(() => {}, 1000)
        lockfile.lock(file, { update: 1000, onCompromised: (error) => (clearInterval(alive), resolve(error)) })
          .then(() => age(`${file}.lock`, 1), reject)
      })
      assert.deepEqual({ code: error.code, message: error.message }, { code: 'ECOMPROMISED', message: 'Unable to update lock within the stale threshold' })
      fs.rmdirSync(`${file}.lock`)
    })

    test('one that is gone when it is released is as good as released', async (t) => {
      const file = newFile(t, '')
      const release = await lockfile.lock(file)
      fs.rmdirSync(`${file}.lock`)
      await release()
      await lockfile.lock(file)
      fs.rmdirSync(`${file}.lock`)
      await lockfile.unlock(file)
    })

    test('the synchronous functions', async (t) => {
      const file = newFile(t, '')
      assert.equal(lockfile.checkSync(file), false)
      const release = lockfile.lockSync(file)
      assert.equal(lockfile.checkSync(file), true)
      const error = thrown(() => lockfile.lockSync(file))
      assert.deepEqual({ code: error.code, message: error.message, file: error.file }, { ...HELD, file })
      assert.equal(release(), undefined)
      const twice = thrown(release)
      assert.deepEqual({ code: twice.code, message: twice.message }, RELEASED)
      const free = thrown(() => lockfile.unlockSync(file))
      assert.deepEqual({ code: free.code, message: free.message }, NOT_ACQUIRED)
      // Each may undo what the other has done.
      lockfile.lockSync(file)
      await lockfile.unlock(file)
      await lockfile.lock(file)
      assert.equal(lockfile.unlockSync(file), undefined)
      assert.deepEqual(names(path.dirname(file)), ['file'])
      // Stale locks are taken over, too.
      fs.mkdirSync(`${file}.lock`)
      age(`${file}.lock`, 60)
      assert.equal(lockfile.checkSync(file), false)
      lockfile.lockSync(file)()
      for (const retries of [1, { retries: 1 }]) {
        const options = /** @type {any} */ ({ retries })
        assert.throws(() => lockfile.lockSync(file, options), { code: 'ESYNC', message: 'Cannot use retries with the sync api' })
      }
      lockfile.lockSync(file, /** @type {any} */ ({ retries: 0 }))()
      assert.deepEqual(names(path.dirname(file)), ['file'])
    })

    for (const [how, program, expected] of /** @type {[string, string, any][]} */ ([
      ['by itself, which a lock does not prevent', '', 0],
      ['by process.exit', 'process.exit(3)', 3],
      ['by an exception', "setImmediate(() => { throw new Error('on purpose') })", 1],
      ['because a lock is compromised', "fs.rmdirSync(other + '.lock'); setInterval(() => {}, 1000)", 1],
      ...(whyNot.unix() ? [] : [['by a signal', "setImmediate(() => process.kill(process.pid, 'SIGTERM')); setInterval(() => {}, 1000)", 'SIGTERM']]),
    ])) {
      test(`locks go when the process ends ${how}`, async (t) => {
        const [file, other] = [newFile(t, ''), newFile(t, '')]
        const child = spawn(process.execPath, ['-e', `
          const fs = require('node:fs')
          const lockfile = require(${JSON.stringify(module)})
          const [file, other] = ${JSON.stringify([file, other])}
          lockfile.lockSync(file)
          lockfile.lock(other, { update: 1000 }).then(() => {
            console.log(fs.existsSync(file + '.lock') && fs.existsSync(other + '.lock'))
            ${program}
          })`], { stdio: ['ignore', 'pipe', 'pipe'], timeout: GUARD, killSignal: 'SIGKILL' })
        const said = ['', '']
        child.stdout.setEncoding('utf8').on('data', (text) => (said[0] += text))
        child.stderr.setEncoding('utf8').on('data', (text) => (said[1] += text))
        const [code, signal] = await once(child, 'close')
        assert.equal(said[0], 'true\n', said[1])
        assert.equal(signal ?? code, expected, said[1])
        if (how.includes('compromised')) assert.match(String(said[1]), /ECOMPROMISED/)
        for (const each of [file, other]) assert.deepEqual(names(path.dirname(each)), ['file'])
      })
    }
  })
}

describe('on purpose otherwise than the package', LIMITS, () => {
  const lockfile = require('../compat/proper-lockfile.js')

  test('a file system that cannot be honoured is refused', async (t) => {
    const file = newFile(t, '')
    await assert.rejects(lockfile.lock(file, /** @type {any} */ ({ fs: { ...fs, mkdir() {} } })), { code: 'ERR_INVALID_ARG_VALUE', message: /"fs" option must be node:fs or graceful-fs.*threads without JavaScript/ })
    assert.throws(() => lockfile.lockSync(file, /** @type {any} */ ({ fs: {} })), { code: 'ERR_INVALID_ARG_VALUE' })
    await (await lockfile.lock(file, { fs }))()
    await (await lockfile.lock(file, { fs: await import('node:fs') }))()
    await (await lockfile.lock(file, { fs: { ...fs } }))()
    assert.deepEqual(names(path.dirname(file)), ['file'])
  })

  test('values that mean nothing are refused by name', async (t) => {
    const file = newFile(t, '')
    for (const options of /** @type {any[]} */ ([
      { stale: 'soon' }, { stale: {} }, { update: NaN + 'x' }, { retries: { retries: 'many' } }, { retries: ['soon'] }, { onCompromised: 1 }, { lockfilePath: 1 },
    ])) {
      await assert.rejects(lockfile.lock(file, options), { code: 'ERR_INVALID_ARG_TYPE' }, JSON.stringify(options))
      assert.throws(() => lockfile.lockSync(file, options), { code: 'ERR_INVALID_ARG_TYPE' })
    }
    // The package throws this where no caller can catch it.
    await assert.rejects(lockfile.lock(file, { retries: { minTimeout: 5, maxTimeout: 1 } }), { message: /minTimeout is greater than maxTimeout/ })
    // Options of one function may be passed to another, as programs do.
    const all = { stale: 5000, update: null, retries: 0, realpath: true, onCompromised() {} }
    await lockfile.lock(file, all)
    assert.equal(await lockfile.check(file, all), true)
    await lockfile.unlock(file, all)
    assert.deepEqual(names(path.dirname(file)), ['file'])
  })

  test('onCompromised: null is the error of the lost lock, and not that null is no function', async (t) => {
    const file = newFile(t, '')
    const source = `
      const lockfile = require(${JSON.stringify(require.resolve('../compat/proper-lockfile.js'))})
      process.on('uncaughtException', ({ code }) => console.log(code))
      lockfile.lock(${JSON.stringify(file)}, { onCompromised: null, update: 1000, stale: 2000 }).then(() => require('node:fs').rmdirSync(${JSON.stringify(`${file}.lock`)}))
      const wait = setInterval(() => {}, 100)
      process.on('uncaughtException', () => clearInterval(wait))`
    const child = spawn(process.execPath, ['-e', source], { stdio: ['ignore', 'pipe', 'inherit'] })
    const [[output]] = await Promise.all([once(child.stdout, 'data'), once(child, 'exit')])
    assert.equal(String(output).trim(), 'ECOMPROMISED')
  })

  test("what another process has created in the lock's place is not removed, and the holder is told", async (t) => {
    const file = newFile(t, '')
    const release = await lockfile.lock(file)
    fs.rmdirSync(`${file}.lock`)
    fs.mkdirSync(`${file}.lock`)
    await assert.rejects(release(), { code: 'ECOMPROMISED' })
    assert.ok(fs.existsSync(`${file}.lock`))
  })

  // The loss arrived in one message with the lock, and was not reported.
  test('a lock that is lost before JavaScript has run again is compromised', async (t) => {
    const file = newFile(t, '')
    /** @type {Promise<Error & { code?: string }>} */
    const told = new Promise((resolve) => {
      const options = { realpath: false, stale: 2000, update: 1000, onCompromised: resolve }
      lockfile.lock(file, options).then((release) => t.after(() => assert.rejects(release(), RELEASED)))
    })
    while (!fs.existsSync(`${file}.lock`));
    const pause = (/** @type {number} */ time) => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, time)
    pause(200)
    fs.rmdirSync(`${file}.lock`)
    pause(2500)
    const alive = setInterval(() => {}, 1000)
    assert.equal((await told).code, 'ECOMPROMISED')
    clearInterval(alive)
    await assert.rejects(lockfile.unlock(file), NOT_ACQUIRED)
  })

  test('who waits has the lock when it is free, and those of one process in their order', async (t) => {
    const file = newFile(t, '')
    for (let round = 0; round < 30; round++) {
      const first = await lockfile.lock(file)
      /** @type {number[]} */
      const order = []
      // By their own options they would retry after a minute.
      const retries = { retries: 1, minTimeout: GUARD, maxTimeout: GUARD }
      const waiting = [0, 1, 2, 3].map(async (i) => {
        const release = await lockfile.lock(file, { retries })
        order.push(i)
        await release()
      })
      await wait(round % 6)
      await first()
      await Promise.all(waiting)
      assert.deepEqual(order, [0, 1, 2, 3])
    }
  })

  test('unref: the process may end while it waits', async (t) => {
    const file = newFile(t, '')
    fs.mkdirSync(`${file}.lock`)
    const child = spawn(process.execPath, ['-e', `
      require(${JSON.stringify(require.resolve('../compat/proper-lockfile.js'))}).lock(${JSON.stringify(file)}, { retries: { forever: true, unref: true } })`],
    { stdio: 'ignore', timeout: GUARD / 2, killSignal: 'SIGKILL' })
    assert.deepEqual(await once(child, 'exit'), [0, null])
    assert.ok(fs.existsSync(`${file}.lock`))
  })
})
