'use strict'

// The connection to holdfast's threads: it numbers operations, keeps the memory that they need
// alive, and settles their promises.

const path = require('node:path')

const { useWorkingDir } = require('../support/arguments.js')
const { logLimitation } = require('../support/logger.js')

const native = require('./load.js')

useWorkingDir(native.workingDir)

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

/**
 * @typedef {object} Connection what there is once in a thread, however often its modules are loaded
 * @property {import('./binding.js').Port} port
 * @property {Map<number, Operation>} pending
 * @property {Map<number, (lost: import('./binding.js').NativeError) => void>} losses who hears of the loss of a lock, by the number of the operation that brought it
 * @property {number} last the number of the last operation
 */

/** Where a thread keeps its connections, by the addon that they are to: there may be several versions of it. */
const CONNECTIONS = Symbol.for('holdfast.connections')

/**
 * The process as Node's own code knows it. A test runner may give modules another `process`, made for one
 * test file, whose timers are fake and never fire. That of the main context is real; should its timers be
 * replaced as well, Node's own streams stand still too.
 *
 * @returns {NodeJS.Process}
 */
function realProcess() {
  return require('node:vm').runInThisContext('globalThis.process') ?? process
}

/** @type {Connection | undefined} */
let connection

function connected() {
  return (connection ??= connect())
}

/** The port of this thread. */
function open() {
  return connected().port
}

/** Connects to the native side, unless a copy of this module has done so: test runners load modules anew for each file. */
function connect() {
  const process = realProcess()
  const shared = /** @type {{ [CONNECTIONS]?: Map<number, Connection> }} */ (process)
  if (!shared[CONNECTIONS]) Object.defineProperty(process, CONNECTIONS, { value: new Map() })
  const all = /** @type {Map<number, Connection>} */ (shared[CONNECTIONS])
  const addon = native.addonId()
  const known = all.get(addon)
  if (known) return known
  /** @type {Connection} */
  const own = { port: new native.Port((messages) => onMessages(own, messages), program()), pending: new Map(), losses: new Map(), last: 0 }
  all.set(addon, own)
  // A write that is cut off by the end of the process does no harm, but leaves its temp
  // file behind. Worker threads end without the process and need no such care.
  // Loaded at the first use: it takes as long as half the package.
  if (require('node:worker_threads').isMainThread) {
    process.on('exit', () => own.port.finish(EXIT_TIMEOUT))
    watchSignalHandlers(process)
  }
  return own
}

/**
 * When the program removes a signal handler, the native side checks again whether the signal has one. Some
 * programs remove theirs in the handler itself, and then send themselves the signal again to die of it.
 *
 * @param {NodeJS.Process} process
 */
function watchSignalHandlers(process) {
  if (process.platform === 'win32') return
  process.on('removeListener', (event) => {
    if (typeof event === 'string' && event.startsWith('SIG')) native.watchSignals()
  })
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
    const own = connected()
    const id = ++own.last
    start(own.port, id)
    // Nothing can have been delivered yet: that happens on this thread.
    if (own.pending.size === 0) own.port.ref()
    own.pending.set(id, { resolve, reject, observe, memory })
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
  const own = connected()
  const id = ++own.last
  if (!start(own.port, id)) return undefined
  return new Promise((resolve, reject) => {
    // As above.
    if (own.pending.size === 0) own.port.ref()
    own.pending.set(id, { resolve, reject, observe: undefined, memory: undefined })
  })
}

/** @typedef {import('./binding.js').Delivery} Delivery */
/** @typedef {import('./binding.js').Report} Report */

/** @param {Connection} connection @param {Array<number | bigint | Delivery | Report>} messages */
function onMessages({ port, pending, losses }, messages) {
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
  if (pending.size === 0) port.unref()
}

/** @param {number} id @param {((lost: import('./binding.js').NativeError) => void) | undefined} callback */
function onLoss(id, callback) {
  const { losses } = connected()
  if (callback) losses.set(id, callback)
  else losses.delete(id)
}

/** A number for an operation that is over when the call returns. */
function nextId() {
  return ++connected().last
}

module.exports = { native, nextId, offer, onLoss, open, realProcess, run }
