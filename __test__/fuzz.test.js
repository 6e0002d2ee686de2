'use strict'

// The code that reads the disk after a crash, on arbitrary input: for a moment only. `npm run
// fuzz` takes its time.

const { test } = require('node:test')
const assert = require('node:assert/strict')
const { spawnSync } = require('node:child_process')
const { fuzz } = require('../scripts/fuzz.js')
const { whyNot } = require('./system.js')

/** The fuzzer is built by a C++ compiler. */
const skip = whyNot.linux() || (spawnSync('c++', ['--version']).status !== 0 && 'needs a C++ compiler (c++)')

/** @param {Parameters<typeof fuzz>[0]} name */
function run(t, name) {
  const { status, stderr } = fuzz(name, ['-max_total_time=12'], { encoding: 'utf8', maxBuffer: 1 << 28 })
  // These lines tell how to reproduce it: the path of the input, and its bytes in Base64.
  assert.equal(status, 0, stderr.split('\n').slice(-60).join('\n'))
  const [, runs] = /^Done (\d+) runs/m.exec(stderr) ?? []
  assert.ok(Number(runs) > 100, stderr.slice(-1000))
  t.diagnostic(`${runs} of them`)
}

test('logs of arbitrary bytes are opened and read without a crash', { skip }, (t) => run(t, 'wal-reader'))

test('directories in arbitrary states are recovered without a crash, and a second recovery finds nothing to do', { skip }, (t) => run(t, 'recovered-dirs'))
