'use strict'

const fs = require('node:fs')
const { filePath, payload } = require('./payload.js')

/**
 * Every file has the bytes of the last round, and the directory has no other entries.
 *
 * @param {import('./types.js').WriteTask} task The last one.
 * @param {number} entries How many the directory must have.
 */
function verifyFiles({ dir, prefix, count, size, round }, entries) {
  for (let index = 0; index < count; index++) {
    const file = filePath(dir, index, prefix)
    if (!fs.readFileSync(file).equals(payload(round, index, size))) throw new Error(`${file} has the wrong content`)
  }
  verifyEntries(dir, entries)
}

/**
 * The file has the bytes of one of the writes.
 *
 * @param {import('./types.js').WriteTask} task
 * @returns {number} Which write: 0 is the first.
 */
function verifyOneOf({ dir, prefix, count, size, round }) {
  const file = filePath(dir, 0, prefix)
  const content = fs.readFileSync(file)
  for (let index = count - 1; index >= 0; index--) {
    if (content.equals(payload(round, index, size))) {
      verifyEntries(dir, 1)
      return index
    }
  }
  throw new Error(`${file} has the content of no write`)
}

/** @param {string} dir @param {number} entries */
function verifyEntries(dir, entries) {
  const names = fs.readdirSync(dir)
  if (names.length !== entries) throw new Error(`${names.length} files in ${dir} instead of ${entries}, one of them ${names.at(-1)}`)
}

/** @param {string} file @param {number} count */
function verifyCount(file, count) {
  const content = fs.readFileSync(file, 'utf8')
  if (content !== JSON.stringify({ count })) throw new Error(`${file} holds ${content} after ${count} increments`)
}

module.exports = { verifyFiles, verifyOneOf, verifyCount }
