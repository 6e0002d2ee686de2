'use strict'

// The entries of a collection as they lie on the disk, piece by piece.

const { toDamage } = require('../native/errors.js')
const port = require('../native/port.js')
const { Unpacker } = require('./entries.js')
const { walFailed } = require('./checks.js')
const { Turns } = require('./turns.js')

const OPERATION = 'wal read'

/** How many bytes are asked for at a time. While one piece is given out, the next is on its way. */
const PIECE = 256 * 1024

/** @typedef {import('../../index.js').WalEntry} WalEntry */
/** @typedef {import('../../index.js').WalReplay} PublicReplay */
/** @typedef {import('../native/binding.js').ReplayChunk} ReplayChunk */

/** Ends what is left of a replay that no caller can go on with any more. */
const abandoned = new FinalizationRegistry((/** @type {number} */ replay) => port.open().endReplay(replay))

/** @implements {PublicReplay} */
class WalReplay {
  #dir
  #collection
  #start
  #codec
  /** The native side's number, while it has the replay. @type {number | undefined} */
  #replay
  /** The piece whose entries are being given out. @type {InstanceType<typeof Unpacker> | undefined} */
  #piece
  /** The next one. @type {Promise<ReplayChunk> | undefined} */
  #nextPiece
  /** Of the steps that wait for a piece. */
  #turns = new Turns()
  #isOver = false

  /**
   * @param {string} dir
   * @param {string} collection
   * @param {import('./codec.js').Codec} codec
   * @param {(port: import('../native/binding.js').Port, id: number) => void} start
   */
  constructor(dir, collection, codec, start) {
    this.#dir = dir
    this.#codec = codec
    this.#collection = collection
    this.#start = start
    /** @type {import('../../index.js').WalDamage[]} */
    this.damage = []
  }

  /** @returns {Promise<IteratorResult<WalEntry, undefined>>} */
  next() {
    const entry = this.#turns.waiting === 0 ? this.#piece?.next() : undefined
    if (!entry) return this.#afterOthers(() => this.#advance())
    try {
      return Promise.resolve({ value: this.#codec.decode(entry), done: false })
    } catch (error) {
      return this.#afterOthers(() => Promise.reject(error))
    }
  }

  /** @returns {Promise<IteratorResult<WalEntry, undefined>>} */
  return() {
    return this.#afterOthers(async () => {
      await this.#end()
      return { value: undefined, done: true }
    })
  }

  [Symbol.asyncIterator]() {
    return this
  }

  async [Symbol.asyncDispose]() {
    await this.return()
  }

  /**
   * @template T
   * @param {() => Promise<T>} step
   * @returns {Promise<T>}
   */
  #afterOthers(step) {
    return this.#turns.take(async () => {
      try {
        return await step()
      } catch (error) {
        await this.#end()
        throw walFailed(this.#dir, OPERATION, this.#collection, error)
      }
    })
  }

  /** @returns {Promise<IteratorResult<WalEntry, undefined>>} */
  async #advance() {
    for (;;) {
      const entry = this.#piece?.next()
      if (entry) return { value: this.#codec.decode(entry), done: false }
      this.#piece = undefined
      if (this.#isOver) return { value: undefined, done: true }
      if (this.#replay === undefined) await this.#begin()
      const { packed, over, damage } = await (this.#nextPiece ?? this.#ask())
      this.#nextPiece = undefined
      if (damage) this.damage.push(...damage.map(toDamage))
      if (over) this.#forget()
      else this.#nextPiece = this.#ask()
      this.#piece = new Unpacker(this.#collection, packed)
    }
  }

  async #begin() {
    /** @type {number} */
    const replay = await port.run(this.#start)
    this.#replay = replay
    abandoned.register(this, replay, this)
  }

  #ask() {
    const replay = /** @type {number} */ (this.#replay)
    /** @type {Promise<ReplayChunk>} */
    const asked = port.run((opened, id) => opened.nextWal(id, replay, PIECE))
    // A failure is told to the caller that wants the piece. Until the piece is there the native
    // side cannot end the replay, so the replay must not be collected before.
    asked.then(() => this, () => this)
    return asked
  }

  /** The native side has nothing of it any more. */
  #forget() {
    this.#isOver = true
    this.#replay = undefined
    abandoned.unregister(this)
  }

  async #end() {
    const replay = this.#replay
    this.#forget()
    this.#piece = undefined
    // While it makes a piece the native side cannot drop the replay.
    await this.#nextPiece?.catch(() => {})
    this.#nextPiece = undefined
    if (replay !== undefined) port.open().endReplay(replay)
  }
}

module.exports = { WalReplay }
