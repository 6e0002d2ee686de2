'use strict'

// Appends to one file, in the order of the calls. Those that come while an append is on its way make the
// next one together: one lock, one write, one sync.

const { heldFor } = require('../api/lock.js')
const { onAbort } = require('../support/abort.js')
const { DEFAULT_LOCK_TIMEOUT } = require('../support/arguments.js')
const { CANCELLED } = require('../native/errors.js')
const port = require('../native/port.js')
const logger = require('../support/logger.js')
const writeOptions = require('../support/write-options.js')

const OPERATION = 'append lines'

/** From this many characters on an append goes without others. */
const MOST = 4 * 1024 * 1024

/**
 * @typedef {object} Settings
 * @property {boolean} durable
 * @property {boolean} json
 * @property {number} mode
 * @property {boolean} makeDirs
 * @property {number} [timeout]
 * @property {import('../../index.js').Logger | null | undefined} [logger]
 */

/**
 * @typedef {object} Call
 * @property {string} text
 * @property {number} lines
 * @property {import('../native/binding.js').HeldNumbers | undefined} held the locks that the caller holds
 * @property {() => void} resolve
 * @property {(reason: unknown) => void} reject
 */

/** What can only be for want of room: less of it may fit. */
const NO_ROOM = new Set(['ENOSPC', 'EDQUOT', 'EFBIG'])

class Appender {
  /** @type {Call[]} */
  #calls = []
  #isBusy = false
  /** @type {(() => void)[]} */
  #onIdle = []
  stats = { appends: 0, lines: 0, bytes: 0, groups: 0, syncs: 0, repaired: 0 }

  /** @param {string} path absolute @param {Settings} settings @param {() => void} [ended] is called when nothing is on its way any more */
  constructor(path, settings, ended) {
    this.path = path
    this.settings = settings
    this.ended = ended
  }

  /**
   * @param {string} text whole lines
   * @param {number} lines
   * @param {AbortSignal} [signal]
   * @returns {Promise<void>}
   */
  append(text, lines, signal) {
    writeOptions.beforeWrite(this.path, 'tx.write', true)
    const held = heldFor(this.path)
    return new Promise((resolve, reject) => {
      /** @type {Call} */
      const call = { text, lines, held, resolve, reject }
      if (signal) {
        const stop = onAbort(signal, () => {
          const index = this.#calls.indexOf(call)
          if (index < 0) return
          this.#calls.splice(index, 1)
          reject(CANCELLED)
        })
        call.resolve = () => (stop(), resolve())
        call.reject = (error) => (stop(), reject(error))
      }
      if (held) {
        // It must not wait behind calls that wait for its caller's lock.
        void this.#perform([call])
        return
      }
      this.#calls.push(call)
      if (this.#isBusy) return
      this.#isBusy = true
      // The calls of this turn of the event loop go together.
      queueMicrotask(() => void this.#drain())
    })
  }

  /** Resolves when all that was asked for is over. @returns {Promise<void>} */
  idle() {
    return this.#isBusy ? new Promise((resolve) => this.#onIdle.push(resolve)) : Promise.resolve()
  }

  async #drain() {
    while (this.#calls.length > 0) {
      let [count, size] = [0, 0]
      for (const { text } of this.#calls) {
        if (count > 0 && size + text.length > MOST) break
        count++
        size += text.length
      }
      await this.#perform(this.#calls.splice(0, count))
    }
    this.#isBusy = false
    for (const each of this.#onIdle.splice(0)) each()
    this.ended?.()
  }

  /** @param {Call[]} group */
  async #perform(group) {
    try {
      await this.#write(group)
    } catch (error) {
      const { code, committed } = /** @type {import('../native/binding.js').NativeError} */ (error)
      if (group.length > 1 && !committed && NO_ROOM.has(code)) {
        // Nothing of it is there. Some of it may fit.
        for (const each of group) await this.#perform([each])
        return
      }
      for (const { reject } of group) reject(error)
      return
    }
    for (const { resolve } of group) resolve()
  }

  /** @param {Call[]} group */
  async #write(group) {
    const { durable, json, mode, makeDirs, timeout = DEFAULT_LOCK_TIMEOUT, logger: own } = this.settings
    const bytes = Buffer.from(group.length === 1 ? /** @type {Call} */ (group[0]).text : group.map(({ text }) => text).join(''))
    const held = /** @type {Call} */ (group[0]).held
    /** @type {import('../native/binding.js').LinesAppended} */
    const { repaired } = await port.run((opened, id) => void opened.appendLines(id, this.path, bytes, { durable, json, mode, makeDirs }, timeout, held))
    const { stats } = this
    stats.groups++
    stats.appends += group.length
    stats.bytes += bytes.length
    for (const { lines } of group) stats.lines += lines
    if (durable) stats.syncs++
    if (!repaired) return
    stats.repaired++
    const { path: torn, ...where } = repaired
    logger.safeLogger(own)?.warn({ path: this.path, torn, ...where, operation: OPERATION }, 'Moved the end of a file of lines, which a crash had left')
  }
}

module.exports = { Appender, OPERATION }
