'use strict'

// The connection to holdfast's threads: it numbers operations, keeps the memory that they need
// alive, and settles their promises.

const path = require('node:path')

const native = require('./binding.js')
const { logLimitation } = require('../support/logger.js')

/**
 * How long the end of the process waits for writes that have begun, in milliseconds. They take a
 * few; a disk that hangs must not hang the exit.
 */
const EXIT_TIMEOUT = 1000

/**
 * @typedef {object} Operation
 * @property {(value: any) => void} resolve
 * @property {(error: import('./binding.js').NativeError) => void} reject
 * @property {((event: import('./binding.js').NativeEvent) => void) | undefined} observe
 * @property {unknown} memory what the threads use: kept until the operation is over
 */

/**
 * @typedef {object} Appended what came of an append to a log
 * @property {bigint} first the sequence number of its first entry
 * @property {number} count how many there are
 * @property {number} memtableBytes how much memory the memtable takes now, about
 */

/** @type {Map<number, Operation>} */
const pending = new Map()
/** @type {import('./binding.js').Port | undefined} */
let port
let last = 0

/** The port of this thread. */
function open() {
  return (port ??= connect())
}

function connect() {
  const opened = new native.Port(onMessages, program())
  // A write that is cut off by the end of the process does no harm, but leaves its temp
  // file behind. Worker threads end without the process and need no such care.
  // Loaded at the first use: it takes as long as half the package.
  const { isMainThread } = require('node:worker_threads')
  if (isMainThread) process.on('exit', () => opened.finish(EXIT_TIMEOUT))
  return opened
}

/**
 * What people know the process by: the name of its script. Never an argument, which may be a secret:
 * without a script (`--eval`, standard input) the first one is in its place.
 */
function program() {
  const [, script] = process.argv
  // Not in the types, but in every Node: the code to evaluate.
  const { _eval: code } = /** @type {{ _eval?: string }} */ (/** @type {unknown} */ (process))
  return path.basename(script === undefined || script === '-' || code !== undefined ? process.execPath : script)
}

/**
 * Starts an operation and settles with its outcome: resolves with its value, if it has one,
 * or rejects with the plain fields of an error.
 *
 * @template T
 * @param {(port: import('./binding.js').Port, id: number) => void} start
 * @param {unknown} [memory] what must not be collected meanwhile
 * @param {Operation['observe']} [observe] takes what there is to log
 * @returns {Promise<T>}
 */
function run(start, memory, observe) {
  return new Promise((resolve, reject) => {
    const opened = open()
    const id = ++last
    start(opened, id)
    // Nothing can have been delivered yet: that happens on this thread.
    if (pending.size === 0) opened.ref()
    pending.set(id, { resolve, reject, observe, memory })
  })
}

/**
 * The same for an operation that may be over when the call returns: then it will not answer, and
 * there is no promise.
 *
 * @template T
 * @param {(port: import('./binding.js').Port, id: number) => boolean} start
 * @returns {Promise<T> | undefined}
 */
function offer(start) {
  const opened = open()
  const id = ++last
  if (!start(opened, id)) return undefined
  return new Promise((resolve, reject) => {
    // As above.
    if (pending.size === 0) opened.ref()
    pending.set(id, { resolve, reject, observe: undefined, memory: undefined })
  })
}

/** @typedef {import('./binding.js').Delivery} Delivery */
/** @typedef {import('./binding.js').Report} Report */

/** @param {Array<number | bigint | Delivery | Report>} messages */
function onMessages(messages) {
  for (let i = 0; i < messages.length; i++) {
    const message = /** @type {number | Delivery | Report} */ (messages[i])
    if (typeof message === 'number') {
      if (message < 0) {
        // An append to a log.
        pending.get(-message)?.resolve({ first: messages[i + 1], count: messages[i + 2], memtableBytes: messages[i + 3] })
        pending.delete(-message)
        i += 3
        continue
      }
      pending.get(message)?.resolve(undefined)
      pending.delete(message)
      continue
    }
    if ('limitation' in message && message.limitation) {
      logLimitation(message.limitation)
      continue
    }
    const operation = pending.get(message.id)
    if ('value' in message) {
      operation?.resolve(message.value)
      pending.delete(message.id)
      continue
    }
    if (message.event) operation?.observe?.(message.event)
    if (message.error) operation?.reject(message.error)
    if (message.lost) losses.get(message.id)?.(message.lost)
    if (message.error) pending.delete(message.id)
  }
  if (pending.size === 0) port?.unref()
}

/** Who hears of the loss of a lock, by the number of the operation that brought it. @type {Map<number, (lost: import('./binding.js').NativeError) => void>} */
const losses = new Map()

/** @param {number} id @param {((lost: import('./binding.js').NativeError) => void) | undefined} callback */
function onLoss(id, callback) {
  if (callback) losses.set(id, callback)
  else losses.delete(id)
}

/** A number for an operation that is over when the call returns. */
function nextId() {
  return ++last
}

module.exports = { nextId, offer, onLoss, open, run }
