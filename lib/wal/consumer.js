'use strict'

// Consumers: readers that have a name, and a position that is kept for them.

const { abortSignal, milliseconds, outOfRange, readOwnOptions, wrongType, wrongValue } = require('../support/arguments.js')
const { strictMethods } = require('../support/strict.js')
const { waitFor } = require('../api/lock.js')
const port = require('../native/port.js')
const { closed, collectionName, sequence, walFailed } = require('./checks.js')

const OPERATION = 'wal consumer'

const checks = { from: sequence, timeout: milliseconds(Infinity), signal: abortSignal }
const followChecks = { signal: abortSignal }

/** @typedef {import('../../index.js').WalConsumer} PublicConsumer */
/** @typedef {import('../../index.js').WalFollow} WalFollow */
/** @typedef {import('../../index.js').WalEntry} WalEntry */

/**
 * What a consumer reads of its log.
 *
 * @callback Follow
 * @param {string} collection
 * @param {{ from: bigint, signal?: AbortSignal | undefined }} options
 * @param {(sequence: bigint) => void} onGiven is told of each entry that is given out
 * @returns {WalFollow}
 */

/** @implements {PublicConsumer} */
class WalConsumer {
  #dir
  #consumer
  #position
  #follow
  /** The last number that has been given out. */
  #given
  /** The number that is acknowledged next. */
  #wanted
  /** The write of the position that runs. @type {Promise<void> | undefined} */
  #running
  #isClosed = false
  #onClosed

  /**
   * @param {string} dir
   * @param {string} name
   * @param {string} collection
   * @param {import('../native/binding.js').OpenedConsumer} opened
   * @param {Follow} follow
   * @param {(consumer: WalConsumer) => Promise<void>} onClosed
   */
  constructor(dir, name, collection, { consumer, position }, follow, onClosed) {
    this.#dir = dir
    this.name = name
    this.collection = collection
    this.#consumer = consumer
    this.#position = this.#given = this.#wanted = position
    this.#follow = follow
    this.#onClosed = onClosed
  }

  get position() {
    return this.#position
  }

  /** @param {unknown} [options] */
  follow(options) {
    const { signal } = readOwnOptions(options, followChecks, 'follow')
    this.#refuseClosed()
    return this.#follow(this.collection, { from: this.#position + 1n, signal }, (given) => {
      if (given > this.#given) this.#given = given
    })
  }

  /** @param {bigint} upTo */
  async ack(upTo) {
    sequence(upTo, 'The "sequence" argument')
    this.#refuseClosed()
    if (upTo > this.#given) {
      throw outOfRange('The "sequence" argument', `at most ${this.#given}n, the last entry that this consumer was given`, upTo)
    }
    if (upTo > this.#wanted) this.#wanted = upTo
    try {
      // Those that wait together share one write, and that of the highest number stands for all.
      while (this.#position < upTo) await (this.#running ??= this.#write())
    } catch (error) {
      throw this.#failed(error)
    }
  }

  async #write() {
    try {
      // Calls of the same turn come first.
      await undefined
      const wanted = this.#wanted
      await port.run((opened, id) => opened.acknowledge(id, this.#consumer, wanted))
      this.#position = wanted
    } finally {
      this.#running = undefined
    }
  }

  async close() {
    if (!this.#isClosed) await this.#end((opened, id) => opened.closeConsumer(id, this.#consumer))
  }

  async remove() {
    this.#refuseClosed()
    await this.#end((opened, id) => opened.removeConsumer(id, this.#consumer))
  }

  /** @param {(port: import('../native/binding.js').Port, id: number) => void} end */
  async #end(end) {
    this.#isClosed = true
    // Its own caller is told how it ends.
    while (this.#running) await this.#running.catch(() => {})
    try {
      await port.run(end)
    } catch (error) {
      throw this.#failed(error)
    } finally {
      await this.#onClosed(this)
    }
  }

  #refuseClosed() {
    if (this.#isClosed) throw closed(this.#dir, OPERATION)
  }

  /** @param {unknown} error */
  #failed(error) {
    return walFailed(this.#dir, OPERATION, this.collection, error)
  }

  [Symbol.asyncDispose]() {
    return this.close()
  }
}

/**
 * Opens a consumer.
 *
 * @param {string} dir the log, as it was given
 * @param {string} path the same, absolute
 * @param {unknown} name
 * @param {unknown} collection
 * @param {unknown} options
 * @param {number | undefined} defaultTimeout that of the log
 * @param {Follow} follow
 * @param {Set<WalConsumer>} consumers those of the log that are open
 * @param {() => Promise<void>} look has the log's figures show what the consumer leaves
 */
async function openConsumer(dir, path, name, collection, options, defaultTimeout, follow, consumers, look) {
  const { from, timeout = defaultTimeout, signal } = readOwnOptions(options, checks, 'consumer')
  if (typeof name !== 'string') throw wrongType('The "name" argument', 'of type string', name)
  if (!/^[\w-]{1,64}$/.test(name)) throw wrongValue(`The "name" argument must be 1 to 64 letters, digits, _ or -. Received ${JSON.stringify(name)}`)
  const checked = collectionName(collection)
  try {
    /** @type {import('../native/binding.js').OpenedConsumer} */
    const opened = await waitFor(signal, (opened, id) => opened.openConsumer(id, path, checked, name, from, timeout))
    const consumer = new WalConsumer(dir, name, checked, opened, follow, async (it) => {
      await look()
      consumers.delete(it)
    })
    consumers.add(consumer)
    return consumer
  } catch (error) {
    throw walFailed(dir, OPERATION, checked, error, signal)
  }
}

/**
 * Adds to the figures of a collection how far behind its consumers are.
 *
 * @param {{ name: string, last: bigint, consumers: { name: string, position: bigint }[] }} figures
 * @param {Set<WalConsumer>} [own] those that are open here, whose positions are known best
 */
function withLag({ name, last, consumers }, own = new Set()) {
  const positions = new Map(consumers.map((each) => [each.name, each.position]))
  for (const each of own) if (each.collection === name) positions.set(each.name, each.position)
  return Array.from(positions, ([name, position]) => ({ name, position, lag: position < last ? last - position : 0n }))
}

strictMethods(WalConsumer, { follow: 'options', ack: 'upTo' })

module.exports = { openConsumer, withLag }
