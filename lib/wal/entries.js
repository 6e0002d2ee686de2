'use strict'

// Entries of a write-ahead log on their way to and from holdfast's threads: packed into one
// piece of memory each way, as `src/binding/wal.rs` describes it.

const { toUSVString, types } = require('node:util')
const { isDetached, outOfRange, wrongType, wrongValue } = require('../support/arguments.js')

/** @typedef {import('../../index.js').WalEntryInput} WalEntryInput */
/** @typedef {import('../../index.js').WalEntry} WalEntry */

/** @type {WalEntry['op'][]} */
const OPS = ['insert', 'update', 'delete']
/** Length of the id, length of the payload, time, operation, kind of payload. */
const FIXED = 4 + 4 + 8 + 1 + 1
const SEQUENCE = 8
const TWO_32 = 2 ** 32
const EMPTY = new Uint8Array(0)

/** Ids are mostly short: up to this length a loop is faster than a call into the engine. */
const SHORT = 24

/** The memory of what was packed last, used again: the native side has its own copy by then. */
let scratch = Buffer.allocUnsafe(64 * 1024)
/** A batch is being packed. Getters of its entries may pack another. */
let isPacking = false
/** More than this is not kept. */
const LARGEST_SCRATCH = 4 * 1024 * 1024

/**
 * Packs the entries of one batch. The answer is only good until the next call.
 *
 * @param {readonly WalEntryInput[]} entries
 * @param {number} now
 * @returns {Buffer}
 */
function pack(entries, now) {
  if (isPacking) return packElsewhere(entries, now)
  isPacking = true
  try {
    return packHere(entries, now)
  } finally {
    isPacking = false
  }
}

/** @param {readonly WalEntryInput[]} entries @param {number} now */
function packElsewhere(entries, now) {
  const outer = scratch
  scratch = Buffer.allocUnsafe(64 * 1024)
  try {
    return packHere(entries, now)
  } finally {
    scratch = outer
  }
}

/** @param {readonly WalEntryInput[]} entries @param {number} now */
function packHere(entries, now) {
  let at = 0
  for (let index = 0; index < entries.length; index++) {
    const entry = entries[index]
    if (entry === null || typeof entry !== 'object') throw wrongType(`The "entries[${index}]" argument`, 'of type object', entry)
    const { id, op, payload = EMPTY, timestamp = now } = /** @type {WalEntryInput & { payload?: Uint8Array | string }} */ (entry)
    if (typeof id !== 'string') throw wrongType(`The "entries[${index}].id" property`, 'of type string', id)
    const number = op === 'insert' ? 0 : op === 'update' ? 1 : op === 'delete' ? 2 : unknownOp(op, index)
    if (!Number.isSafeInteger(timestamp)) badTimestamp(timestamp, index)
    const isText = typeof payload === 'string'
    const size = isText ? payload.length * 3 : lengthOf(payload, entry, index)

    // No character takes more than three bytes of UTF-8.
    at = reserve(at, FIXED + id.length * 3 + size)
    const start = at
    at = writeText(id, at + FIXED, index, 'id')
    putLength(start, at - start - FIXED)
    const middle = at
    if (isText) at = writeText(payload, at, index, 'payload')
    else {
      scratch.set(payload, at)
      at += size
    }
    putLength(start + 4, at - middle)
    const high = Math.floor(timestamp / TWO_32)
    putLength(start + 8, timestamp - high * TWO_32)
    putLength(start + 12, high)
    scratch[start + 16] = number
    scratch[start + 17] = isText ? 1 : 0
  }
  const packed = scratch.subarray(0, at)
  if (scratch.length > LARGEST_SCRATCH) scratch = Buffer.allocUnsafe(64 * 1024)
  return packed
}

/**
 * Makes sure that there is room for `more` bytes.
 *
 * @param {number} at
 * @param {number} more
 */
function reserve(at, more) {
  if (at + more <= scratch.length) return at
  const larger = Buffer.allocUnsafe(Math.max(2 * scratch.length, at + more))
  larger.set(scratch.subarray(0, at))
  scratch = larger
  return at
}

/** @param {number} at @param {number} value its lower 32 bits */
function putLength(at, value) {
  scratch[at] = value
  scratch[at + 1] = value >>> 8
  scratch[at + 2] = value >>> 16
  scratch[at + 3] = value >>> 24
}

/**
 * Writes text in UTF-8 and says where it ends.
 *
 * @param {string} text
 * @param {number} at
 * @param {number} index
 * @param {string} property
 */
function writeText(text, at, index, property) {
  if (text.length <= SHORT) {
    let i = 0
    for (; i < text.length; i++) {
      const code = text.charCodeAt(i)
      if (code >= 0x80) break
      scratch[at + i] = code
    }
    if (i === text.length) return at + i
  }
  const written = scratch.write(text, at, 'utf8')
  // Half a surrogate pair has no UTF-8: something else would come back.
  if (written !== text.length && toUSVString(text) !== text) {
    throw wrongValue(`The "entries[${index}].${property}" property must be well-formed text: it has half of a surrogate pair`)
  }
  return at + written
}

/** @param {unknown} op @param {number} index @returns {never} */
function unknownOp(op, index) {
  const name = `The "entries[${index}].op" property`
  if (typeof op !== 'string') throw wrongType(name, 'of type string', op)
  throw wrongValue(`${name} must be one of 'insert', 'update', 'delete'. Received '${op}'`)
}

/** @param {unknown} timestamp @param {number} index @returns {never} */
function badTimestamp(timestamp, index) {
  const name = `The "entries[${index}].timestamp" property`
  if (typeof timestamp !== 'number') throw wrongType(name, 'of type number', timestamp)
  throw outOfRange(name, 'a safe integer (milliseconds since 1970)', timestamp)
}

/** @param {unknown} payload @param {WalEntryInput} entry @param {number} index */
function lengthOf(payload, entry, index) {
  const length = types.isUint8Array(payload) ? payload.byteLength : 0
  if (length === 0) checkEmpty(payload, entry, index)
  return length
}

/** @param {unknown} payload @param {WalEntryInput} entry @param {number} index */
function checkEmpty(payload, entry, index) {
  const name = `The "entries[${index}].payload" property`
  if (!types.isUint8Array(payload)) throw wrongType(name, 'of type string or an instance of Uint8Array', payload)
  if (isDetached(payload)) throw wrongValue(`${name} must not be a view of memory that is gone`)
  // Only a deletion can do without a payload.
  if (payload === EMPTY && entry.op !== 'delete') throw wrongType(name, 'of type string or an instance of Uint8Array', undefined)
}

/** @param {Buffer} bytes @param {number} at */
function length(bytes, at) {
  return (
    (/** @type {number} */ (bytes[at]) |
      (/** @type {number} */ (bytes[at + 1]) << 8) |
      (/** @type {number} */ (bytes[at + 2]) << 16) |
      (/** @type {number} */ (bytes[at + 3]) << 24)) >>>
    0
  )
}

/** Takes packed entries one by one. */
class Unpacker {
  #collection
  #bytes
  #at = 0

  /** @param {string} collection @param {Buffer} bytes */
  constructor(collection, bytes) {
    this.#collection = collection
    this.#bytes = bytes
  }

  /** The next entry; `undefined` when there are no more. @returns {WalEntry | undefined} */
  next() {
    const bytes = this.#bytes
    const at = this.#at
    if (at >= bytes.length) return undefined
    const high = length(bytes, at + 4)
    const sequence = high === 0 ? BigInt(length(bytes, at)) : (BigInt(high) << 32n) | BigInt(length(bytes, at))
    const idAt = at + SEQUENCE + FIXED
    const payloadAt = idAt + length(bytes, at + 8)
    const end = payloadAt + length(bytes, at + 12)
    this.#at = end
    return {
      collection: this.#collection,
      sequence,
      id: bytes.toString('utf8', idAt, payloadAt),
      op: /** @type {WalEntry['op']} */ (OPS[/** @type {number} */ (bytes[at + 24])]),
      payload: bytes[at + 25] === 1 ? bytes.toString('utf8', payloadAt, end) : bytes.subarray(payloadAt, end),
      timestamp: (length(bytes, at + 20) | 0) * TWO_32 + length(bytes, at + 16),
    }
  }
}

module.exports = { Unpacker, pack }
