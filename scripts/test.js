'use strict'

// `npm test`: installs and builds what is missing, then runs every check and test. It works on a
// fresh checkout too.

const { spawnSync } = require('node:child_process')
const { existsSync, readdirSync } = require('node:fs')
const { join } = require('node:path')

const root = join(__dirname, '..')
const programs = { npm: process.platform === 'win32' ? 'npm.cmd' : 'npm' }

/** @param {string} title @param {string} command @param {string[]} args */
function step(title, command, args) {
  console.log(`\n— ${title}: ${command} ${args.join(' ')}`)
  const start = Date.now()
  const { status, error } = spawnSync(programs[command] ?? command, args, {
    cwd: root,
    stdio: 'inherit',
    shell: process.platform === 'win32',
  })
  if (error) console.error(String(error))
  if (status !== 0) {
    console.error(`\n✗ ${title} failed`)
    process.exit(status || 1)
  }
  console.log(`  (${((Date.now() - start) / 1000).toFixed(1)} s)`)
}

if (!existsSync(join(root, 'node_modules', 'typescript'))) step('Install', 'npm', ['install'])

step('Format', 'cargo', ['fmt', '--all', '--check'])
step('Lint', 'cargo', ['clippy', '--workspace', '--all-targets', '--quiet', '--', '-D', 'warnings'])
step('Rust tests', 'cargo', ['test', '--workspace', '--no-default-features', '--quiet'])
step('Build', 'npm', ['run', '--silent', 'build'])
step('Types', 'npm', ['run', '--silent', 'types'])
const specs = readdirSync(join(root, '__test__')).filter((name) => name.endsWith('.test.js'))
step('Node tests', process.execPath, ['--test', '--test-concurrency=2', ...specs.map((name) => join('__test__', name))])
