'use strict'

// Writes whose content comes piece by piece, from whatever `fs.writeFile` takes: it is never in memory as a whole.

const { detachedData, isDetached, wrongType } = require('../support/arguments.js')
const { traced, traces } = require('../support/diagnostics.js')
const { Thrown, failed, isError } = require('../native/errors.js')
const { AtomicWriteStream, OPERATION } = require('./stream.js')
const { attempts } = require('./temp-file-hook.js')

/** From this size on the source waits until a piece is written; a smaller one is copied. It may use its memory again. */
const LARGE = 64 * 1024

/** @typedef {import('./stream.js').Options & { retries?: number, retryDelay?: number }} Options */

/**
 * @typedef {object} Source
 * @property {() => Promise<{ done?: boolean | undefined, value?: any }>} next
 * @property {() => void} stop tells it that nothing more is read
 */

/** @param {any} data @returns {Source} */
function open(data) {
  // A blob, of Node or of another realm.
  if (typeof data.stream === 'function' && typeof data.arrayBuffer === 'function') return open(data.stream())
  if (typeof data.getReader === 'function') {
    const reader = data.getReader()
    return { next: () => reader.read(), stop: () => void reader.cancel().catch(() => {}) }
  }
  if (typeof data[Symbol.asyncIterator] === 'function') {
    // It may fail before it is asked for its first piece; then asking tells.
    if (typeof data.destroy === 'function' && typeof data.on === 'function') data.on('error', () => {})
    const iterator = data[Symbol.asyncIterator]()
    return {
      next: async () => iterator.next(),
      stop: () => {
        // A source that is waiting for something is not waited for.
        if (typeof data.destroy === 'function') data.destroy()
        stopIterator(iterator)
      },
    }
  }
  const iterator = data[Symbol.iterator]()
  const next = async () => {
    const { done, value } = iterator.next()
    return { done, value: await value }
  }
  return { next, stop: () => stopIterator(iterator) }
}

/** What fails when it is stopped has failed too late to matter. @param {any} iterator */
function stopIterator(iterator) {
  Promise.resolve().then(() => iterator.return?.()).catch(() => {})
}

/** @param {unknown} piece @param {BufferEncoding} encoding @returns {Uint8Array} */
function bytesOf(piece, encoding) {
  if (typeof piece === 'string') return Buffer.from(piece, encoding)
  if (!ArrayBuffer.isView(piece)) throw wrongType('Each piece of the "data" argument', 'of type string or an instance of Buffer, TypedArray or DataView', piece)
  if (isDetached(piece)) throw detachedData()
  const bytes = new Uint8Array(piece.buffer, piece.byteOffset, piece.byteLength)
  return bytes.length < LARGE ? Buffer.from(bytes) : bytes
}

/**
 * Writes the pieces of one source. The stream destroys itself when the caller cancels.
 *
 * @param {InstanceType<typeof AtomicWriteStream>} stream
 * @param {() => Source} begin
 * @param {BufferEncoding} encoding
 */
async function pump(stream, begin, encoding) {
  /** @type {(error: unknown) => void} */
  let fail = () => {}
  /** @type {{ error: unknown } | undefined} */
  let failure
  const closed = new Promise((resolve) => stream.once('close', resolve))
  stream.on('error', (error) => {
    failure ??= { error }
    fail(error)
  })
  /**
   * Waits for one thing, and no longer than the stream lives. (A race with one promise for all of them would keep each.)
   *
   * @template T
   * @param {Promise<T>} promise
   * @returns {Promise<T>}
   */
  const whileOpen = (promise) => new Promise((resolve, reject) => {
    promise.then(resolve, reject)
    if (failure) return reject(failure.error)
    fail = reject
  })
  /** @type {Source | undefined} */
  let source
  try {
    await whileOpen(AtomicWriteStream.opened(stream))
    source = begin()
    for (;;) {
      const { done, value } = await whileOpen(source.next())
      if (done) break
      const bytes = bytesOf(value, encoding)
      /** @type {Promise<void>} */
      const written = new Promise((resolve) => stream.write(bytes, (error) => {
        // An error is told by the stream.
        if (!error) resolve()
      }))
      if (bytes.length >= LARGE) await whileOpen(written)
      else if (stream.writableNeedDrain) await whileOpen(new Promise((resolve) => stream.once('drain', resolve)))
    }
    stream.end()
    await whileOpen(closed)
  } catch (error) {
    const isOfStream = failure !== undefined && failure.error === error
    source?.stop()
    stream.destroy()
    await closed
    throw isOfStream ? (AtomicWriteStream.failure(stream) ?? error) : new Thrown(error)
  }
}

/**
 * @param {string} target
 * @param {any} data
 * @param {Options} options
 */
async function write(target, data, options) {
  const source = open(data)
  let isRead = false
  try {
    // What has been read of a source is gone: from the first piece on there is one attempt.
    await writeFrom(target, options, () => ((isRead = true), source), () => !isRead)
  } catch (error) {
    if (!isRead) source.stop()
    throw error
  }
}

/**
 * Writes bytes by the same way.
 *
 * @param {string} target
 * @param {Uint8Array} bytes
 * @param {Options} options
 */
async function writeBytes(target, bytes, options) {
  // The caller may use a small buffer again, as with other writes.
  const copy = bytes.length < LARGE ? Buffer.from(bytes) : bytes
  const { length } = copy
  await writeFrom(target, options, () => {
    // It was detached meanwhile. The file would become empty.
    if (copy.length !== length) throw detachedData()
    return open([copy])
  }, () => true)
}

/**
 * @param {string} target
 * @param {Options} options
 * @param {() => Source} begin
 * @param {() => boolean} canRepeat
 */
async function writeFrom(target, options, begin, canRepeat) {
  const { encoding = 'utf8', signal } = options
  try {
    await attempts(target, options, async () => {
      await pump(new AtomicWriteStream(undefined, target, options), begin, encoding)
    }, canRepeat)
  } catch (error) {
    if (error instanceof Thrown) throw error.value
    throw isError(error) ? error : failed(target, OPERATION, error, signal)
  }
}

const tracedWrite = traced(traces.write, write, (path, _data, { durability = 'full' }) => ({ operation: OPERATION, path, size: 0, durability }))

module.exports = { tracedWrite, writeBytes }
