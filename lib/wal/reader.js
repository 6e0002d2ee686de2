'use strict'

// Logs that are only read.

const { failed } = require('../native/errors.js')
const port = require('../native/port.js')
const { closed, collectionName, replayStart, walFailed } = require('./checks.js')
const { jsonSafe } = require('../support/json-safe.js')
const { WalReplay } = require('./replay.js')

/** @typedef {import('../../index.js').WalReader} PublicReader */

/**
 * A log that another process may have open.
 *
 * @implements {PublicReader}
 */
class WalReader {
  #dir
  #path
  #recovery
  #isClosed = false

  /** @param {string} dir @param {string} path @param {'strict' | 'tolerateTail' | 'skipCorrupt'} [recovery] */
  constructor(dir, path, recovery) {
    this.#dir = dir
    this.#path = path
    this.#recovery = recovery
  }

  async collections() {
    if (this.#isClosed) throw closed(this.#dir, 'wal read')
    try {
      /** @type {string[]} */
      const names = await port.run((opened, id) => opened.readWalIn(id, this.#path))
      return names
    } catch (error) {
      throw failed(this.#dir, 'open wal', error)
    }
  }

  /** @param {string} collection @returns {Promise<bigint>} */
  async first(collection) {
    const name = collectionName(collection)
    if (this.#isClosed) throw closed(this.#dir, 'wal read')
    try {
      return /** @type {bigint} */ (await port.run((opened, id) => opened.firstWalIn(id, this.#path, name, this.#recovery)))
    } catch (error) {
      throw walFailed(this.#dir, 'wal read', name, error)
    }
  }

  /** @returns {Promise<import('../../index.js').WalReaderStats>} */
  async stats() {
    if (this.#isClosed) throw closed(this.#dir, 'wal read')
    try {
      /** @type {import('../native/binding.js').WalSurvey[]} */
      const collections = await port.run((opened, id) => opened.surveyWalIn(id, this.#path, this.#recovery))
      return jsonSafe({ collections })
    } catch (error) {
      throw failed(this.#dir, 'wal read', error)
    }
  }

  /** @param {string} collection @param {unknown} [options] */
  replay(collection, options) {
    const from = replayStart(options)
    const name = collectionName(collection)
    if (this.#isClosed) throw closed(this.#dir, 'wal read')
    return new WalReplay(this.#dir, name, (opened, id) => opened.replayWalIn(id, this.#path, name, from, this.#recovery))
  }

  async close() {
    this.#isClosed = true
  }

  [Symbol.asyncDispose]() {
    return this.close()
  }
}

module.exports = { WalReader }
