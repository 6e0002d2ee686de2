'use strict'

// What the specs share: small and full disks, failures, loggers, functions that run in a child process.
// What the machine offers is in system.js, which also removes what is made.

const assert = require('node:assert/strict')
const { spawn, spawnSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const holdfast = require('..')
const { cleanUp, names, newDir, temps, tmpfs, whyNot } = require('./system.js')

const root = path.join(__dirname, '..')

/** A user other than root, and its group: nobody. */
const NOBODY = { uid: 65534, gid: 65534 }

/** A child program that takes this long hangs. */
const HANGS = 60_000

/**
 * The path of a file in a new directory. It exists if a content is passed.
 *
 * @param {import('node:test').TestContext} t
 * @param {string} [content]
 */
function newFile(t, content) {
  const file = path.join(newDir(t), 'file')
  if (content !== undefined) fs.writeFileSync(file, content)
  return file
}

/** @param {string} point */
function unmount(point) {
  if (spawnSync('umount', [point]).status !== 0) spawnSync('umount', ['-l', point])
}

/**
 * Mounts something at `point` until the test is over.
 *
 * @param {import('node:test').TestContext} t
 * @param {string} point
 * @param {...string} args those of mount(8) before the mount point
 */
function mount(t, point, ...args) {
  const { status, stderr } = spawnSync('mount', [...args, point], { encoding: 'utf8' })
  assert.equal(status, 0, stderr)
  cleanUp(t, () => unmount(point))
}

/**
 * A small file system in memory.
 *
 * @param {import('node:test').TestContext} t
 * @param {string} options those of mount(8)
 * @returns {string} its directory
 */
function tinyDisk(t, options = 'size=64k') {
  return tmpfs(t, options)
}

/**
 * A disk with no room left.
 *
 * @param {import('node:test').TestContext} t
 * @returns {{ dir: string, filler: string }} its directory, and the file to remove to make room
 */
function fullDisk(t) {
  const dir = tinyDisk(t, 'size=256k')
  const filler = path.join(dir, 'filler')
  assert.throws(() => fs.writeFileSync(filler, Buffer.alloc(1 << 20)), { code: 'ENOSPC' })
  return { dir, filler }
}

/** @param {string} file */
function modeOf(file) {
  return fs.lstatSync(file).mode & 0o7777
}

/**
 * The error with which a call fails, or a promise rejects.
 *
 * @param {Promise<unknown> | (() => unknown)} call
 * @returns {Promise<any>}
 */
async function failure(call) {
  try {
    await (typeof call === 'function' ? call() : call)
  } catch (error) {
    return error
  }
  return assert.fail('the call should have failed')
}

/** Resolves in the next turn of the event loop, after what is already queued. */
function nextTurn() {
  return new Promise((resolve) => setImmediate(resolve))
}

/** Fails unless the lock of a file is free. @param {string} file */
async function assertFree(file) {
  assert.deepEqual(await holdfast.isLocked(file), { locked: false })
  await (await holdfast.acquireLock(file, { timeout: 0 })).release()
}

/** A logger that keeps its entries, in order. */
function collector() {
  /** @type {{ level: string, message: string, fields: any }[]} */
  const entries = []
  /** @param {string} level */
  const take = (level) => (/** @type {object} */ fields, /** @type {string} */ message) =>
    void entries.push({ level, message, fields })
  return {
    entries,
    logger: { debug: take('debug'), warn: take('warn'), error: take('error') },
    /** @param {string} message */
    of: (message) => entries.filter((entry) => entry.message === message),
  }
}

/** @type {string | undefined} */
let copy

/** A copy of the package that every user can read, wherever this checkout is. */
function readableByAll() {
  if (copy === undefined) {
    copy = newDir()
    fs.cpSync(path.join(root, 'lib'), path.join(copy, 'lib'), { recursive: true })
    for (const file of ['index.js', 'package.json', 'bin/holdfast.js']) fs.cpSync(path.join(root, file), path.join(copy, file))
    spawnSync('chmod', ['-R', 'a+rX', copy])
  }
  return copy
}

/** @typedef {{ uid: number, groups?: number[], umask?: string }} Person a user, whose own group has the same number */

/** What to put before a command that a person runs. @param {Person} person */
function asPerson({ uid, groups = [], umask = '022' }) {
  const supplementary = groups.length > 0 ? `--groups=${groups.join()}` : '--clear-groups'
  return ['setpriv', `--reuid=${uid}`, `--regid=${uid}`, supplementary, 'sh', '-c', `umask ${umask}; exec "$@"`, 'sh']
}

/**
 * Runs an async function in a child process and resolves with its result. Only its source is
 * passed: it has `tools`, and nothing else of the spec.
 *
 * @param {(args: any, tools: any) => Promise<any>} program `tools` has `holdfast`, `fs`,
 *   `path`, and `outcome(call)`, which returns in plain values how a call ended
 * @param {object} [args] plain values for it
 * @param {object} [options]
 * @param {{ uid: number, gid: number }} [options.user]
 * @param {Person} [options.person] with groups and a umask
 * @param {string} [options.cwd]
 * @param {string[]} [options.command] what to put before `node`: `['strace', '-f']`
 * @returns {Promise<any>}
 */
function inChild(program, args = {}, { user, person, cwd, command = [] } = {}) {
  const source = `
    'use strict'
    const fs = require('node:fs')
    const path = require('node:path')
    const holdfast = require(${JSON.stringify(user || person ? readableByAll() : root)})
    const plain = (error) => error && {
      class: error.constructor.name, name: error.name, message: error.message, code: error.code, errno: error.errno,
      syscall: error.syscall, path: error.path, attempts: error.attempts, committed: error.committed, hint: error.hint,
      cause: error.cause && plain(error.cause),
    }
    const outcome = async (call) => {
      try { await call() } catch (error) { return plain(error) }
      return 'success'
    }
    const program = ${program}
    program(${JSON.stringify(args)}, { holdfast, fs, path, outcome }).then((value) => {
      fs.writeFileSync(3, JSON.stringify({ value }))
    })`
  const [file = process.execPath, ...rest] = [...(person ? asPerson(person) : []), ...command, process.execPath, '-e', source]
  return new Promise((resolve, reject) => {
    const child = spawn(file, rest, { ...user, cwd: cwd ?? '/', stdio: ['ignore', 'pipe', 'pipe', 'pipe'], timeout: HANGS, killSignal: 'SIGKILL' })
    const said = ['', '', '', '']
    for (const number of [1, 2, 3]) {
      const stream = /** @type {import('node:stream').Readable} */ (child.stdio[number])
      stream.setEncoding('utf8').on('data', (text) => (said[number] += text))
    }
    child.on('error', reject)
    child.on('close', (code, signal) => {
      if (code === 0 && said[3]) resolve(JSON.parse(said[3]).value)
      else reject(new Error(`the child program ended with ${signal ?? code}: ${said[1]}${said[2]}`))
    })
  })
}

module.exports = {
  NOBODY, asPerson, assertFree, collector, failure, fullDisk, holdfast, inChild, modeOf, mount, names, newDir, newFile, nextTurn, readableByAll, root, temps, tinyDisk, whyNot,
}
