'use strict'

// Batches that name themselves, so that a reader of a log can tell whether each is whole, in order,
// and there once.

const assert = require('node:assert/strict')
const { createHash } = require('node:crypto')
const path = require('node:path')

const hash = (text) => createHash('sha1').update(text).digest('hex')

/** The entries of a batch: `size` of them, with payloads of `bytes` bytes and more. */
function batch(round, producer, number, size = 1 + ((number * 7 + producer) % 12), bytes = 40 * ((number % 5) + 1)) {
  return Array.from({ length: size }, (_, index) => {
    const id = `${round}.${producer}.${number}.${index}.${size}`
    return { id, op: 'insert', payload: hash(id).repeat(Math.ceil(bytes / 40)) }
  })
}

/**
 * Takes the entries of one collection in order, and checks that their batches are whole, each
 * producer's in order and without gaps, and none twice.
 */
class Checker {
  /** The last sequence number. */
  last = 0n
  /** The last batch of each producer in each round. @type {Map<string, number>} */
  numbers = new Map()
  #within = null

  take({ sequence, id, payload }) {
    assert.ok(sequence > this.last, `${sequence} comes after ${this.last}`)
    const [round, producer, number, index, size] = id.split('.').map(Number)
    if (this.#within === null) {
      assert.equal(index, 0, `the batch of ${id} has lost its beginning`)
      const key = `${round}.${producer}`
      this.#within = { key, number, size, sequence }
    }
    const { key, first = this.#within.sequence } = this.#within
    assert.equal(`${key}.${this.#within.number}`, `${round}.${producer}.${number}`, `${id} is in another batch`)
    assert.equal(sequence, first + BigInt(index))
    assert.ok(payload === hash(id).repeat(payload.length / 40) && payload.length > 0, `${id} has another payload`)
    this.last = sequence
    if (index < size - 1) return
    assert.equal(number, this.number(round, producer) + 1, `${id} comes after ${this.number(round, producer)}`)
    this.numbers.set(key, number)
    this.#within = null
  }

  /** How many batches of a producer there are. */
  number(round, producer) {
    return this.numbers.get(`${round}.${producer}`) ?? 0
  }

  /** No batch is in part. */
  end() {
    assert.equal(this.#within, null, 'the last batch is not whole')
  }
}

/** An entry. */
const insert = (id, payload = `payload of ${id}`) => ({ id, op: 'insert', payload })

/** A new log, its writer and a reader of it, which are closed when the test is over. */
async function newLogAndReader(t, options) {
  const { openWal } = require('../index.js')
  const { fastDir } = require('./system.js')
  const dir = path.join(fastDir(t), 'log')
  const wal = await openWal(dir, options)
  t.after(() => wal.close().catch(() => {}))
  const reader = await openWal(dir, { readOnly: true })
  t.after(() => reader.close())
  return { dir, wal, reader }
}

module.exports = { Checker, batch, insert, newLogAndReader }
