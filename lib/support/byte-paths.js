'use strict'

// Paths whose names are not UTF-8, which Unix allows: users give them as a `Buffer`. Within the package every path is a
// string; a byte that is not UTF-8 is a lone surrogate in it, U+DC80 to U+DCFF for the bytes 0x80 to 0xff. The native
// side reads and makes the same strings (`src/binding/path_text.rs`), so that no two names become one.

const { isUtf8 } = require('node:buffer')

/** What no UTF-8 leads to: half of a surrogate pair. With the flag `u` it does not match the halves of a pair. */
const LONE = /[\ud800-\udfff]/u

/** The bytes as a string. @param {Uint8Array} bytes */
function fromBytes(bytes) {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (isUtf8(buffer)) return buffer.toString()
  let text = ''
  for (let at = 0; at < buffer.length;) {
    const length = characterAt(buffer, at)
    if (length === 0) text += String.fromCharCode(0xdc00 | /** @type {number} */ (buffer[at++]))
    else text += buffer.toString('utf8', at, (at += length))
  }
  return text
}

/** How many bytes the character has that begins there; 0 if none does. @param {Buffer} buffer @param {number} at */
function characterAt(buffer, at) {
  for (let length = 1; length <= 4 && at + length <= buffer.length; length++) {
    if (isUtf8(buffer.subarray(at, at + length))) return length
  }
  return 0
}

/** The bytes of a path. @param {string} path @returns {Buffer} */
function toBytes(path) {
  if (!LONE.test(path)) return Buffer.from(path)
  const parts = []
  for (const character of path) {
    const code = /** @type {number} */ (character.codePointAt(0))
    parts.push(code >= 0xdc80 && code <= 0xdcff ? Buffer.of(code & 0xff) : Buffer.from(character))
  }
  return Buffer.concat(parts)
}

/** The path as Node's own functions take it: bytes if no string leads there. @param {string} path */
function forNode(path) {
  return LONE.test(path) ? toBytes(path) : path
}

/** The same string for the same bytes, however the user has put it together. @param {string} path */
function normalized(path) {
  return LONE.test(path) ? fromBytes(toBytes(path)) : path
}

module.exports = { forNode, fromBytes, normalized, toBytes }
