'use strict'

// `validate: 'json'`: nothing is written that `JSON.parse` would not take, and everything that
// it would.

const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { describe, test } = require('node:test')
const { pipeline } = require('node:stream/promises')
const { Readable } = require('node:stream')
const { collector, failure, holdfast, names, newDir } = require('./helpers.js')

const { atomicWrite, atomicWriteJson, atomicWriteSync, createAtomicWriteStream, updateJsonFile } = holdfast

/** What `JSON.parse` makes of bytes, if they are text at all. @param {Uint8Array} bytes */
function isJson(bytes) {
  try {
    JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes))
    return true
  } catch {
    return false
  }
}

const GOOD = [
  '{}', '[]', '0', '-0', '1e999', '-1E-999', '1.5e+3', '123456789012345678901234567890', 'true', 'null', '""', ' \t\r\n{ "a" : [ 1 , 2 ] } \n',
  '"\\ud800"', '"\\udc00\\ud800"', '"\\u0000"', '{"a":1,"a":2}', '{"":{"__proto__":1}}', '"\u2028\u2029\u007f"', '"😀é"', '"\\"\\\\\\/\\b\\f\\n\\r\\t"',
  '[[[[[[{"a":[{}]}]]]]]]', '"\ufeff"',
]

const BAD = [
  '{', '[1', '"abc', '[1,]', '{"a":1,}', '{a:1}', "{'a':1}", '01', '-', '1.', '.5', '+1', '1e', '0x10', 'NaN', 'Infinity', 'undefined', 'tru', 'nulll',
  '{} {}', '{}x', '[1 2]', '{"a" 1}', '{"a":}', ',', ']', '}', '[}', '{]', '// c\n1', '"\t"', '"\n"', '"\\x"', '"\\u12"', '"\\u12g4"', '\u00a01', '1\u2028',
  '\ufeff{}', '{}\ufeff', '{"a":1}\0', '[1,,2]', '{"a":1 "b":2}', '{1:2}', '"\\', '--1', '1-', 'True',
]

/** In no encoding: alone, cut off, too long, surrogates, beyond the last character. */
const NOT_UTF8 = ['22ff22', '22c322', '22e282', '22c080 22', '22eda08022', '22f490808022', '228022', '22f09f98 22', '7b7d ff', '22e2828222c3']
  .map((hex) => Buffer.from(hex.replaceAll(' ', ''), 'hex'))

describe("validate: 'json'", () => {
  test('takes what JSON.parse takes and refuses what it refuses', async (t) => {
    const file = path.join(newDir(t), 'file')
    const cases = [...GOOD, ...BAD].map((text) => Buffer.from(text)).concat(NOT_UTF8, Buffer.from([0xff, 0xfe, 0x31, 0]))
    for (const bytes of cases) {
      const expected = isJson(bytes)
      fs.writeFileSync(file, 'old')
      const shown = JSON.stringify(bytes.toString('latin1'))
      for (const write of [
        () => atomicWrite(file, bytes, { validate: 'json' }),
        async () => atomicWriteSync(file, bytes, { validate: 'json' }),
        () => pipeline(Readable.from([bytes.subarray(0, 2), bytes.subarray(2)]), createAtomicWriteStream(file, { validate: 'json' })),
      ]) {
        const outcome = await write().then(() => 'written', (error) => error)
        if (expected) assert.equal(outcome, 'written', shown)
        else assert.equal(outcome.code, 'EBADJSON', `${shown}: ${outcome}`)
        assert.deepEqual(fs.readFileSync(file), expected ? bytes : Buffer.from('old'), shown)
        fs.writeFileSync(file, 'old')
      }
    }
    assert.ok(GOOD.every((text) => isJson(Buffer.from(text))) && !BAD.some((text) => isJson(Buffer.from(text))))
    assert.deepEqual(names(path.dirname(file)), ['file'])
  })

  test('agrees with JSON.parse on texts that are spoilt at random', async (t) => {
    const file = path.join(newDir(t), 'file')
    const text = Buffer.from(JSON.stringify({ a: [1, -2.5e3, 'é😀\n', { b: null, c: true }], 'd e': '', f: [[]] }, null, 1))
    let seed = 7
    const random = (/** @type {number} */ below) => (seed = (seed * 48271) % 2147483647) % below
    const writes = Array.from({ length: 3000 }, async () => {
      const bytes = Buffer.from(text)
      for (let spoilt = random(3); spoilt >= 0; spoilt--) bytes[random(bytes.length)] = random(4) ? /** @type {number} */ (text[random(text.length)]) : random(256)
      const error = await atomicWrite(file, bytes, { validate: 'json', durability: 'none' }).then(() => undefined, (error) => error)
      assert.equal(error === undefined, isJson(bytes), `${error} ${JSON.stringify(bytes.toString('latin1'))}`)
    })
    await Promise.all(writes)
    assert.deepEqual(names(path.dirname(file)), ['file'])
  })

  test('reports where the text stops being JSON', async (t) => {
    const file = path.join(newDir(t), 'file')
    for (const [text, line, column] of /** @type {[string | Buffer, number, number][]} */ ([
      ['{"a":1,\n"b":}', 2, 5],
      ['[1,\n\n  2,\n]', 4, 1],
      ['{}\n{}', 2, 1],
      [Buffer.from('7b2261223a0a22ff227d', 'hex'), 2, 2],
      // What comes first is reported, in one block, too.
      [Buffer.from('[}"\xff"]', 'latin1'), 1, 2],
    ])) {
      const error = await failure(() => atomicWrite(file, text, { validate: 'json' }))
      assert.deepEqual([error.code, error.line, error.column], ['EBADJSON', line, column], `${text}`)
      assert.match(error.message, new RegExp(`^Failed to atomic write at ${file}: EBADJSON: .* at line ${line} column ${column}$`))
      assert.equal(error.operation, 'atomic write')
      assert.equal(error.attempts, 1)
      assert.equal(error.committed, false)
    }
    assert.deepEqual(names(path.dirname(file)), [])
  })

  test('distinguishes an empty text from a wrong one', async (t) => {
    const file = path.join(newDir(t), 'file')
    for (const text of ['', ' ', '\n\t \r']) {
      assert.equal((await failure(() => atomicWrite(file, text, { validate: 'json' }))).code, 'EEMPTYJSON')
      assert.equal((await failure(async () => atomicWriteSync(file, text, { validate: 'json' }))).code, 'EEMPTYJSON')
    }
    assert.equal((await failure(() => atomicWrite(file, ' x', { validate: 'json' }))).code, 'EBADJSON')
    assert.deepEqual(names(path.dirname(file)), [])
  })

  test('is not tried again', async (t) => {
    const file = path.join(newDir(t), 'file')
    const { logger, of } = collector()
    await failure(() => atomicWrite(file, '{', { validate: 'json', retries: 5, retryDelay: 1, logger }))
    assert.equal(of('Starting atomic write').length, 1)
    assert.equal(of('Atomic write failed').length, 1)
    assert.equal(of('Temp file cleaned up').length, 1)
    assert.equal(of('Temp file renamed to target').length, 0)
  })

  test('finds what is wrong across the borders of what is read at once', async (t) => {
    const file = path.join(newDir(t), 'file')
    const block = 64 * 1024
    for (let shift = -4; shift <= 4; shift++) {
      const good = `["${'x'.repeat(block + shift - 2)}😀é"]`
      await atomicWrite(file, good, { validate: 'json', durability: 'none' })
      const bad = Buffer.from(good)
      const at = bad.indexOf('😀') + 2
      bad[at] = 0x20
      const error = await failure(() => atomicWrite(file, bad, { validate: 'json', durability: 'none' }))
      assert.deepEqual([error.code, error.line, error.column], ['EBADJSON', 1, at - 1], `${shift}`)
    }
  })

  test('checks 100 MiB and more levels than any stack has', async (t) => {
    const file = path.join(newDir(t), 'file')
    const deep = Buffer.concat([Buffer.alloc(5e6, '['), Buffer.alloc(5e6, ']')])
    await atomicWrite(file, deep, { validate: 'json', durability: 'none' })
    assert.equal((await failure(() => atomicWrite(file, deep.subarray(1), { validate: 'json', durability: 'none' }))).code, 'EBADJSON')
    const objects = Buffer.from(`${'{"a":'.repeat(1e6)}1${'}'.repeat(1e6)}`)
    await atomicWrite(file, objects, { validate: 'json', durability: 'none' })
    const large = Buffer.alloc(100 * 1024 * 1024, ' ')
    large.write('{"a":"é')
    large.write('"}', large.length - 2)
    large.fill('x', 8, large.length - 2)
    await atomicWrite(file, large, { validate: 'json', durability: 'none' })
    assert.ok(fs.readFileSync(file).equals(large))
    large[99 * 1024 * 1024] = 0xff
    const error = await failure(() => atomicWrite(file, large, { validate: 'json', durability: 'none' }))
    assert.deepEqual([error.code, error.line, error.column], ['EBADJSON', 1, 99 * 1024 * 1024 + 1])
    assert.deepEqual(names(path.dirname(file)), ['file'])
  })

  test('can be cancelled while it looks', async (t) => {
    const file = path.join(newDir(t), 'file')
    const large = Buffer.alloc(64 * 1024 * 1024, ' ')
    large[0] = 0x31
    const controller = new AbortController()
    const logger = { debug() {}, warn() {}, error() {} }
    const writing = atomicWrite(file, large, { validate: 'json', durability: 'none', signal: controller.signal, logger })
    setTimeout(() => controller.abort(), 30)
    // Whether the abort comes in time depends on the machine; both outcomes are valid.
    const error = await writing.then(() => undefined, (error) => error)
    assert.ok(error === undefined || error.name === 'AbortError', `${error}`)
    assert.deepEqual(names(path.dirname(file)), error ? [] : ['file'])
  })

  test('keeps a call from standing for others, or others for it', async (t) => {
    const file = path.join(newDir(t), 'file')
    const outcomes = await Promise.allSettled(
      ['1', '{', '2', '[', '3'].map((text) => atomicWrite(file, text, { validate: 'json', durability: 'none' })),
    )
    assert.deepEqual(outcomes.map(({ status }) => status), ['fulfilled', 'rejected', 'fulfilled', 'rejected', 'fulfilled'])
    assert.equal(fs.readFileSync(file, 'utf8'), '3')
    // A refused synchronous write takes no place in the queue.
    const waiting = Array.from({ length: 20 }, (_, i) => atomicWrite(file, `${i}`))
    assert.throws(() => atomicWriteSync(file, '{', { validate: 'json' }), { code: 'EBADJSON' })
    await Promise.all(waiting)
    assert.equal(fs.readFileSync(file, 'utf8'), '19')
  })

  test('is an option of everything that writes, and of nothing else', async (t) => {
    const file = path.join(newDir(t), 'file')
    await atomicWriteJson(file, { a: '\ud800' }, { validate: 'json' })
    await updateJsonFile(file, (data) => void (data.b = 1), { validate: 'json' })
    assert.deepEqual(JSON.parse(fs.readFileSync(file, 'utf8')), { a: '\ud800', b: 1 })
    for (const call of [
      () => atomicWrite(file, '1', { validate: /** @type {any} */ ('xml') }),
      async () => createAtomicWriteStream(file, { validate: /** @type {any} */ (true) }),
    ]) {
      const error = await failure(call)
      assert.ok(error instanceof TypeError && /"validate"/.test(error.message), `${error}`)
    }
  })
})
