'use strict'

// `npm run fuzz`: logs that nobody has written, opened and read for a minute. Words behind `--`
// go to the fuzzer, libFuzzer: `npm run fuzz -- -max_total_time=3600`. What it has learnt stays
// in target/fuzz, and so does an input that has found something; given as a word, that is run
// alone.

const { spawnSync } = require('node:child_process')
const { mkdirSync } = require('node:fs')
const path = require('node:path')
const { build } = require('./crates.js')

const place = path.join(__dirname, '..', 'target', 'fuzz')
const corpus = path.join(place, 'corpus')

const words = process.argv.slice(2)
const isAlone = words.some((word) => !word.startsWith('-'))
mkdirSync(corpus, { recursive: true })
const settings = ['-max_total_time=60', '-max_len=2000', '-timeout=10', '-rss_limit_mb=1024', `-artifact_prefix=${place}${path.sep}`]
const { error, status } = spawnSync(build('wal-reader', { coverage: true }), [...settings, ...words, ...(isAlone ? [] : [corpus])], { stdio: 'inherit' })
if (error) throw error
process.exitCode = status ?? 1
