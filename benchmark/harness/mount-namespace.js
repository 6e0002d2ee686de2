'use strict'

const { spawn, spawnSync } = require('node:child_process')

const INSIDE = 'HOLDFAST_BENCHMARK_NAMESPACE'

/**
 * Runs the program again in a mount namespace of its own: no other process sees its mounts,
 * and the kernel removes them with the namespace's last process, even a killed one.
 *
 * @returns {boolean} Whether a child does the work, so that this process has nothing left to do.
 */
function enterNamespace() {
  if (process.env[INSIDE] || process.platform !== 'linux' || process.getuid?.() !== 0) return false
  if (spawnSync('unshare', ['--mount', 'true']).status !== 0) return false
  const child = spawn('unshare', ['--mount', process.execPath, ...process.argv.slice(1)], {
    stdio: ['inherit', 'inherit', 'inherit', 'ipc'],
    env: { ...process.env, [INSIDE]: '1' },
  })
  for (const signal of /** @type {const} */ (['SIGHUP', 'SIGINT', 'SIGTERM'])) {
    process.on(signal, () => child.kill(signal))
  }
  child.on('exit', (code) => {
    process.exitCode = code ?? 1
  })
  return true
}

/** A process with a channel to its parent stays alive until the channel is closed. */
function leaveNamespace() {
  if (!process.connected) return
  process.removeAllListeners('disconnect')
  process.disconnect?.()
}

module.exports = { enterNamespace, leaveNamespace }
