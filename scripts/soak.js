'use strict'

// `npm run soak`: what takes too long for `npm test`. HOLDFAST_WAL_ENTRIES and HOLDFAST_WAL_KILLS
// make it longer or shorter, and HOLDFAST_STATES says how many crash states of each moment are
// looked at, where there is a Rust tool chain.

const { spawnSync } = require('node:child_process')
const { join } = require('node:path')

const cwd = join(__dirname, '..')
const env = { HOLDFAST_WAL_ENTRIES: '20000000', HOLDFAST_WAL_KILLS: '10', HOLDFAST_STATES: '5000', ...process.env }

/** @param {string} command @param {string[]} parts */
const succeeds = (command, parts) => spawnSync(command, parts, { cwd, env, stdio: 'inherit' }).status === 0

const specs = ['wal-crash', 'wal-concurrency'].map((name) => join('__test__', `${name}.test.js`))
const outcomes = [succeeds(process.execPath, ['--test', ...specs])]
if (spawnSync('cargo', ['--version']).status === 0) {
  outcomes.push(succeeds('cargo', ['test', '--release', '--no-default-features', '--test', 'wal_states', '--', '--nocapture']))
}
process.exitCode = outcomes.every(Boolean) ? 0 : 1
