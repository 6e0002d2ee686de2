'use strict'

// index.d.ts is what most users read: it has its contents at the top, and keeps to them.

const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { test } = require('node:test')
const { root } = require('./helpers.js')

const text = fs.readFileSync(path.join(root, 'index.d.ts'), 'utf8')

/** What the contents say of each part: its name, and the names of its functions, classes and values. */
function contents() {
  const [, lines = ''] = /\/\/ Contents:\n\/\/\n((?:\/\/ .*\n)+)/.exec(text) ?? []
  return lines.replaceAll(/\n\/\/ {3}(?=\S)/g, ' ').trimEnd().split('\n').map((line) => {
    const [, name = '', names = ''] = /^\/\/ - ([^:]+)(?:: (.*))?$/.exec(line) ?? []
    return { name, names: names === '' ? [] : names.split(', ') }
  })
}

/** What there is: each part by its heading, with what it exports. */
function parts() {
  return text.split(/^\/\/ ── /m).slice(1).map((part) => {
    const [, name = ''] = /^(.+?) ─+\n/.exec(part) ?? []
    const names = [...part.matchAll(/^export (?:declare )?(?:function|class|const) (\w+)/gm)].map(([, found = '']) => found)
    return { name, names: [...new Set(names)] }
  })
}

test('index.d.ts has its contents at the top, in its own order, and Vectra\'s names last', () => {
  assert.deepEqual(contents(), parts())
  assert.ok(parts().length > 10)
  assert.deepEqual(parts().at(-1)?.names.slice(0, 1), ['AtomicOperations'])
})

test('every value that the package exports is in the contents', () => {
  const listed = contents().flatMap(({ names }) => names)
  assert.deepEqual(Object.keys(require('..')).filter((name) => !listed.includes(name)), [])
})
