'use strict'

// Read-modify-write of JSON files. Calls for one file that wait together share one lock, one read
// and one write; their functions run one after another. The queues are JavaScript's, because the
// functions are; which lock a call needs, and when, is decided by the native side.

const { AsyncResource } = require('node:async_hooks')
const { onAbort } = require('../support/abort.js')
const { DEFAULT_LOCK_TIMEOUT, boolean, fn, milliseconds, readOptions, toAbsolute, toPath, wrongType } = require('../support/arguments.js')
const { passedOn } = require('../support/caller.js')
const { traced, traceWithin, traces } = require('../support/diagnostics.js')
const { CANCELLED, Thrown, failed, locked, missingFile } = require('../native/errors.js')
const { checkDefault, checkMade, checks: textChecks, formOf, inForm, untouched, valueOf } = require('./json-text.js')
const { heldFor, release } = require('./lock.js')
const context = require('../support/lock-context.js')
const heldLong = require('../support/held-long.js')
const { observer, safeLogger } = require('../support/logger.js')
const port = require('../native/port.js')
const writeOptions = require('../support/write-options.js')

const { native } = port

const OPERATION = 'update JSON'

/**
 * How long a batch goes on starting further updates, in milliseconds: then other processes and the
 * event loop have their turn.
 */
const LONGEST_BATCH = 20

const { encoding: _encoding, createOnly: _createOnly, ...checks } = {
  ...writeOptions.checks,
  ...textChecks,
  lock: boolean,
  timeout: milliseconds(Infinity),
  warnAfter: milliseconds(Infinity),
  defaultValue: (/** @type {unknown} */ value) => value,
  allowPrimitive: boolean,
  onTempFile: fn,
}

/** @typedef {{ [K in keyof typeof checks]?: ReturnType<typeof checks[K]> }} Options */

/**
 * @typedef {object} Call
 * @property {string} target the path as it was given
 * @property {Options} options
 * @property {(data: any) => unknown} update
 * @property {AsyncResource} context the caller's async context
 * @property {(value: any) => void} resolve
 * @property {(error: unknown) => void} reject
 * @property {import('../support/lock-context.js').HeldNumbers | undefined} held the locks that the caller holds
 * @property {Queue} queue where it waits
 * @property {string} path absolute
 * @property {number} deadline until when its function has to begin, by `performance.now()`
 * @property {boolean} isBehind whether it has waited behind others
 * @property {NodeJS.Timeout | undefined} timer that of its deadline, if so
 * @property {ReturnType<typeof traceWithin>} waiting ends the trace of its wait for the lock
 */

/**
 * @typedef {object} Queue calls for one path that share a lock and a write
 * @property {Call[]} calls those that have not been started, in their order
 * @property {boolean} isOutside whether its first caller held no lock
 * @property {boolean} hasLock whether its batch has taken the lock of the file, and not released it
 * @property {import('../native/binding.js').LockWaiter | null | undefined} waiter waits for the lock
 */

/** By path, in the order of their first calls. @type {Map<string, Queue[]>} */
const queues = new Map()

/** @type {typeof import('../../index.js').updateJsonFile} */
async function updateJsonFile(path, update, options) {
  const read = readOptions(options, checks, 'updateJsonFile')
  const target = toPath(path)
  if (typeof update !== 'function') throw wrongType('The "update" argument', 'of type function', update)
  checkDefault(read)
  return await tracedUpdate(target, update, read)
}

/**
 * @param {string} target
 * @param {(data: any) => unknown} update
 * @param {Options} options
 * @returns {Promise<any>}
 */
async function updateOnce(target, update, options) {
  try {
    const absolute = toAbsolute(target)
    if (options.signal?.aborted) throw CANCELLED
    if (!options.onTempFile) return await perform(absolute, target, update, options)
    return await require('./temp-file-hook.js').attempts(target, options, () => perform(absolute, target, update, { ...options, retries: 1 }))
  } catch (error) {
    if (error instanceof Thrown) throw passedOn(error.value)
    throw failed(target, OPERATION, error, options.signal)
  }
}

/** @param {string} path @param {unknown} _update @param {Options} options */
function describe(path, _update, { durability = 'full' }) {
  return { operation: OPERATION, path, durability }
}

const tracedUpdate = traced(traces.update, updateOnce, describe)

/**
 * @param {string} path
 * @param {string} target
 * @param {(data: any) => unknown} update
 * @param {Options} options
 * @returns {Promise<any>}
 */
function perform(path, target, update, options) {
  writeOptions.beforeWrite(path, 'tx.updateJson', options.lock !== false)
  const held = heldFor(path)
  return new Promise((resolve, reject) => {
    const resource = new AsyncResource('holdfast.updateJsonFile')
    /** @type {Queue} */
    const own = { calls: [], isOutside: held === undefined, hasLock: false, waiter: undefined }
    /** @type {Call} */
    const call = {
      target, options, update, context: resource, held, queue: own, path, deadline: deadlineOf(options), isBehind: false, timer: undefined,
      waiting: options.lock === false ? undefined : traceWithin(traces.lock, resource, () => ({ operation: 'lock', path: target, kind: 'write' })),
      resolve: (value) => (clearTimeout(call.timer), resolve(value)),
      reject: (error) => {
        clearTimeout(call.timer)
        rejectTraced(call, error, reject)
      },
    }
    watch(call)
    enqueue(path, call)
  })
}

/** Whether the wait for the lock has failed, not what came after it. @param {any} error */
function isOfWait({ kind }) {
  return kind === 'locked' || kind === 'cancelled' || kind === 'deadlock'
}

/** Rejects a call; if it was still waiting for the lock, when its subscribers know. @param {Call} call @param {unknown} error @param {(error: unknown) => void} reject */
function rejectTraced(call, error, reject) {
  const { target, waiting, options } = call
  call.waiting = undefined
  if (!waiting) reject(error)
  else waiting(isOfWait(error) ? failed(target, 'lock', error, options.signal) : undefined).then(() => reject(error))
}

/**
 * Adds a call to the last queue of its path, or to one of its own. A queue that waits for the lock
 * may be waiting for a caller who holds it; one that has taken the lock waits for no caller.
 *
 * @param {string} path
 * @param {Call} call
 */
function enqueue(path, call) {
  // Calls without a lock have a queue of their own: they have nothing to wait for, and the holder of
  // the lock may be waiting for them.
  const isLocked = call.options.lock !== false
  const key = `${isLocked ? 'locked' : 'unlocked'}:${path}`
  const all = queues.get(key) ?? []
  const last = all.at(-1)
  if (last && (!isLocked || last.hasLock || (last.isOutside && call.queue.isOutside))) {
    call.queue = last
    last.calls.push(call)
    bound(call)
    return
  }
  call.queue.calls.push(call)
  queues.set(key, all)
  all.push(call.queue)
  drain(key, path, call.queue, all)
}

/** @param {Options} options */
function deadlineOf({ lock, timeout = DEFAULT_LOCK_TIMEOUT }) {
  return lock === false ? Infinity : performance.now() + timeout
}

/** Has a call that waits behind others fail when its time is over. Whoever is first waits for the lock, and for no longer. @param {Call} call */
function bound(call) {
  call.isBehind = true
  if (call.deadline === Infinity) return
  const left = call.deadline - performance.now()
  call.timer = setTimeout(() => {
    call.timer = undefined
    if (performance.now() < call.deadline) return bound(call)
    if (!withdraw(call)) return
    const { timeout = DEFAULT_LOCK_TIMEOUT } = call.options
    native.countUpdateBatch(0, 1, false)
    call.reject(locked(call.path, timeout, heldLong.inWords(call.path) ?? 'other updates of this process'))
  }, Math.min(Math.max(left, 0), 2 ** 31 - 1))
}

/** How long a call may wait for the lock, in milliseconds. @param {Call} call */
function timeLeft({ isBehind, deadline, options }) {
  return isBehind ? Math.max(0, Math.ceil(deadline - performance.now())) : (options.timeout ?? DEFAULT_LOCK_TIMEOUT)
}

/** Takes a call out of its queue, unless it has been started. @param {Call} call */
function withdraw(call) {
  const { queue } = call
  const index = queue.calls.indexOf(call)
  if (index < 0) return false
  queue.calls.splice(index, 1)
  if (queue.calls.length === 0) queue.waiter?.cancel()
  return true
}

/**
 * Lets a call that has not been started be cancelled.
 *
 * @param {Call} call
 */
function watch(call) {
  const { signal } = call.options
  if (!signal) return
  const stop = onAbort(signal, () => {
    if (withdraw(call)) call.reject(CANCELLED)
  })
  const { resolve, reject } = call
  call.resolve = (value) => (stop(), resolve(value))
  call.reject = (error) => (stop(), reject(error))
}

/** @param {string} key @param {string} path @param {Queue} queue @param {Queue[]} all */
async function drain(key, path, queue, all) {
  while (queue.calls.length > 0) await runBatch(path, queue, all)
  all.splice(all.indexOf(queue), 1)
  if (all.length === 0) queues.delete(key)
}

/**
 * Runs one batch: as many calls from the head of the queue as can share a write. Never
 * rejects: everything that goes wrong goes to the calls.
 *
 * @param {string} path
 * @param {Queue} queue
 * @param {Queue[]} all the queues of the path
 */
async function runBatch(path, queue, all) {
  const { options, held } = /** @type {Call} */ (queue.calls[0])
  const settings = writeOptions.toNative(options)
  // Those that can do nothing if there is no file; calls that come later may have a file.
  const alike = queue.calls.findIndex((call) => !canShare(call.options, options) || call.options.defaultValue !== undefined)
  const needing = queue.calls.slice(0, alike < 0 ? queue.calls.length : alike)
  /** @type {import('../native/binding.js').JsonUpdateStart} */
  let begun
  const timeout = options.lock === false ? undefined : timeLeft(/** @type {Call} */ (queue.calls[0]))
  try {
    begun = await port.run((opened, id) => {
      queue.waiter = opened.beginJsonUpdate(id, path, settings, timeout, held, needing.length > 0)
    })
  } catch (error) {
    // The calls for which the lock was asked are gone or have joined another queue. Others came later.
    if (/** @type {{ kind?: string }} */ (error).kind === CANCELLED.kind) return
    const first = queue.calls[0]
    let calls = takeBatch(queue, options)
    if (/** @type {{ kind?: string }} */ (error).kind === 'locked') {
      // Those that came later wait until their own time is over.
      const now = performance.now()
      const isOver = (/** @type {Call} */ call) => call === first || call.deadline <= now + 1
      queue.calls.unshift(...calls.filter((call) => !isOver(call)))
      calls = calls.filter(isOver)
    }
    native.countUpdateBatch(0, calls.length, false)
    for (const call of calls) call.reject(waitedFor(call, error))
    return
  } finally {
    queue.waiter = undefined
  }
  if (begun.lock === undefined && timeout !== undefined) {
    // There is no file, and no process that could be making it.
    const calls = needing.filter((call) => queue.calls.includes(call))
    queue.calls = queue.calls.filter((call) => !calls.includes(call))
    native.countUpdateBatch(0, calls.length, false)
    for (const call of calls) call.reject(missingFile(path))
    return
  }
  const own = begun.lock === undefined ? undefined : context.create(begun.lock, 'write')
  const running = heldLong.begin('update', path, options)
  const logger = own && safeLogger(options.logger)
  if (logger) void require('./foreign-lock.js').tell(path, logger)
  queue.hasLock = own !== undefined && !begun.isBorrowed
  if (queue.hasLock) joinAll(queue, all)
  // If a sync would not make the file durable, it is written even if its text stays the same.
  const before = begun.syncFailed ? undefined : begun.text
  /** @type {Batch} */
  const batch = {
    path, read: begun.text, text: begun.text, before, form: formOf(begun.text), isWritten: false,
    done: [], failed: [], settings, lock: own, isBorrowed: begun.isBorrowed === true,
  }
  try {
    await runUpdates(batch, queue, options)
    queue.hasLock = false
    await commitTraced(batch)
  } catch (error) {
    for (const { call } of batch.done) batch.failed.push({ call, error })
    batch.done.length = 0
  } finally {
    heldLong.end(running)
    if (own?.isLive) await release(own)
  }
  native.countUpdateBatch(batch.done.length, batch.failed.length, batch.done.length > 0 && batch.text === batch.before)
  // A caller that is told of the outcome finds the lock free.
  for (const { call, error } of batch.failed) call.reject(error)
  for (const { call, text } of batch.done) answer(call, text)
}

/** Gives a call a copy of what its function has made. @param {Call} call @param {string} text */
function answer({ options, resolve, reject }, text) {
  const { parse = JSON.parse, reviver } = options
  try {
    resolve(parse(text, reviver))
  } catch (error) {
    // The caller's own function, which does not take what it has written.
    reject(new Thrown(error))
  }
}

/** The same failure to get the lock, with the time that the call has waited in all. @param {Call} call @param {any} error */
function waitedFor({ isBehind, options }, error) {
  return isBehind && error.kind === 'locked' ? { ...error, waited: options.timeout ?? DEFAULT_LOCK_TIMEOUT } : error
}

/**
 * Moves all calls that wait for the lock to the queue that has taken it, in the order of the calls.
 *
 * @param {Queue} queue
 * @param {Queue[]} all
 */
function joinAll(queue, all) {
  if (all.length === 1) return
  const calls = all.flatMap((other) => other.calls.splice(0))
  for (const call of calls) call.queue = queue
  queue.calls = calls
  for (const { waiter } of all) waiter?.withdraw()
}

/**
 * Takes the calls from the queue that can share one write with these options.
 *
 * @param {Queue} queue
 * @param {Options} options
 */
function takeBatch(queue, options) {
  const end = queue.calls.findIndex((call) => !canShare(call.options, options))
  return queue.calls.splice(0, end < 0 ? queue.calls.length : end)
}

const SHARED = /** @type {const} */ ([
  'durability', 'mode', 'newFileMode', 'retries', 'retryDelay', 'makeDirs', 'followSymlinks', 'validate', 'logger', 'indent',
  'finalNewline', 'parse', 'reviver', 'stringify', 'replacer', 'lock', 'timeout',
])

/** @param {Options} a @param {Options} b */
function canShare(a, b) {
  if (a === b) return true
  // A function of the caller's sees a file with what that caller has made, and nothing else.
  if (a.onTempFile || b.onTempFile) return false
  const [own, other] = [a.chown || undefined, b.chown || undefined]
  return (
    SHARED.every((name) => a[name] === b[name]) &&
    (a.chown === false) === (b.chown === false) && own?.uid === other?.uid && own?.gid === other?.gid
  )
}

/**
 * @typedef {object} Batch
 * @property {string} path
 * @property {string | undefined} read the file's text as it was read
 * @property {string | undefined} text the file's text as it would be now; none if there is no file
 * @property {string | undefined} before the text that need not be written again
 * @property {import('./json-text.js').Form} form the form of the text that was read
 * @property {boolean} isWritten whether the text is one that a call has made
 * @property {{ call: Call, text: string }[]} done calls whose change is in the text
 * @property {{ call: Call, error: unknown }[]} failed calls that have left no trace
 * @property {import('../native/binding.js').WriteOptions | undefined} settings
 * @property {import('../support/lock-context.js').HeldLock | undefined} lock
 * @property {boolean} isBorrowed whether the lock is that of the caller, who goes on holding it
 */

/**
 * Runs the functions of the calls that can share a write, each on a fresh parse of what the
 * one before it made.
 *
 * @param {Batch} batch
 * @param {Queue} queue
 * @param {Options} options
 */
async function runUpdates(batch, queue, options) {
  const begun = performance.now()
  while (queue.calls[0] && canShare(queue.calls[0].options, options)) {
    const call = /** @type {Call} */ (queue.calls.shift())
    clearTimeout(call.timer)
    if (call.waiting) await call.waiting()
    call.waiting = undefined
    try {
      const text = await runUpdate(call, batch)
      batch.text = text
      batch.done.push({ call, text })
    } catch (error) {
      // A caller that cancels does not wait for the rest of the batch, if there is any.
      const isLast = batch.done.length === 0 && !(queue.calls[0] && canShare(queue.calls[0].options, options))
      if (error === CANCELLED && !isLast) call.reject(error)
      else batch.failed.push({ call, error })
      if (/** @type {{ kind?: string }} */ (error).kind === 'json') {
        // What is on the disk is the same for all of them.
        for (const other of takeBatch(queue, options)) batch.failed.push({ call: other, error })
      }
    }
    if (performance.now() - begun >= LONGEST_BATCH) return
  }
}

/**
 * Runs the function of one call and says what it made of the text. A function that fails
 * leaves no trace: its changes were made to values of its own.
 *
 * @param {Call} call
 * @param {Batch} batch
 * @returns {Promise<string>}
 */
async function runUpdate(call, batch) {
  const { options } = call
  const data = valueOf(batch, options)
  const inside = context.create(batch.lock?.number, 'write', batch.path)
  try {
    // A text that a call has made is in its form.
    const before = batch.text === undefined || batch.isWritten ? batch.text : untouched(data, options, batch.form)
    const made = call.context.runInAsyncScope(() => context.run([inside], () => call.update(data)))
    const result = isThenable(made) ? await orCancelled(made, options.signal) : made
    if (options.signal?.aborted) throw CANCELLED
    checkMade(data, result, options.allowPrimitive)
    const text = inForm(result === undefined ? data : result, options, batch.form, 'What the "update" function returns')
    if (batch.text !== undefined && text === before) return batch.text
    batch.isWritten = true
    return text
  } catch (error) {
    throw error === CANCELLED || call.options.signal?.aborted ? CANCELLED : new Thrown(error)
  } finally {
    inside.isLive = false
  }
}

/** @param {unknown} value @returns {value is PromiseLike<unknown>} */
function isThenable(value) {
  return typeof value === 'object' && value !== null && 'then' in value && typeof value.then === 'function'
}

/**
 * What a promise becomes, unless the caller cancels first: then its outcome is ignored.
 *
 * @param {PromiseLike<unknown>} promise
 * @param {AbortSignal | undefined} signal
 */
async function orCancelled(promise, signal) {
  if (!signal) return promise
  if (signal.aborted) {
    Promise.resolve(promise).catch(() => {})
    throw CANCELLED
  }
  let stop = () => {}
  const cancelled = new Promise((_, reject) => {
    stop = onAbort(signal, () => reject(CANCELLED))
  })
  try {
    return await Promise.race([promise, cancelled])
  } finally {
    stop()
  }
}

/**
 * The same as `commit`, told to the subscribers of each call that shares the write.
 *
 * @param {Batch} batch
 */
async function commitTraced(batch) {
  const { done, text, before } = batch
  if (text === before) return commit(batch)
  const updates = done.length
  const ends = done.flatMap(({ call: { context, target, options: { durability = 'full' } } }) => {
    const describe = () => ({ operation: 'atomic write', path: target, size: Buffer.byteLength(text ?? ''), durability, updates })
    const end = traceWithin(traces.write, context, describe)
    return end ? [{ end, target }] : []
  })
  if (ends.length === 0) return commit(batch)
  try {
    await commit(batch)
  } catch (error) {
    await Promise.all(ends.map(({ end, target }) => end(failed(target, 'atomic write', error))))
    throw error
  }
  await Promise.all(ends.map(({ end }) => end()))
}

/**
 * Writes what has changed and releases the lock, in one trip for each attempt. Between attempts other
 * processes may have the lock: then the file is read again, and if they have changed it the functions
 * of the calls run again.
 *
 * @param {Batch} batch
 */
async function commit(batch) {
  let attempt = 1
  while (batch.done.length > 0) {
    const next = await commitOnce(batch, attempt)
    if (!next) return
    attempt = next.attempt
    await resume(batch, next.delay)
  }
}

/**
 * @param {Batch} batch
 * @param {number} attempt
 * @returns {Promise<import('../native/binding.js').NextAttempt | undefined>} the attempt that is to follow, if one is
 */
async function commitOnce({ path, text, before, done, settings, lock, isBorrowed }, attempt) {
  const number = lock?.number
  // From the call on the native side releases the lock, whatever comes of it.
  const passOn = () => {
    if (lock) lock.isLive = false
  }
  if (text === before) {
    return port.run((opened, id) => {
      opened.syncUnchanged(id, path, settings, number)
      passOn()
    })
  }
  const last = /** @type {{ call: Call }} */ (done.at(-1)).call
  const observe = observer(last.options.logger, last.target)
  const bytes = Buffer.from(/** @type {string} */ (text))
  const { onTempFile, signal } = last.options
  if (onTempFile) {
    const hook = (/** @type {string} */ tempPath) => last.context.runInAsyncScope(onTempFile, undefined, tempPath)
    await require('./temp-file-hook.js').writeWithHook({ path, bytes, settings, observe, lock: number, hook, signal, passOn })
    return undefined
  }
  return port.run(
    (opened, id) => {
      opened.write(id, path, bytes, settings, observe !== undefined, undefined, number, isBorrowed ? undefined : attempt)
      passOn()
    },
    bytes,
    observe,
  )
}

/**
 * Takes the lock again after a pause, and makes the changes of the calls anew if the file has another
 * text by then.
 *
 * @param {Batch} batch
 * @param {number} delay in milliseconds
 */
async function resume(batch, delay) {
  const lock = /** @type {import('../support/lock-context.js').HeldLock} */ (batch.lock)
  /** @type {import('../native/binding.js').JsonUpdateStart} */
  const { lock: number, text, syncFailed } = await port.run((opened, id) => {
    opened.resumeJsonUpdate(id, batch.path, batch.settings, /** @type {number} */ (lock.number), delay)
  })
  lock.number = number
  lock.isLive = true
  if (text === batch.read) return
  const calls = batch.done
  batch.done = []
  batch.text = batch.read = text
  batch.before = syncFailed ? undefined : text
  batch.form = formOf(text)
  batch.isWritten = false
  for (const { call } of calls) {
    try {
      batch.text = await runUpdate(call, batch)
      batch.done.push({ call, text: batch.text })
    } catch (error) {
      batch.failed.push({ call, error })
    }
  }
}

module.exports = {
  OPERATION,
  checks,
  describe,
  isOfWait,
  isThenable,
  orCancelled,
  perform,
  updateJsonFile,
}
