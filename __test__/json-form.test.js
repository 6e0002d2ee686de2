'use strict'

// In which form an update writes a file, and what it takes for a result.

const { describe, test } = require('node:test')
const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { failure, holdfast, names, newDir } = require('./helpers.js')

const { AtomicOperations, atomicWriteJson, transaction, updateJsonFile, updateJsonFileSync } = holdfast

/** An update in each of its ways. @type {[string, (file: string, update: any, options?: any) => Promise<any>][]} */
const ways = [
  ['updateJsonFile', async (file, update, options) => updateJsonFile(file, update, options)],
  ['updateJsonFile without a lock', async (file, update, options) => updateJsonFile(file, update, { lock: false, ...options })],
  ['updateJsonFileSync', async (file, update, options) => updateJsonFileSync(file, update, options)],
  ['tx.updateJson', async (file, update, options) => {
    let value
    await transaction([file], async (tx) => {
      value = await tx.updateJson(file, update, options)
    })
    return value
  }],
]

const inode = (/** @type {string} */ file) => fs.statSync(file, { bigint: true }).ino

for (const [way, change] of ways) {
  describe(way, () => {
    const newFile = (/** @type {any} */ t, /** @type {string} */ text) => {
      const file = path.join(newDir(t), 'data.json')
      fs.writeFileSync(file, text)
      return file
    }
    const text = (/** @type {string} */ file) => fs.readFileSync(file, 'utf8')

    test('keeps indentation, line ends and the last line end', async (t) => {
      const value = { a: 1, list: [1, { b: 'x\ny' }] }
      const after = { ...value, c: 2 }
      for (const indent of ['', ' ', '  ', '    ', '\t', '          ']) {
        for (const end of ['', '\n']) {
          for (const crlf of [false, true]) {
            const form = (/** @type {any} */ what) => {
              const lf = JSON.stringify(what, null, indent) + end
              return crlf ? lf.replaceAll('\n', '\r\n') : lf
            }
            const file = newFile(t, form(value))
            await change(file, (/** @type {any} */ data) => void (data.c = 2))
            assert.equal(text(file), form(after), JSON.stringify({ indent, end, crlf }))
          }
        }
      }
    })

    test('leaves each byte where nothing changes, however the file is formatted', async (t) => {
      for (const odd of ['{ "a": [1, 2, 3],\n    "b": 1e2 }\n\n', '[1 ,2]', '\uFEFF{"a":1}', '{"a":1.0}', '{"a":"\\u0041"}', '{"a":1,"a":2}', '  5  ']) {
        const file = newFile(t, odd)
        const before = inode(file)
        for (const update of [() => {}, (/** @type {any} */ data) => data, (/** @type {any} */ data) => structuredClone(data)]) await change(file, update)
        assert.equal(text(file), odd)
        assert.equal(inode(file), before, 'it is not even replaced')
      }
    })

    test('writes one line into a new file, and what is asked for', async (t) => {
      const dir = newDir(t)
      const at = (/** @type {string} */ name) => path.join(dir, name)
      await change(at('plain'), () => {}, { defaultValue: { a: 1 } })
      assert.equal(text(at('plain')), '{"a":1}')
      await change(at('asked'), () => {}, { defaultValue: { a: 1 }, indent: 2, finalNewline: true })
      assert.equal(text(at('asked')), '{\n  "a": 1\n}\n')
      await change(at('asked'), (/** @type {any} */ data) => void (data.b = 1), { finalNewline: false })
      assert.equal(text(at('asked')), '{\n  "a": 1,\n  "b": 1\n}')
      await change(at('asked'), () => {}, { indent: '\t' })
      assert.equal(text(at('asked')), '{\n\t"a": 1,\n\t"b": 1\n}', 'a form that is asked for is given')
    })

    test('refuses the value of a last expression, and leaves the file as it is', async (t) => {
      const file = newFile(t, '{"turns":["a"],"x":1}')
      const before = inode(file)
      for (const [update, shown] of /** @type {[any, RegExp][]} */ ([
        [(/** @type {any} */ d) => d.turns.push('b'), /returned 2 \(type number\).*an object.*in braces/],
        [(/** @type {any} */ d) => delete d.x, /returned true \(type boolean\)/],
        [(/** @type {any} */ d) => (d.name = 'z'.repeat(500)), /returned 'z{40}'\.\.\. 460 more characters \(type string\)/],
        [async (/** @type {any} */ d) => d.turns.push('b'), /returned 2/],
      ])) {
        if (way === 'updateJsonFileSync' && update.constructor.name === 'AsyncFunction') continue
        const error = await failure(() => change(file, update))
        assert.ok(error instanceof TypeError, String(error))
        assert.equal(/** @type {any} */ (error).code, 'ERR_INVALID_RETURN_VALUE')
        assert.match(error.message, shown)
        assert.match(error.message, /allowPrimitive/)
      }
      assert.equal(text(file), '{"turns":["a"],"x":1}')
      assert.equal(inode(file), before)
      assert.equal(await change(file, () => 5, { allowPrimitive: true }), 5)
      assert.equal(text(file), '5')
      assert.equal(await change(file, (/** @type {number} */ data) => data + 1), 6, 'where there was none before, it is meant')
      const made = path.join(path.dirname(file), 'new.json')
      assert.equal((await failure(() => change(made, (/** @type {any[]} */ list) => list.push(1), { defaultValue: [] }))).code, 'ERR_INVALID_RETURN_VALUE')
      assert.equal(fs.existsSync(made), false)
    })

    test('takes a reviver and a replacer, and the pair of functions of a library that loses nothing', async (t) => {
      const file = newFile(t, '{"big":12345678901234567890,"n":1}')
      // Numbers stay as they are spelt.
      const parse = (/** @type {string} */ source) => JSON.parse(source.replace(/:(\d+)/g, ':{"digits":"$1"}'))
      const stringify = (/** @type {any} */ value, /** @type {any} */ replacer, /** @type {any} */ space) => JSON.stringify(value, replacer, space)?.replace(/\{"digits":"(\d+)"\}/g, '$1')
      const value = await change(file, (/** @type {any} */ data) => void (data.n.digits = '2'), { parse, stringify })
      assert.equal(text(file), '{"big":12345678901234567890,"n":2}')
      assert.deepEqual(value.big, { digits: '12345678901234567890' })
      fs.writeFileSync(file, '{"n":2,"when":"2020-01-01T00:00:00.000Z"}')
      const reviver = (/** @type {string} */ key, /** @type {any} */ read) => (key === 'when' ? new Date(read) : read)
      const revived = await change(file, (/** @type {any} */ data) => void data.when.setUTCFullYear(2021), { reviver, replacer: ['when', 'n'] })
      assert.equal(text(file), '{"when":"2021-01-01T00:00:00.000Z","n":2}')
      assert.ok(revived.when instanceof Date)
      const made = path.join(path.dirname(file), 'new.json')
      const bigint = { parse: (/** @type {string} */ source) => BigInt(source), stringify: (/** @type {any} */ number) => String(number) }
      assert.equal(await change(made, (/** @type {bigint} */ number) => number + 1n, { ...bigint, defaultValue: 2n ** 64n }), 2n ** 64n + 1n)
      assert.equal(text(made), '18446744073709551617')
      const error = await failure(() => change(file, (/** @type {any} */ data) => void (data.n = 3), { stringify: () => 5 }))
      assert.equal(error.code, 'ERR_INVALID_RETURN_VALUE')
      assert.equal(text(file), '{"when":"2021-01-01T00:00:00.000Z","n":2}')
    })
  })
}

test('calls that are merged keep the form, and one that is refused leaves no trace', async (t) => {
  const file = path.join(newDir(t), 'data.json')
  fs.writeFileSync(file, '{\n\t"list": [ 0 ]\n}\n')
  const push = (/** @type {number} */ number) => updateJsonFile(file, (data) => void data.list.push(number))
  const slip = updateJsonFile(file, (data) => data.list.push('slip')).catch((error) => error.code)
  const [, , refused] = await Promise.all([push(1), push(2), slip, push(3)])
  assert.equal(refused, 'ERR_INVALID_RETURN_VALUE')
  assert.equal(fs.readFileSync(file, 'utf8'), `${JSON.stringify({ list: [0, 1, 2, 3] }, null, '\t')}\n`)
})

test('atomicWriteJson ends the last line where that is asked for, and takes a replacer', async (t) => {
  const file = path.join(newDir(t), 'data.json')
  await atomicWriteJson(file, { a: 1, b: 2 }, { indent: 2, finalNewline: true, replacer: ['b'] })
  assert.equal(fs.readFileSync(file, 'utf8'), '{\n  "b": 2\n}\n')
  await atomicWriteJson(file, { a: 1 }, { finalNewline: false })
  assert.equal(fs.readFileSync(file, 'utf8'), '{"a":1}')
  assert.match((await failure(() => atomicWriteJson(file, 1, /** @type {any} */ ({ finalNewline: 'keep' })))).message, /"finalNewline" option must be of type boolean/)
})

test("Vectra's class writes whatever its function returns", async (t) => {
  const file = path.join(newDir(t), 'data.json')
  fs.writeFileSync(file, '{}')
  await AtomicOperations.updateJsonFile(file, () => 5)
  assert.equal(fs.readFileSync(file, 'utf8'), '5')
  assert.deepEqual(names(path.dirname(file)).filter((name) => name.endsWith('.tmp')), [])
})
