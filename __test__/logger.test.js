'use strict'

const assert = require('node:assert/strict')
const { AsyncLocalStorage } = require('node:async_hooks')
const fs = require('node:fs')
const path = require('node:path')
const { afterEach, describe, test } = require('node:test')
const { inspect } = require('node:util')
const { Worker } = require('node:worker_threads')
const { collector, failure, fullDisk, holdfast, names, newDir, inChild, root, temps, whyNot } = require('./helpers.js')

const { atomicWrite, atomicWriteJson, atomicWriteSync, setLogger } = holdfast
/** @type {Record<string, (file: string, data: any, options?: any) => any>} */
const functions = { atomicWrite, atomicWriteSync, atomicWriteJson }

afterEach(() => setLogger(null))

/** The text that a function makes of a string. @param {string} name @param {string} text */
function written(name, text) {
  return name === 'atomicWriteJson' ? JSON.stringify(text) : text
}

/**
 * Checks the entries of a write against what they should be, level, message, fields and order.
 * Times are any number from 0 on, and temp paths are checked for their form and replaced by `temp 1`,
 * `temp 2`… in the order in which they appear.
 *
 * @param {{ level: string, message: string, fields: any }[]} entries
 * @param {string} file
 * @param {[level: string, message: string, fields: object][]} expected
 */
function assertEntries(entries, file, expected) {
  /** @type {string[]} */
  const temps = []
  const seen = entries.map(({ level, message, fields }) => {
    const shown = { ...fields }
    assert.equal(Object.getPrototypeOf(fields), Object.prototype)
    for (const time of ['duration', 'totalDuration']) {
      if (!(time in shown)) continue
      assert.ok(Number.isFinite(shown[time]) && shown[time] >= 0, inspect(shown))
      shown[time] = 'ms'
    }
    if ('tempPath' in shown) {
      const { dir, base } = path.parse(shown.tempPath)
      assert.equal(dir, path.dirname(file))
      const stem = `.${path.basename(file)}.`
      assert.ok(base.startsWith(stem) && /^[0-9a-f]{16}\.tmp$/.test(base.slice(stem.length)), base)
      if (!temps.includes(shown.tempPath)) temps.push(shown.tempPath)
      shown.tempPath = `temp ${temps.indexOf(shown.tempPath) + 1}`
    }
    if ('errorMessage' in shown) for (const [i, temp] of temps.entries()) shown.errorMessage = shown.errorMessage.replace(temp, `temp ${i + 1}`)
    return [level, message, shown]
  })
  assert.deepEqual(seen, expected)
}

/** The entries of an attempt that succeeds. */
const success = (/** @type {string} */ file, /** @type {number} */ size, temp = 'temp 1') => /** @type {[string, string, object][]} */ ([
  ['debug', 'Starting atomic write', { targetPath: file, tempPath: temp, size, operation: 'atomicWrite' }],
  ['debug', 'Temp file written', { tempPath: temp, size, duration: 'ms', operation: 'writeFile' }],
  ['debug', 'Temp file renamed to target', { tempPath: temp, targetPath: file, duration: 'ms', operation: 'rename' }],
  ['debug', 'Atomic write completed successfully', { targetPath: file, size, totalDuration: 'ms' }],
])

/** The entries of an attempt that fails while it writes. */
const failureToWrite = (/** @type {string} */ file, /** @type {number} */ size, /** @type {string} */ errorCode, /** @type {string} */ errorMessage, temp = 'temp 1') => (
  /** @type {[string, string, object][]} */ ([
    ['debug', 'Starting atomic write', { targetPath: file, tempPath: temp, size, operation: 'atomicWrite' }],
    [errorCode === 'EIO' ? 'error' : 'debug', 'Atomic write failed', { targetPath: file, tempPath: temp, errorCode, errorMessage, operation: 'atomicWrite' }],
    ['debug', 'Temp file cleaned up', { tempPath: temp, operation: 'cleanup' }],
  ]))

for (const [name, write] of Object.entries(functions)) {
  describe(name, () => {
    for (const [about, text] of [['ASCII', 'new'], ['letters of several bytes', 'é漢😀\ud800'], ['no text', ''], ['over 1 MiB', 'é'.repeat(700_000)]]) {
      test(`logs a success in four entries: ${about}, sizes in bytes`, async (t) => {
        const file = path.join(newDir(t), 'file')
        for (const durability of ['none', 'file', 'full']) {
          const { logger, entries } = collector()
          await write(file, text, { logger, durability })
          assertEntries(entries, file, success(file, Buffer.byteLength(written(name, `${text}`))))
        }
      })
    }

    test('logs a rename that fails, and the clean-up', { skip: whyNot.unix() }, async (t) => {
      const file = path.join(newDir(t), 'dir')
      fs.mkdirSync(file)
      const { logger, entries } = collector()
      const error = await failure(() => write(file, 'new', { logger }))
      const size = written(name, 'new').length
      assert.equal(entries.find(({ message }) => message === 'Atomic write failed')?.fields.errorMessage, error.cause.message)
      assertEntries(entries, file, [
        ...success(file, size).slice(0, 2),
        ...failureToWrite(file, size, 'EISDIR', `EISDIR: illegal operation on a directory, rename 'temp 1' -> '${file}'`).slice(1),
      ])
    })

    test('logs a failure before there is a temp file, without a clean-up', async (t) => {
      const file = path.join(newDir(t), 'missing', 'file')
      const { logger, entries } = collector()
      await failure(() => write(file, 'new', { logger }))
      const [start, failed] = failureToWrite(file, written(name, 'new').length, 'ENOENT', `ENOENT: no such file or directory, open '${path.dirname(file)}'`)
      assertEntries(entries, file, /** @type {any} */ ([start, failed]))
    })

    test('logs every attempt, and the waits between them', { skip: whyNot.mount() }, async (t) => {
      const file = path.join(fullDisk(t).dir, 'file')
      const { logger, entries } = collector()
      const data = 'n'.repeat(512 << 10)
      await failure(() => write(file, data, { logger, retryDelay: 2 }))
      const size = written(name, data).length
      const attempt = (/** @type {number} */ number) => failureToWrite(file, size, 'ENOSPC', 'ENOSPC: no space left on device, write', `temp ${number}`)
      const wait = (/** @type {number} */ attempt, /** @type {number} */ delay) => /** @type {[string, string, object]} */ (
        ['warn', 'Retrying atomic write', { targetPath: file, attempt, delay, errorCode: 'ENOSPC' }])
      assertEntries(entries, file, [...attempt(1), wait(2, 2), ...attempt(2), wait(3, 4), ...attempt(3)])
    })

    test('warns of a temp file that it cannot clean up, and reports the first error', { skip: whyNot.strace() }, async (t) => {
      const dir = newDir(t)
      const file = path.join(dir, 'file')
      fs.writeFileSync(file, 'old')
      const command = ['strace', '-f', '-qq', '-o', '/dev/null', '-e', 'trace=renameat,unlinkat', '-e', 'inject=renameat:error=EXDEV', '-e', 'inject=unlinkat:error=EPERM']
      const { error, entries } = await inChild(async ({ file, name }, { holdfast, outcome }) => {
        const entries = []
        const logger = {
          debug: (fields, message) => entries.push({ level: 'debug', message, fields }),
          warn: (fields, message) => entries.push({ level: 'warn', message, fields }),
          error: (fields, message) => entries.push({ level: 'error', message, fields }),
        }
        return { error: await outcome(() => holdfast[name](file, 'new', { logger })), entries }
      }, { file, name }, { command })
      assert.equal(error.code, 'EXDEV')
      const size = written(name, 'new').length
      assertEntries(entries, file, [
        ...success(file, size).slice(0, 2),
        failureToWrite(file, size, 'EXDEV', `EXDEV: cross-device link not permitted, rename 'temp 1' -> '${file}'`)[1] ?? assert.fail(),
        ['warn', 'Failed to clean up temp file', { tempPath: 'temp 1', cleanupErrorCode: 'EPERM' }],
      ])
      assert.equal(fs.readFileSync(file, 'utf8'), 'old')
      assert.deepEqual(temps(dir), [path.basename(entries[0].fields.tempPath)])
      assert.equal(fs.readFileSync(entries[0].fields.tempPath, 'utf8'), written(name, 'new'))
    })

    test('the global logger gets all calls except those with a logger of their own, or with null', async (t) => {
      const file = path.join(newDir(t), 'file')
      const [everywhere, own, later] = [collector(), collector(), collector()]
      setLogger(everywhere.logger)
      await write(file, 'new')
      await write(file, 'new', { logger: undefined })
      assertEntries(everywhere.entries.splice(0, 4), file, success(file, written(name, 'new').length))
      assertEntries(everywhere.entries.splice(0), file, success(file, written(name, 'new').length))
      await write(file, 'new', { logger: own.logger })
      assert.equal(own.entries.length, 4)
      await write(file, 'new', { logger: null })
      assert.equal(everywhere.entries.length, 0)
      setLogger(later.logger)
      await write(file, 'new')
      assert.deepEqual([everywhere.entries.length, own.entries.length, later.entries.length], [0, 4, 4])
      setLogger(null)
      await write(file, 'new')
      await failure(() => write(path.join(file, 'file'), 'new'))
      assert.deepEqual([everywhere.entries.length, own.entries.length, later.entries.length], [0, 4, 4])
    })

    test('a logger that throws disturbs neither success nor failure', async (t) => {
      const dir = newDir(t)
      fs.mkdirSync(path.join(dir, 'dir'))
      let calls = 0
      const thrower = (/** @type {unknown} */ thrown) => () => {
        calls++
        throw thrown
      }
      for (const thrown of [new Error('from the logger'), undefined, 'a text']) {
        const logger = { debug: thrower(thrown), warn: thrower(thrown), error: thrower(thrown) }
        await write(path.join(dir, 'file'), 'new', { logger })
        const error = await failure(() => write(path.join(dir, 'dir'), 'new', { logger }))
        assert.equal(error.name, 'SessionFileError')
        assert.match(error.code, /^E(ISDIR|PERM|ACCES)$/)
        setLogger(logger)
        await Promise.all(Array.from({ length: 20 }, (_, i) => write(path.join(dir, `${i}`), 'new')))
        setLogger(null)
      }
      assert.ok(calls >= 3 * (4 + 4 + 20 * 4), `${calls} calls`)
      assert.equal(names(dir).length, 22)
    })

    test("calls the logger's methods on the logger, as pino and class instances need", async (t) => {
      class Log {
        #lines = /** @type {string[]} */ ([])
        /** @param {unknown[]} args */
        #line(...args) {
          assert.equal(args.length, 2)
          this.#lines.push(/** @type {string} */ (args[1]))
        }
        debug(/** @type {object} */ fields, /** @type {string} */ message) { this.#line(fields, message) }
        warn(/** @type {object} */ fields, /** @type {string} */ message) { this.#line(fields, message) }
        error(/** @type {object} */ fields, /** @type {string} */ message) { this.#line(fields, message) }
        get lines() { return this.#lines }
      }
      const file = path.join(newDir(t), 'file')
      const log = new Log()
      await write(file, 'new', { logger: log })
      await failure(() => write(path.join(file, 'file'), 'new', { logger: log }))
      assert.deepEqual(log.lines.slice(0, 4), ['Starting atomic write', 'Temp file written', 'Temp file renamed to target', 'Atomic write completed successfully'])
      assert.deepEqual(log.lines.slice(4), ['Starting atomic write', 'Atomic write failed'])
    })

    test('every entry has come when the call is over', async (t) => {
      const dir = newDir(t)
      for (let i = 0; i < 100; i++) {
        const { logger, entries } = collector()
        const file = path.join(dir, i % 2 ? 'file' : 'missing/file')
        const call = async () => write(file, 'new', { logger, durability: 'none' })
        await call().then(() => entries.length, () => entries.length).then((told) => assert.equal(told, i % 2 ? 4 : 2))
      }
    })
  })
}

test('the logger is called in the async context of the call that it reports', async (t) => {
  const dir = newDir(t)
  const context = new AsyncLocalStorage()
  /** @type {unknown[]} */
  const strangers = []
  let told = 0
  const look = (/** @type {any} */ { targetPath = '' , tempPath = '' }) => {
    told++
    const [, number] = /(\d+)(\.[0-9a-f]{16}\.tmp)?$/.exec(targetPath || tempPath) ?? []
    if (context.getStore() !== Number(number)) strangers.push([number, context.getStore()])
  }
  setLogger({ debug: look, warn: look, error: look })
  await Promise.allSettled(Array.from({ length: 60 }, (_, i) => context.run(i, async () => {
    const file = path.join(dir, i % 4 ? '' : 'missing', `${i}`)
    await [atomicWrite, atomicWriteJson, atomicWriteSync][i % 3]?.(file, 'new', { durability: 'none' })
    assert.equal(context.getStore(), i)
  })))
  assert.deepEqual(strangers, [])
  assert.equal(told, 45 * 4 + 15 * 2)
})

test('a logger may write files itself, and set another logger', async (t) => {
  const dir = newDir(t)
  /** @type {Promise<void>[]} */
  const inner = []
  const other = collector()
  const logger = {
    warn() {}, error() {},
    /** @param {object} _ @param {string} message */
    debug(_, message) {
      inner.push(atomicWrite(path.join(dir, `inner-${inner.length}`), message, { logger: null }))
      atomicWriteSync(path.join(dir, 'sync'), message, { logger: null })
      setLogger(other.logger)
    },
  }
  setLogger(logger)
  await atomicWrite(path.join(dir, 'outer'), 'new')
  await Promise.all(inner)
  assert.equal(inner.length, 4, 'a call keeps the logger that it began with')
  assert.equal(other.entries.length, 0)
  assert.equal(names(dir).length, 6)
})

test('a write keeps the logger of its call when another is set meanwhile', async (t) => {
  const dir = newDir(t)
  const [first, second] = [collector(), collector()]
  setLogger(first.logger)
  const done = atomicWrite(path.join(dir, 'file'), Buffer.alloc(8 << 20))
  setLogger(second.logger)
  await done
  assert.deepEqual([first.entries.length, second.entries.length], [4, 0])
})

test('each thread has a logger of its own', async (t) => {
  const dir = newDir(t)
  const { logger, entries } = collector()
  setLogger(logger)
  const worker = new Worker(`
    const { parentPort, workerData: { root, file } } = require('node:worker_threads')
    const { atomicWrite, setLogger } = require(root)
    let told = 0
    const count = () => void told++
    atomicWrite(file, 'new').then(() => {
      setLogger({ debug: count, warn: count, error: count })
      return atomicWrite(file, 'newer')
    }).then(() => parentPort.postMessage(told))`, { eval: true, workerData: { root, file: path.join(dir, 'file') } })
  const told = await new Promise((resolve, reject) => worker.on('message', resolve).on('error', reject))
  assert.equal(told, 4)
  assert.equal(entries.length, 0)
  assert.equal(fs.readFileSync(path.join(dir, 'file'), 'utf8'), 'newer')
})

test('a cancelled write logs its end and its clean-up', async (t) => {
  const file = path.join(newDir(t), 'file')
  const controller = new AbortController()
  const { logger, entries } = collector()
  const done = failure(() => atomicWrite(file, Buffer.alloc(200 << 20), { logger, signal: controller.signal }))
  while (temps(path.dirname(file)).length === 0) await new Promise(setImmediate)
  controller.abort()
  assert.equal((await done).name, 'AbortError')
  const last = entries.slice(entries.findIndex(({ message }) => message === 'Atomic write failed'))
  assert.deepEqual(last.map(({ level, message, fields }) => [level, message, fields.errorCode]), [
    ['debug', 'Atomic write failed', 'ABORT_ERR'], ['debug', 'Temp file cleaned up', undefined],
  ])
})

test('a target behind a link: its temp is where the file is', { skip: whyNot.unix() }, async (t) => {
  const dir = newDir(t)
  fs.mkdirSync(path.join(dir, 'real'))
  fs.symlinkSync('real/target', path.join(dir, 'link'))
  const { logger, entries } = collector()
  await atomicWrite(path.join(dir, 'link'), 'new', { logger })
  for (const { fields: { tempPath } } of entries.slice(0, 3)) {
    assert.equal(path.dirname(tempPath), path.join(dir, 'real'))
    assert.match(path.basename(tempPath), /^\.target\.[0-9a-f]{16}\.tmp$/)
  }
  assert.equal(entries.length, 4)
})
