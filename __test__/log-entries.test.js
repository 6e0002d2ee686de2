'use strict'

// docs/logging.md has every entry that the code makes, and entries about errors carry them.

const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { describe, test } = require('node:test')
const { collector, failure, fullDisk, holdfast, inChild, newDir, newFile, root, whyNot } = require('./helpers.js')

const { atomicWrite, createBackup, openWal, setLogger, updateJsonFile } = holdfast

/** All files of the library. @param {string} dir @returns {string[]} */
function sources(dir) {
  return fs.readdirSync(dir, { withFileTypes: true }).flatMap((entry) => {
    const file = path.join(dir, entry.name)
    if (entry.isDirectory()) return sources(file)
    return entry.name.endsWith('.js') && entry.name !== 'binding.js' ? [file] : []
  })
}

/** From an opening bracket to the one that closes it. @param {string} text @param {number} open */
function bracketed(text, open) {
  let depth = 0
  for (let i = open; i < text.length; i++) {
    if ('([{'.includes(text[i] ?? '')) depth++
    if (')]}'.includes(text[i] ?? '') && --depth === 0) return text.slice(open + 1, i)
  }
  return assert.fail('a bracket is not closed')
}

/** The messages in a piece of code: texts that begin with a capital letter and have several words. @param {string} code */
const messagesIn = (code) => Array.from(code.matchAll(/'((?:[^'\\]|\\.)+)'|"([^"]+)"/g), ([, text, other = '']) => text ?? other).filter((text) => /^[A-Z][a-z]* /.test(text))

/** Every entry that the code makes. */
function entriesOfCode() {
  /** @type {Map<string, Set<string>>} */
  const entries = new Map()
  /** @type {Set<string>} */
  const operations = new Set()
  let calls = 0
  for (const file of sources(path.join(root, 'lib'))) {
    // The command line is a user of the library: it writes to a terminal, and has no entries.
    if (file.includes(`${path.sep}cli${path.sep}`)) continue
    const code = fs.readFileSync(file, 'utf8')
    for (const found of code.matchAll(/\blog(?:ger)?\b(?:\([^()]*\))?\??(?:\.(debug|warn|error)|\[([^\]]*\?[^\]]*)\])\(|\bsafeLogger\([^()]*\)\?\.(debug|warn|error)\(|\bprotect\([^()]*\)\.(debug|warn|error)\(/g)) {
      calls++
      const levels = found[2] ? Array.from(found[2].matchAll(/'(debug|warn|error)'/g), ([, level = '']) => level) : [found[1] ?? found[3] ?? found[4] ?? '']
      const args = bracketed(code, found.index + found[0].length - 1)
      const last = args.slice(args.lastIndexOf('}') + 1)
      let messages = messagesIn(last)
      if (messages.length === 0) {
        // A name: of a constant with all messages, or of the one that was chosen.
        const [, name] = /,\s*(\w+)(?:\[\w+\])?,?\s*$/.exec(last) ?? assert.fail(`${file}: which message is this? ${args}`)
        const [, value = ''] = new RegExp(`const ${name} = ([^]*?)\n(?:\n|    )`).exec(code) ?? []
        messages = messagesIn(value)
      }
      if (/rrorCode/.test(args)) assert.match(args, /\berr\b|withError\(/, `${file}: an entry about an error without it: ${args}`)
      assert.ok(messages.length > 0, `${file}: which message is this? ${args}`)
      for (const message of messages) for (const level of levels) entries.set(message, (entries.get(message) ?? new Set()).add(level))
    }
    // Those of traces in these files are the same.
    if (/\.(debug|warn|error)\(/.test(code)) for (const [, operation = ''] of code.matchAll(/operation: '([^']+)'/g)) operations.add(operation)
    const all = code.match(/\.(debug|warn|error)\(/g)?.length ?? 0
    const seen = code.match(/(?:logger|log|\))\??\.(debug|warn|error)\(/g)?.length ?? 0
    assert.equal(seen, all, `${file} logs in a way that this test does not know`)
  }
  assert.ok(calls >= 15, `only ${calls} calls were found`)
  return { entries, operations }
}

test('docs/logging.md has every entry, with its levels, and no other', () => {
  const text = fs.readFileSync(path.join(root, 'docs', 'logging.md'), 'utf8')
  const documented = Array.from(text.matchAll(/^\| ((?:debug|warn|error)(?:, (?:debug|warn|error))*) \| ([^|]+) \| ([^|]*) \|/gm), ([, levels = '', message = '']) => `${message}: ${levels}`)
  const made = Array.from(entriesOfCode().entries, ([message, levels]) => `${message}: ${['debug', 'warn', 'error'].filter((level) => levels.has(level)).join(', ')}`)
  assert.deepEqual(made.sort(), documented.sort())
})

test('the operations of entries are those of errors, but for the steps of a write', () => {
  const { operations } = entriesOfCode()
  // What `error.operation` may be: the names of the native side.
  const names = new Set(Array.from(fs.readFileSync(path.join(root, 'src', 'error', 'mod.rs'), 'utf8').matchAll(/Operation::\w+ => "([^"]+)"/g), ([, name]) => name))
  const steps = ['atomicWrite', 'cleanup', 'rename', 'writeFile']
  assert.deepEqual(Array.from(operations).filter((name) => !names.has(name)).sort(), steps)
  const text = fs.readFileSync(path.join(root, 'docs', 'logging.md'), 'utf8')
  for (const name of ['lock', 'open wal', 'recover', 'transaction', 'wal flush', ...steps]) {
    assert.ok(operations.has(name), name)
    assert.ok(text.includes(`'${name}'`), `docs/logging.md does not name the operation ${name}`)
  }
})

describe('levels and errors', () => {
  test('what the caller is told by a rejection is debug, with the error', { skip: whyNot.unix() }, async (t) => {
    const file = newFile(t)
    fs.mkdirSync(`${file}.dir`)
    const { logger, entries } = collector()
    for (const call of [
      () => atomicWrite(path.join(file, 'no'), 'new', { logger }), () => atomicWrite(`${file}.dir`, 'new', { logger }), () => updateJsonFile(file, () => {}, { logger }),
      () => createBackup(file, { logger }),
    ]) {
      const error = await failure(call)
      const failed = entries.filter(({ message }) => message === 'Atomic write failed')
      for (const { fields } of failed) {
        assert.ok(fields.err instanceof Error)
        assert.deepEqual([fields.err.code, fields.err.message], [error.code, error.cause.message])
        assert.ok(!Object.keys(fields).includes('err'), 'what is printed is as it was')
      }
      assert.deepEqual(entries.splice(0).filter(({ level }) => level !== 'debug'), [])
    }
  })

  test('retries warn, with the error', { skip: whyNot.mount() }, async (t) => {
    const { logger, entries } = collector()
    await failure(() => atomicWrite(path.join(fullDisk(t).dir, 'file'), Buffer.alloc(1 << 20), { logger, retryDelay: 0, retries: 2 }))
    const loud = entries.filter(({ level }) => level !== 'debug')
    assert.deepEqual(loud.map(({ level, message, fields }) => [level, message, fields.err.code]), [['warn', 'Retrying atomic write', 'ENOSPC']])
  })

  test('retries of a write with onTempFile, too', { skip: whyNot.mount() }, async (t) => {
    const { logger, entries } = collector()
    const options = { logger, retryDelay: 0, retries: 2, onTempFile() {} }
    const { dir } = fullDisk(t)
    const error = await failure(() => atomicWrite(path.join(dir, 'file'), Buffer.alloc(1 << 20), options))
    const retries = entries.filter(({ message }) => message === 'Retrying atomic write')
    assert.deepEqual(retries.map(({ level, fields }) => [level, fields.err.code, fields.err.message]), [['warn', 'ENOSPC', error.cause.message]])
    assert.deepEqual(entries.filter(({ level }) => level === 'error'), [])
  })

  test('a disk that fails is an error, and a temp file that stays a warning, each with its error', { skip: whyNot.strace() }, async (t) => {
    const file = newFile(t)
    const command = ['strace', '-f', '-qq', '-o', '/dev/null', '-e', 'trace=fsync,unlinkat', '-e', 'inject=fsync:error=EIO', '-e', 'inject=unlinkat:error=EPERM']
    const loud = await inChild(async ({ file }, { holdfast, outcome }) => {
      const entries = []
      const add = (level) => (fields, message) => entries.push([level, message, fields.err.code, fields.err.message])
      await outcome(() => holdfast.atomicWrite(file, 'new', { logger: { debug() {}, warn: add('warn'), error: add('error') }, retries: 1 }))
      return entries
    }, { file }, { command })
    assert.deepEqual(loud, [
      ['error', 'Atomic write failed', 'EIO', 'EIO: i/o error, fsync'],
      ['warn', 'Failed to clean up temp file', 'EPERM', 'EPERM'],
    ])
  })

  test('a file that cannot be recovered is an error, with the error of the report', { skip: whyNot.root() }, async (t) => {
    const dir = newDir(t)
    const temp = path.join(dir, '.a.json.0123456789abcdef.tmp')
    fs.writeFileSync(temp, '{}', { mode: 0 })
    // So old that its writer is dead for certain.
    fs.utimesSync(temp, 0, 0)
    fs.chmodSync(dir, 0o777)
    const entries = await inChild(async ({ dir }, { holdfast }) => {
      const entries = []
      const add = (level) => (fields, message) => entries.push([level, message, fields])
      const { actions } = await holdfast.recoverFromCrash(dir, { logger: { debug: add('debug'), warn: add('warn'), error: add('error') } })
      return entries.map(([level, message, { path, err, errorCode, operation }]) => [level, message, path, errorCode, operation, actions.some(({ error }) => error === err)])
    }, { dir }, { user: { uid: 65534, gid: 65534 } })
    assert.deepEqual(entries, [['error', 'Recovery failed', temp, 'EACCES', 'recover', true]])
  })

  test('a background flush that fails is an error, with what was thrown and the operation of errors', async (t) => {
    const { logger, entries } = collector()
    const mine = new Error('mine')
    const wal = await openWal(path.join(newDir(t), 'log'), { logger, flushThreshold: 1, onFlush() { throw mine } })
    await wal.append('a', [{ id: 'a', op: 'insert', payload: 'b' }])
    while (!entries.some(({ message }) => message === 'Background flush failed')) await new Promise(setImmediate)
    await wal.close().catch(() => {})
    const { level, fields } = entries.find(({ message }) => message === 'Background flush failed') ?? assert.fail()
    assert.deepEqual([level, fields.operation, fields.err], ['error', 'wal flush', mine])
  })
  setLogger(null)
})
