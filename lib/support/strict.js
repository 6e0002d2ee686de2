'use strict'

// Functions that refuse more arguments than they take.

const { describe, wrongValue } = require('./arguments.js')

/**
 * The same functions, which refuse more arguments than they take, by name: a callback that would never be called, an
 * option in the wrong place. `undefined` in excess is no argument.
 *
 * @template {Record<string, (...args: any[]) => any>} F
 * @param {F} functions
 * @param {{ [K in keyof F]: string }} parameters the names of those that each takes
 * @returns {F}
 */
function strict(functions, parameters) {
  /** @type {Record<string, (...args: any[]) => any>} */
  const made = {}
  for (const [name, run] of Object.entries(functions)) {
    const names = parameters[name]?.split(' ').filter(Boolean) ?? []
    const most = names.length
    /** @this {unknown} @param {...any} args */
    const checked = function (...args) {
      return args.length <= most ? run.apply(this, args) : runStrictly(this, run, args, names)
    }
    made[name] = Object.defineProperties(checked, { name: { value: name }, length: { value: run.length } })
  }
  return /** @type {F} */ (made)
}

/**
 * The same for methods of a class. Those without arguments may be passed on as they are, to an emitter or a
 * promise, which give them some: they are left out.
 *
 * @param {new (...args: any[]) => any} made
 * @param {Record<string, string>} parameters the names of those that each method takes
 */
function strictMethods({ prototype }, parameters) {
  for (const [name, names] of Object.entries(parameters)) {
    const own = strict({ [name]: prototype[name] }, { [name]: names })
    Object.defineProperty(prototype, name, { value: own[name], writable: true, configurable: true })
  }
}

/** An async function rejects. */
const AsyncFunction = (async () => {}).constructor

/** @param {unknown} self @param {(...args: any[]) => any} run @param {any[]} args @param {string[]} names */
function runStrictly(self, run, args, names) {
  const isAsync = run instanceof AsyncFunction
  const error = surplusOf(run.name, args, names, isAsync)
  if (error === undefined) return run.apply(self, args.slice(0, names.length))
  if (isAsync) return Promise.reject(error)
  throw error
}

/**
 * What is wrong with more arguments than a function takes.
 *
 * @param {string} name of the function
 * @param {ArrayLike<unknown>} args
 * @param {string[]} names
 * @param {boolean} isAsync
 */
function surplusOf(name, args, names, isAsync) {
  const most = names.length
  const index = Array.from(args).findIndex((value, index) => index >= most && value !== undefined)
  if (index < 0) return undefined
  const surplus = args[index]
  const takes = most === 0 ? 'no arguments' : `${most === 1 ? 'one argument' : `${most} arguments`} (${names.join(', ')})`
  const advice = typeof surplus === 'function' && isAsync ? '. It calls no callback: it returns a promise' : ''
  return wrongValue(`${name} takes ${takes}. Received ${describe(surplus)} as argument ${index + 1}${advice}`)
}

module.exports = { strict, strictMethods, surplusOf }
