'use strict'

// A stream whose content replaces a file once all of it is written.

const { AsyncResource } = require('node:async_hooks')
const { Writable } = require('node:stream')
const { onAbort } = require('../support/abort.js')
const { boolean, encoding, fn, integer, readOptions, toAbsolute, toPath, withEncoding } = require('../support/arguments.js')
const { tracedLifetime, traces } = require('../support/diagnostics.js')
const { CANCELLED, Thrown, failed } = require('../native/errors.js')
const { lockFor, releaseNumber } = require('./lock.js')
const { observer } = require('../support/logger.js')
const context = require('../support/lock-context.js')
const port = require('../native/port.js')
const writeOptions = require('../support/write-options.js')

const { native } = port

const OPERATION = 'atomic write'

/** One that fires also where a test has replaced those of its own `process`. */
const { nextTick } = port.realProcess()

const { retries: _retries, retryDelay: _retryDelay, ...writeChecks } = writeOptions.checks
const checks = { ...writeChecks, encoding, lock: boolean, highWaterMark: integer(1, 2 ** 30), onTempFile: fn }

/** The default that holds for the wait for the lock. @type {['timeout']} */
const TIMEOUT = ['timeout']

// Chunks that wait together are passed on as one batch, up to this size: batching copies them, which
// pays less the larger they are.
const LARGEST_BATCH = 1024 * 1024

/** @typedef {{ [K in keyof typeof checks]?: ReturnType<typeof checks[K]> } & { timeout?: number }} Options */
/** @typedef {(error?: Error | null) => void} Callback */

/** @type {typeof import('../../index.js').createAtomicWriteStream} */
function createAtomicWriteStream(path, options) {
  const read = readOptions(withEncoding(options), checks, 'createAtomicWriteStream', TIMEOUT)
  return tracedStream(toPath(path), read)
}

class AtomicWriteStream extends Writable {
  #target
  #path
  #options
  #settings
  #observe
  #control = new native.Control()
  /** The native handle of the open stream. @type {number | undefined} */
  #stream
  /** The native handle of its own lock. @type {number | undefined} */
  #lock
  /** Whether it works under a lock that the caller held when it was made. */
  #isUnderHeld = false
  /** The current operation, which destruction waits for. @type {Promise<unknown>} */
  #running = Promise.resolve()
  #isCommitting = false
  /** Stops listening to the signal. */
  #stop = () => {}
  /** Ends the wait for the lock. */
  #waiting = new AbortController()
  /** The context of the call that made the stream, which knows the locks that the caller holds. */
  #context = new AsyncResource('holdfast.createAtomicWriteStream')
  #onAbort = () => this.#abort()
  #lifetime
  /** Why an operation has failed: what the native side has reported, or what a function of the user's has thrown. @type {unknown} */
  #failure
  #isOpen = () => {}
  /** @type {Promise<void>} */
  #opened = new Promise((resolve) => {
    this.#isOpen = resolve
  })

  /** @param {import('../support/diagnostics.js').Lifetime | undefined} lifetime @param {string} target @param {Options} options */
  constructor(lifetime, target, options) {
    const { encoding: defaultEncoding, highWaterMark } = options
    super({
      ...(defaultEncoding !== undefined && { defaultEncoding }),
      ...(highWaterMark !== undefined && { highWaterMark }),
    })
    this.#lifetime = lifetime
    this.#target = target
    this.#path = toAbsolute(target)
    this.#options = options
    this.#settings = writeOptions.toNative(options)
    this.#observe = observer(options.logger, target)
    const { signal } = options
    if (signal?.aborted) nextTick(this.#onAbort)
    else this.#stop = onAbort(signal, this.#onAbort)
  }

  /** Resolves when the temp file is there, and has been shown to `onTempFile`. @param {AtomicWriteStream} stream */
  static opened(stream) {
    return stream.#opened
  }

  /** Why it has failed, before that was made an error. @param {AtomicWriteStream} stream */
  static failure(stream) {
    return stream.#failure
  }

  /** @override @param {Callback} callback */
  _construct(callback) {
    this.#attempt(this.#context.runInAsyncScope(() => this.#open()), callback)
  }

  /** @override @param {Buffer} chunk @param {BufferEncoding} _encoding @param {Callback} callback */
  _write(chunk, _encoding, callback) {
    this.#attempt(this.#append([chunk]), callback)
  }

  /** @override @param {{ chunk: Buffer }[]} chunks @param {Callback} callback */
  _writev(chunks, callback) {
    this.#attempt(this.#append(chunks.map(({ chunk }) => chunk)), callback)
  }

  /** @override @param {Callback} callback */
  _final(callback) {
    this.#isCommitting = true
    this.#attempt(this.#context.runInAsyncScope(() => this.#commit()), callback)
  }

  /** @override @param {Error} [error] */
  destroy(error) {
    // The current operation stops as soon as it can; a rename that has taken place stands.
    this.#cancel()
    return super.destroy(error)
  }

  /** @override @param {Error | null} error @param {Callback} callback */
  _destroy(error, callback) {
    this.#stop()
    const done = () => {
      this.#lifetime?.end(error ?? this.#error(CANCELLED))
      nextTick(callback, error)
    }
    this.#running.then(() => this.#discard()).then(done, done)
  }

  #cancel() {
    this.#control.cancel()
    this.#waiting.abort()
  }

  #abort() {
    // Only the outcome of a commit tells whether the abort has come too late.
    if (this.#isCommitting) this.#cancel()
    else this.destroy(this.#error(CANCELLED))
  }

  /** @param {unknown} error */
  #error(error) {
    return failed(this.#target, OPERATION, error, this.#options.signal)
  }

  /** @param {Promise<unknown>} work @param {Callback} callback */
  #attempt(work, callback) {
    // Outside the promise: it must not catch what the user's callbacks throw.
    this.#running = work.then(
      () => nextTick(callback),
      (error) => {
        this.#failure ??= error
        // A destroyed stream already has its error.
        nextTick(callback, this.destroyed ? undefined : error instanceof Thrown ? error.value : this.#error(error))
      },
    )
  }

  /**
   * @param {(port: import('../native/binding.js').Port, id: number, isObserved: boolean) => void} start
   * @param {unknown} [memory]
   * @returns {Promise<any>}
   */
  #run(start, memory) {
    const observe = this.#observe
    return port.run((opened, id) => start(opened, id, observe !== undefined), memory, observe)
  }

  #lockFor() {
    return lockFor(this.#path, { signal: this.#waiting.signal, timeout: this.#options.timeout }, this.#settings)
  }

  async #open() {
    writeOptions.beforeWrite(this.#path, 'tx.write', this.#options.lock === true)
    if (this.#options.lock) {
      const { lock, isBorrowed } = await this.#lockFor()
      // The caller may use it again while the stream is open.
      if (isBorrowed) await releaseNumber(/** @type {number} */ (lock))
      else this.#lock = lock
      this.#isUnderHeld = isBorrowed === true
    }
    const own = this.#lock === undefined ? [] : [context.create(this.#lock, 'write')]
    const held = context.toNative([...context.current(), ...own])
    /** @type {number | undefined} */
    let stream
    /** @type {import('../native/binding.js').OpenedStream} */
    const { tempPath } = await this.#run((opened, id, isObserved) => {
      stream = opened.openStream(id, this.#path, this.#settings, this.#control, isObserved, held)
    })
    this.#stream = stream
    const { onTempFile } = this.#options
    if (onTempFile) await require('./temp-file-hook.js').runHook(onTempFile, tempPath, this.#waiting.signal)
    this.#isOpen()
  }

  /** @param {Buffer[]} chunks */
  async #append(chunks) {
    for (const data of batches(chunks)) {
      await this.#run(
        (opened, id, isObserved) =>
          opened.writeStream(id, this.#path, /** @type {number} */ (this.#stream), data, this.#control, isObserved),
        data,
      )
      if (this.#lifetime) this.#lifetime.context.size += data.length
    }
  }

  async #commit() {
    const stream = /** @type {number} */ (this.#stream)
    /** @param {number} [lock] */
    const commit = (lock) => {
      // From here on the native side owns both.
      this.#stream = this.#lock = undefined
      return this.#run((opened, id, isObserved) =>
        opened.commitStream(id, this.#path, stream, this.#settings, this.#control, isObserved, lock),
      )
    }
    await commit(this.#isUnderHeld ? (await this.#lockFor()).lock : this.#lock)
    this.#lifetime?.end()
  }

  async #discard() {
    const [stream, lock] = [this.#stream, this.#lock]
    this.#stream = this.#lock = undefined
    if (stream !== undefined) {
      await this.#run((opened, id, isObserved) =>
        opened.discardStream(id, this.#path, stream, this.#control, isObserved),
      )
    }
    if (lock !== undefined) await releaseNumber(lock)
  }
}

const tracedStream = tracedLifetime(
  traces.write,
  (lifetime, /** @type {string} */ target, /** @type {Options} */ options) => new AtomicWriteStream(lifetime, target, options),
  (path, { durability = 'full' }) => ({ operation: OPERATION, path, size: 0, durability }),
)

/**
 * Puts the chunks into as few batches as possible without copying large ones.
 *
 * @param {Buffer[]} chunks
 */
function* batches(chunks) {
  /** @type {Buffer[]} */
  let batch = []
  let size = 0
  for (const chunk of chunks) {
    if (batch.length > 0 && size + chunk.length > LARGEST_BATCH) {
      yield batch.length === 1 ? /** @type {Buffer} */ (batch[0]) : Buffer.concat(batch, size)
      batch = []
      size = 0
    }
    batch.push(chunk)
    size += chunk.length
  }
  if (batch.length > 0) yield batch.length === 1 ? /** @type {Buffer} */ (batch[0]) : Buffer.concat(batch, size)
}

module.exports = { AtomicWriteStream, OPERATION, createAtomicWriteStream }
