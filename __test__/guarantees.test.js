'use strict'

// What docs/guarantees.md says is shown by tests that exist.

const { test } = require('node:test')
const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { root } = require('./helpers.js')

const text = fs.readFileSync(path.join(root, 'docs', 'guarantees.md'), 'utf8')
const [said = '', list = ''] = text.split('\n## The tests\n')
const rows = Array.from(list.matchAll(/^\| ([\w-]+) \| `([^`]+)` \| (.+) \|$/gm), ([, mark = '', file = '', name = '']) => ({ mark, file, name }))
const used = new Set(Array.from(said.matchAll(/\[([\w-]+)\](?!\()/g), ([, mark]) => mark))

test('every test that docs/guarantees.md names exists', () => {
  assert.ok(rows.length > 40)
  assert.equal(rows.length, list.split('\n').filter((line) => line.startsWith('| ') && !line.startsWith('| mark') && !line.startsWith('| ---')).length)
  for (const { file, name } of rows) {
    const source = fs.readFileSync(path.join(root, file), 'utf8')
    if (name === 'the whole program') assert.match(source, /^fn main\(\)/m)
    else if (file.endsWith('.rs')) assert.ok(source.includes(`#[test]\nfn ${name}()`), `${file}: ${name}`)
    // The name of a test, or what is fixed in it.
    else assert.ok(source.split('\n').some((line) => /\b(test|describe)\(/.test(line) && line.includes(name)), `${file}: ${name}`)
  }
})

test('every mark in docs/guarantees.md leads to a test, and every test in its list is referred to', () => {
  const known = new Set(rows.map(({ mark }) => mark))
  assert.deepEqual([...used].filter((mark) => !known.has(mark)), [])
  assert.deepEqual([...known].filter((mark) => !used.has(mark)), [])
})
