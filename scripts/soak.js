'use strict'

// `npm run soak`: the tests that take too long for `npm test`. HOLDFAST_WAL_ENTRIES and HOLDFAST_WAL_KILLS
// make it shorter or longer.

const { spawnSync } = require('node:child_process')
const { join } = require('node:path')

const { status } = spawnSync(process.execPath, ['--test', join('__test__', 'wal-crash.test.js'), join('__test__', 'wal-concurrency.test.js')], {
  cwd: join(__dirname, '..'),
  stdio: 'inherit',
  env: { HOLDFAST_WAL_ENTRIES: '20000000', HOLDFAST_WAL_KILLS: '10', ...process.env },
})
process.exitCode = status ?? 1
