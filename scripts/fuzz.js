'use strict'

// `npm run fuzz`: runs the code that reads the disk after a crash on arbitrary input, for a minute
// each: `wal-reader` logs, `recovered-dirs` directories. The name of one runs that alone. Words with a
// dash go to libFuzzer: `npm run fuzz -- wal-reader -max_total_time=3600`. Its corpus stays in
// target/fuzz, and so does an input that has found something: its path behind the name runs just that.

const { spawnSync } = require('node:child_process')
const { mkdirSync } = require('node:fs')
const path = require('node:path')
const { build } = require('./crates.js')

const PROGRAMS = /** @type {const} */ (['wal-reader', 'recovered-dirs'])

/**
 * Builds a fuzzer and runs it.
 *
 * @param {(typeof PROGRAMS)[number]} name
 * @param {string[]} words for libFuzzer; the last of repeated settings counts
 * @param {import('node:child_process').SpawnSyncOptions} [options]
 */
function fuzz(name, words, options) {
  const output = path.join(__dirname, '..', 'target', 'fuzz', name)
  const corpus = path.join(output, 'corpus')
  mkdirSync(corpus, { recursive: true })
  const settings = ['-max_total_time=60', '-max_len=2000', '-timeout=10', '-rss_limit_mb=1024', `-artifact_prefix=${output}${path.sep}`]
  const inputs = words.some((word) => !word.startsWith('-')) ? [] : [corpus]
  return spawnSync(build(name, { coverage: true }), [...settings, ...words, ...inputs], options)
}

if (require.main === module) {
  const [first, ...rest] = process.argv.slice(2)
  const chosen = PROGRAMS.find((name) => name === first)
  for (const name of chosen ? [chosen] : PROGRAMS) {
    const { error, status } = fuzz(name, chosen ? rest : process.argv.slice(2), { stdio: 'inherit' })
    if (error) throw error
    if (status !== 0) process.exit(status ?? 1)
  }
}

module.exports = { fuzz }
