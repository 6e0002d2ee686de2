'use strict'

// Payloads as values: what `codec: 'json'` makes of them on the way into a log, and out of it.

const { inspect } = require('node:util')
const { wrongType, wrongValue } = require('../support/arguments.js')
const { badJson, isError } = require('../native/errors.js')

/** @typedef {import('../../index.js').WalEntry} WalEntry */

/**
 * @typedef {object} Codec
 * @property {(entries: readonly any[]) => readonly any[]} encode the entries of a batch with payloads that can be packed
 * @property {(entry: WalEntry) => any} decode an entry with the payload that was given
 */

/**
 * Entries whose payloads are the JSON text of their values. What is wrong otherwise is told where they are
 * packed.
 *
 * @param {readonly any[]} entries
 */
function encode(entries) {
  return Array.from(entries, (entry, index) => {
    if (entry === null || typeof entry !== 'object') return entry
    const { collection, id, op, payload, timestamp } = entry
    // Only a deletion can do without a payload.
    if (payload === undefined && op === 'delete') return { collection, id, op, timestamp }
    return { collection, id, op, payload: textOf(payload, index), timestamp }
  })
}

/** @param {unknown} payload @param {number} index */
function textOf(payload, index) {
  const name = `The "entries[${index}].payload" property`
  // JSON would make it null.
  if (typeof payload === 'number' && !Number.isFinite(payload)) throw wrongValue(`${name} must be a value that has a JSON text. Received ${inspect(payload)}`)
  /** @type {string | undefined} */
  let text
  try {
    text = JSON.stringify(payload)
  } catch (error) {
    // A bigint, a circle, or what a `toJSON` has thrown.
    throw Object.assign(wrongValue(`${name} cannot be made JSON: ${isError(error) ? error.message : inspect(error)}`), { cause: error })
  }
  if (text === undefined) throw wrongType(name, 'a value that has a JSON text', payload)
  return text
}

/** @param {WalEntry} entry */
function decode(entry) {
  const { payload, op } = entry
  if (op === 'delete' && payload.length === 0) return { ...entry, payload: undefined }
  try {
    if (typeof payload !== 'string') throw new SyntaxError('the payload is not text')
    return { ...entry, payload: JSON.parse(payload) }
  } catch (error) {
    const { collection, sequence, id } = entry
    throw badJson(`the payload of entry ${sequence} of ${inspect(collection)}, with the id ${inspect(id)}, is not JSON: ${/** @type {Error} */ (error).message}`)
  }
}

/** Payloads as they are. @type {Codec} */
const plain = { encode: (entries) => entries, decode: (entry) => entry }

/** @type {Codec} */
const json = { encode, decode }

/** @param {'json' | undefined} name */
const codecOf = (name) => (name === 'json' ? json : plain)

/**
 * A codec that tells of each entry that is given out.
 *
 * @param {Codec} codec
 * @param {(sequence: bigint) => void} onGiven
 * @returns {Codec}
 */
function telling({ encode, decode }, onGiven) {
  return {
    encode,
    decode(entry) {
      const decoded = decode(entry)
      onGiven(entry.sequence)
      return decoded
    },
  }
}

module.exports = { codecOf, telling }
