'use strict'

// Two implementations side by side: each call is made of the package `write-file-atomic` and of what stands in for
// it here, on the same files, and everything that a program can see afterwards is compared. What differs on purpose is
// listed, and shown at the end.

const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { after, before, describe, test } = require('node:test')
const theirs = require('write-file-atomic')
const ours = require('../compat/write-file-atomic.js')
const holdfast = require('..')
const { NOBODY, failure, modeOf, names, newDir, newFile, tinyDisk, whyNot } = require('./helpers.js')

/** @typedef {(file: string, data: any, options: any) => unknown} Form */

/** The three forms of a call. @type {Record<string, (write: any) => Form>} */
const forms = {
  promise: (write) => (file, data, options) => write(file, data, options),
  callback: (write) => async (file, data, options) => {
    /** @type {unknown[][]} */
    const calls = []
    const returned = await write(file, data, options, (/** @type {unknown[]} */ ...args) => {
      calls.push(args)
      return 'of the callback'
    })
    assert.equal(calls.length, 1)
    assert.deepEqual([returned, calls[0]?.length], ['of the callback', 1])
    if (calls[0]?.[0]) throw calls[0][0]
  },
  sync: (write) => (file, data, options) => write.sync(file, data, options),
}

/** What there is before the call: each returns the path to write to. @type {Record<string, (dir: string) => string>} */
const files = {
  'no file': (dir) => path.join(dir, 'file'),
  'a file'(dir) {
    fs.writeFileSync(path.join(dir, 'file'), 'old')
    fs.chmodSync(path.join(dir, 'file'), 0o604)
    return path.join(dir, 'file')
  },
  'a file that is read-only'(dir) {
    fs.writeFileSync(path.join(dir, 'file'), 'old', { mode: 0o444 })
    return path.join(dir, 'file')
  },
  'a link to a file'(dir) {
    fs.symlinkSync(files['a file']?.(dir) ?? '', path.join(dir, 'link'))
    return path.join(dir, 'link')
  },
  'a directory'(dir) {
    fs.mkdirSync(path.join(dir, 'file'))
    return path.join(dir, 'file')
  },
  'no directory': (dir) => path.join(dir, 'missing', 'file'),
  'a file in place of the directory'(dir) {
    fs.writeFileSync(path.join(dir, 'dir'), '')
    return path.join(dir, 'dir', 'file')
  },
  ...(process.getuid?.() === 0 && {
    'a file of another user'(/** @type {string} */ dir) {
      const file = files['a file']?.(dir) ?? ''
      fs.chownSync(file, NOBODY.uid, NOBODY.gid)
      return file
    },
  }),
}

const me = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 }

/** @type {Record<string, any>} */
const options = {
  none: undefined,
  'an encoding': 'latin1',
  empty: {},
  'encoding: hex': { encoding: 'hex' },
  'encoding: none that Node knows': { encoding: 'klingon' },
  'encoding: null': { encoding: null },
  'fsync: false': { fsync: false },
  'fsync: true': { fsync: true },
  'mode: 0o600': { mode: 0o600 },
  'mode: 0o666': { mode: 0o666 },
  'mode: 0o4755': { mode: 0o4755 },
  'mode: of a stat': { mode: fs.constants.S_IFREG | 0o640 },
  'mode: octal digits': { mode: '640' },
  'mode: letters': { mode: 'rw-r--r--' },
  'mode: 0': { mode: 0 },
  'mode: null': { mode: null },
  'mode: negative': { mode: -1 },
  'mode: a fraction': { mode: 1.5 },
  'chown: me': { chown: me },
  'chown: false': { chown: false },
  'chown: null': { chown: null },
  'chown: more than an owner': { chown: { ...me, size: 1 } },
  'chown: half': { chown: { uid: 0 } },
  'chown: text': { chown: { uid: 'root', gid: 'root' } },
  'an option of another package': { unknown: 1, flag: 'a' },
}

const WRONG_OWNERS = ['chown: half', 'chown: text']

/** @type {Record<string, any>} */
const contents = {
  'an empty text': '',
  'more text': 'é'.repeat(100_000),
  'a Buffer': Buffer.from('buffer'),
  'no bytes': new Uint8Array(),
  'part of a buffer': new Uint8Array([1, 2, 3, 4]).subarray(1, 3),
  'a DataView': new DataView(new Uint8Array([1, 2, 3]).buffer),
  undefined: undefined,
  null: null,
  'a number': 42,
  false: false,
  'an object': { a: 1 },
  'an array': [1, 2],
  'an object with a text': { toString: () => 'text' },
  'an object without a text': Object.create(null),
}

/** What a program can see of a failure. @param {any} error */
function seen(error) {
  const { code, errno, syscall } = error
  return { name: error.name, code, errno, syscall, isSystem: errno !== undefined && String(error.message).startsWith(`${code}: `) }
}

/** What is left of a call. @param {string} dir */
function left(dir) {
  return names(dir).map((name) => {
    const file = path.join(dir, name)
    const { uid, gid } = fs.lstatSync(file)
    const mode = modeOf(file)
    if (fs.lstatSync(file).isSymbolicLink()) return { name, link: path.basename(fs.readlinkSync(file)) }
    if (fs.statSync(file).isDirectory()) return { name, mode, uid, gid, inside: names(file) }
    fs.chmodSync(file, 0o600)
    return { name, mode, uid, gid, content: fs.readFileSync(file, 'latin1') }
  })
}

/**
 * Makes a call and tells everything that can be seen of it.
 *
 * @param {any} write
 * @param {string} form
 * @param {string} file
 * @param {unknown} data
 * @param {any} given
 */
async function outcome(write, form, file, data, given) {
  const dir = newDir()
  const target = files[file]?.(dir) ?? ''
  /** @type {unknown} */
  let result
  try {
    result = { returned: await forms[form]?.(write)(target, data, given) }
  } catch (error) {
    result = { error: seen(error) }
  }
  return { result, left: left(dir) }
}

/** Both, with options of their own: the package changes those that it is given. @param {() => unknown} data @param {() => any} given @param {string} form @param {string} file */
async function both(form, file, data, given) {
  return { package: await outcome(theirs, form, file, data(), given()), holdfast: await outcome(ours, form, file, data(), given()) }
}

const clone = (/** @type {any} */ value) => (typeof value === 'object' && value !== null ? { ...value } : value)

let umask = 0
before(() => {
  umask = process.umask(0o027)
})
after(() => void process.umask(umask))

test('every call does what the package does: result, error, content, mode, owner, what is left', { skip: whyNot.unix() }, async () => {
  let calls = 0
  for (const form of Object.keys(forms)) {
    for (const file of Object.keys(files)) {
      for (const [name, given] of Object.entries(options)) {
        const { package: expected, holdfast: actual } = await both(form, file, () => 'c0de', () => clone(given))
        calls += 1
        if (/directory/.test(file) && file !== 'a directory' && WRONG_OWNERS.includes(name)) {
          // Arguments are checked before anything happens, and not when there is a temp file to give away.
          assert.deepEqual(actual, { ...expected, result: { error: { ...seen(new TypeError()), code: 'ERR_INVALID_ARG_TYPE' } } })
          continue
        }
        assert.deepEqual(actual, expected, `${form}, ${file}, ${name}`)
      }
    }
    for (const [name, data] of Object.entries(contents)) {
      for (const encoding of [undefined, 'base64']) {
        const { package: expected, holdfast: actual } = await both(form, 'a file', () => data, () => ({ encoding }))
        assert.deepEqual(actual, expected, `${form}, ${name}, ${encoding}`)
        calls += 1
      }
    }
    const { package: expected, holdfast: actual } = await both(form, 'a file', () => 'abc', () => 'hex')
    assert.deepEqual(actual, expected, `${form}, half a byte`)
    assert.match(JSON.stringify(actual), /ERR_INVALID_ARG_VALUE/)
  }
  assert.ok(calls > 500, `${calls} calls`)
})

for (const [name, write] of /** @type {[string, any][]} */ ([['the package', theirs], ['holdfast/compat/write-file-atomic', ours]])) {
  describe(name, { skip: whyNot.unix() }, () => {
    test('exports a function with sync, and takes four arguments', () => {
      assert.deepEqual([typeof write, write.name, write.length, typeof write.sync], ['function', 'writeFile', 4, 'function'])
    })

    for (const form of Object.keys(forms)) {
      test(`tmpfileCreated is told the name of the temp file, which is there and empty (${form})`, async (t) => {
        const file = newFile(t, 'old')
        /** @type {any[]} */
        const told = []
        await forms[form]?.(write)(file, 'new', {
          tmpfileCreated(/** @type {string} */ tempPath) {
            told.push([path.dirname(tempPath), fs.readFileSync(tempPath, 'utf8'), fs.readFileSync(file, 'utf8')])
          },
        })
        assert.deepEqual(told, [[fs.realpathSync(path.dirname(file)), '', 'old']])
        assert.equal(fs.readFileSync(file, 'utf8'), 'new')
      })

      test(`what tmpfileCreated throws is the error, and the file is as it was (${form})`, async (t) => {
        const file = newFile(t, 'old')
        const wrong = new Error('not now')
        const tmpfileCreated = () => { throw wrong }
        assert.equal(await failure(async () => forms[form]?.(write)(file, 'new', { tmpfileCreated })), wrong)
        assert.match((await failure(async () => forms[form]?.(write)(file, 'new', { tmpfileCreated: 5 }))).message, /not a function/)
        assert.equal(fs.readFileSync(file, 'utf8'), 'old')
        assert.deepEqual(names(path.dirname(file)), ['file'])
      })
    }

    test('tmpfileCreated is awaited, but not by sync', async (t) => {
      const file = newFile(t, 'old')
      let isDone = false
      await write(file, 'new', {
        async tmpfileCreated() {
          await new Promise((resolve) => setTimeout(resolve, 20))
          assert.equal(fs.readFileSync(file, 'utf8'), 'old')
          isDone = true
        },
      })
      assert.ok(isDone)
      write.sync(file, 'newer', { tmpfileCreated: async () => {} })
      assert.equal(fs.readFileSync(file, 'utf8'), 'newer')
    })

    test('a callback in the place of the options', async (t) => {
      const file = newFile(t)
      assert.equal(await write(file, 'text', (/** @type {unknown} */ error) => error ?? 'done'), 'done')
      assert.equal((await write(path.join(file, 'below'), 'text', (/** @type {unknown} */ error) => error)).code, 'ENOTDIR')
    })

    test('paths are what the package takes for paths', async (t) => {
      const dir = newDir(t)
      const previous = process.cwd()
      process.chdir(dir)
      try {
        assert.equal((await failure(write('file:///there', 'x'))).code, 'ENOENT')
        assert.equal((await failure(write('', 'x'))).code, 'EISDIR')
        assert.equal((await failure(write(`${dir}/a\0b`, 'x'))).code, 'ERR_INVALID_ARG_VALUE')
        for (const nothing of [undefined, null, 1, {}]) assert.equal((await failure(write(nothing, 'x'))).code, 'ERR_INVALID_ARG_TYPE')
        await write('relative', 'x')
        assert.deepEqual(names(dir), ['relative'])
      } finally {
        process.chdir(previous)
      }
    })

    test('of many calls for one file the last one wins', async (t) => {
      const file = newFile(t)
      await Promise.all(Array.from({ length: 50 }, (_, i) => write(file, String(i))))
      assert.equal(fs.readFileSync(file, 'utf8'), '49')
      assert.deepEqual(names(path.dirname(file)), ['file'])
    })
  })
}

describe('on purpose otherwise than the package', { skip: whyNot.unix() }, () => {
  const modes = Object.keys(forms)

  test('all bytes of a wide typed array are written', async () => {
    for (const form of modes) {
      const { package: expected, holdfast: actual } = await both(form, 'no file', () => new Uint16Array([1, 2, 3]), () => undefined)
      assert.deepEqual([expected, actual].map(({ left }) => left[0]?.content), ['\x01\0\x02', '\x01\0\x02\0\x03\0'])
    }
  })

  test('a link that leads to no file yet stays', async (t) => {
    const [their, our] = await Promise.all([theirs, ours].map(async (write) => {
      const dir = newDir(t)
      fs.symlinkSync('target', path.join(dir, 'link'))
      await write(path.join(dir, 'link'), 'text')
      return left(dir).map(({ name, link, content }) => [name, link ?? content])
    }))
    assert.deepEqual(their, [['link', 'text']])
    assert.deepEqual(our, [['link', 'target'], ['target', 'text']])
  })

  test('mode: false is what the manual of the package says: the bits of a new file', async () => {
    for (const form of ['promise', 'callback']) {
      for (const file of ['no file', 'a file']) {
        const { holdfast: actual } = await both(form, file, () => 'text', () => ({ mode: false }))
        assert.deepEqual(actual.left.map(({ mode, content }) => [mode, content]), [[0o640, 'text']])
      }
    }
    // There the package keeps those of the file.
    const { package: expected, holdfast: actual } = await both('sync', 'a file', () => 'text', () => ({ mode: false }))
    assert.deepEqual(actual, expected)
    assert.equal(actual.left[0]?.mode, 0o604)
  })

  test('null are no options, as with sync', async (t) => {
    const file = newFile(t)
    assert.equal((await failure(theirs(file, 'text', null))).name, 'TypeError')
    await ours(file, 'text', null)
    assert.equal(fs.readFileSync(file, 'utf8'), 'text')
  })

  test('the options are not changed', async (t) => {
    const file = newFile(t, 'old')
    const [their, our] = [{}, {}]
    await theirs(file, 'text', their)
    await ours(file, 'text', our)
    assert.notDeepEqual(their, {})
    assert.deepEqual(our, {})
  })

  test('a callback that throws is called once', async (t) => {
    for (const [write, times] of /** @type {[any, number][]} */ ([[theirs, 2], [ours, 1]])) {
      let calls = 0
      const wrong = new Error('of the callback')
      assert.equal(await failure(write(newFile(t), 'text', () => { calls += 1; throw wrong })), wrong)
      assert.equal(calls, times)
    }
  })

  test('a Buffer and a URL are paths, too', async (t) => {
    const file = newFile(t)
    await ours(Buffer.from(file), 'one')
    assert.equal(fs.readFileSync(file, 'utf8'), 'one')
    ours.sync(require('node:url').pathToFileURL(file), 'two')
    assert.equal(fs.readFileSync(file, 'utf8'), 'two')
  })

  test('an error has the fields of Node, begins with the caller, and is caused by ours with its hint', async (t) => {
    const file = path.join(newDir(t), 'missing', 'file')
    for (const error of [await failure(ours(file, '')), await failure(() => ours.sync(file, ''))]) {
      assert.deepEqual({ ...error }, { errno: error.errno, code: 'ENOENT', syscall: 'open', path: path.dirname(file) })
      assert.match(error.stack.split('\n')[1], /__test__/)
      assert.ok(error.cause instanceof holdfast.SessionFileError)
      assert.match(error.cause.hint, /does not exist/)
    }
  })

  test('the defaults of the program are not those of the package', async (t) => {
    const file = newFile(t)
    holdfast.setDefaults({ durability: 'full', newFileMode: 0o600, lock: true })
    t.after(() => holdfast.setDefaults({ durability: undefined, newFileMode: undefined, lock: undefined }))
    await holdfast.withLock(file, () => ours(file, 'text'))
    assert.equal(modeOf(file), 0o640)
  })

  test('a full disk is an error, and the file is as it was', { skip: whyNot.mount() }, async (t) => {
    for (const form of modes) {
      const [their, our] = [tinyDisk(t), tinyDisk(t)]
      for (const dir of [their, our]) fs.writeFileSync(path.join(dir, 'file'), 'old')
      const data = Buffer.alloc(100_000, 'x')
      await forms[form]?.(theirs)(path.join(their, 'file'), data, undefined)
      assert.notEqual(fs.statSync(path.join(their, 'file')).size, data.length, 'the package says that it was written')
      const error = await failure(async () => forms[form]?.(ours)(path.join(our, 'file'), data, undefined))
      assert.deepEqual([error.code, error.syscall], ['ENOSPC', 'write'])
      assert.equal(fs.readFileSync(path.join(our, 'file'), 'utf8'), 'old')
      assert.deepEqual(names(our), ['file'])
    }
  })
})
