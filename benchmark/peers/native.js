'use strict'

// The stores that the log is compared with are native, and one may have to be compiled, so they
// are no dependencies of the package: they are installed here when they are first measured.

const { spawnSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')

let isInstalled = false

/** Installs what is missing; what cannot be installed is left out, and `whyUnavailable` says why. */
function install() {
  if (isInstalled || fs.existsSync(path.join(__dirname, 'node_modules', '.package-lock.json'))) return
  isInstalled = true
  console.log('installing the peers of the log (compiling one may take minutes)…')
  // The headers of this very Node, if they are there: others would have to be downloaded.
  const prefix = path.join(path.dirname(process.execPath), '..')
  const headers = fs.existsSync(path.join(prefix, 'include', 'node', 'node.h')) ? { npm_config_nodedir: prefix } : {}
  spawnSync('npm', ['install', '--no-audit', '--no-fund'], {
    cwd: __dirname, stdio: ['ignore', 'ignore', 'inherit'], env: { ...process.env, ...headers }, shell: process.platform === 'win32',
  })
}

/**
 * Why a store cannot be measured; `undefined` when it can.
 *
 * @param {string} name
 */
function whyUnavailable(name) {
  install()
  // In a process of its own: a broken addon may do more than throw.
  const program = `const store = require('${name}'); if ('${name}' === 'better-sqlite3') new store(':memory:')`
  const { status, stderr } = spawnSync(process.execPath, ['-e', program], { cwd: __dirname, encoding: 'utf8' })
  return status === 0 ? undefined : (/^\w*Error.*$/m.exec(stderr)?.[0] ?? `it ends with ${status}`)
}

module.exports = { whyUnavailable }
