'use strict'

// A handle for one JSON file, whose values pass a schema when they are read and before they are written.
// What is in the file is the schema's input; its users get the schema's output.

const { LONGEST_DELAY, fn, integer, readOptions, readOwnOptions, toAbsolute, toPath } = require('../support/arguments.js')
const { boundLike } = require('../support/defaults.js')
const { strictMethods } = require('../support/strict.js')
const standardSchema = require('../support/standard-schema.js')
const { Thrown, failed, invalidJson } = require('../native/errors.js')
const { createBackup } = require('./backup.js')
const { checks: textChecks, valueOf } = require('./json-text.js')
const { readJson } = require('./read-json.js')
const { backup, removeFile } = require('./remove-file.js')
const restoring = require('./restore-latest.js')
const { checks: updateChecks, updateJsonFile } = require('./update-json.js')

const { signal: abortSignal, onTempFile: _onTempFile, ...handleChecks } = updateChecks
const checks = { ...handleChecks, schema: standardSchema.schema, migrate: fn, backup }

const READ_OPTIONS = ['defaultValue', 'followSymlinks', 'parse', 'reviver']

/** @typedef {import('../../index.js').StandardSchema} StandardSchema */

/** @param {Record<string, any>} options @param {string[]} names */
const pick = (options, names) => Object.fromEntries(names.filter((name) => options[name] !== undefined).map((name) => [name, options[name]]))

class JsonFile {
  /** @type {string} */ #path
  /** As they were given, with the defaults that hold. @type {unknown} */ #given
  /** @type {Record<string, any>} */ #options

  /** @param {string} path @param {Record<string, any>} options @param {unknown} given */
  constructor(path, options, given) {
    this.#path = path
    this.#options = options
    this.#given = given
  }

  get path() {
    return this.#path
  }

  /** Options of a call of another function. @param {object} options */
  #bound(options) {
    return boundLike(options, this.#given)
  }

  /** What a function of the user's makes of what is in the file. @param {unknown} stored @returns {Promise<unknown>} */
  async #migrated(stored) {
    const { migrate } = this.#options
    return migrate ? await migrate(stored) : stored
  }

  /**
   * The schema's output for a value.
   *
   * @param {unknown} value
   * @param {string} operation
   * @param {string} what the value, for the error
   */
  async #checked(value, operation, what) {
    const { schema } = this.#options
    if (!schema) return value
    const result = await standardSchema.validate(schema, value)
    if (!result.issues) return result.value
    throw failed(this.#path, operation, invalidJson(what, result.issues, standardSchema.inWords(result.issues)))
  }

  /** @param {unknown} [options] */
  async read(options) {
    const { signal } = readOwnOptions(options, { signal: abortSignal }, 'read')
    return (await this.#found(signal)).value
  }

  /** The text of the file, and what it is to its users. @param {AbortSignal | undefined} signal */
  async #found(signal) {
    const { text, value: stored } = await readJson(this.#path, this.#bound({ ...pick(this.#options, READ_OPTIONS), signal }))
    return { text, value: await this.#checked(await this.#migrated(stored), 'read JSON', 'the content of the file') }
  }

  /** @param {unknown} [options] */
  watch(options) {
    const read = readOwnOptions(options, { signal: abortSignal, debounce: integer(0, LONGEST_DELAY) }, 'watch')
    return require('./json-watch.js').watchJson({ path: this.#path, read: (/** @type {AbortSignal} */ signal) => this.#found(signal) }, read)
  }

  /** @param {(value: any) => unknown} update @param {unknown} [options] */
  async update(update, options) {
    const { signal } = readOwnOptions(options, { signal: abortSignal }, 'update')
    fn(update, 'The "update" argument')
    const { schema: _schema, migrate: _migrate, backup, ...passed } = this.#options
    /** @type {unknown} */
    let output
    await updateJsonFile(this.#path, async (/** @type {unknown} */ stored) => {
      const value = await this.#checked(await this.#migrated(stored), 'update JSON', 'the content of the file')
      const made = await update(value)
      const next = made === undefined ? value : made
      // What is checked is what the next reader gets: JSON has no dates.
      const { parse = JSON.parse, reviver, stringify = JSON.stringify, replacer } = this.#options
      const text = stringify(next, replacer)
      if (typeof text === 'string') output = await this.#checked(parse(text, reviver), 'update JSON', 'the new content')
      if (backup) await this.#backUp(signal)
      return next
    }, this.#bound({ ...passed, signal }))
    return output
  }

  /** A backup of what an update is about to replace, if there is something. @param {AbortSignal | undefined} signal */
  async #backUp(signal) {
    try {
      await this.backup({ onlyIfChanged: true, ...this.#backupOptions(), signal })
    } catch (error) {
      if (/** @type {{ code?: string }} */ (error).code !== 'ENOENT') throw error
    }
  }

  #backupOptions() {
    const { backup } = this.#options
    return typeof backup === 'object' ? backup : {}
  }

  /** @param {object} [options] */
  async backup(options) {
    return await createBackup(this.#path, this.#bound({ ...pick(this.#options, ['durability']), ...this.#backupOptions(), ...options }))
  }

  /** @param {unknown} [options] */
  async restoreLatest(options) {
    const { schema: _schema, validate: _validate, ...checks } = restoring.checks
    const read = readOptions(this.#bound(/** @type {any} */ (options)), checks, 'restoreLatest')
    return await restoring.restoreGood(toPath(this.#path), { ...pick(this.#options, ['durability', 'timeout', 'lock']), ...read }, async (text, path) => {
      /** @type {unknown} */
      let value
      try {
        value = valueOf({ path, text }, pick(this.#options, ['parse', 'reviver']))
      } catch (error) {
        return restoring.jsonFlaw(error)
      }
      const { schema } = this.#options
      try {
        value = await this.#migrated(value)
      } catch (error) {
        throw new Thrown(error)
      }
      return schema && restoring.schemaFlaw(schema, value)
    })
  }

  /** @param {object} [options] */
  async remove(options) {
    return await removeFile(this.#path, this.#bound({ ...pick(this.#options, ['durability', 'lock', 'timeout', 'followSymlinks']), ...options }))
  }
}

strictMethods(JsonFile, { read: 'options', update: 'update options', backup: 'options', restoreLatest: 'options', remove: 'options', watch: 'options' })

/** @type {typeof import('../../index.js').jsonFile} */
function jsonFile(/** @type {any} */ path, /** @type {any} */ options) {
  const read = readOptions(options, checks, 'jsonFile')
  // The working directory of this moment counts: a handle lives long.
  return /** @type {any} */ (new JsonFile(toAbsolute(toPath(path)), read, options))
}

module.exports = { jsonFile }
