'use strict'

const { fork } = require('node:child_process')
const path = require('node:path')
const { bare } = require('./bare.js')
const { beforeExit } = require('./cleanup.js')

/**
 * What a contestant is to do.
 *
 * @typedef {object} Task
 * @property {'oneByOne' | 'atOnce' | 'pending'} run
 * @property {string} dir
 * @property {string} [prefix] Of the files' names.
 * @property {number} count
 * @property {number} size
 * @property {number} round
 * @property {boolean} [onePath] All writes go to file number 0.
 * @property {number} [limit] Of `pending`.
 */

/**
 * A process that stays: what it does is measured warm. Each contestant has its own, so that
 * none pays for another's garbage, threads or patches of `fs`. The idle ones wait for a
 * message and take no time.
 */
class Worker {
  /** @type {import('node:child_process').ChildProcess} */
  #child
  /** @type {{ resolve: (message: any) => void, reject: (error: Error) => void } | undefined} */
  #waiting

  /** @param {string} module @param {object} options */
  constructor(module, options) {
    const words = [path.join(__dirname, module), JSON.stringify(options)]
    this.#child = fork(path.join(__dirname, 'worker.js'), words, { execArgv: ['--expose-gc'] })
    this.stop = beforeExit(() => this.#child.kill('SIGKILL'))
    this.#child.on('message', (message) => this.#waiting?.resolve(message))
    this.#child.on('error', (error) => this.#waiting?.reject(error))
    this.#child.on('exit', (code, signal) => this.#waiting?.reject(new Error(`its process ended (${signal ?? code})`)))
  }

  /** @returns {Promise<boolean>} Whether there is such a contestant at all. */
  async ready() {
    return (await this.#answer()).ready
  }

  /**
   * @param {object} task
   * @returns {Promise<number>} Milliseconds.
   */
  async run(task) {
    return (await this.ask(task)).milliseconds
  }

  /**
   * The same, with whatever else it has to tell.
   *
   * @param {object} task
   * @returns {Promise<any>}
   */
  async ask(task) {
    const answer = this.#answer()
    this.#child.send(task)
    const { error, ...told } = await answer
    if (error) throw new Error(error)
    return told
  }

  /** @returns {Promise<any>} */
  #answer() {
    return new Promise((resolve, reject) => (this.#waiting = { resolve, reject }))
  }
}

/** The bare system calls, in the shape of a worker. */
class Bare {
  #commands

  /** @param {NonNullable<import('./contestants.js').Contestant['bare']>} commands */
  constructor(commands) {
    this.#commands = commands
  }

  /** @param {Task} task */
  async run({ run, dir, count, size, round }) {
    const [command, values] = this.#commands[run] ?? []
    if (!command) throw new Error(`the bare program has no ${run}`)
    const { milliseconds } = await bare(command, { dir, count, size, round, ...values })
    return milliseconds
  }
}

/** All contestants, each started when it is first needed. */
class Crew {
  /** @type {Map<string, Worker | Bare>} */
  #members = new Map()

  /** @param {import('./contestants.js').Contestant} contestant */
  async member({ name, module, options = {}, bare }) {
    let member = this.#members.get(name)
    if (!member) {
      if (module) {
        member = new Worker(`contestants/${module}.js`, options)
        await member.ready()
      } else {
        member = new Bare(bare ?? {})
      }
      this.#members.set(name, member)
    }
    return member
  }

  stop() {
    for (const member of this.#members.values()) if (member instanceof Worker) member.stop()
    this.#members.clear()
  }
}

module.exports = { Crew, Worker }
