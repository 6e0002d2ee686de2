'use strict'

// Logs that are only read.

const { strictMethods } = require('../support/strict.js')
const { failed } = require('../native/errors.js')
const port = require('../native/port.js')
const { closed, collectionName, replayStart, walFailed } = require('./checks.js')
const { jsonSafe } = require('../support/json-safe.js')
const { codecOf, telling } = require('./codec.js')
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
  #codec
  #consumerTimeout
  #isClosed = false
  /** What would not end by itself. @type {Set<WeakRef<import('../../index.js').WalFollow>>} */
  #follows = new Set()
  /** Its consumers that are open here. @type {Set<any>} */
  #consumers = new Set()

  /** @param {string} dir @param {string} path @param {{ recovery?: 'strict' | 'tolerateTail' | 'skipCorrupt' | undefined, codec?: 'json' | undefined, consumerTimeout?: number | undefined }} options */
  constructor(dir, path, { recovery, codec, consumerTimeout }) {
    this.#dir = dir
    this.#path = path
    this.#recovery = recovery
    this.#codec = codecOf(codec)
    this.#consumerTimeout = consumerTimeout
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

  /** @param {string} collection @param {unknown} [options] */
  follow(collection, options) {
    return this.#follow(collection, options, this.#codec)
  }

  /** @param {string} collection @param {unknown} options @param {import('./codec.js').Codec} codec */
  #follow(collection, options, codec) {
    const { WalFollow, followOptions } = require('./follow.js')
    const { from, signal } = followOptions(options)
    const name = collectionName(collection)
    if (this.#isClosed) throw closed(this.#dir, 'wal read')
    const follow = new WalFollow(this.#dir, name, codec, signal, (opened, id) => opened.followWalIn(id, this.#path, name, from, this.#recovery))
    for (const each of this.#follows) if (!each.deref()) this.#follows.delete(each)
    this.#follows.add(new WeakRef(follow))
    return follow
  }

  /** @param {string} name @param {string} collection @param {unknown} [options] */
  async consumer(name, collection, options) {
    if (this.#isClosed) throw closed(this.#dir, 'wal consumer')
    const { openConsumer } = require('./consumer.js')
    /** @type {import('./consumer.js').Follow} */
    const follow = (collection, options, onGiven) => this.#follow(collection, options, telling(this.#codec, onGiven))
    return await openConsumer(this.#dir, this.#path, name, collection, options, this.#consumerTimeout, follow, this.#consumers, async () => {})
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
      const { withLag } = require('./consumer.js')
      return jsonSafe({ collections: collections.map((each) => ({ ...each, consumers: withLag(each) })) })
    } catch (error) {
      throw failed(this.#dir, 'wal read', error)
    }
  }

  /** @param {string} collection @param {unknown} [options] */
  replay(collection, options) {
    const from = replayStart(options)
    const name = collectionName(collection)
    if (this.#isClosed) throw closed(this.#dir, 'wal read')
    return new WalReplay(this.#dir, name, this.#codec, (opened, id) => opened.replayWalIn(id, this.#path, name, from, this.#recovery))
  }

  async close() {
    this.#isClosed = true
    await Promise.all(Array.from(this.#follows, (each) => each.deref()?.return()))
    this.#follows.clear()
    await Promise.all(Array.from(this.#consumers, (each) => each.close()))
  }

  [Symbol.asyncDispose]() {
    return this.close()
  }
}

strictMethods(WalReader, { follow: 'collection options', consumer: 'name collection options', first: 'collection', replay: 'collection options' })

module.exports = { WalReader }
