'use strict'

// What is appended to a collection, from now on or from an earlier number: an iteration that waits where
// a replay would end.

const { abortSignal, readOptions } = require('../support/arguments.js')
const { onAbort } = require('../support/abort.js')
const { CANCELLED, toDamage } = require('../native/errors.js')
const port = require('../native/port.js')
const { Unpacker } = require('./entries.js')
const { sequence, walFailed } = require('./checks.js')
const { Turns } = require('./turns.js')

const OPERATION = 'wal read'

/** How many bytes are asked for at a time. */
const PIECE = 256 * 1024

const checks = { from: sequence, signal: abortSignal }

/** @typedef {import('../../index.js').WalEntry} WalEntry */
/** @typedef {import('../../index.js').WalFollow} PublicFollow */
/** @typedef {import('../native/binding.js').FollowChunk} FollowChunk */

/** The options of `follow`. @param {unknown} options */
const followOptions = (options) => readOptions(options, checks, 'follow')

/** Ends what no caller can go on with any more. */
const abandoned = new FinalizationRegistry((/** @type {number} */ follow) => port.open().endFollow(follow))

/** @implements {PublicFollow} */
class WalFollow {
  #dir
  #collection
  #start
  #codec
  #signal
  /** The native side's number, while it has it. @type {number | undefined} */
  #follow
  /** The piece whose entries are being given out. @type {InstanceType<typeof Unpacker> | undefined} */
  #piece
  #turns = new Turns()
  #isOver = false
  /** The signal has been aborted, and no step has been told yet. */
  #isAborted = false
  #stopListening = () => {}

  /**
   * @param {string} dir
   * @param {string} collection
   * @param {import('./codec.js').Codec} codec
   * @param {AbortSignal | undefined} signal
   * @param {(port: import('../native/binding.js').Port, id: number) => void} start
   */
  constructor(dir, collection, codec, signal, start) {
    this.#dir = dir
    this.#codec = codec
    this.#collection = collection
    this.#signal = signal
    this.#start = start
    /** @type {import('../../index.js').WalDamage[]} */
    this.damage = []
  }

  /** @returns {Promise<IteratorResult<WalEntry, undefined>>} */
  next() {
    const entry = this.#turns.waiting === 0 && !this.#isAborted ? this.#piece?.next() : undefined
    if (!entry) return this.#afterOthers(() => this.#advance())
    try {
      return Promise.resolve({ value: this.#codec.decode(entry), done: false })
    } catch (error) {
      return this.#afterOthers(() => Promise.reject(error))
    }
  }

  /** Does not wait for the steps that wait: they end. @returns {Promise<IteratorResult<WalEntry, undefined>>} */
  async return() {
    this.#end()
    return { value: undefined, done: true }
  }

  [Symbol.asyncIterator]() {
    return this
  }

  async [Symbol.asyncDispose]() {
    await this.return()
  }

  /** @param {() => Promise<IteratorResult<WalEntry, undefined>>} step @returns {Promise<IteratorResult<WalEntry, undefined>>} */
  #afterOthers(step) {
    return this.#turns.take(async () => {
      try {
        const result = await step()
        if (!this.#isAborted) return result
        this.#isAborted = false
        throw CANCELLED
      } catch (error) {
        this.#end()
        throw walFailed(this.#dir, OPERATION, this.#collection, error, this.#signal)
      }
    })
  }

  /** @returns {Promise<IteratorResult<WalEntry, undefined>>} */
  async #advance() {
    while (!this.#isOver) {
      const entry = this.#piece?.next()
      if (entry) return { value: this.#codec.decode(entry), done: false }
      this.#piece = undefined
      if (this.#follow === undefined) await this.#begin()
      const { packed, over, damage } = await this.#ask()
      this.damage.push(...damage.map(toDamage))
      if (over) this.#end()
      else if (!this.#isOver) this.#piece = new Unpacker(this.#collection, packed)
    }
    return { value: undefined, done: true }
  }

  #abort() {
    this.#isAborted = true
    this.#end()
  }

  async #begin() {
    if (this.#signal?.aborted) return this.#abort()
    // The signal must not keep alive what is abandoned.
    const weak = new WeakRef(this)
    this.#stopListening = onAbort(this.#signal, () => {
      const own = weak.deref()
      if (own) own.#abort()
    })
    /** @type {number} */
    const follow = await port.run(this.#start)
    this.#follow = follow
    abandoned.register(this, follow, this)
    // It has been ended meanwhile.
    if (this.#isOver) this.#end()
  }

  /** @returns {Promise<FollowChunk>} */
  async #ask() {
    const follow = this.#follow
    if (follow === undefined) return { packed: Buffer.alloc(0), over: true, damage: [] }
    return await port.run((opened, id) => opened.nextFollow(id, follow, PIECE))
  }

  /** Frees everything; what waits is answered. */
  #end() {
    this.#isOver = true
    this.#piece = undefined
    this.#stopListening()
    if (this.#follow === undefined) return
    port.open().endFollow(this.#follow)
    this.#follow = undefined
    abandoned.unregister(this)
  }
}

module.exports = { WalFollow, followOptions }
