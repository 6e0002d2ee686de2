'use strict'

// New files: made only where there is none, and with which permission bits.

const assert = require('node:assert/strict')
const { spawn } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const { finished } = require('node:stream/promises')
const { describe, test } = require('node:test')
const { holdfast, inChild, modeOf, names, newDir, root, whyNot } = require('./helpers.js')

const LEVELS = /** @type {const} */ (['none', 'file', 'full'])

/** @param {import('node:stream').Writable} stream @param {string} text */
async function streamed(stream, text) {
  stream.end(text)
  await finished(stream)
}

/** Every function that can be asked to make a file only. @type {Record<string, (file: string, text: string, options?: object) => unknown>} */
const ways = {
  atomicWrite: (file, text, options) => holdfast.atomicWrite(file, text, { createOnly: true, ...options }),
  'atomicWrite, which can be cancelled': (file, text, options) => holdfast.atomicWrite(file, text, { createOnly: true, signal: new AbortController().signal, ...options }),
  atomicWriteSync: (file, text, options) => holdfast.atomicWriteSync(file, text, { createOnly: true, ...options }),
  atomicWriteJson: (file, text, options) => holdfast.atomicWriteJson(file, JSON.parse(text), { createOnly: true, ...options }),
  createAtomicWriteStream: (file, text, options) => streamed(holdfast.createAtomicWriteStream(file, { createOnly: true, ...options }), text),
  restoreBackup: async (file, text, options) => {
    const source = `${newDir()}/source`
    fs.writeFileSync(source, text)
    await holdfast.restoreBackup(source, file, { createOnly: true, lock: false, ...options })
  },
}

describe('createOnly', () => {
  for (const [name, way] of Object.entries(ways)) {
    for (const durability of LEVELS) {
      test(`${name} with durability '${durability}' makes a file once`, async (t) => {
        const dir = newDir(t)
        const file = path.join(dir, 'file')
        await way(file, '1', { durability })
        const { ino } = fs.statSync(file)
        await assert.rejects(async () => way(file, '2', { durability }), (/** @type {any} */ error) => {
          assert.equal(error.code, 'EEXIST')
          assert.equal(error.syscall, 'open')
          assert.equal(error.committed, false)
          assert.equal(error.attempts, 1)
          assert.match(error.hint, /createOnly/)
          assert.equal(error.cause.path, file)
          return true
        })
        assert.equal(fs.readFileSync(file, 'utf8'), '1')
        assert.equal(fs.statSync(file).ino, ino)
        assert.deepEqual(names(dir), ['file'])
      })
    }

    test(`${name} is told whatever has the name`, { skip: whyNot.unix() }, async (t) => {
      const dir = newDir(t)
      fs.mkdirSync(path.join(dir, 'dir'))
      fs.symlinkSync('nowhere', path.join(dir, 'dangling'))
      for (const [entry, options] of /** @type {[string, object][]} */ ([['dir', {}], ['dangling', { followSymlinks: false }]])) {
        await assert.rejects(async () => way(path.join(dir, entry), '1', options), { code: 'EEXIST' }, entry)
      }
      // The link leads to the file that is to be made.
      await way(path.join(dir, 'dangling'), '1')
      assert.equal(fs.readFileSync(path.join(dir, 'nowhere'), 'utf8'), '1')
      assert.deepEqual(names(dir), ['dangling', 'dir', 'nowhere'])
    })
  }

  test('comes after the writes that were called before it, and before those called after it', async (t) => {
    const file = path.join(newDir(t), 'file')
    const settled = await Promise.allSettled([
      holdfast.atomicWrite(file, 'first'),
      holdfast.atomicWrite(file, 'second', { createOnly: true }),
      holdfast.atomicWrite(file, 'third', { createOnly: true }),
      holdfast.atomicWrite(file, 'fourth'),
    ])
    assert.deepEqual(settled.map((each) => (each.status === 'rejected' ? each.reason.code : 'made')), ['made', 'EEXIST', 'EEXIST', 'made'])
    assert.equal(fs.readFileSync(file, 'utf8'), 'fourth')
  })

  test('of many calls at once for one file one makes it, and the others are told', async (t) => {
    const file = path.join(newDir(t), 'file')
    const settled = await Promise.allSettled(Array.from({ length: 50 }, (_, i) => holdfast.atomicWrite(file, String(i), { createOnly: true })))
    assert.deepEqual(settled.map(({ status }) => status), ['fulfilled', ...Array.from({ length: 49 }, () => 'rejected')])
    assert.equal(fs.readFileSync(file, 'utf8'), '0')
  })

  test('many files at once, which share their syncs', async (t) => {
    const dir = newDir(t)
    for (const expected of ['fulfilled', 'rejected']) {
      const settled = await Promise.allSettled(Array.from({ length: 300 }, (_, i) => holdfast.atomicWrite(path.join(dir, `file-${i}`), expected, { createOnly: true })))
      assert.ok(settled.every(({ status }) => status === expected))
    }
    assert.equal(names(dir).length, 300)
    for (const name of names(dir)) assert.equal(fs.readFileSync(path.join(dir, name), 'utf8'), 'fulfilled')
  })

  test('a synchronous call waits for the writes before it', async (t) => {
    const file = path.join(newDir(t), 'file')
    const first = holdfast.atomicWrite(file, 'first')
    assert.throws(() => holdfast.atomicWriteSync(file, 'second', { createOnly: true }), { code: 'EEXIST' })
    await first
    assert.equal(fs.readFileSync(file, 'utf8'), 'first')
  })

  test('a synchronous write does not stand for one that waits', async (t) => {
    const file = path.join(newDir(t), 'file')
    const made = holdfast.atomicWrite(file, 'first')
    const refused = holdfast.atomicWrite(file, 'second', { createOnly: true })
    holdfast.atomicWriteSync(file, 'third')
    await made
    await assert.rejects(refused, { code: 'EEXIST' })
    assert.equal(fs.readFileSync(file, 'utf8'), 'third')
  })

  test('of several processes one makes each file', async (t) => {
    const dir = newDir(t)
    const program = `
      const { atomicWrite } = require(${JSON.stringify(root)})
      const run = async () => {
        const made = []
        for (let i = 0; i < 100; i++) {
          await atomicWrite(${JSON.stringify(dir)} + '/' + i, String(process.pid), { createOnly: true, durability: 'none' }).then(() => made.push(i), (error) => {
            if (error.code !== 'EEXIST') throw error
          })
        }
        console.log(JSON.stringify(made))
      }
      process.stdin.once('data', () => {
        process.stdin.destroy()
        run()
      })
      console.log('ready')`
    const children = Array.from({ length: 4 }, () => spawn(process.execPath, ['-e', program], { stdio: ['pipe', 'pipe', 'inherit'] }))
    t.after(() => children.forEach((child) => child.kill('SIGKILL')))
    const outputs = children.map(async (child) => {
      let text = ''
      for await (const part of child.stdout) {
        text += part
        if (text === 'ready\n') child.stdin.write('go')
      }
      return { pid: child.pid, made: JSON.parse(text.split('\n')[1] ?? '') }
    })
    const all = await Promise.all(outputs)
    assert.deepEqual(all.flatMap(({ made }) => made).sort((a, b) => a - b), Array.from({ length: 100 }, (_, i) => i))
    for (const { pid, made } of all) for (const i of made) assert.equal(fs.readFileSync(path.join(dir, String(i)), 'utf8'), String(pid))
    assert.equal(names(dir).length, 100)
  })

  test('a stream is told when it is opened, or when it ends', async (t) => {
    const dir = newDir(t)
    const file = path.join(dir, 'file')
    const stream = holdfast.createAtomicWriteStream(file, { createOnly: true })
    await new Promise((resolve) => stream.write('mine', resolve))
    fs.writeFileSync(file, 'theirs')
    await assert.rejects(streamed(stream, ''), { code: 'EEXIST' })
    const late = holdfast.createAtomicWriteStream(file, { createOnly: true })
    await assert.rejects(new Promise((_, reject) => late.once('error', reject)), { code: 'EEXIST' })
    assert.equal(fs.readFileSync(file, 'utf8'), 'theirs')
    assert.deepEqual(names(dir), ['file'])
  })

  test('in a transaction', async (t) => {
    const dir = newDir(t)
    const [a, b] = [path.join(dir, 'a'), path.join(dir, 'b')]
    fs.writeFileSync(a, 'old')
    await holdfast.transaction([a, b], async (tx) => {
      await assert.rejects(tx.write(a, 'new', { createOnly: true }), { code: 'EEXIST', hint: /createOnly/ })
      await tx.write(b, 'made', { createOnly: true })
      await assert.rejects(tx.write(b, 'again', { createOnly: true }), { code: 'EEXIST' })
    })
    assert.deepEqual([fs.readFileSync(a, 'utf8'), fs.readFileSync(b, 'utf8')], ['old', 'made'])
    // What the transaction has removed can be made.
    await holdfast.transaction([a], async (tx) => {
      await tx.remove(a)
      await tx.write(a, 'anew', { createOnly: true })
    })
    assert.equal(fs.readFileSync(a, 'utf8'), 'anew')
    // A program without a lock comes between.
    fs.unlinkSync(b)
    await assert.rejects(holdfast.transaction([b, a], async (tx) => {
      await tx.write(b, 'mine', { createOnly: true })
      await tx.write(a, 'never')
      fs.writeFileSync(b, 'theirs')
    }), { code: 'EEXIST', committed: false })
    assert.deepEqual([fs.readFileSync(a, 'utf8'), fs.readFileSync(b, 'utf8')], ['anew', 'theirs'])
    assert.deepEqual(names(dir).filter((name) => !name.endsWith('.lock')), ['a', 'b'])
  })

  test('is refused where it has no meaning, and must be a boolean', async (t) => {
    const file = path.join(newDir(t), 'file')
    await assert.rejects(holdfast.updateJsonFile(file, () => {}, /** @type {any} */ ({ createOnly: true, defaultValue: {} })), { code: 'ERR_INVALID_ARG_VALUE', message: /createOnly/ })
    await assert.rejects(holdfast.atomicWrite(file, 'new', /** @type {any} */ ({ createOnly: 1 })), { code: 'ERR_INVALID_ARG_TYPE', message: /"createOnly" option/ })
    assert.equal(fs.existsSync(file), false)
  })
})

describe('newFileMode', { skip: whyNot.unix() }, () => {
  /** @type {Record<string, string>} */
  const calls = {
    atomicWrite: "await holdfast.atomicWrite(file, '{}', options)",
    atomicWriteSync: "holdfast.atomicWriteSync(file, '{}', options)",
    atomicWriteJson: 'await holdfast.atomicWriteJson(file, {}, options)',
    updateJsonFile: 'await holdfast.updateJsonFile(file, () => {}, { ...options, defaultValue: {} })',
    createAtomicWriteStream: "await new Promise((resolve, reject) => holdfast.createAtomicWriteStream(file, options).on('error', reject).end('{}', resolve))",
    transaction: "await holdfast.transaction([file], (tx) => tx.write(file, '{}'), options)",
  }
  for (const [name, call] of Object.entries(calls)) {
    test(`is that of a new file less the umask, and not of one that is there: ${name}`, async (t) => {
      const dir = newDir(t)
      const old = path.join(dir, 'old')
      fs.writeFileSync(old, '{}')
      fs.chmodSync(old, 0o640)
      await inChild(new Function(`return async ({ dir }, { holdfast, path }) => {
        const write = async (file, options) => { ${call} }
        process.umask(0o002)
        await write(path.join(dir, 'shared'), { newFileMode: 0o664 })
        await write(path.join(dir, 'all'), { newFileMode: 0o777 })
        await write(path.join(dir, 'private'), { newFileMode: 0o600 })
        await write(path.join(dir, 'exact'), { newFileMode: 0o600, mode: 0o666 })
        await write(path.join(dir, 'default'), {})
        await write(path.join(dir, 'old'), { newFileMode: 0o664 })
      }`)(), { dir })
      /** @type {Record<string, number>} */
      const expected = { shared: 0o664, all: 0o775, private: 0o600, exact: 0o666, default: 0o644, old: 0o640 }
      for (const [file, mode] of Object.entries(expected)) assert.equal(modeOf(path.join(dir, file)).toString(8), mode.toString(8), file)
    })
  }

  test('must be permission bits', async (t) => {
    const file = path.join(newDir(t), 'file')
    for (const newFileMode of [-1, 0o1000, 0o4755, 1.5]) {
      await assert.rejects(holdfast.atomicWrite(file, 'new', { newFileMode }), { code: 'ERR_OUT_OF_RANGE', message: /"newFileMode" option/ })
    }
    await assert.rejects(holdfast.restoreBackup(file, file, /** @type {any} */ ({ newFileMode: 0o600 })), { code: 'ERR_INVALID_ARG_VALUE' })
  })
})
