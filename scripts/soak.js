'use strict'

// `npm run soak`: the tests that take too long for `npm test`. HOLDFAST_WAL_ENTRIES, HOLDFAST_WAL_KILLS and
// HOLDFAST_SNAPSHOTS make it shorter or longer.

const { spawnSync } = require('node:child_process')
const { join } = require('node:path')

/** @param {string} command @param {string[]} args */
function run(command, args) {
  const { status } = spawnSync(command, args, {
    cwd: join(__dirname, '..'),
    stdio: 'inherit',
    env: { HOLDFAST_WAL_ENTRIES: '20000000', HOLDFAST_WAL_KILLS: '10', HOLDFAST_SNAPSHOTS: '40', HOLDFAST_EVERY_CALL: '1', ...process.env },
  })
  if (status !== 0) process.exitCode = status ?? 1
}

const specs = ['wal-crash', 'wal-concurrency', 'snapshots']
run(process.execPath, ['--test', ...specs.map((name) => join('__test__', `${name}.test.js`))])
// A copy of the tree at every system call of a transaction and of its recovery.
run('cargo', ['test', '--workspace', '--no-default-features', '--quiet', '--test', 'kill', '--', '--nocapture'])
