'use strict'

// Signals that end the process: nothing of what it was writing is left, and it dies as it would have
// died without holdfast.

const assert = require('node:assert/strict')
const { spawn } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const { describe, test } = require('node:test')
const { names, newDir, root, whyNot } = require('./helpers.js')

const ENDING = /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP'])

/** What a program has in common: it writes 'ready' when it is busy. */
const prelude = `
  const fs = require('node:fs')
  const path = require('node:path')
  const holdfast = require(${JSON.stringify(root)})
  const dir = process.argv[1]
  const ready = () => fs.writeSync(1, 'ready\\n')
  const forever = async (call) => { for (;;) await call().catch(() => {}) }`

/**
 * Runs a program, sends it a signal some time after it is ready, and says how it has ended.
 *
 * @param {import('node:test').TestContext} t
 * @param {string} dir
 * @param {string} program
 * @param {NodeJS.Signals} signal
 * @param {number} [delay] milliseconds
 * @returns {Promise<{ code: number | null, signal: NodeJS.Signals | null, output: string }>}
 */
function endBy(t, dir, program, signal, delay = 0) {
  const child = spawn(process.execPath, ['-e', `${prelude}\n${program}`, dir], { stdio: ['ignore', 'pipe', 'inherit'] })
  t.after(() => child.kill('SIGKILL'))
  let output = ''
  child.stdout.setEncoding('utf8').on('data', (text) => {
    if (output === '') setTimeout(() => child.kill(signal), delay)
    output += text
  })
  return new Promise((resolve, reject) => child.on('error', reject).on('close', (code, by) => resolve({ code, signal: by, output })))
}

/** What is left of temp files and of transactions. @param {string} dir */
const left = (dir) => names(dir).filter((name) => /\.tmp$|\.txn$|\.prepared$|\.intent$/.test(name))

/** Programs that always have something under way. @type {Record<string, string>} */
const programs = {
  'a stream that is open': `
    const stream = holdfast.createAtomicWriteStream(path.join(dir, 'file'))
    stream.write('half', ready)
    setInterval(() => {}, 1000)`,
  'many writes': `
    const data = Buffer.alloc(256 << 10)
    for (let i = 0; i < 40; i++) forever(() => holdfast.atomicWrite(path.join(dir, 'file-' + i % 20), data, { durability: i % 2 ? 'full' : 'none' }))
    setTimeout(ready, 50)`,
  'synchronous writes': `
    const data = Buffer.alloc(4 << 20)
    ready()
    for (;;) holdfast.atomicWriteSync(path.join(dir, 'file'), data, { durability: 'none' })`,
  'updates and backups': `
    fs.writeFileSync(path.join(dir, 'file.json'), JSON.stringify({ text: 'x'.repeat(1 << 20) }))
    for (let i = 0; i < 4; i++) {
      forever(() => holdfast.updateJsonFile(path.join(dir, 'file.json'), (data) => data))
      forever(() => holdfast.createBackup(path.join(dir, 'file.json'), { keep: 2 }))
    }
    setTimeout(ready, 50)`,
}

describe('a signal without a handler leaves no temp file', { skip: whyNot.unix() }, () => {
  for (const signal of ENDING) {
    for (const [name, program] of Object.entries(programs)) {
      test(`${signal}, ${name}`, async (t) => {
        const dir = newDir(t)
        for (let round = 0; round < 2; round++) {
          const ended = await endBy(t, dir, program, signal, round * 13)
          assert.deepEqual({ code: ended.code, signal: ended.signal }, { code: null, signal })
          assert.deepEqual(left(dir), [])
        }
      })
    }
  }

  test('nor does one that has had a handler before', async (t) => {
    const dir = newDir(t)
    const program = `
      const own = () => {}
      process.on('SIGTERM', own)
      const stream = holdfast.createAtomicWriteStream(path.join(dir, 'file'))
      stream.write('half', () => {
        process.on('SIGTERM', own)
        process.off('SIGTERM', own)
        process.off('SIGTERM', own)
        ready()
      })
      setInterval(() => {}, 1000)`
    const ended = await endBy(t, dir, program, 'SIGTERM')
    assert.equal(ended.signal, 'SIGTERM')
    assert.deepEqual(left(dir), [])
  })

  test('a transaction is undone or decided, and what is decided stays for recovery', async (t) => {
    const dir = newDir(t)
    const files = ['a', 'b', 'c', 'd'].map((name) => path.join(dir, name))
    const { recoverFromCrash } = require('..')
    for (const file of files) fs.writeFileSync(file, '0 ')
    let undone = 0
    for (let round = 0; round < 8; round++) {
      const program = `
        const files = ${JSON.stringify(files)}
        let n = 0
        forever(() => {
          const text = (++n + ' ').padEnd(64 << 10, 'x')
          return holdfast.transaction(files, async (tx) => { for (const file of files) await tx.write(file, text) })
        })
        setTimeout(ready, 40)`
      const ended = await endBy(t, dir, program, 'SIGTERM', round * 3)
      assert.equal(ended.signal, 'SIGTERM')
      const hasDecided = names(dir).some((name) => name.endsWith('.intent'))
      if (!hasDecided && left(dir).length === 0) undone++
      await recoverFromCrash(dir)
      const found = new Set(files.map((file) => fs.readFileSync(file, 'utf8').split(' ')[0]))
      assert.equal(found.size, 1, `${[...found]}`)
      assert.deepEqual(left(dir), [])
    }
    assert.ok(undone > 0, 'none was cut off before its decision')
  })
})

describe('a signal with a handler', { skip: whyNot.unix() }, () => {
  test('is the program\'s: nothing is removed while it lives', async (t) => {
    const dir = newDir(t)
    const program = `
      const stream = holdfast.createAtomicWriteStream(path.join(dir, 'file'))
      process.on('SIGTERM', () => stream.end(' and half', () => process.exit(3)))
      stream.write('half', ready)
      setInterval(() => {}, 1000)`
    const ended = await endBy(t, dir, program, 'SIGTERM')
    assert.equal(ended.code, 3)
    assert.equal(fs.readFileSync(path.join(dir, 'file'), 'utf8'), 'half and half')
    assert.deepEqual(names(dir), ['file'])
  })

  test('that is ignored stays ignored', async (t) => {
    const dir = newDir(t)
    const program = `
      process.on('SIGHUP', () => {})
      const stream = holdfast.createAtomicWriteStream(path.join(dir, 'file'))
      stream.write('half', ready)
      setTimeout(() => stream.end(() => process.exit(4)), 300)`
    const ended = await endBy(t, dir, program, 'SIGHUP')
    assert.equal(ended.code, 4)
    assert.deepEqual(names(dir), ['file'])
  })
})

test('an exit in the middle of a long write leaves no temp file', { skip: whyNot.unix() }, async (t) => {
  const dir = newDir(t)
  const program = `
    const data = Buffer.alloc(64 << 20)
    for (let i = 0; i < 8; i++) forever(() => holdfast.atomicWrite(path.join(dir, 'file-' + i), data))
    setTimeout(() => { ready(); process.exit(5) }, 100)`
  const ended = await endBy(t, dir, program, 'SIGUSR2', 60_000)
  assert.equal(ended.code, 5)
  assert.deepEqual(left(dir), [])
})
