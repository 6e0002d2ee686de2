'use strict'

// Reading a file of JSON lines, as it is and as it grows.

const assert = require('node:assert/strict')
const { spawn } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const { describe, test } = require('node:test')
const { appendJsonLines, openJsonLines } = require('..')
const { failure, newDir, newFile } = require('./helpers.js')

const [BEGIN, MIDDLE, END] = [' \t \t', ' \t\t ', ' \t\t\t']

/**
 * @template T
 * @param {AsyncIterable<T>} lines
 * @param {number} [most]
 * @returns {Promise<T[]>}
 */
async function all(lines, most = Infinity) {
  const found = []
  for await (const line of lines) {
    found.push(line)
    if (found.length >= most) break
  }
  return found
}

/** The values, or `bad` and the byte. @param {any[]} lines */
const short = (lines) => lines.map(({ value, error, offset }) => (error ? `bad at ${offset}` : value))

describe('read', () => {
  test('gives each line its number, its beginning and its end, in bytes', async (t) => {
    const file = newFile(t, '{"a":"ä"}\n\n[2]\r\n# note\n// note\n"drei"')
    const lines = await openJsonLines(file)
    assert.deepEqual(await all(lines.read()), [
      { value: { a: 'ä' }, line: 1, offset: 0, end: 11 },
      { value: [2], line: 3, offset: 12, end: 17 },
      { value: 'drei', line: 6, offset: 32, end: 38 },
    ])
    assert.deepEqual(await all(lines.read({ raw: true, from: { line: 3 } })), [
      { value: '[2]', line: 3, offset: 12, end: 17 }, { value: '"drei"', line: 6, offset: 32, end: 38 },
    ])
    assert.deepEqual(await all(lines.read({ from: 12 })), [
      { value: [2], line: undefined, offset: 12, end: 17 }, { value: 'drei', line: undefined, offset: 32, end: 38 },
    ])
  })

  test('reads what append has written, whatever its length and wherever pieces end', async (t) => {
    const file = newFile(t)
    const lines = await openJsonLines(file, { durability: 'none' })
    const written = Array.from({ length: 300 }, (_, number) => ({ number, text: 'xä'.repeat((number * 997) % 5000) }))
    for (let at = 0; at < written.length; at += 30) await lines.append(written.slice(at, at + 30))
    await lines.append({ large: 'y'.repeat(1_000_000) })
    const found = await all(lines.read())
    assert.deepEqual(found.map(({ value }) => value), [...written, { large: 'y'.repeat(1_000_000) }])
    const bytes = fs.readFileSync(file)
    for (const { value, offset, end } of found) assert.deepEqual(JSON.parse(bytes.toString('utf8', offset, end)), value)
    assert.deepEqual((await all(lines.read({ last: 7 }))).map(({ value }) => value), found.slice(-7).map(({ value }) => value))
    const inside = /** @type {any} */ (found[17])
    assert.deepEqual(short((await all(lines.read({ from: inside.offset }), 2))), short(found.slice(17, 19)))
    assert.deepEqual(await all(lines.read({ last: 0 })), [])
    assert.equal((await all(lines.read({ last: 1000 }))).length, 301)
  })

  test('reports bad lines where they are, leaves them out, or throws', async (t) => {
    const file = newFile(t, '1\n{"cut\n\0\0\0\n2\n')
    const lines = await openJsonLines(file)
    const found = await all(lines.read())
    assert.deepEqual(short(found), [1, 'bad at 2', 'bad at 8', 2])
    const [, first] = found
    assert.equal(/** @type {any} */ (first?.error).code, 'EBADJSON')
    assert.equal(first?.error?.line, 2)
    assert.match(String(first?.error?.message), /in line 2, at byte 2/)
    assert.deepEqual(short(await all(lines.read({ onBadLine: 'skip' }))), [1, 2])
    const thrown = await failure(all(lines.read({ onBadLine: 'throw' })))
    assert.equal(thrown.code, 'EBADJSON')
    assert.equal(thrown.operation, 'read lines')
  })

  test('gives out no part of an append that is not there as a whole', async (t) => {
    for (const [content, expected] of /** @type {[string, unknown[]][]} */ ([
      [`1\n${BEGIN}2\n${MIDDLE}3\n${END}4\n5\n`, [1, 2, 3, 4, 5]],
      [`1\n${BEGIN}2\n${MIDDLE}3\n5\n`, [1, 'bad at 2', 'bad at 8', 5]],
      [`1\n${BEGIN}2\n${BEGIN}3\n${END}4\n`, [1, 'bad at 2', 3, 4]],
      [`1\n${MIDDLE}3\n${END}4\n5\n`, [1, 'bad at 2', 'bad at 8', 5]],
      [`1\n${BEGIN}2\n${MIDDLE}\0\n${END}4\n5\n`, [1, 'bad at 2', 'bad at 8', 'bad at 14', 5]],
      [`1\n${BEGIN}2\n${END}[3`, [1, 'bad at 2', 'bad at 8']],
      [`1\n${BEGIN}2\n${END}3`, [1, 'bad at 2', 'bad at 8']],
      [`1\n${BEGIN}2\n${END}[3]`, [1, 2, [3]]],
      ['1\n 2', [1, 'bad at 2']],
      ['1\n2', [1, 2]],
    ])) {
      const lines = await openJsonLines(newFile(t, content))
      assert.deepEqual(short(await all(lines.read())), expected, JSON.stringify(content))
    }
  })

  test('checks values with the schema', async (t) => {
    const file = newFile(t, '1\n"two"\n')
    const lines = await openJsonLines(file, {
      validate: (value) => {
        if (typeof value !== 'number') throw new RangeError('no number')
        return value
      },
    })
    await assert.rejects(all(lines.read()), { name: 'RangeError', message: 'no number' })
    assert.deepEqual(short(await all(lines.read({ last: 2, validate: String }))), ['1', 'two'])
  })

  test('refuses options that it does not know, and says that there is no file', async (t) => {
    const lines = await openJsonLines(newFile(t))
    assert.throws(() => lines.read({ first: 1 }), /"first"/)
    assert.throws(() => lines.read({ last: 1, from: 0 }), /exclude each other/)
    assert.throws(() => lines.read({ from: /** @type {any} */ ({}) }), { code: 'ERR_INVALID_ARG_TYPE' })
    assert.throws(() => lines.read({ onBadLine: /** @type {any} */ ('ignore') }), /"onBadLine"/)
    assert.throws(() => lines.follow({ last: 1 }), /"last"/)
    assert.equal((await failure(all(lines.read()))).code, 'ENOENT')
    const aborted = await failure(all(lines.read({ signal: AbortSignal.abort() })))
    assert.equal(aborted.name, 'AbortError')
  })
})

describe('follow', { timeout: 60_000 }, () => {
  test('gives out what other processes append, from the end or from a place on', async (t) => {
    const file = newFile(t, '"old"\n')
    const lines = await openJsonLines(file)
    const [fromEnd, fromStart] = [all(lines.follow(), 200), all(lines.follow({ from: 0 }), 201)]
    await new Promise((resolve) => setTimeout(resolve, 100))
    const program = `
      const { openJsonLines } = require(${JSON.stringify(path.join(__dirname, '..'))})
      void (async () => {
        const lines = await openJsonLines(${JSON.stringify(file)}, { durability: 'none' })
        for (let number = 0; number < 200; number += 2) await lines.append([number, number + 1])
      })()`
    const child = spawn(process.execPath, ['-e', program], { stdio: 'inherit' })
    t.after(() => child.kill())
    const numbers = Array.from({ length: 200 }, (_, number) => number)
    assert.deepEqual(short(await fromEnd), numbers)
    assert.deepEqual(short(await fromStart), ['old', ...numbers])
  })

  test('goes on with the file that gets the name, after the last line of the old one', async (t) => {
    const file = newFile(t, '1\n')
    const lines = await openJsonLines(file)
    const found = all(lines.follow({ from: 0 }), 5)
    await lines.append('two')
    fs.renameSync(file, `${file}.1`)
    await new Promise((resolve) => setTimeout(resolve, 50))
    fs.appendFileSync(`${file}.1`, '"late"\n')
    await lines.append(['three', 'four'])
    assert.deepEqual(short(await found), [1, 'two', 'late', 'three', 'four'])
  })

  test('waits for a file that is not there yet, and begins anew when one is emptied', async (t) => {
    const file = path.join(newDir(t), 'log.jsonl')
    const lines = await openJsonLines(file)
    const following = lines.follow()
    const first = following.next()
    await new Promise((resolve) => setTimeout(resolve, 20))
    await lines.append('first')
    assert.equal((await first).value?.value, 'first')
    const second = following.next()
    fs.truncateSync(file, 0)
    await new Promise((resolve) => setTimeout(resolve, 50))
    await lines.append('second')
    assert.equal((await second).value?.value, 'second')
    await following.return()
  })

  test('does not give out the end that a crash has left, which the next append moves', async (t) => {
    const file = newFile(t, `1\n${BEGIN}2\n{"cut`)
    const lines = await openJsonLines(file)
    const found = all(lines.follow({ from: 0 }), 2)
    await new Promise((resolve) => setTimeout(resolve, 50))
    await appendJsonLines(file, ['next'], { logger: null })
    assert.deepEqual(short(await found), [1, 'next'])
  })

  test('ends when the signal is aborted, also while it waits', async (t) => {
    for (const content of ['1\n', undefined]) {
      const lines = await openJsonLines(newFile(t, content))
      const controller = new AbortController()
      const waiting = failure(all(lines.follow({ signal: controller.signal })))
      await new Promise((resolve) => setTimeout(resolve, 30))
      controller.abort()
      assert.equal((await waiting).name, 'AbortError')
    }
  })
})
