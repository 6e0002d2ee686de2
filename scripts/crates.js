'use strict'

// The Rust programs that tests and the benchmark use. Each is built when it is first needed.

const { spawnSync } = require('node:child_process')
const path = require('node:path')

const root = path.join(__dirname, '..')
const TARGET = path.join(root, 'target', 'programs')

const DIRS = {
  bare: 'benchmark/bare',
  'metrics-cost': 'benchmark/probes/metrics-cost',
  disk: 'tests/disk',
  'wal-reader': 'fuzz',
  'recovered-dirs': 'fuzz',
}

/** What a fuzzer has to see of a program: which branches it takes, and what it compares. */
const COVERAGE = ['level=4', 'inline-8bit-counters', 'pc-table', 'trace-compares']

/**
 * Builds one of them and returns the path of its executable.
 *
 * @param {keyof typeof DIRS} name
 * @param {{ coverage?: boolean }} [options] `coverage`: for a fuzzer
 */
function build(name, { coverage = false } = {}) {
  const manifest = path.join(root, DIRS[name], 'Cargo.toml')
  const words = ['build', '--release', '--locked', '--quiet', '--manifest-path', manifest, '--target-dir', TARGET]
  const env = { ...process.env }
  let output = TARGET
  if (coverage) {
    // With an explicit target, build scripts and procedural macros are built without the flags.
    const host = /^host: (.*)$/m.exec(run('rustc', ['-vV'], env, name))?.[1] ?? ''
    words.push('--target', host)
    output = path.join(TARGET, host)
    env.RUSTFLAGS = ['-Cpasses=sancov-module', ...COVERAGE.map((each) => `-Cllvm-args=-sanitizer-coverage-${each}`)].join(' ')
  }
  run('cargo', words, env, name)
  return path.join(output, 'release', name)
}

/** @param {string} command @param {string[]} words @param {NodeJS.ProcessEnv} env @param {string} name */
function run(command, words, env, name) {
  const { error, status, stdout, stderr } = spawnSync(command, words, { encoding: 'utf8', env })
  if (error || status !== 0) throw new Error(`${command} ${words[0]} of ${name} failed: ${error?.message ?? stderr}`)
  return stdout
}

module.exports = { build }
