'use strict'

// The values of options for calls that do not give them.

const { boolean, milliseconds, oneOf, readOwnOptions, wrongType, wrongValue } = require('../support/arguments.js')
const { setThreadDefaults } = require('../support/defaults.js')
const { setLogger } = require('../support/logger.js')
const { native } = require('../native/port.js')
const writeOptions = require('../support/write-options.js')
const { checks: textChecks } = require('./json-text.js')

const { durability, logger, newFileMode, retries } = writeOptions.checks
const ownChecks = { durability, indent: textChecks.indent, lock: boolean, logger, newFileMode, retries, timeout: milliseconds(Infinity) }
const checks = { ...ownChecks, cleanup: oneOf('off', 'onFirstWrite') }

/**
 * The defaults that an object gives, checked, and `undefined` where it says so.
 *
 * @template {Record<string, (value: any, name: string) => any>} C
 * @param {unknown} defaults
 * @param {C} checks
 * @param {string} caller
 * @returns {{ [K in keyof C]?: ReturnType<C[K]> | undefined }}
 */
function read(defaults, checks, caller) {
  if (typeof defaults !== 'object' || defaults === null || Array.isArray(defaults)) throw wrongType('The "defaults" argument', 'of type object', defaults)
  const back = Object.fromEntries(Object.keys(defaults).map((name) => [name, undefined]))
  return { ...back, ...readOwnOptions(defaults, checks, caller) }
}

/** @type {typeof import('../../index.js').setDefaults} */
function setDefaults(defaults) {
  const { cleanup, ...all } = read(defaults, checks, 'setDefaults')
  const { logger, ...values } = all
  if (cleanup !== undefined) native.sweepOnFirstWrite(cleanup === 'onFirstWrite')
  if ('logger' in all) setLogger(logger ?? null)
  if (Object.keys(values).length > 0) setThreadDefaults(values)
}

/**
 * The same for the defaults of one `createHoldfast`. A logger it has always, `null` for none: its calls do not log with that of the thread.
 *
 * @param {unknown} defaults
 * @param {string} caller
 */
function readInstanceDefaults(defaults, caller) {
  if (typeof defaults === 'object' && defaults !== null && Object.hasOwn(defaults, 'cleanup')) {
    throw wrongValue(`The "cleanup" option is one of the whole process: it is set by setDefaults of the package, not by ${caller}`)
  }
  const values = read(defaults, ownChecks, caller)
  return 'logger' in values ? { ...values, logger: values.logger ?? null } : values
}

module.exports = { readInstanceDefaults, setDefaults }
