'use strict'

// Directories, mounts and child processes: made here, and removed here, however the demo ends.

const { spawn, spawnSync } = require('node:child_process')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const readline = require('node:readline')

/** What is still to be removed, last in, first out. @type {Set<() => void>} */
const leftovers = new Set()

/** @param {() => void} step @returns {() => void} runs the step now */
function later(step) {
  leftovers.add(step)
  return () => {
    if (leftovers.delete(step)) step()
  }
}

/** To be called once: from then on nothing stays behind, not even after Ctrl-C. */
function watch() {
  process.on('exit', () => {
    for (const step of [...leftovers].reverse()) {
      try {
        step()
      } catch (error) {
        console.error(`This could not be cleaned up: ${error.message}`)
      }
    }
  })
  const signals = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 }
  for (const [signal, number] of Object.entries(signals)) process.on(signal, () => process.exit(128 + number))
  // The reader of the output has closed it (`| head`).
  process.stdout.on('error', () => process.exit(1))
}

/** @returns {string} an empty directory */
function newDir() {
  const made = fs.realpathSync(fs.mkdtempSync(path.join(os.tmpdir(), 'holdfast-demo-')))
  // A process that was just killed may still be about to create a file.
  later(() => fs.rmSync(made, { recursive: true, force: true, maxRetries: 10, retryDelay: 50 }))
  return made
}

/**
 * Mounts a small disk in memory.
 *
 * @param {number} bytes
 * @returns {{ dir: string, reason?: undefined } | { reason: string, dir?: undefined }} or the reason why there is none
 */
function mountSmallDisk(bytes) {
  if (process.platform !== 'linux') return { reason: `a small disk is mounted on Linux only, and this is ${process.platform}` }
  if (process.getuid() !== 0) return { reason: 'mounting a small disk needs root' }
  const at = newDir()
  const { status, stderr, error } = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${bytes}`, 'holdfast-demo', at], { encoding: 'utf8' })
  if (status !== 0) return { reason: `root may not mount here (${(error?.message ?? stderr).trim()})` }
  later(() => unmount(at))
  return { dir: at }
}

/** @param {string} at */
function unmount(at) {
  for (let attempt = 0; attempt < 20; attempt++) {
    if (spawnSync('umount', [at], { stdio: 'ignore' }).status === 0) return
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 50)
  }
  spawnSync('umount', ['-l', at])
}

/** A program of this directory in a process of its own. It is asked to end by the end of its input. */
class Child {
  /**
   * @param {string} program
   * @param {string[]} args
   * @param {object} [options]
   * @param {(words: string[]) => void} [options.onLine] gets each line that it prints
   * @param {string[]} [options.under] a command that starts it
   */
  constructor(program, args, { onLine = () => {}, under = [] } = {}) {
    const [command, ...rest] = [...under, process.execPath, path.join(__dirname, program), ...args]
    this.process = spawn(command, rest, { stdio: ['pipe', 'pipe', 'pipe'] })
    this.process.stdin.on('error', () => {})
    let complaint = ''
    this.process.stderr.on('data', (text) => (complaint += text))
    readline.createInterface({ input: this.process.stdout }).on('line', (line) => onLine(line.split(' ')))
    const dead = later(() => this.process.kill('SIGKILL'))
    this.killed = false
    /** Settles when it has ended and all its output has been read. */
    this.ended = new Promise((resolve, reject) => {
      this.process.once('error', reject)
      this.process.once('close', (code, signal) => {
        dead()
        if (code === 0 || this.killed) resolve(undefined)
        else reject(new Error(`${program} ended by itself (${signal ?? `code ${code}`}). ${complaint}`))
      })
    })
    // It may end long before `ended` is awaited.
    this.ended.catch(() => {})
  }

  get pid() {
    return this.process.pid
  }

  /** Kills it as the system does when memory runs out: no handler runs in it. */
  kill() {
    // A process that has already ended may have reported an error.
    this.killed = this.process.kill('SIGKILL') || this.killed
    return this.ended
  }

  /** Asks it to finish its work and end. */
  stop() {
    this.process.stdin.end()
    return this.ended
  }
}

module.exports = { Child, mountSmallDisk, newDir, watch }
