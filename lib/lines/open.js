'use strict'

// A file of JSON lines that is appended to many times.

const { Writable } = require('node:stream')
const { fn, integer, readOptions, toAbsolute, toPath, wrongValue } = require('../support/arguments.js')
const { strictMethods } = require('../support/strict.js')
const { CANCELLED, failed } = require('../native/errors.js')
const port = require('../native/port.js')
const { Appender, OPERATION } = require('./appender.js')
const { jsonLines } = require('./encode.js')
const { checks, settingsOf, signal } = require('./options.js')
const { followLines, followLinesOptions, readLines, readLinesOptions } = require('./read.js')

const LONGEST_INTERVAL = 60_000

const openChecks = { ...checks, syncInterval: integer(1, LONGEST_INTERVAL), validate: fn }
const appendChecks = { signal }

/** @typedef {import('../../index.js').JsonLines} PublicJsonLines */

/** @implements {PublicJsonLines} */
class JsonLines {
  #path
  #appender
  #validate
  #syncInterval
  /** @type {NodeJS.Timeout | undefined} */
  #syncTimer
  /** Of a sync that nobody has waited for: the next call tells. @type {unknown} */
  #syncFailure
  /** @type {Promise<void> | undefined} */
  #closed

  /** @param {string} path @param {any} options */
  constructor(path, { syncInterval, validate, ...options }) {
    this.#path = path
    this.#syncInterval = syncInterval
    this.#validate = validate
    this.#appender = new Appender(toAbsolute(path), settingsOf(options, true))
  }

  /** @param {unknown} value @param {unknown} [options] */
  async append(value, options) {
    const { signal } = readOptions(options, appendChecks, 'append')
    const values = Array.isArray(value) ? value : [value]
    const text = jsonLines(values, this.#validate)
    try {
      if (this.#closed) throw closed()
      if (signal?.aborted) throw CANCELLED
      this.#tellSyncFailure()
      if (values.length === 0) return
      await this.#appender.append(text, values.length, signal)
      if (this.#syncInterval !== undefined) this.#syncLater()
    } catch (error) {
      throw failed(this.#path, OPERATION, error, signal)
    }
  }

  async flush() {
    try {
      if (this.#closed) throw closed()
      await this.#flush()
    } catch (error) {
      throw failed(this.#path, OPERATION, error)
    }
  }

  async #flush() {
    clearTimeout(this.#syncTimer)
    this.#syncTimer = undefined
    await this.#appender.idle()
    this.#tellSyncFailure()
    if (!this.#appender.settings.durable) await this.#sync()
  }

  async #sync() {
    await port.run((opened, id) => opened.syncLines(id, this.#appender.path))
    this.#appender.stats.syncs++
  }

  #syncLater() {
    this.#syncTimer ??= setTimeout(async () => {
      this.#syncTimer = undefined
      try {
        await this.#sync()
      } catch (error) {
        this.#syncFailure = error
      }
    }, this.#syncInterval)
  }

  /** What was acknowledged before may be gone after a power cut. */
  #tellSyncFailure() {
    if (this.#syncFailure === undefined) return
    const failure = this.#syncFailure
    this.#syncFailure = undefined
    throw failure
  }

  /** @param {unknown} [options] */
  read(options) {
    const read = readLinesOptions(options)
    return readLines(this.#path, this.#appender.path, this.#checked(read))
  }

  /** @param {unknown} [options] */
  follow(options) {
    const read = followLinesOptions(options)
    return followLines(this.#path, this.#appender.path, this.#checked(read))
  }

  /** What is read has to be what may be appended. @param {import('./read.js').Options} read */
  #checked(read) {
    return { validate: this.#validate, ...read }
  }

  stats() {
    return { ...this.#appender.stats }
  }

  writable() {
    return new Writable({
      objectMode: true,
      write: (value, _encoding, done) => void this.#writeAll([value]).then(() => done(), done),
      writev: (chunks, done) => void this.#writeAll(chunks.map(({ chunk }) => chunk)).then(() => done(), done),
      final: (done) => void this.#appender.idle().then(() => done()),
    })
  }

  /** Each value an append of its own; text is lines of JSON already, as loggers write them. @param {unknown[]} values */
  async #writeAll(values) {
    const all = values.flatMap((value) => (typeof value === 'string' || Buffer.isBuffer(value) ? parsed(String(value)) : [value]))
    await Promise.all(all.map((value) => this.append([value])))
  }

  close() {
    this.#closed ??= this.#close()
    return this.#closed
  }

  async #close() {
    try {
      await (this.#syncInterval === undefined ? this.#appender.idle() : this.#flush())
    } catch (error) {
      throw failed(this.#path, OPERATION, error)
    }
  }

  async [Symbol.asyncDispose]() {
    await this.close()
  }
}

/** The lines of a text. @param {string} text */
function parsed(text) {
  return text.split('\n').filter((line) => line.trim() !== '').map((line) => JSON.parse(line))
}

function closed() {
  return { kind: 'wal', code: 'ECLOSED', message: 'the file of lines was closed', attempts: 1, committed: false, exhausted: false }
}

strictMethods(JsonLines, { append: 'value options', flush: '', follow: 'options', read: 'options', stats: '', writable: '', close: '' })

/** @type {typeof import('../../index.js').openJsonLines} */
async function openJsonLines(/** @type {any} */ path, /** @type {any} */ options) {
  const read = readOptions(options, openChecks, 'openJsonLines')
  const target = toPath(path)
  if (read.syncInterval !== undefined && settingsOf(read, true).durable) {
    throw wrongValue(`The "syncInterval" option is for "durability: 'none'": otherwise each append is synced`)
  }
  return /** @type {any} */ (new JsonLines(target, read))
}

module.exports = { openJsonLines }
