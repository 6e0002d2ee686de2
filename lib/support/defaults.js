'use strict'

// Defaults of options: those of the thread, and those of one `createHoldfast`. `readOptions` of arguments.js adds them to what a
// call has given.

const NO_VALUES = Object.freeze({})

/** @typedef {'durability' | 'lock' | 'timeout' | 'indent' | 'retries' | 'logger' | 'newFileMode'} DefaultName */

/**
 * Values of options for the calls that do not give them: those of the thread, or those of one `createHoldfast`.
 */
class Defaults {
  /** @type {Readonly<Record<string, unknown>>} */
  #values = NO_VALUES
  /** What holds for a function, by its checks. @type {WeakMap<object, Readonly<Record<string, unknown>> | null>} */
  #known = new WeakMap()

  /** @param {Readonly<Record<string, unknown>>} values checked; `undefined` takes a default away */
  set(values) {
    const all = { ...this.#values, ...values }
    for (const [name, value] of Object.entries(all)) if (value === undefined) delete all[name]
    this.#values = Object.freeze(all)
    this.#known = new WeakMap()
  }

  /** @param {DefaultName} name */
  get(name) {
    return this.#values[name]
  }

  /** The same ones, without those of other names. @param {DefaultName[]} names */
  only(...names) {
    const some = new Defaults()
    some.set(Object.fromEntries(names.map((name) => [name, this.#values[name]])))
    return some
  }

  /**
   * What holds for the function with these checks; `undefined` for nothing.
   *
   * @param {object} checks
   * @param {DefaultName[]} [also]
   */
  for(checks, also = []) {
    let known = this.#known.get(checks)
    if (known === undefined) {
      const some = Object.entries(this.#values).filter(([name]) => Object.hasOwn(checks, name) || also.some((other) => other === name))
      known = some.length === 0 ? null : Object.freeze(Object.fromEntries(some))
      this.#known.set(checks, known)
    }
    return known ?? undefined
  }
}

/** The options of a call for which the defaults of one `createHoldfast` hold. */
class BoundOptions {
  /** @param {unknown} given @param {Defaults} defaults */
  constructor(given, defaults) {
    this.given = given
    this.defaults = defaults
  }
}

/** Those of this thread; none until some are set, so that a call without options costs nothing. @type {Defaults | undefined} */
let ofThread

/** Sets defaults for all calls of this thread that are not those of one `createHoldfast`. @param {Readonly<Record<string, unknown>>} values checked */
function setThreadDefaults(values) {
  ofThread ??= new Defaults()
  ofThread.set(values)
}

/** The defaults that hold for a call with these options. @param {unknown} options */
function defaultsOf(options) {
  return options instanceof BoundOptions ? options.defaults : ofThread
}

/**
 * Options for a function that another one calls for its caller, under the same defaults.
 *
 * @param {any} given
 * @param {unknown} options those of the caller
 * @returns {any}
 */
function boundLike(given, options) {
  return options instanceof BoundOptions ? new BoundOptions(given, options.defaults) : given
}

/**
 * The options of a call of Vectra's class, which has rules of its own for locks, retries and the form of
 * JSON: of the defaults it takes those that change none of them.
 *
 * @param {any} options
 * @returns {any}
 */
function forVectra(options) {
  const defaults = defaultsOf(options)
  if (defaults === undefined) return options
  return new BoundOptions(options instanceof BoundOptions ? options.given : options, defaults.only('durability', 'newFileMode', 'logger'))
}

module.exports = { BoundOptions, Defaults, boundLike, defaultsOf, forVectra, setThreadDefaults }
