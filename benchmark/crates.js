'use strict'

const { spawnSync } = require('node:child_process')
const path = require('node:path')

const TARGET = path.join(__dirname, '..', 'target', 'benchmark')

/**
 * Builds one of the Rust programs of the suite and says where it is.
 *
 * @param {'bare' | 'slow-disk' | 'counting'} name
 */
function build(name) {
  const manifest = path.join(__dirname, name, 'Cargo.toml')
  const words = ['build', '--release', '--locked', '--quiet', '--manifest-path', manifest, '--target-dir', TARGET]
  const { error, status, stderr } = spawnSync('cargo', words, { encoding: 'utf8' })
  if (error || status !== 0) throw new Error(`cargo build of ${name} failed: ${error?.message ?? stderr}`)
  return path.join(TARGET, 'release', name)
}

module.exports = { build }
