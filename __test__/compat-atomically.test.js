'use strict'

// Two implementations side by side, as in compat-write-file-atomic.test.js: the package `atomically`, and what stands
// in for it here.

const assert = require('node:assert/strict')
const { spawnSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const { Readable } = require('node:stream')
const { after, before, describe, test } = require('node:test')
const { setTimeout: wait } = require('node:timers/promises')
const ours = require('../compat/atomically.js')
const { SessionFileError } = require('..')
const { NOBODY, failure, modeOf, names, newDir, newFile, root, tinyDisk, whyNot } = require('./helpers.js')

/** @type {typeof ours} */
let theirs
let umask = 0
before(async () => {
  theirs = /** @type {any} */ (await import('atomically'))
  umask = process.umask(0o027)
})
after(() => void process.umask(umask))

/** @type {Record<string, (module: any) => (file: string, data: any, options: any) => unknown>} */
const forms = {
  promise: (module) => (file, data, options) => module.writeFile(file, data, options),
  callback: (module) => (file, data, options) => new Promise((resolve, reject) => {
    module.writeFile(file, data, options, (/** @type {unknown[]} */ ...args) => {
      if (args.length !== 1) reject(new assert.AssertionError({ message: `${args.length} arguments` }))
      else if (args[0]) reject(args[0])
      else resolve(undefined)
    })
  }),
  sync: (module) => (file, data, options) => module.writeFileSync(file, data, options),
}

/** What there is before the call: each returns the path to write to. @type {Record<string, (dir: string) => string>} */
const files = {
  'no file': (dir) => path.join(dir, 'file'),
  'a file'(dir) {
    fs.writeFileSync(path.join(dir, 'file'), 'old')
    fs.chmodSync(path.join(dir, 'file'), 0o604)
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
  'no directory': (dir) => path.join(dir, 'missing', 'too', 'file'),
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
  'encoding: null': { encoding: null },
  'fsync: false': { fsync: false },
  'fsync: true': { fsync: true },
  'mode: 0o600': { mode: 0o600 },
  'mode: 0o666, which the umask cuts': { mode: 0o666 },
  'mode: 0o777': { mode: 0o777 },
  'mode: of a stat': { mode: fs.constants.S_IFREG | 0o640 },
  'mode: octal digits': { mode: '640' },
  'mode: octal digits of 0o666': { mode: '666' },
  'mode: false': { mode: false },
  'mode: 0': { mode: 0 },
  'mode: null': { mode: null },
  'chown: me': { chown: me },
  'chown: false': { chown: false },
  'chown: null': { chown: null },
  'timeout: 0': { timeout: 0 },
  'an option of another package': { unknown: 1, flag: 'a' },
}

/** @type {Record<string, any>} */
const contents = {
  'an empty text': '',
  'more text': 'é'.repeat(100_000),
  'a Buffer': Buffer.from('buffer'),
  'no bytes': new Uint8Array(),
  'part of a buffer': new Uint8Array([1, 2, 3, 4]).subarray(1, 3),
  undefined: undefined,
}

/** @param {string} dir @returns {object[]} */
function left(dir) {
  return names(dir).map((name) => {
    const file = path.join(dir, name)
    const { uid, gid } = fs.lstatSync(file)
    const mode = modeOf(file)
    if (fs.lstatSync(file).isSymbolicLink()) return { name, link: path.basename(fs.readlinkSync(file)) }
    if (fs.statSync(file).isDirectory()) return { name, mode, uid, gid, inside: left(file) }
    return { name, mode, uid, gid, content: fs.readFileSync(file, 'latin1') }
  })
}

/** @param {any} module @param {string} form @param {string} file @param {unknown} data @param {any} given */
async function outcome(module, form, file, data, given) {
  const dir = newDir()
  const target = files[file]?.(dir) ?? ''
  /** @type {unknown} */
  let result
  try {
    result = { returned: await forms[form]?.(module)(target, data, given) }
  } catch (error) {
    const { name, code, errno, syscall } = /** @type {any} */ (error)
    result = { name, code, errno, syscall }
  }
  // The package does not wait until its temp file is removed.
  for (let i = 0; i < 500 && names(dir).some((name) => name.includes('.tmp-')); i++) await wait(5)
  return { result, left: left(dir) }
}

test('every call does what the package does: result, error, content, mode, owner, what is left', { skip: whyNot.unix() }, async () => {
  let calls = 0
  for (const form of Object.keys(forms)) {
    for (const file of Object.keys(files)) {
      for (const [name, given] of Object.entries(options)) {
        const [expected, actual] = [await outcome(theirs, form, file, 'c0de', given), await outcome(ours, form, file, 'c0de', given)]
        assert.deepEqual(actual, expected, `${form}, ${file}, ${name}`)
        calls += 1
      }
    }
    for (const [name, data] of Object.entries(contents)) {
      for (const encoding of [undefined, 'base64']) {
        const [expected, actual] = [await outcome(theirs, form, 'a file', data, { encoding }), await outcome(ours, form, 'a file', data, { encoding })]
        assert.deepEqual(actual, expected, `${form}, ${name}, ${encoding}`)
        calls += 1
      }
    }
  }
  assert.ok(calls > 350, `${calls} calls`)
})

for (const name of ['the package', 'holdfast/compat/atomically']) {
  describe(name, { skip: whyNot.unix() }, () => {
    const module = () => (name === 'the package' ? theirs : ours)

    test('exports four functions', () => {
      assert.deepEqual(Object.keys(module()).sort(), ['readFile', 'readFileSync', 'writeFile', 'writeFileSync'])
    })

    test('reads bytes, or text with an encoding', async (t) => {
      const file = newFile(t, 'é')
      const { readFile, readFileSync } = module()
      for (const options of [undefined, {}, { encoding: null }, { timeout: 5 }]) {
        assert.deepEqual(await readFile(file, /** @type {any} */ (options)), Buffer.from('é'))
        assert.deepEqual(readFileSync(file, /** @type {any} */ (options)), Buffer.from('é'))
      }
      for (const options of /** @type {any[]} */ (['utf8', { encoding: 'utf8' }])) {
        assert.equal(await readFile(file, options), 'é')
        assert.equal(readFileSync(file, options), 'é')
      }
      for (const error of [await failure(readFile(`${file}-missing`)), await failure(() => readFileSync(`${file}-missing`))]) {
        assert.deepEqual([error.code, error.errno, error.syscall, error.path], ['ENOENT', -2, 'open', `${file}-missing`])
      }
    })

    test('a callback in the place of the options', async (t) => {
      const file = newFile(t)
      assert.equal(await new Promise((resolve) => void module().writeFile(file, 'text', resolve)), undefined)
      assert.equal(fs.readFileSync(file, 'utf8'), 'text')
    })

    test('a stream is written', async (t) => {
      const file = newFile(t, 'old')
      await module().writeFile(file, Readable.from([Buffer.from('one'), Buffer.from('two')]))
      assert.equal(fs.readFileSync(file, 'utf8'), 'onetwo')
      assert.deepEqual(names(path.dirname(file)), ['file'])
    })

    test('schedule is awaited before the write, and what it returns is called after it, whatever becomes of it', async (t) => {
      const file = newFile(t, 'old')
      /** @type {unknown[]} */
      const told = []
      const schedule = async (/** @type {string} */ filePath) => {
        await new Promise((resolve) => setTimeout(resolve, 10))
        told.push(filePath, fs.readFileSync(file, 'utf8'))
        return () => void told.push(fs.readFileSync(file, 'utf8'))
      }
      await module().writeFile(file, 'new', { schedule })
      assert.equal((await failure(module().writeFile(path.join(file, 'below'), '', { schedule, timeout: 0 }))).code, 'ENOTDIR')
      assert.deepEqual(told, [file, 'old', 'new', path.join(file, 'below'), 'new', 'new'])
      const wrong = new Error('not now')
      assert.equal(await failure(module().writeFile(file, 'newer', { schedule: () => Promise.reject(wrong) })), wrong)
      assert.equal(fs.readFileSync(file, 'utf8'), 'new')
    })

    for (const form of Object.keys(forms)) {
      test(`tmpCreated is told the name of the temp file; what it throws is the error (${form})`, async (t) => {
        const file = newFile(t, 'old')
        /** @type {unknown[]} */
        const told = []
        const tmpCreated = (/** @type {string} */ tempPath) => void told.push(path.dirname(tempPath), fs.readFileSync(tempPath, 'utf8'), fs.readFileSync(file, 'utf8'))
        await forms[form]?.(module())(file, 'new', { tmpCreated })
        assert.deepEqual(told, [path.dirname(file), '', 'old'])
        const wrong = new Error('not now')
        assert.equal(await failure(async () => forms[form]?.(module())(file, 'newer', { tmpCreated() { throw wrong } })), wrong)
        assert.equal(fs.readFileSync(file, 'utf8'), 'new')
      })
    }

    test('of many calls for one file the last one wins', async (t) => {
      const file = newFile(t)
      await Promise.all(Array.from({ length: 50 }, (_, i) => module().writeFile(file, String(i))))
      assert.equal(fs.readFileSync(file, 'utf8'), '49')
      assert.deepEqual(names(path.dirname(file)), ['file'])
    })
  })
}

test('a read is tried again while too many files are open', { skip: whyNot.unix() }, async (t) => {
  const file = newFile(t, 'text')
  const read = t.mock.method(fs.promises, 'readFile')
  const readSync = t.mock.method(fs, 'readFileSync')
  const tooMany = () => { throw Object.assign(new Error('EMFILE: too many open files'), { code: 'EMFILE' }) }
  for (const mocked of [read, readSync]) {
    mocked.mock.mockImplementationOnce(/** @type {any} */ (tooMany), 0)
    mocked.mock.mockImplementationOnce(/** @type {any} */ (tooMany), 1)
  }
  assert.equal(await ours.readFile(file, 'utf8'), 'text')
  assert.equal(ours.readFileSync(file, 'utf8'), 'text')
  assert.deepEqual([read.mock.callCount(), readSync.mock.callCount()], [3, 3])
  read.mock.mockImplementation(/** @type {any} */ (tooMany))
  assert.equal((await failure(ours.readFile(file, { timeout: 30 }))).code, 'EMFILE')
})

describe('on purpose otherwise than the package', { skip: whyNot.unix() }, () => {
  test('all bytes of a wide typed array are written', async () => {
    for (const form of Object.keys(forms)) {
      const data = new Uint16Array([1, 2, 3])
      const [their, our] = [await outcome(theirs, form, 'no file', data, undefined), await outcome(ours, form, 'no file', data, undefined)]
      assert.deepEqual([their, our].map(({ left }) => /** @type {any} */ (left[0]).content), ['\x01\0\x02', '\x01\0\x02\0\x03\0'])
    }
  })

  test('a link that leads to no file yet stays', async (t) => {
    const dir = newDir(t)
    fs.symlinkSync('target', path.join(dir, 'link'))
    await ours.writeFile(path.join(dir, 'link'), 'text')
    assert.deepEqual(names(dir), ['link', 'target'])
    await theirs.writeFile(path.join(newDir(t), 'link'), 'text')
    fs.rmSync(path.join(dir, 'target'))
    await theirs.writeFile(path.join(dir, 'link'), 'text')
    assert.equal(fs.lstatSync(path.join(dir, 'link')).isSymbolicLink(), false)
  })

  test('a stream that fails is an error, and the file is as it was', async (t) => {
    const file = newFile(t, 'old')
    const wrong = new Error('of the stream')
    const error = await failure(ours.writeFile(file, Readable.from((async function* () { yield 'one'; throw wrong })())))
    assert.equal(error, wrong)
    assert.equal(fs.readFileSync(file, 'utf8'), 'old')
    assert.deepEqual(names(path.dirname(file)), ['file'])
  })

  test('a name that is too long is an error, and not the name of another file', async (t) => {
    const dir = newDir(t)
    const name = `${'n'.repeat(300)}.json`
    await theirs.writeFile(path.join(dir, name), 'text')
    assert.equal(names(dir)[0]?.length, 128)
    for (const form of Object.keys(forms)) {
      assert.equal((await failure(async () => forms[form]?.(ours)(path.join(dir, name), 'text', undefined))).code, 'ENAMETOOLONG')
    }
  })

  test('tmpCreate is not called, and a warning says so, once', (t) => {
    const source = `
      const { writeFile, writeFileSync } = require(${JSON.stringify(path.join(root, 'compat/atomically.js'))})
      const tmpCreate = () => { throw new Error('it was called') }
      process.on('warning', ({ code, message }) => console.log(code, message))
      writeFileSync('file', 'text', { tmpCreate })
      writeFile('file', 'text', { tmpCreate })`
    const { stdout, status } = spawnSync(process.execPath, ['--no-warnings', '-e', source], { cwd: newDir(t), encoding: 'utf8', timeout: 60_000 })
    assert.equal(status, 0)
    assert.match(stdout, /^HOLDFAST_TMP_CREATE .*tmpCreate is not called.*\n$/)
  })

  test('an error has the fields of Node, begins with the caller, and is caused by ours with its hint', async (t) => {
    const file = path.join(newFile(t, ''), 'below')
    for (const error of [await failure(ours.writeFile(file, '')), await failure(() => ours.writeFileSync(file, ''))]) {
      assert.deepEqual(Object.keys(error).sort(), ['code', 'errno', 'path', 'syscall'])
      assert.equal(error.code, 'ENOTDIR')
      assert.match(error.stack.split('\n')[1], /__test__/)
      assert.ok(error.cause instanceof SessionFileError)
    }
  })

  test('a full disk is an error, and the file is as it was', { skip: whyNot.mount() }, async (t) => {
    for (const form of Object.keys(forms)) {
      const [their, our] = [tinyDisk(t), tinyDisk(t)]
      for (const dir of [their, our]) fs.writeFileSync(path.join(dir, 'file'), 'old')
      const data = Buffer.alloc(100_000, 'x')
      await forms[form]?.(theirs)(path.join(their, 'file'), data, undefined)
      assert.notEqual(fs.statSync(path.join(their, 'file')).size, data.length, 'the package says that it was written')
      for (const [timeout, attempts] of [[0, 1], [60, 2]]) {
        const error = await failure(async () => forms[form]?.(ours)(path.join(our, 'file'), data, { timeout }))
        assert.deepEqual([error.code, error.syscall, error.cause.attempts], ['ENOSPC', 'write', attempts])
      }
      assert.equal(fs.readFileSync(path.join(our, 'file'), 'utf8'), 'old')
      assert.deepEqual(names(our), ['file'])
    }
  })
})
