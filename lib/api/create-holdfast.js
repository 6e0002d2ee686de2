'use strict'

// The functions of the package with defaults of their own, for a library that shares the process with others.

const { BoundOptions, Defaults } = require('../support/defaults.js')
const { strict } = require('../support/strict.js')
const { check } = require('../support/logger.js')
const { readInstanceDefaults } = require('./set-defaults.js')

/** Which argument of each method of Vectra's class has its options. @type {Record<string, number>} */
const VECTRA_OPTIONS = { cleanupBackups: 3, createBackup: 1, readFile: 1, restoreBackup: 2, updateJsonFile: 2, writeFile: 2 }

/** @typedef {(...args: any[]) => any} AnyFunction */

/**
 * @param {Record<string, any>} exported what the package exports
 * @param {Record<string, string>} parameters the names of those that each function takes
 * @param {unknown} given
 * @returns {any}
 */
function createHoldfast(exported, parameters, given = {}) {
  const defaults = new Defaults()
  defaults.set({ logger: null, ...readInstanceDefaults(given, 'createHoldfast') })
  /** @param {AnyFunction} fn @param {string} name @param {number} at */
  const bind = (fn, name, at) => {
    const bound = (/** @type {any[]} */ ...args) => {
      args[at] = new BoundOptions(args[at], defaults)
      return fn(...args)
    }
    return Object.defineProperty(bound, 'name', { value: name })
  }
  const bindAll = (/** @type {Record<string, any>} */ from, /** @type {Record<string, number>} */ positions) =>
    Object.fromEntries(Object.entries(positions).map(([name, at]) => [name, bind(from[name], name, at)]))
  class AtomicOperations extends exported.AtomicOperations {}
  Object.assign(AtomicOperations, bindAll(exported.AtomicOperations, VECTRA_OPTIONS))
  const positions = Object.entries(parameters).map(([name, names]) => /** @type {const} */ ([name, names.split(' ').indexOf('options')]))
  const own = {
    setDefaults(/** @type {unknown} */ changed) {
      defaults.set(readInstanceDefaults(changed, 'setDefaults of createHoldfast'))
    },
    setLogger(/** @type {unknown} */ logger) {
      defaults.set({ logger: check(logger, 'The "logger" argument') })
    },
  }
  return {
    // What takes no options has no defaults, or has them of the process.
    ...exported,
    ...bindAll(exported, Object.fromEntries(positions.filter(([, at]) => at >= 0))),
    ...strict(own, { setDefaults: 'defaults', setLogger: 'logger' }),
    AtomicOperations,
  }
}

module.exports = { createHoldfast }
