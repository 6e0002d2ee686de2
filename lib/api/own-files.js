'use strict'

// Writes past a transaction: in its own function a call on one of its files, by another way than its methods, would
// change the file at once, and stay when the transaction is taken back.

const fs = require('node:fs')
const { basename, dirname, join } = require('node:path')
const { bypassed } = require('../native/errors.js')
const { forNode, fromBytes } = require('../support/byte-paths.js')
const context = require('../support/lock-context.js')
const { useBeforeWrite } = require('../support/write-options.js')

/**
 * Refuses to write a file of a transaction in whose function the caller is.
 *
 * @param {string} path absolute
 * @param {string} instead the method of the transaction that does the same
 * @param {boolean} isLocked whether the call takes the file's lock
 */
function refuseFilesOfTransaction(path, instead, isLocked) {
  for (const { files } of context.current()) {
    if (files?.some((file) => isSame(file, path))) throw bypassed(instead, isLocked)
  }
}

/** @param {string} a @param {string} b */
function isSame(a, b) {
  if (a === b) return true
  const [first, second] = [real(a), real(b)]
  if (first === second) return true
  if (dirname(first) !== dirname(second)) return false
  // One name that is spelt in two ways, in a directory that does not tell capital letters apart.
  return basename(first).toLowerCase() === basename(second).toLowerCase() && numberOf(first) !== undefined && numberOf(first) === numberOf(second)
}

/** The path without links, also where there is no such file. What cannot be resolved is told by the operation itself. @param {string} path */
function real(path) {
  let [at, rest] = [path, '']
  for (let links = 0; links < 40; links++) {
    try {
      return join(fromBytes(fs.realpathSync.native(forNode(at), 'buffer')), rest)
    } catch {
      // A link that leads to nothing is followed to the name that is made there.
      const target = linkAt(at)
      if (target !== undefined) at = join(target.startsWith('/') ? '' : dirname(at), target)
      else if (dirname(at) === at) return path
      else [at, rest] = [dirname(at), join(basename(at), rest)]
    }
  }
  return path
}

/** @param {string} path */
function linkAt(path) {
  try {
    return fromBytes(fs.readlinkSync(forNode(path), 'buffer'))
  } catch {
    return undefined
  }
}

/** @param {string} path */
function numberOf(path) {
  const found = fs.statSync(forNode(path), { bigint: true, throwIfNoEntry: false })
  return found && `${found.dev}:${found.ino}`
}

useBeforeWrite(refuseFilesOfTransaction)
