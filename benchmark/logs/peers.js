'use strict'

// The stores that the log is measured beside. They are native, and one may have to be compiled,
// so they are no dependencies of the package: they are installed when they are first measured.

const { spawnSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')

const FOLDER = path.join(__dirname, '..', 'peers')

let isInstalled = false

/** Installs what is missing; what cannot be installed is left out, and `whyNot` says so. */
function install() {
  if (isInstalled || fs.existsSync(path.join(FOLDER, 'node_modules', '.package-lock.json'))) return
  isInstalled = true
  console.log('installing the peers of the log (compiling one may take minutes)…')
  // The headers of this very Node, where they are: others would have to be downloaded.
  const prefix = path.join(path.dirname(process.execPath), '..')
  const headers = fs.existsSync(path.join(prefix, 'include', 'node', 'node.h')) ? { npm_config_nodedir: prefix } : {}
  spawnSync('npm', ['install', '--no-audit', '--no-fund'], {
    cwd: FOLDER, stdio: ['ignore', 'ignore', 'inherit'], env: { ...process.env, ...headers }, shell: process.platform === 'win32',
  })
}

/** @param {string} name @returns {any} */
function load(name) {
  return require(require.resolve(name, { paths: [FOLDER] }))
}

/**
 * Why a store cannot be measured; `undefined` when it can.
 *
 * @param {string} name
 */
function whyNot(name) {
  install()
  // In a process of its own: a broken addon may do more than throw.
  const program = `const it = require(require.resolve('${name}', { paths: [${JSON.stringify(FOLDER)}] })); if ('${name}' === 'better-sqlite3') new it(':memory:')`
  const { status, stderr } = spawnSync(process.execPath, ['-e', program], { encoding: 'utf8' })
  return status === 0 ? undefined : (/^\w*Error.*$/m.exec(stderr)?.[0] ?? `it ends with ${status}`)
}

module.exports = { load, whyNot }
