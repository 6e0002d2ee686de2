'use strict'

// `validate: 'json'` against `JSON.parse`, on texts that are generated and then damaged: both
// accept the same, except for the cases at the end. Chosen texts are in validate.test.js.

const { describe, test } = require('node:test')
const assert = require('node:assert/strict')
const path = require('node:path')
const { failure, holdfast, newDir } = require('./helpers.js')

const { atomicWriteSync } = holdfast

/** Numbers that look random and are the same every time. */
function dice(seed) {
  let state = seed
  return (below) => {
    state = (state + 0x9e3779b9) | 0
    let number = Math.imul(state ^ (state >>> 16), 0x85ebca6b)
    number = Math.imul(number ^ (number >>> 13), 0xc2b2ae35)
    return ((number ^ (number >>> 16)) >>> 0) % below
  }
}

const pick = (roll, of) => of[roll(of.length)]

const SCALARS = [
  'null', 'true', 'false', '0', '-0', '1', '-1', '10', '01', '-01', '1.', '.5', '1.0', '1e5', '1E+5', '1e-5', '1e', '1e400', '-1e400', '1e-400', '+1',
  '0x10', '1_000', 'NaN', 'Infinity', '-', '9007199254740993', '123456789012345678901234567890', '0.1e1', '2.2250738585072011e-308',
  '""', '"a"', '"\\n"', '"\\u0041"', '"\\ud834\\udd1e"', '"\\ud834"', '"\\udd1e"', '"\\ud834\\u0041"', '"\\x41"', '"\\u00g0"', '"\\"', '"\\/"', '"\t"', '"\u0000"', '"\u007f"',
  '"ü€𝄞"', '"\u2028\u2029"', "'a'", '"__proto__"', '"unended', '"\ufeff"', '\ufeff', 'undefined', '',
]
const SPACES = ['', '', '', ' ', '\n', '\r\n', '\t', '\u00a0', '\u2003', '\v', '\f', '/**/', '//\n']

/** A text that may be JSON, and mostly is. */
function value(roll, depth = 0) {
  const space = () => (roll(4) === 0 ? pick(roll, SPACES.slice(0, roll(30) === 0 ? SPACES.length : 7)) : '')
  const scalar = () => (roll(12) === 0 ? pick(roll, SCALARS) : pick(roll, ['null', '1', '-2.5e3', '"a"', 'true', '"\\u00e9"', '"ü"', '[]', '{}']))
  const kind = roll(depth > 5 ? 1 : 3)
  if (kind === 0) return space() + scalar() + space()
  const items = Array.from({ length: roll(4) }, () => value(roll, depth + 1))
  if (kind === 1) return `${space()}[${items.join(',')}]${space()}`
  return `{${items.map((item) => `${space()}${pick(roll, ['"k"', '"k"', '"__proto__"', '"\\u006b"', '""'])}${space()}:${item}`).join(',')}}${space()}`
}

/** The text with some damage. */
function damaged(roll, text) {
  const at = roll(text.length + 1)
  switch (roll(5)) {
    case 0: return text.slice(0, at)
    case 1: return text.slice(0, at) + text.slice(at + 1)
    case 2: return text.slice(0, at) + pick(roll, [...'{}[],:"\\0-+.eE \n\u0000\u001f', '\ufeff', 'ü']) + text.slice(at)
    case 3: return text + pick(roll, [...'}],:1" '])
    default: return text.slice(0, at) + pick(roll, SCALARS) + text.slice(at)
  }
}

/** The code with which the checker refuses bytes; undefined if it accepts them. */
function check(file, bytes) {
  try {
    atomicWriteSync(file, bytes, { validate: 'json', durability: 'none' })
  } catch (error) {
    return error.code
  }
}

function parses(text) {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}

describe("the JSON checker of validate: 'json'", () => {
  test('takes what JSON.parse takes, and nothing else', (t) => {
    const file = path.join(newDir(t), 'a')
    const roll = dice(7)
    const counts = { taken: 0, refused: 0 }
    for (let i = 0; i < 6000; i++) {
      let text = i < SCALARS.length ? SCALARS[i] : value(roll)
      for (let times = i < SCALARS.length ? 0 : roll(3); times > 0; times--) text = damaged(roll, text)
      // What cannot be written as UTF-8 cannot be in a file.
      if (!text.isWellFormed?.() && text.isWellFormed) continue
      const code = check(file, text)
      assert.equal(code === undefined, parses(text), `${JSON.stringify(text)}: ${code}`)
      if (code !== undefined) assert.equal(code, /^[ \t\n\r]*$/.test(text) ? 'EEMPTYJSON' : 'EBADJSON', JSON.stringify(text))
      counts[code === undefined ? 'taken' : 'refused']++
    }
    assert.ok(counts.taken > 1000 && counts.refused > 1000, JSON.stringify(counts))
    t.diagnostic(JSON.stringify(counts))
  })

  test('takes any depth that JSON.parse takes', (t) => {
    const file = path.join(newDir(t), 'a')
    for (const depth of [127, 128, 129, 1000, 5000]) {
      for (const [open, close] of [['[', ']'], ['{"k":', '}'], ['[{"k":[', ']}]']]) {
        const text = open.repeat(depth) + '1' + close.repeat(depth)
        assert.equal(parses(text), true)
        assert.equal(check(file, text), undefined, `${depth} times ${open}`)
        assert.equal(check(file, text.slice(0, -1)), 'EBADJSON')
        assert.equal(check(file, text + close[0]), 'EBADJSON')
      }
    }
  })

  test('sees bytes where it sees text', async (t) => {
    const file = path.join(newDir(t), 'a')
    // What is not UTF-8 is refused (validate.test.js), though Node's own decoding replaces it, and it parses.
    const bytes = Buffer.from([0x22, 0xed, 0xa0, 0xb4, 0x22])
    assert.equal(parses(bytes.toString()), true)
    assert.equal(check(file, bytes), 'EBADJSON')
    // In a string Node has done so before.
    assert.equal(check(file, '"\ud834"'), undefined)
    // A byte order mark is the first thing that is wrong, to both.
    assert.equal(parses('\ufeff{}'), false)
    const error = await failure(() => atomicWriteSync(file, '\ufeff{}', { validate: 'json' }))
    assert.deepEqual([error.code, error.line, error.column], ['EBADJSON', 1, 1])
  })
})
