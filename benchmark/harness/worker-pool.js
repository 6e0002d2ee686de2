'use strict'

const { fork } = require('node:child_process')
const path = require('node:path')
const { bare } = require('./bare.js')
const { beforeExit } = require('./cleanup.js')

/** @typedef {import('./types.js').WriteTask} WriteTask */

const ROOT = path.join(__dirname, '..')

/**
 * A process that stays: its work is measured warm. Each implementation has its own, so that
 * none pays for another's garbage, threads or patches of `fs`. An idle process waits for a
 * message and takes no time.
 */
class WorkerProcess {
  /** @type {import('node:child_process').ChildProcess} */
  #child
  /** @type {{ resolve: (message: any) => void, reject: (error: Error) => void } | undefined} */
  #waiting

  /** @param {string} module relative to `benchmark/` @param {object} options for its `open` */
  constructor(module, options) {
    const words = [path.join(ROOT, module), JSON.stringify(options)]
    this.#child = fork(path.join(__dirname, 'worker.js'), words, { execArgv: ['--expose-gc'] })
    this.stop = beforeExit(() => this.#child.kill('SIGKILL'))
    this.#child.on('message', (message) => this.#waiting?.resolve(message))
    this.#child.on('error', (error) => this.#waiting?.reject(error))
    this.#child.on('exit', (code, signal) => this.#waiting?.reject(new Error(`its process ended (${signal ?? code})`)))
    /** Resolves when it can take a task. @type {Promise<unknown>} */
    this.ready = this.#nextMessage()
  }

  /**
   * @param {object} task
   * @returns {Promise<number>} Milliseconds.
   */
  async run(task) {
    return (await this.ask(task)).milliseconds
  }

  /**
   * The same, with everything that the worker reports.
   *
   * @param {object} task
   * @returns {Promise<any>}
   */
  async ask(task) {
    const message = this.#nextMessage()
    this.#child.send(task)
    const { error, ...report } = await message
    if (error) throw new Error(error)
    return report
  }

  /** @returns {Promise<any>} */
  #nextMessage() {
    return new Promise((resolve, reject) => (this.#waiting = { resolve, reject }))
  }
}

/**
 * Several processes with the same module, all ready.
 *
 * @param {number} count
 * @param {string} module
 * @param {object} options
 */
async function startWorkers(count, module, options) {
  const workers = Array.from({ length: count }, () => new WorkerProcess(module, options))
  await Promise.all(workers.map(({ ready }) => ready))
  return workers
}

/**
 * The bare system calls, run as a worker is.
 *
 * @param {NonNullable<import('./types.js').Implementation['bare']>} commands
 */
function bareWorker(commands) {
  return {
    /** @param {WriteTask} task */
    async run({ schedule, dir, count, size, round }) {
      const [command, values] = commands[schedule] ?? []
      if (!command) throw new Error(`the bare program has no ${schedule}`)
      return /** @type {number} */ ((await bare(command, { dir, count, size, round, ...values })).milliseconds)
    },
    stop() {},
  }
}

/** A worker for each implementation, started when it is first needed. */
class WorkerPool {
  /** @type {Map<string, WorkerProcess | ReturnType<typeof bareWorker>>} */
  #workers = new Map()

  /** @param {import('./types.js').Implementation} implementation */
  async workerFor({ name, module, options = {}, bare = {} }) {
    let worker = this.#workers.get(name)
    if (!worker) {
      worker = module ? new WorkerProcess(`peers/writes/${module}.js`, options) : bareWorker(bare)
      if (worker instanceof WorkerProcess) await worker.ready
      this.#workers.set(name, worker)
    }
    return worker
  }

  stop() {
    for (const worker of this.#workers.values()) worker.stop()
    this.#workers.clear()
  }
}

module.exports = { startWorkers, WorkerPool, WorkerProcess }
