'use strict'

const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')

const PEERS = ['write-file-atomic', 'atomically', 'fast-write-atomic', 'steno', 'proper-lockfile']
const ROOT = path.join(__dirname, '..', '..')

/** What must be known to read the figures. */
function describeMachine() {
  const versions = Object.fromEntries(PEERS.map((peer) => [peer, packageOf(`node_modules/${peer}`).version]))
  return {
    processors: `${os.cpus().length} × ${os.cpus()[0]?.model ?? 'unknown'}`,
    memory: `${Math.round(os.totalmem() / 2 ** 30)} GiB`,
    system: `${os.type()} ${os.release()} ${os.arch()}`,
    node: process.version,
    load: os.loadavg()[0],
    holdfast: packageOf('.').version,
    peers: versions,
  }
}

/** Identifies a build of the addon. */
function addonBuild() {
  const nativeDir = path.join(ROOT, 'lib', 'native')
  const addons = fs.readdirSync(nativeDir).filter((file) => file.endsWith('.node'))
  return addons.map((file) => `${file} ${fs.statSync(path.join(nativeDir, file)).mtimeMs}`).join()
}

/** @param {string} dir @returns {{ version: string }} */
function packageOf(dir) {
  return JSON.parse(fs.readFileSync(path.join(ROOT, dir, 'package.json'), 'utf8'))
}

module.exports = { addonBuild, describeMachine }
