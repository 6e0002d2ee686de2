'use strict'

// The types in programs of users: with each version of TypeScript from 5.2 on, with the types of Node and without.

const assert = require('node:assert/strict')
const { spawnSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const { describe, test } = require('node:test')
const { newDir, root } = require('./helpers.js')

/** The compilers, by the names under which they are installed. */
const COMPILERS = ['typescript-5.2', 'typescript-5.9', 'typescript-6.0', 'typescript']
const modules = path.join(root, 'node_modules')
const OPTIONS = ['--noEmit', '--strict', '--exactOptionalPropertyTypes', '--target', 'es2022', '--lib', 'es2022,dom', '--preserveSymlinks', '--listFiles']

/** A program that has the package installed. @param {import('node:test').TestContext} t @param {boolean} hasNode */
function program(t, hasNode) {
  const dir = newDir(t)
  const installed = path.join(dir, 'node_modules/holdfast')
  for (const file of ['package.json', 'compat', ...fs.readdirSync(root).filter((name) => /^\w+\.d\.m?ts$/.test(name))]) {
    fs.cpSync(path.join(root, file), path.join(installed, file), { recursive: true })
  }
  if (hasNode) for (const name of ['@types/node', 'undici-types']) fs.cpSync(path.join(modules, name), path.join(dir, 'node_modules', name), { recursive: true })
  fs.copyFileSync(path.join(__dirname, 'programs/use-of-types.ts'), path.join(dir, 'use.ts'))
  return dir
}

test('the compilers are those of the oldest version that is promised, of the newest, and between', () => {
  const versions = COMPILERS.map((name) => JSON.parse(fs.readFileSync(path.join(modules, name, 'package.json'), 'utf8')).version.split('.', 2).join('.'))
  assert.deepEqual(versions.slice(0, 3), ['5.2', '5.9', '6.0'])
  assert.match(versions[3] ?? '', /^7\./)
})

for (const hasNode of [true, false]) {
  describe(`a program ${hasNode ? 'with' : 'without'} @types/node compiles`, () => {
    for (const name of COMPILERS) {
      const [module, resolution] = hasNode ? ['node16', 'node16'] : ['esnext', 'bundler']
      test(`by ${name}, with the resolution ${resolution}`, (t) => {
        const dir = program(t, hasNode)
        const args = [path.join(modules, name, 'bin/tsc'), ...OPTIONS, '--module', module, '--moduleResolution', resolution, 'use.ts']
        const { status, stdout } = spawnSync(process.execPath, args, { cwd: dir, encoding: 'utf8' })
        assert.equal(status, 0, stdout)
        assert.match(stdout, /node_modules\/holdfast\/index\.d\.m?ts/)
        assert.equal(stdout.includes('@types/node'), hasNode)
      })
    }
  })
}

/** @param {string} text that of a .d.ts file @returns {{ line: number, words: number, of: string }[]} its comments that are longer than a screen */
function tooLong(text) {
  return [...text.matchAll(/\/\*\*(.*?)\*\/\n([^\n]*)/gs)].map((found) => {
    const [, comment = '', next = ''] = found
    const prose = comment.replaceAll(/^\s*\* ?/gm, '').replace(/```.*?```/gs, '')
    return { line: text.slice(0, found.index).split('\n').length, words: prose.split(/\s+/).filter(Boolean).length, of: next.trim() }
  }).filter(({ words }) => words > 120)
}

test('what an editor shows of a function or an option has at most 120 words, its example aside', () => {
  assert.equal(tooLong(`/** ${'word '.repeat(121)}*/\nexport const it: 1\n`).length, 1)
  for (const file of ['index.d.ts', 'diagnostics.d.ts', 'vectra.d.ts', ...fs.readdirSync(path.join(root, 'compat')).filter((name) => name.endsWith('.d.ts')).map((name) => `compat/${name}`)]) {
    assert.deepEqual(tooLong(fs.readFileSync(path.join(root, file), 'utf8')), [], file)
  }
})
