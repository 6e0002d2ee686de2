'use strict'

// The Rust programs beside the package, which tests and the benchmark use. Each is built when it is first needed.

const { spawnSync } = require('node:child_process')
const path = require('node:path')

const root = path.join(__dirname, '..')
const TARGET = path.join(root, 'target', 'programs')

const FOLDERS = {
  bare: 'benchmark/bare',
  counting: 'benchmark/counting',
  disk: 'tests/disk',
}

/**
 * Builds one of them and says where it is.
 *
 * @param {keyof typeof FOLDERS} name
 */
function build(name) {
  const manifest = path.join(root, FOLDERS[name], 'Cargo.toml')
  const words = ['build', '--release', '--locked', '--quiet', '--manifest-path', manifest, '--target-dir', TARGET]
  const { error, status, stderr } = spawnSync('cargo', words, { encoding: 'utf8' })
  if (error || status !== 0) throw new Error(`cargo build of ${name} failed: ${error?.message ?? stderr}`)
  return path.join(TARGET, 'release', name)
}

module.exports = { build }
