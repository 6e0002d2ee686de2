'use strict'

// What all commands of the command line have in common.

const assert = require('node:assert/strict')
const { spawnSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const { describe, test } = require('node:test')
const { run } = require('./cli.js')
const { newDir, root } = require('./helpers.js')
const { commands } = require('../lib/cli/main.js')

const page = fs.readFileSync(path.join(root, 'docs', 'cli.md'), 'utf8')
const noTerminal = spawnSync('script', ['--version']).status !== 0 && 'script(1) is missing'

/** What a command writes to a terminal of 60 columns. @param {string} line @param {string} cwd @param {Record<string, string>} [env] */
function inTerminal(line, cwd, env = {}) {
  const { stdout } = spawnSync('script', ['-qec', `stty cols 60; ${process.execPath} ${path.join(root, 'bin/holdfast.js')} ${line}`, '/dev/null'], {
    cwd, encoding: 'utf8', env: { ...process.env, TERM: 'xterm', NO_COLOR: '', ...env }, input: '', timeout: 60_000,
  })
  return stdout.replaceAll('\r', '')
}

describe('each command', () => {
  for (const [words, load] of Object.entries(commands)) {
    test(`${words}: has help with its options and examples, and is in docs/cli.md with all of them`, async () => {
      const { code, stdout, stderr } = await run([...words.split(' '), '--help'])
      assert.equal(code, 0, stderr)
      assert.ok(stdout.startsWith(`Usage: holdfast ${words} `), stdout)
      for (const name of Object.keys(load().options)) {
        assert.match(stdout, new RegExp(`--${name}\\b`))
        assert.match(load().usage + page, new RegExp(`--${name}\\b`))
      }
      assert.match(stdout, /\nExamples:\n {2}\S/)
      assert.match(stdout, /\nExit codes:\n {2}\S/)
      assert.ok(page.includes(`\n## ${words}\n`), 'it has a section')
      assert.equal((await run(['help', ...words.split(' ')])).stdout, stdout)
    })

    test(`${words}: refuses an option that does not exist, by its name`, async () => {
      const { code, stdout, stderr } = await run([...words.split(' '), '--no-such-option'])
      assert.deepEqual({ code, stdout }, { code: 2, stdout: '' })
      assert.match(stderr, /there is no option '--no-such-option'/)
      assert.ok(stderr.includes(`Try 'holdfast ${words} --help'.`), stderr)
    })
  }

  test('is in the overview', async () => {
    const { code, stdout } = await run(['--help'])
    assert.equal(code, 0)
    for (const words of Object.keys(commands)) assert.match(stdout, new RegExp(`^ {2}${words} +\\S`, 'm'))
    const alone = await run([])
    assert.deepEqual([alone.code, alone.stdout, alone.stderr], [2, '', stdout])
  })
})

describe('wrong usage ends with 2 and names what is wrong:', () => {
  for (const [args, message] of /** @type {const} */ ([
    [['lok'], "there is no command 'lok'. Did you mean 'lock'?"],
    [['constructor'], "there is no command 'constructor'"],
    [['lock', 'f', '--raed', '--', 'ls'], "there is no option '--raed'. Did you mean '--read'?"],
    [['lock', '--', 'ls'], '<file> is missing'],
    [['lock', 'f'], "the command is missing: it comes after '--'"],
    [['lock', 'f', 'ls'], "'ls' is one argument too many. Put '--' before the command"],
    [['lock', 'f', '--timeout', '5', '--', 'ls'], "'--timeout' has to be a time such as 500ms, 10s, 2m or 1h, and is '5'"],
    [['lock', 'f', '--timeout', '--read', '--', 'ls'], "'--timeout' needs a value: a time such as 500ms, 10s, 2m or 1h"],
    [['lock', 'f', '--read=yes', '--', 'ls'], "'--read' takes no value"],
    [['locks', ''], 'a path is empty'],
    [['locks', 'a', 'b'], "'b' is one argument too many"],
    [['locks', 'a', '--json', '--json'], "'--json' is there twice"],
    [['write', 'f', '--mode', '999'], "'--mode' has to be permission bits in octal, such as 600 or 0644, and is '999'"],
    [['write', 'f', '--durability', 'most'], "'--durability' has to be one of none, file, full, and is 'most'"],
    [['write', 'f', '--backup', '--create-only'], "'--backup' and '--create-only' exclude each other: there is no file to make a backup of"],
    [['backup', 'f', '--keep', '0'], "'--keep' has to be an integer from 1 to 1000000, and is '0'"],
    [['backup', 'f', '-k', '1'], "there is no option '-k'"],
  ])) {
    test(args.join(' '), async (t) => {
      const cwd = newDir(t)
      const { code, stdout, stderr } = await run([...args], { cwd })
      assert.deepEqual({ code, stdout, line: stderr.split('\n')[0]?.replace(/^holdfast( \w+)?: /, '') }, { code: 2, stdout: '', line: message })
      assert.deepEqual(fs.readdirSync(cwd), [])
    })
  }
})

test('a reader that goes away is no failure', (t) => {
  const cwd = newDir(t)
  const { stdout, stderr } = spawnSync('bash', ['-c', `${process.execPath} ${path.join(root, 'bin/holdfast.js')} backups f | true; echo \${PIPESTATUS[0]}`], { cwd, encoding: 'utf8' })
  assert.deepEqual([stdout, stderr], ['0\n', ''])
})

describe('in a terminal', { skip: noTerminal }, () => {
  /** @param {import('node:test').TestContext} t */
  function withBackup(t) {
    const cwd = newDir(t)
    fs.writeFileSync(path.join(cwd, `${'long-'.repeat(15)}name.1767225600000.backup`), '')
    return { cwd, line: `backups ${'long-'.repeat(15)}name` }
  }

  test('tables are coloured, and as wide as it is', (t) => {
    const { cwd, line } = withBackup(t)
    const shown = inTerminal(line, cwd)
    assert.match(shown, /\x1b\[1m/)
    const lines = shown.replaceAll(/\x1b\[\d+m/g, '').trimEnd().split('\n')
    assert.equal(lines.length, 2)
    for (const each of lines) assert.ok(Array.from(each).length <= 60, each)
    assert.match(lines[1] ?? '', /…/)
  })

  test('there is no colour with NO_COLOR, nor in a dumb one', (t) => {
    const { cwd, line } = withBackup(t)
    assert.doesNotMatch(inTerminal(line, cwd, { NO_COLOR: '1' }), /\x1b/)
    assert.doesNotMatch(inTerminal(line, cwd, { TERM: 'dumb' }), /\x1b/)
  })
})

test('without a terminal there is no colour, and no line is cut', async (t) => {
  const cwd = newDir(t)
  const name = `${'long-'.repeat(15)}name`
  fs.writeFileSync(path.join(cwd, `${name}.1767225600000.backup`), '')
  const { stdout } = await run(['backups', name], { cwd, env: { FORCE_COLOR: '1' } })
  assert.doesNotMatch(stdout, /\x1b|…/)
  assert.ok(stdout.includes(`${name}.1767225600000.backup`))
})

test('control characters in the name of a file do not reach the terminal', async (t) => {
  const cwd = newDir(t)
  fs.writeFileSync(path.join(cwd, 'a\x1b[2Jb'), '')
  const { code, stdout } = await run(['backup', 'a\x1b[2Jb'], { cwd })
  assert.equal(code, 0)
  assert.match(stdout, /^a\\x1b\[2Jb\.\d+\.backup\n$/)
})

test('loading the package loads nothing of the command line', () => {
  const { stdout } = spawnSync(process.execPath, ['-p', "require('.'); Object.keys(require.cache).filter((file) => /[\\\\/](cli|bin)[\\\\/]/.test(file)).length"], { cwd: root, encoding: 'utf8' })
  assert.equal(stdout, '0\n')
})
