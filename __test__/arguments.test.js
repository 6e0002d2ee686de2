'use strict'

const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { describe, test } = require('node:test')
const { pathToFileURL } = require('node:url')
const { inspect } = require('node:util')
const { collector, failure, holdfast, modeOf, names, newDir } = require('./helpers.js')

const { atomicWrite, atomicWriteJson, atomicWriteSync, setLogger } = holdfast

/** The three functions, called alike. `options` is left out when it is not given. */
const functions = {
  atomicWrite: (file, options, data = 'new') => atomicWrite(file, data, options),
  atomicWriteSync: (file, options, data = 'new') => atomicWriteSync(file, data, options),
  atomicWriteJson: (file, options, data = 'new') => atomicWriteJson(file, data, options),
}

const CODES = ['ERR_INVALID_ARG_TYPE', 'ERR_INVALID_ARG_VALUE', 'ERR_OUT_OF_RANGE']

/**
 * Checks that a call is refused because of `what`: an error of the right class, with one of
 * Node's codes, that names it.
 *
 * @param {() => unknown} call
 * @param {string} what
 * @param {string[]} codes
 */
async function refused(call, what, codes = CODES) {
  const error = await failure(call)
  const shown = inspect(error)
  assert.ok(codes.includes(error.code), `one of ${codes}: ${shown}`)
  assert.ok(error instanceof (error.code === 'ERR_OUT_OF_RANGE' ? RangeError : TypeError), shown)
  assert.ok(error.message.includes(`"${what}"`), `names "${what}": ${shown}`)
}

const TYPE = ['ERR_INVALID_ARG_TYPE']
const RANGE = ['ERR_OUT_OF_RANGE']
const VALUE = ['ERR_INVALID_ARG_VALUE']

/** Values that every number option refuses, whatever its bounds. */
const NOT_NUMBERS = [null, '3', '', true, false, 3n, [], [3], {}, { valueOf: () => 3 }, new Number(3), Symbol('3'), () => 3]
const NO_INTEGERS = [NaN, Infinity, -Infinity, 1.5, -0.5, Number.MIN_VALUE]
const NOT_BOOLEANS = [null, 0, 1, '', 'true', 'false', [], {}, new Boolean(true), Symbol('true'), () => true]

/** @type {Record<string, [values: unknown[], codes: string[]][]>} */
const wrongOptions = {
  durability: [
    [[null, 0, 2, true, false, [], ['full'], {}, new String('full'), Symbol('full')], TYPE],
    [['', 'FULL', 'full ', 'fsync', 'toString'], VALUE],
  ],
  mode: [[NOT_NUMBERS, TYPE], [[...NO_INTEGERS, -1, 0o10000, 0o100644, 2 ** 32, 420.5], RANGE], [['644', '0o644'], TYPE]],
  chown: [
    [[null, true, 0, 'root', '0:0', {}, { uid: 0 }, { gid: 0 }, { uid: 0, gid: undefined }, Symbol('0'), () => ({ uid: 0, gid: 0 })], TYPE],
  ],
  retries: [[NOT_NUMBERS, TYPE], [[...NO_INTEGERS, 0, -0, -1, 1_000_001, 2 ** 32 + 1], RANGE]],
  retryDelay: [[NOT_NUMBERS, TYPE], [[NaN, Infinity, -Infinity, -1, -0.5, 2 ** 31, Number.MAX_VALUE], RANGE]],
  makeDirs: [[NOT_BOOLEANS, TYPE]],
  followSymlinks: [[NOT_BOOLEANS, TYPE]],
  logger: [
    [[true, false, 0, '', 'console', [], {}, { debug() {}, warn() {} }, { debug() {}, warn() {}, error: true }, () => {}, Symbol('log')], TYPE],
  ],
}

/** @type {typeof wrongOptions} */
const wrongSignal = {
  signal: [[[null, true, 'abort', 0, [], {}, { aborted: false }, new AbortController(), new EventTarget(), AbortSignal, Symbol('stop')], TYPE]],
}

/** @type {typeof wrongOptions} */
const wrongEncoding = {
  encoding: [[[null, 0, true, [], ['utf8'], {}, new String('utf8'), Symbol('utf8')], TYPE], [['', 'utf-9', 'utf8 ', 'latin-1', 'buffer'], VALUE]],
}

/** @type {typeof wrongOptions} */
const wrongIndent = {
  indent: [
    [[null, true, 2n, [], [2], {}, new Number(2), Symbol('2'), () => 2], TYPE],
    [[-1, 11, 1.5, NaN, Infinity, ' '.repeat(11), '--', 'x', '\u00a0', '\v'], [...VALUE, ...RANGE]],
  ],
}

const wrongByFunction = {
  atomicWrite: { ...wrongOptions, ...wrongSignal, ...wrongEncoding },
  atomicWriteSync: { ...wrongOptions, ...wrongEncoding },
  atomicWriteJson: { ...wrongOptions, ...wrongSignal, ...wrongIndent },
}

/** Names that a function does not know: misspelt, of another function, of a later version, or inherited by every object. */
const unknownNames = [
  'durabilty', 'Durability', 'DURABILITY', 'modes', 'owner', 'chOwn', 'uid', 'retry', 'retires', 'retrydelay', 'delay', 'timeout', 'makedirs',
  'mkdir', 'recursive', 'followSymLinks', 'loger', 'fsync', 'tmpfileCreated', 'flag', 'flush', '', ' mode', '0',
  'constructor', 'toString', 'hasOwnProperty', '__proto__',
]
const foreignNames = {
  atomicWrite: ['indent', 'sgnal', 'encodng', 'spaces'],
  atomicWriteSync: ['indent', 'signal', 'enconding'],
  atomicWriteJson: ['encoding', 'indentation', 'ident', 'space'],
}

for (const [name, call] of Object.entries(functions)) {
  describe(name, () => {
    for (const [option, groups] of Object.entries(wrongByFunction[name])) {
      test(`refuses a wrong ${option}, names it and writes nothing`, async (t) => {
        const dir = newDir(t)
        for (const [values, codes] of groups) {
          for (const value of values) await refused(() => call(path.join(dir, 'file'), { [option]: value }), option, codes)
        }
        assert.deepEqual(names(dir), [])
      })
    }

    test('refuses a list for chown, and names the option', async (t) => {
      const dir = newDir(t)
      for (const chown of [[], [0, 0]]) await refused(() => call(path.join(dir, 'file'), { chown }), 'chown', TYPE)
      assert.deepEqual(names(dir), [])
    })

    test('refuses a wrong uid or gid and an unknown name inside chown', async (t) => {
      const dir = newDir(t)
      for (const id of ['uid', 'gid']) {
        const wrong = (value) => () => call(path.join(dir, 'file'), { chown: { uid: 0, gid: 0, [id]: value } })
        for (const value of NOT_NUMBERS) await refused(wrong(value), id, TYPE)
        // 4294967295 would mean 'leave it as it is' to the system.
        for (const value of [...NO_INTEGERS, -1, 2 ** 32 - 1, 2 ** 32]) await refused(wrong(value), id, RANGE)
      }
      for (const unknown of ['guid', 'user', 'mode', '__proto__']) {
        const chown = JSON.parse(`{ "uid": 0, "gid": 0, "${unknown}": 0 }`)
        await refused(() => call(path.join(dir, 'file'), { chown }), unknown, VALUE)
      }
      assert.deepEqual(names(dir), [])
    })

    test('refuses option names that it does not know, by name, even when their value is undefined', async (t) => {
      const dir = newDir(t)
      for (const unknown of [...unknownNames, ...foreignNames[name]]) {
        for (const value of [undefined, true]) {
          const options = Object.defineProperty({}, unknown, { value, enumerable: true })
          await refused(() => call(path.join(dir, 'file'), options), unknown, VALUE)
        }
      }
      assert.deepEqual(names(dir), [])
    })

    test('suggests the option that was meant', async (t) => {
      const file = path.join(newDir(t), 'file')
      for (const [misspelt, meant] of [['durabilty', 'durability'], ['makedirs', 'makeDirs'], ['retires', 'retries'], ['Mode', 'mode']]) {
        const { message } = await failure(() => call(file, { [misspelt]: undefined }))
        assert.ok(message.includes(`"${meant}"`), message)
      }
    })

    test('refuses options that are no object', async (t) => {
      const dir = newDir(t)
      for (const options of [null, 0, 1, true, false, 1n, [], ['utf8'], () => {}, Symbol('options')]) {
        await refused(() => call(path.join(dir, 'file'), options), 'options', TYPE)
      }
      // A string is an encoding, where there is one.
      const takesEncoding = name !== 'atomicWriteJson'
      for (const options of takesEncoding ? ['', 'utf-9', 'buffer'] : ['', 'utf8', 'utf-9']) {
        await refused(() => call(path.join(dir, 'file'), options), takesEncoding ? 'encoding' : 'options', takesEncoding ? VALUE : TYPE)
      }
      assert.deepEqual(names(dir), [])
    })

    test('refuses a path that is neither a string, bytes nor a URL object', async (t) => {
      const dir = newDir(t)
      const inDir = path.join(dir, 'file')
      const wrong = [
        undefined, null, 0, 1, NaN, true, false, 1n, [], [inDir], {}, { href: pathToFileURL(inDir).href }, { toString: () => inDir },
        new String(inDir), new Uint16Array(3), new ArrayBuffer(3), Symbol('path'), () => inDir,
      ]
      for (const value of wrong) await refused(() => call(value), 'path', TYPE)
      assert.deepEqual(names(dir), [])
    })

    test('refuses an empty path, NUL bytes, and URLs in strings', async (t) => {
      const dir = newDir(t)
      const inDir = path.join(dir, 'file')
      const wrong = [
        '', '\0', `${inDir}\0`, `${dir}/a\0b`, 's3://bucket/key', 'S3://bucket/key', 'az://c/k', 'adls://c/k', 'gs://b/k', 'gcs://b/k',
        'http://example.org/file', 'https://example.org/file', 'ftp://h/f', 'file:///tmp/file', `file://${inDir}`, 'a+b.c-d://x',
      ]
      for (const value of wrong) await refused(() => call(value), 'path', VALUE)
      assert.deepEqual(names(dir), [])
    })

    test('refuses URL objects that are no files', async (t) => {
      const dir = newDir(t)
      const wrong = ['http://example.org/file', 'https://example.org/file', 's3://bucket/key', 'data:,text', 'mailto:someone@example.org']
      for (const href of wrong) await refused(() => call(new URL(href)), 'path')
      assert.deepEqual(names(dir), [])
    })

    test('refuses file: URLs that name no file on this machine, with a code of Node', async (t) => {
      const dir = newDir(t)
      const base = pathToFileURL(dir).href
      const wrong = process.platform === 'win32' ? [`${base}/a%2Fb`, `${base}/a%00b`] : ['file://elsewhere/file', `${base}/a%2Fb`, `${base}/a%00b`]
      for (const href of wrong) {
        const error = await failure(() => call(new URL(href)))
        assert.ok(error instanceof TypeError, inspect(error))
        assert.match(error.code, /^ERR_INVALID_(ARG_VALUE|FILE_URL_(PATH|HOST))$/)
      }
      assert.deepEqual(names(dir), [])
    })

    test('writes to file: URL objects, percent-encoding included', async (t) => {
      const dir = newDir(t)
      for (const file of ['plain', 'with space', 'per%cent', 'é😀', 'ha#sh?', 'a&b=c;d', '%20', '..file']) {
        const url = pathToFileURL(path.join(dir, file))
        await call(url)
        assert.equal(fs.readFileSync(url, 'utf8').replaceAll('"', ''), 'new')
        assert.ok(names(dir).includes(file), file)
      }
      await call(new URL(`${pathToFileURL(dir).href}/%66%6F%6f`))
      assert.ok(names(dir).includes('foo'))
    })

    test('writes to names that only look like URLs', { skip: process.platform === 'win32' && 'Windows has no colons in names' }, async (t) => {
      const dir = newDir(t)
      const odd = ['a:b', 's3:', 's3:key', 'note: later', 'file:x', '~', '-', '$HOME', '*', 'a\\b', '\n', ' ', '...']
      for (const file of odd) await call(path.join(dir, file))
      assert.deepEqual(names(dir), odd.sort())
    })

    test('treats undefined options, and every undefined option, as the default', async (t) => {
      const dir = newDir(t)
      const all = Object.fromEntries(Object.keys(wrongByFunction[name]).map((option) => [option, undefined]))
      for (const [number, options] of [undefined, {}, all, Object.assign(Object.create(null), all)].entries()) {
        await call(path.join(dir, `${number}`), options)
        assert.equal(fs.readFileSync(path.join(dir, `${number}`), 'utf8').replaceAll('"', ''), 'new')
        if (process.platform !== 'win32') assert.equal(modeOf(path.join(dir, `${number}`)), 0o644 & ~process.umask())
      }
    })

    test('never changes the options: frozen ones work, and shared ones stay as they are', async (t) => {
      const dir = newDir(t)
      const { logger } = collector()
      const given = {
        durability: 'none', mode: 0o640, chown: false, retries: 2, retryDelay: 0.5, makeDirs: true, followSymlinks: false, logger,
        ...(name !== 'atomicWriteSync' && { signal: new AbortController().signal }),
        ...(name !== 'atomicWriteJson' && { encoding: 'utf8' }),
        ...(name === 'atomicWriteJson' && { indent: 2 }),
      }
      const before = { ...given }
      await call(path.join(dir, 'a', 'file'), given)
      assert.deepEqual(given, before)
      await call(path.join(dir, 'b', 'file'), Object.freeze(given))
      const chown = Object.freeze({ uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 })
      await call(path.join(dir, 'c'), Object.freeze({ chown }))
      assert.deepEqual(names(dir), ['a', 'b', 'c'])
      assert.deepEqual(names(path.join(dir, 'b')), ['file'])
    })

    test('takes the bounds themselves', async (t) => {
      const dir = newDir(t)
      const bounds = [
        { retries: 1 }, { retries: 1_000_000 }, { retryDelay: 0 }, { retryDelay: -0 }, { retryDelay: 2 ** 31 - 1 }, { retryDelay: 0.5 },
        { mode: 0 }, { mode: 0o777 }, { logger: null }, { chown: false }, { durability: 'none' }, { durability: 'file' }, { durability: 'full' },
      ]
      for (const [number, options] of bounds.entries()) await call(path.join(dir, `${number}`), options)
      assert.equal(names(dir).length, bounds.length)
    })
  })
}

for (const name of ['atomicWrite', 'atomicWriteSync']) {
  const call = functions[name]

  test(`${name} refuses data of other kinds than it takes`, async (t) => {
    const dir = newDir(t)
    const file = path.join(dir, 'file')
    const write = { atomicWrite, atomicWriteSync }[name]
    const wrong = [
      undefined, null, 0, 1, NaN, true, false, 1n, {}, [1, 2], ['text', 1], new ArrayBuffer(8), new SharedArrayBuffer(8), Symbol('data'), () => 'data',
      new String('data'), new Date(), new Map([[1, 2]]), Promise.resolve('data'), { toString: () => 'data' }, { length: 1, 0: 1 },
      { type: 'Buffer', data: [1] },
      // On the calling thread nothing can be waited for, and nothing that comes in pieces is taken.
      ...(name === 'atomicWriteSync' ? [[], ['text'], new Map(), new Blob(['data'])] : []),
    ]
    for (const data of wrong) await refused(() => write(file, data), 'data', TYPE)
    assert.deepEqual(names(dir), [])
  })

  for (const View of [Uint8Array, Float64Array, BigInt64Array, DataView, Buffer]) {
    test(`${name} refuses a ${View.name} of memory that has been transferred away`, async (t) => {
      const dir = newDir(t)
      for (const size of [0, 8, 4 << 20]) {
        const memory = new ArrayBuffer(size)
        const view = View === Buffer ? Buffer.from(memory) : new View(memory)
        structuredClone(memory, { transfer: [memory] })
        await refused(() => call(path.join(dir, 'file'), undefined, view), 'data')
      }
      assert.deepEqual(names(dir), [])
    })
  }
}

test('the asynchronous functions reject and do not throw when an argument is wrong', async () => {
  for (const call of [() => atomicWrite(), () => atomicWriteJson(), () => atomicWrite('file', 'x', { mode: -1 }), () => atomicWriteJson('file', 1n)]) {
    const promise = call()
    assert.ok(promise instanceof Promise)
    await assert.rejects(promise, (error) => error instanceof TypeError || error instanceof RangeError)
  }
})

test('a wrong argument leaves an existing file as it is', async (t) => {
  const dir = newDir(t)
  const file = path.join(dir, 'file')
  fs.writeFileSync(file, 'old')
  const before = fs.statSync(file, { bigint: true })
  for (const call of Object.values(functions)) {
    for (const options of [{ mode: '600' }, { durabilty: 'none' }, { retries: 0 }, null]) await failure(() => call(file, options))
  }
  await failure(() => atomicWrite(file, undefined))
  await failure(() => atomicWriteJson(file, undefined))
  assert.equal(fs.readFileSync(file, 'utf8'), 'old')
  const { ino, mtimeNs, ctimeNs } = fs.statSync(file, { bigint: true })
  assert.deepEqual({ ino, mtimeNs, ctimeNs }, { ino: before.ino, mtimeNs: before.mtimeNs, ctimeNs: before.ctimeNs })
  assert.deepEqual(names(dir), ['file'])
})

test('setLogger refuses what is no logger and keeps the one it has', async (t) => {
  const file = path.join(newDir(t), 'file')
  const kept = collector()
  t.after(() => setLogger(null))
  setLogger(kept.logger)
  const method = () => {}
  const wrong = [
    undefined, 0, 1, '', 'console', true, false, 1n, [], {}, { debug: method }, { debug: method, warn: method }, { debug: method, warn: method, error: null },
    { warn: method, error: method }, { info: method }, () => {}, Symbol('log'),
  ]
  for (const value of wrong) await refused(() => setLogger(value), 'logger', TYPE)
  await atomicWrite(file, 'new')
  assert.equal(kept.of('Atomic write completed successfully').length, 1)
})

test('setLogger takes console, and objects whose methods are inherited', async (t) => {
  t.after(() => setLogger(null))
  class Log {
    debug() {}
    warn() {}
    error() {}
  }
  for (const logger of [console, new Log(), Object.freeze({ debug() {}, warn() {}, error() {}, info: 1 }), null]) setLogger(logger)
})
