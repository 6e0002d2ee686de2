'use strict'

const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { describe, test } = require('node:test')
const { failure, holdfast, names, newDir } = require('./helpers.js')

const { atomicWrite, atomicWriteJson, atomicWriteSync } = holdfast

/** Up to 1 MiB is copied at the call, more is not: sizes for both, and at the bounds. */
const SIZES = [0, 1, 7, 4096, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3_000_001]

/** Bytes that repeat with no power of two, so that none that is lost or moved goes unseen. @param {number} length */
function pattern(length) {
  return Buffer.alloc(length, BLOCK)
}
const BLOCK = Buffer.from(Array.from({ length: 251 }, (_, i) => i))

/** @param {string} file @param {Uint8Array} expected */
function assertBytes(file, expected, about = '') {
  const found = fs.readFileSync(file)
  // A failed deepEqual of megabytes would print them.
  if (found.equals(expected)) return
  assert.equal(found.length, expected.length, `length ${about}`)
  if (found.length < 200) assert.deepEqual(found, Buffer.from(expected), about)
  assert.fail(`other bytes from ${found.findIndex((byte, i) => byte !== expected[i])} on ${about}`)
}

const strings = {
  empty: '',
  plain: 'plain text\r\nwith lines\n',
  'a lone high surrogate': '\ud800',
  'a lone low surrogate': 'a\udc00b',
  'surrogates the wrong way round': 'x\udfff\ud800y',
  'a pair cut by the end': '😀😀'.slice(0, 3),
  'astral characters': '😀𝒳 👩‍👩‍👧‍👦 𐀀\u{10ffff}',
  'NUL characters': '\0a\0\0b\0',
  'a byte order mark': '\ufeffmarked',
  'a byte order mark inside': 'un\ufeffmarked\ufffe\uffff',
  'every Latin-1 character': Array.from({ length: 256 }, (_, code) => String.fromCharCode(code)).join(''),
  'every two-byte unit in steps': Array.from({ length: 4096 }, (_, i) => String.fromCharCode(i * 16 + 7)).join(''),
  'combining marks': 'e\u0301 \u0061\u0308 ﷽ \u202etxet',
  'hex of odd length': 'abc',
  'hex with a stranger in it': 'abxy12',
  'hex in capitals': 'DEADbeef00',
  'hex that starts wrong': '0g12',
  'base64 with garbage': 'aGVs bG8=\n!!d29y*bGQ=',
  'base64 without padding': 'aGVsbG8',
  'base64 with padding inside': 'aGVs=bG8=',
  'base64 of odd length': 'aGVsb',
  base64url: '-_-_AAEC_w',
  'a string of one-byte units over 1 MiB': 'latin é '.repeat(200_000),
  'a string of two-byte units over 1 MiB': '漢字😀\ud800'.repeat(200_000),
}

const encodings = [
  undefined, 'utf8', 'utf-8', 'UTF-8', 'UTF8', 'utf16le', 'UTF-16LE', 'ucs2', 'ucs-2', 'UCS-2', 'latin1', 'binary', 'BINARY', 'ascii', 'hex', 'HEX',
  'base64', 'base64url', 'BASE64URL',
]

for (const [name, write] of Object.entries({ atomicWrite, atomicWriteSync })) {
  describe(name, () => {
    for (const [kind, text] of Object.entries(strings)) {
      test(`writes ${kind} in every encoding as fs.writeFileSync does`, async (t) => {
        const dir = newDir(t)
        for (const encoding of encodings) {
          await write(path.join(dir, 'ours'), text, { encoding, durability: 'none' })
          fs.writeFileSync(path.join(dir, 'theirs'), text, { encoding })
          assertBytes(path.join(dir, 'ours'), fs.readFileSync(path.join(dir, 'theirs')), `in ${encoding}`)
        }
      })
    }

    test('encodes a string as UTF-8 without options', async (t) => {
      const file = path.join(newDir(t), 'file')
      await write(file, 'é\ud800😀\0')
      assertBytes(file, Buffer.from('c3a9efbfbdf09f988000', 'hex'))
    })

    test('gives the encoding no meaning for bytes', async (t) => {
      const file = path.join(newDir(t), 'file')
      for (const encoding of ['hex', 'utf16le', 'base64']) {
        await write(file, Buffer.from('ab12'), { encoding })
        assertBytes(file, Buffer.from('ab12'))
      }
    })

    const arrays = [
      Int8Array, Uint8Array, Uint8ClampedArray, Int16Array, Uint16Array, Int32Array, Uint32Array, Float32Array, Float64Array, BigInt64Array, BigUint64Array,
      ...('Float16Array' in globalThis ? [globalThis.Float16Array] : []),
    ]
    for (const View of arrays) {
      test(`writes a ${View.name} with an offset, and no byte beside it`, async (t) => {
        const dir = newDir(t)
        for (const size of SIZES) {
          const unit = View.BYTES_PER_ELEMENT
          const length = Math.ceil(size / unit)
          const bytes = pattern((length + 5) * unit)
          const view = new View(bytes.buffer, 3 * unit, length)
          await write(path.join(dir, 'file'), view, { durability: 'none' })
          assertBytes(path.join(dir, 'file'), bytes.subarray(3 * unit, (3 + length) * unit), `of ${size}`)
        }
      })
    }

    test('writes a DataView at any offset, and no byte beside it', async (t) => {
      const dir = newDir(t)
      for (const size of SIZES) {
        for (const offset of [0, 1, 13]) {
          const bytes = pattern(size + 29)
          await write(path.join(dir, 'file'), new DataView(bytes.buffer, offset, size), { durability: 'none' })
          assertBytes(path.join(dir, 'file'), bytes.subarray(offset, offset + size), `of ${size} at ${offset}`)
        }
      }
    })

    test('writes Buffers from the pool, slices of slices, and subclasses', async (t) => {
      const file = path.join(newDir(t), 'file')
      const pooled = Array.from({ length: 50 }, (_, i) => Buffer.from(`pooled ${i}`))
      assert.ok(pooled.some((buffer) => buffer.byteOffset > 0), 'none of them is from the pool')
      for (const [i, buffer] of pooled.entries()) {
        await write(file, buffer, { durability: 'none' })
        assertBytes(file, Buffer.from(`pooled ${i}`))
      }
      const bytes = pattern(3 << 20)
      await write(file, bytes.subarray(5).subarray(7, 2 << 20))
      assertBytes(file, pattern(3 << 20).subarray(12, 5 + (2 << 20)))
      class Bytes extends Uint8Array {}
      await write(file, new Bytes([1, 2, 3]))
      assertBytes(file, Buffer.from([1, 2, 3]))
    })

    test('writes views of shared memory', async (t) => {
      const dir = newDir(t)
      for (const size of SIZES) {
        const shared = new SharedArrayBuffer(size + 24)
        const bytes = pattern(size + 24)
        new Uint8Array(shared).set(bytes)
        for (const [View, unit] of /** @type {const} */ ([[Uint8Array, 1], [Float64Array, 8], [DataView, 1]])) {
          const length = Math.floor(size / unit)
          await write(path.join(dir, 'file'), new View(shared, 8, length), { durability: 'none' })
          assertBytes(path.join(dir, 'file'), bytes.subarray(8, 8 + length * unit), `${View.name} of ${size}`)
        }
        await write(path.join(dir, 'file'), Buffer.from(shared, 3, size), { durability: 'none' })
        assertBytes(path.join(dir, 'file'), bytes.subarray(3, 3 + size), `Buffer of ${size}`)
      }
    })

    test('writes views of memory that has been resized, as long as they are now', async (t) => {
      const file = path.join(newDir(t), 'file')
      for (const size of [10, 3 << 20]) {
        const memory = new ArrayBuffer(size, { maxByteLength: 2 * size })
        const tracking = new Uint8Array(memory, 4)
        const fixed = new DataView(memory, 2, 5)
        new Uint8Array(memory).set(pattern(size))
        await write(file, tracking)
        assertBytes(file, pattern(size).subarray(4), 'at first')
        memory.resize(2 * size)
        await write(file, tracking)
        assertBytes(file, Buffer.concat([pattern(size).subarray(4), Buffer.alloc(size)]), 'grown')
        memory.resize(8)
        await write(file, tracking)
        assertBytes(file, pattern(8).subarray(4), 'shrunk')
        await write(file, fixed)
        assertBytes(file, pattern(7).subarray(2), 'of fixed length')
        memory.resize(4)
        await write(file, tracking)
        assertBytes(file, Buffer.alloc(0), 'nothing left')
      }
    })

    test('writes views of shared memory that has grown', async (t) => {
      const file = path.join(newDir(t), 'file')
      const memory = new SharedArrayBuffer(8, { maxByteLength: 64 })
      const view = new Uint8Array(memory)
      memory.grow(64)
      view.set(pattern(64))
      await write(file, view)
      assertBytes(file, pattern(64))
    })

    for (const View of [Uint8Array, DataView, Float64Array]) {
      test(`refuses a ${View.name} that its memory has become too short for`, async (t) => {
        const dir = newDir(t)
        const file = path.join(dir, 'file')
        fs.writeFileSync(file, 'old')
        const memory = new ArrayBuffer(64, { maxByteLength: 64 })
        const view = new View(memory, 32, 4)
        memory.resize(16)
        const error = await failure(() => write(file, view))
        assert.ok(error instanceof TypeError, String(error))
        assert.match(error.code, /^ERR_/)
        assert.match(error.message, /"data"/)
        assert.equal(fs.readFileSync(file, 'utf8'), 'old')
        assert.deepEqual(names(dir), ['file'])
      })
    }

    test('writes no bytes, over an existing file too', async (t) => {
      const dir = newDir(t)
      const memory = new ArrayBuffer(16)
      const empty = ['', Buffer.alloc(0), new Uint8Array(0), new Float64Array(0), new DataView(new ArrayBuffer(0)), new Uint8Array(memory, 16), new DataView(memory, 16, 0), new Uint8Array(new SharedArrayBuffer(0))]
      for (const [i, data] of empty.entries()) {
        const file = path.join(dir, `${i}`)
        await write(file, data)
        assertBytes(file, Buffer.alloc(0), `new, ${i}`)
        fs.writeFileSync(file, 'old')
        await write(file, data)
        assertBytes(file, Buffer.alloc(0), `over, ${i}`)
      }
    })

    test('writes 64 MiB', async (t) => {
      const dir = newDir(t)
      const bytes = pattern((64 << 20) + 13)
      await write(path.join(dir, 'file'), bytes.subarray(13))
      assertBytes(path.join(dir, 'file'), bytes.subarray(13))
      assert.deepEqual(names(dir), ['file'])
    })

    test('replaces long content with short and short with long', async (t) => {
      const file = path.join(newDir(t), 'file')
      for (const size of [3_000_000, 5, 100_000, 0, 2_000_000, 1]) {
        await write(file, pattern(size))
        assertBytes(file, pattern(size))
      }
    })
  })
}

test('takes the options as they are at the call', async (t) => {
  const dir = newDir(t)
  const options = { encoding: 'hex', durability: 'none', mode: 0o600 }
  const done = atomicWrite(path.join(dir, 'file'), 'c3a9', options)
  Object.assign(options, { encoding: 'utf8', mode: 0o666, misspelt: true })
  await done
  assertBytes(path.join(dir, 'file'), Buffer.from('é'))
})

test('many writes at once each write their own bytes', async (t) => {
  const dir = newDir(t)
  const sizes = Array.from({ length: 200 }, (_, i) => (i * 7919) % 40_000 + (i % 20 === 0 ? 1_500_000 : 0))
  await Promise.all(sizes.map((size, i) => atomicWrite(path.join(dir, `${i}`), pattern(size), { durability: 'none' })))
  for (const [i, size] of sizes.entries()) assertBytes(path.join(dir, `${i}`), pattern(size), `${i}`)
  assert.equal(names(dir).length, sizes.length)
})

describe('atomicWriteJson', () => {
  const values = [
    null, true, 0, -0, 1.5e300, NaN, '', 'text', '\ud800 \0 \u2028 é 😀', [], {}, [undefined, () => {}, Symbol('s')], { a: undefined, b: () => {} },
    { nested: [{ deep: [[[{}]]] }], 'key with "quotes"': '\\' }, new Date(0), new Map([[1, 2]]), new Boolean(false), Object(1), [, 1],
    JSON.parse('{"__proto__": 1, "constructor": 2}'), { toJSON: () => 'from toJSON' }, { a: { toJSON: (key) => `at ${key}` } },
    Array.from({ length: 200_000 }, (_, i) => ({ i, text: `item ${i} é` })),
  ]

  test('writes what JSON.stringify gives, in UTF-8, with every indent', async (t) => {
    const file = path.join(newDir(t), 'file')
    for (const value of values) {
      for (const indent of [undefined, 0, 2, 10, '', '\t', ' \t\n\r']) {
        await atomicWriteJson(file, value, { indent, durability: 'none' })
        assertBytes(file, Buffer.from(JSON.stringify(value, null, indent)), `with ${JSON.stringify(indent)}`)
      }
    }
    await atomicWriteJson(file, { a: [1] })
    assertBytes(file, Buffer.from('{"a":[1]}'))
  })

  test('writes the value as it was at the call', async (t) => {
    const file = path.join(newDir(t), 'file')
    const value = { list: [1, 2, 3], text: 'before' }
    const done = atomicWriteJson(file, value)
    value.text = 'after'
    value.list.length = 0
    await done
    assert.deepEqual(JSON.parse(fs.readFileSync(file, 'utf8')), { list: [1, 2, 3], text: 'before' })
  })

  test('refuses values that have no JSON text, and leaves the file', async (t) => {
    const dir = newDir(t)
    const file = path.join(dir, 'file')
    fs.writeFileSync(file, 'old')
    for (const value of [undefined, () => {}, Symbol('s'), { toJSON: () => undefined }, { toJSON: () => () => {} }, class {}]) {
      const error = await failure(() => atomicWriteJson(file, value))
      assert.ok(error instanceof TypeError, String(error))
      assert.equal(error.code, 'ERR_INVALID_ARG_TYPE')
      assert.match(error.message, /"value"/)
    }
    const circular = { deep: {} }
    circular.deep.self = circular
    for (const value of [circular, 1n, { deep: [1n] }]) await assert.rejects(atomicWriteJson(file, value), TypeError)
    assert.equal(fs.readFileSync(file, 'utf8'), 'old')
    assert.deepEqual(names(dir), ['file'])
  })

  test('rejects with what toJSON throws, as it is', async (t) => {
    const dir = newDir(t)
    for (const thrown of [new Error('from toJSON'), 'a string', undefined]) {
      let caught = /** @type {unknown} */ ('nothing')
      await atomicWriteJson(path.join(dir, 'file'), { toJSON: () => { throw thrown } }).catch((error) => (caught = error))
      assert.equal(caught, thrown)
    }
    assert.deepEqual(names(dir), [])
  })
})
