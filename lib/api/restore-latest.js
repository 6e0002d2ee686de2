'use strict'

// Goes back to the newest backup of a file that is good.

const { readOptions, toAbsolute, toPath } = require('../support/arguments.js')
const standardSchema = require('../support/standard-schema.js')
const { CANCELLED, Thrown, failed, isError, noBackup } = require('../native/errors.js')
const port = require('../native/port.js')
const { restoreChecks, toBackup, tracedRestore } = require('./backup.js')
const { valueOf } = require('./json-text.js')
const { waitFor } = require('./lock.js')

const { native } = port

const OPERATION = 'restore backup'

const { createOnly: _createOnly, ...checks } = { ...restoreChecks, schema: standardSchema.schema }

/** @typedef {{ [K in keyof typeof checks]?: ReturnType<typeof checks[K]> }} Options */
/** @typedef {{ good?: import('../../index.js').Backup | undefined, skipped: import('../../index.js').SkippedBackup[] }} Found */

/** @type {typeof import('../../index.js').restoreLatest} */
async function restoreLatest(path, options) {
  const { schema, ...read } = readOptions(options, checks, 'restoreLatest')
  const target = toPath(path)
  return await restoreGood(target, read, schema && ((text, path) => flawBySchema(schema, text, path)))
}

/**
 * @param {string} target
 * @param {Omit<Options, 'schema'>} options
 * @param {((text: string, path: string) => Promise<string | undefined>) | undefined} flawIn why the text of a backup is no good
 * @returns {Promise<import('../../index.js').RestoredBackup>}
 */
async function restoreGood(target, options, flawIn) {
  /** @type {Found} */
  let found
  try {
    if (options.signal?.aborted) throw CANCELLED
    found = flawIn ? await searchBy(flawIn, target, options) : await search(target, options)
    if (!found.good) throw noBackup(target, found.skipped)
  } catch (error) {
    if (error instanceof Thrown) throw error.value
    throw isError(error) && 'operation' in error ? error : failed(target, OPERATION, error, options.signal)
  }
  await tracedRestore(target, found.good.path, options)
  return { backup: found.good, skipped: found.skipped }
}

/**
 * @param {string} target
 * @param {Omit<Options, 'schema'>} options
 * @param {number} [before] only backups that are older than this count
 * @returns {Promise<Found>}
 */
async function search(target, { validate, signal }, before) {
  const absolute = toAbsolute(target)
  const control = new native.Control()
  const start = (/** @type {import('../native/binding.js').Port} */ opened, /** @type {number} */ id) => {
    opened.newestBackup(id, absolute, validate !== undefined, before, control)
    return null
  }
  /** @type {import('../native/binding.js').NativeNewest} */
  const { good, bad } = await waitFor(signal, start, control)
  return {
    good: good && toBackup(target, good),
    skipped: bad.map(({ backup, reason }) => ({ ...toBackup(target, backup), reason })),
  }
}

/**
 * Of those that are good by their bytes the newest in whose text no flaw is found.
 *
 * @param {(text: string, path: string) => Promise<string | undefined>} flawIn
 * @param {string} target
 * @param {Omit<Options, 'schema'>} options
 * @returns {Promise<Found>}
 */
async function searchBy(flawIn, target, options) {
  /** @type {import('../../index.js').SkippedBackup[]} */
  const skipped = []
  /** @type {number | undefined} */
  let before
  for (;;) {
    const found = await search(target, options, before)
    skipped.push(...found.skipped)
    if (!found.good) return { skipped }
    const reason = await flawOf(found.good.path, flawIn)
    if (options.signal?.aborted) throw CANCELLED
    if (reason === undefined) return { good: found.good, skipped }
    skipped.push({ ...found.good, reason })
    before = found.good.createdAt.getTime()
  }
}

/** @param {string} path @param {(text: string, path: string) => Promise<string | undefined>} flawIn */
async function flawOf(path, flawIn) {
  const absolute = toAbsolute(path)
  /** @type {string | undefined} */
  let text
  try {
    /** @type {import('../native/binding.js').FileText} */
    const read = await port.run((opened, id) => opened.readJsonText(id, absolute, false))
    text = read.text
  } catch (error) {
    return `it cannot be read: ${/** @type {{ message?: string }} */ (error).message}`
  }
  return text === undefined ? 'it is not there any more' : flawIn(text, absolute)
}

/**
 * Why the text of a backup is not what the schema asks for. What the schema itself throws is thrown.
 *
 * @param {import('../../index.js').StandardSchema} schema
 * @param {string} text
 * @param {string} path
 */
async function flawBySchema(schema, text, path) {
  /** @type {unknown} */
  let value
  try {
    value = valueOf({ path, text }, {})
  } catch (error) {
    return jsonFlaw(error)
  }
  return schemaFlaw(schema, value)
}

/** @param {import('../../index.js').StandardSchema} schema @param {unknown} value */
async function schemaFlaw(schema, value) {
  try {
    const { issues } = await standardSchema.validate(schema, value)
    return issues && `it does not match the schema: ${standardSchema.inWords(issues)}`
  } catch (error) {
    throw new Thrown(error)
  }
}

/** @param {unknown} error what `valueOf` has thrown */
function jsonFlaw(error) {
  if (error instanceof Thrown) throw error
  return `it is not JSON: ${/** @type {{ message: string }} */ (error).message}`
}

module.exports = { checks, jsonFlaw, restoreGood, restoreLatest, schemaFlaw }
