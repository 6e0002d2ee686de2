'use strict'

// Programs that lock the same file with the package proper-lockfile: their locks are directories, and a kernel lock
// does not exclude them, nor they it.

const fs = require('node:fs/promises')
const { locked } = require('../native/errors.js')
const { forNode } = require('../support/byte-paths.js')

/** After how many milliseconds that package takes a lock for one that was left behind, unless it is told otherwise. */
const STALE = 10_000

/** So many paths are remembered. */
const MOST = 10_000

/** Those that have been looked at for a logger. @type {Set<string>} */
const seen = new Set()

/** The directory of such a lock that is held now. @param {string} path of the locked file, absolute */
async function find(path) {
  const dir = `${path}.lock`
  try {
    const found = await fs.lstat(forNode(dir))
    // A clock that goes back makes it no older.
    return found.isDirectory() && Date.now() - found.mtimeMs <= STALE ? dir : undefined
  } catch {
    // There is none, or it cannot be looked at: nothing can be said of it.
    return undefined
  }
}

/**
 * Tells a logger once for each file.
 *
 * @param {string} path
 * @param {import('../../index.js').Logger} logger
 */
async function tell(path, logger) {
  if (seen.has(path)) return
  if (seen.size >= MOST) seen.clear()
  seen.add(path)
  const lockfile = await find(path)
  if (lockfile !== undefined) {
    logger.warn({ path, lockfile, operation: 'lock' }, "Another program locks this file with proper-lockfile, which does not exclude kernel locks: use protocol 'proper-lockfile', or the same in all programs")
  }
}

/**
 * Refuses a lock that does not exclude who holds the file now.
 *
 * @param {string} path
 */
async function refuse(path) {
  const lockfile = await find(path)
  if (lockfile === undefined) return
  const behind = `a lock of the package proper-lockfile ('${lockfile}'), which a kernel lock does not exclude`
  throw { ...locked(path, 0, behind), inThisProcess: false, isForeign: true }
}

module.exports = { refuse, tell }
