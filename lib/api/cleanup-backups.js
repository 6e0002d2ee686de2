'use strict'

// Removes old backups: of one file, or of those in a directory whose names the caller chooses.

const { types } = require('node:util')
const { boolean, integer, milliseconds, oneOf, readOptions, toAbsolute, toPath, wrongType } = require('../support/arguments.js')
const { BoundOptions } = require('../support/defaults.js')
const { failed } = require('../native/errors.js')
const port = require('../native/port.js')
const { toRetention } = require('./backup.js')

const OPERATION = 'clean up backups'
const WEEK = 7 * 24 * 60 * 60 * 1000

const maxAgeOf = milliseconds(Infinity)
const keepNewest = integer(0, 1_000_000)

const dirChecks = { anyName: boolean, keepNewest }
const fileChecks = { maxAge: maxAgeOf, keep: toRetention, keepNewest, validate: oneOf('json') }

/** @type {typeof import('../../index.js').cleanupBackups} */
async function cleanupBackups(/** @type {any} */ path, /** @type {any} */ pattern, /** @type {any} */ maxAge, /** @type {any} */ options) {
  if (types.isRegExp(pattern)) return await inDir(path, pattern, maxAge, options, 1)
  const more = options instanceof BoundOptions ? options.given : options
  const isOptions = pattern === undefined || (typeof pattern === 'object' && pattern !== null && !Array.isArray(pattern))
  if (!isOptions || maxAge !== undefined || more !== undefined) {
    throw wrongType('The "pattern" argument', 'an instance of RegExp, or in its place the options for the backups of one file', pattern)
  }
  return await ofFile(path, pattern)
}

/**
 * The method of Vectra's class, whose rule it is that the newest goes like any other.
 *
 * @type {typeof import('../../index.js').AtomicOperations.cleanupBackups}
 */
async function cleanupAllBackups(dir, pattern, maxAge, options) {
  if (!types.isRegExp(pattern)) throw wrongType('The "pattern" argument', 'an instance of RegExp', pattern)
  return await inDir(dir, pattern, maxAge, options, 0)
}

/** @param {unknown} path @param {unknown} options */
async function ofFile(path, options) {
  const read = readOptions(options, fileChecks, 'cleanupBackups')
  const target = toPath(path)
  const { keep, keepNewest = 1, validate, maxAge = keep ? undefined : WEEK } = read
  try {
    const absolute = toAbsolute(target)
    const thinning = { ...(keep && { keep }), ...(maxAge !== undefined && { maxAge }), keepNewest, isJson: validate !== undefined }
    /** @type {string[]} */
    const names = await port.run((opened, id) => opened.thinBackups(id, absolute, thinning, Date.now()))
    return names
  } catch (error) {
    throw failed(target, OPERATION, error)
  }
}

/** @param {unknown} dir @param {RegExp} pattern @param {unknown} maxAge @param {unknown} options @param {number} keptByDefault */
async function inDir(dir, pattern, maxAge = WEEK, options, keptByDefault) {
  const target = toPath(dir, 'dir', 'dir')
  const age = maxAgeOf(maxAge, 'The "maxAge" argument')
  const { anyName = false, keepNewest = keptByDefault } = readOptions(options, dirChecks, 'cleanupBackups')
  try {
    const absolute = toAbsolute(target)
    const now = Date.now()
    const limit = now - age
    /** @type {import('../native/binding.js').NativeCandidate[]} */
    const candidates = await port.run((opened, id) => opened.listCandidates(id, absolute, anyName, now))
    const isOld = (/** @type {number | undefined} */ time) => anyName || (time !== undefined && time <= limit)
    const chosen = candidates.filter(({ name, time }) => isOld(time) && matches(pattern, name)).map(({ name }) => name)
    // A negative limit is older than any time.
    if (chosen.length === 0 || limit < 0) return []
    // Every file is of an age of 0, also one that was changed when the clock was ahead.
    return await port.run((opened, id) => opened.removeFiles(id, absolute, chosen, anyName && age > 0 ? limit : undefined, keepNewest))
  } catch (error) {
    throw failed(target, OPERATION, error)
  }
}

/**
 * Whether a name matches. A pattern with the flag g or y continues where its last match ended; here
 * each name is matched from its beginning, and the pattern stays as it was.
 *
 * @param {RegExp} pattern
 * @param {string} name
 */
function matches(pattern, name) {
  const { lastIndex } = pattern
  pattern.lastIndex = 0
  try {
    return pattern.test(name)
  } finally {
    pattern.lastIndex = lastIndex
  }
}

module.exports = { cleanupAllBackups, cleanupBackups }
