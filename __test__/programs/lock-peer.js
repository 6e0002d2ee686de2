'use strict'

// Another process or worker thread that wants the same lock: it runs the functions that the spec
// sends, and keeps what it holds between calls.
//
// Required, this file is the spec's end of the conversation; run, it is the other end.

const { fork } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const { Worker, isMainThread, parentPort } = require('node:worker_threads')

class Peer {
  #last = 0
  /** @type {Map<number, { resolve: (value: any) => void, reject: (error: Error) => void }>} */
  #pending = new Map()
  #end

  /**
   * @param {import('node:test').TestContext} t
   * @param {object} [options]
   * @param {boolean} [options.thread] a worker thread of this process instead of a process
   */
  constructor(t, { thread = false } = {}) {
    if (thread) {
      const worker = new Worker(__filename)
      this.ended = new Promise((resolve) => worker.once('exit', (code) => resolve({ code, signal: null })))
      this.#end = () => worker.terminate()
      this.send = (/** @type {object} */ message) => worker.postMessage(message)
      worker.on('message', (message) => this.#settle(message))
    } else {
      const child = fork(__filename, [], { execArgv: [], stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
      this.pid = child.pid
      this.ended = new Promise((resolve) => child.once('close', (code, signal) => resolve({ code, signal })))
      this.#end = (/** @type {NodeJS.Signals} */ signal) => child.kill(signal)
      // A killed process gets no messages; its calls are rejected below.
      this.send = (/** @type {any} */ message) => child.connected && child.send(message, () => {})
      child.on('message', (message) => this.#settle(message))
    }
    this.ended.then(() => {
      for (const { reject } of this.#pending.values()) reject(new Error('the peer has ended'))
    })
    t.after(() => this.kill())
  }

  /**
   * Runs a function over there. Only its source travels.
   *
   * @param {(tools: any, ...args: any[]) => any} program `tools` has `holdfast`, `fs`, `path`,
   *   and `kept`, an object for what is to be kept until the next call
   * @param {...any} args plain values
   * @returns {Promise<any>} what it returns, in plain values
   */
  run(program, ...args) {
    return new Promise((resolve, reject) => {
      const id = ++this.#last
      this.#pending.set(id, { resolve, reject })
      this.send({ id, source: String(program), args })
    })
  }

  /** Acquires a lock and keeps it. @param {string} file @param {object} [options] */
  acquire(file, options = {}) {
    return this.run(async ({ holdfast, kept }, file, options) => {
      kept.lock = await holdfast.acquireLock(file, options)
    }, file, { timeout: GUARD, ...options })
  }

  /** Releases the lock that it has acquired. */
  release() {
    return this.run(({ kept }) => kept.lock.release())
  }

  /** How a call ends over there. @param {string} name @param {...any} args @returns {Promise<any>} `'success'`, or the error's fields */
  outcome(name, ...args) {
    return this.run(async ({ holdfast }, name, args) => {
      try {
        await holdfast[name](...args)
        return 'success'
      } catch ({ code, message, holder }) {
        return { code, message, holder: holder && { ...holder } }
      }
    }, name, args)
  }

  /** @param {NodeJS.Signals} [signal] without a meaning for threads */
  async kill(signal = 'SIGKILL') {
    await this.#end(signal)
    return this.ended
  }

  /** @param {any} message */
  #settle({ id, value, error }) {
    const call = this.#pending.get(id)
    this.#pending.delete(id)
    if (error) call?.reject(Object.assign(new Error(error.message), error))
    else call?.resolve(value)
  }
}

/** Longer than any wait that ends. */
const GUARD = 60_000
/** For calls that wait for a lock. */
const LONG_WAIT = { timeout: GUARD }
/** For tests that wait for locks. */
const LIMITS = { timeout: 3 * GUARD }

/**
 * Resolves when so many processes wait in the kernel for a lock. Only Linux shows that; elsewhere it
 * is assumed after a moment.
 *
 * @param {string} lockFile
 * @param {number} [count]
 */
async function untilWaiting(lockFile, count = 1) {
  if (process.platform !== 'linux') return new Promise((resolve) => setTimeout(resolve, 500))
  const { ino } = fs.statSync(lockFile)
  const waits = new RegExp(`^\\d+: +-> .*:${ino} `, 'gm')
  for (;;) {
    if ((fs.readFileSync('/proc/locks', 'utf8').match(waits) ?? []).length >= count) return
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

/** The lock file of a file with a name of ordinary length. @param {string} file */
function lockFileOf(file) {
  return path.join(path.dirname(file), `.${path.basename(file)}.lock`)
}

function serve() {
  const holdfast = require('../..')
  const tools = { holdfast, fs, path, kept: {} }
  const answer = (/** @type {object} */ message) => (parentPort ? parentPort.postMessage(message) : process.send?.(message))
  const listen = async (/** @type {any} */ { id, source, args }) => {
    try {
      answer({ id, value: await (0, eval)(`(${source})`)(tools, ...args) })
    } catch (error) {
      const { message, code, holder } = /** @type {any} */ (error)
      answer({ id, error: { message: String(message), code, holder: holder && { ...holder } } })
    }
  }
  if (parentPort) parentPort.on('message', listen)
  else process.on('message', listen)
}

if (require.main === module || !isMainThread) serve()

module.exports = { GUARD, LIMITS, LONG_WAIT, Peer, lockFileOf, untilWaiting }
