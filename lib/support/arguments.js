'use strict'

// Checks of arguments. All arguments are checked before anything happens, and each error names the
// wrong one, in Node's words and with Node's codes. Values of another realm count, such as those that a
// test runner or `vm` makes: `instanceof` does not know them.

const nodePath = require('node:path')
const { fileURLToPath } = require('node:url')
const { inspect, types } = require('node:util')

/** The longest delay that Node's timers take, in milliseconds. */
const LONGEST_DELAY = 2 ** 31 - 1

/** Throws where a path may not be used; undefined where no permission model (of Node, of Deno) says what the process may do. */
const demand = 'permission' in process || 'Deno' in globalThis ? require('./permission.js').demand : undefined

/** How long a call waits for a lock where its options do not say so, in milliseconds. */
const DEFAULT_LOCK_TIMEOUT = 10_000

/**
 * @param {string} name `The "path" argument`, `The "mode" option`
 * @param {string} expected
 * @param {unknown} actual
 */
function wrongType(name, expected, actual) {
  return coded(new TypeError(`${name} must be ${expected}. Received ${describe(actual)}`), 'ERR_INVALID_ARG_TYPE')
}

/** @param {string} name @param {string} expected @param {unknown} actual */
function outOfRange(name, expected, actual) {
  return coded(new RangeError(`${name} is out of range. It must be ${expected}. Received ${inspect(actual)}`), 'ERR_OUT_OF_RANGE')
}

/** @param {string} message */
function wrongValue(message) {
  return coded(new TypeError(message), 'ERR_INVALID_ARG_VALUE')
}

/**
 * @template {Error} E
 * @param {E} error
 * @param {string} code
 * @returns {E & { code: string }}
 */
function coded(error, code) {
  return atCaller(Object.assign(error, { code }))
}

/** How many frames of the package a stack has at most, above those of the caller. */
const OWN_FRAMES = 16

/** Where this file is in the package: elsewhere if a bundler has put it into another one, and then no frames are known. */
const SELF = nodePath.join('lib', 'support', 'arguments.js')

/** Whether a line of a stack is of the package. @type {RegExp | undefined} */
let ownFrame

/** Errors that were made where the stack had no frame of the caller: in a batch, or when something had been waited for. @type {WeakSet<Error>} */
const withoutCaller = new WeakSet()

/** Whether a line of a stack is Node's, as there are between those of the package. */
const NODE_FRAME = /^ {4}at (?:async )?(?:.* \()?(?:node:|<anonymous>)/

/**
 * The same error with a stack that begins with the frames of the caller, as Node's own errors have it.
 *
 * @template {Error} E
 * @param {E} error one that has just been made
 * @returns {E}
 */
function atCaller(error) {
  const limit = Error.stackTraceLimit
  if (!__filename.endsWith(SELF) || typeof limit !== 'number' || !(limit > 0)) return error
  // Where the limit cannot be changed, the stack is shorter.
  const isRaised = Reflect.set(Error, 'stackTraceLimit', limit + OWN_FRAMES)
  try {
    Error.captureStackTrace(error, atCaller)
  } finally {
    if (isRaised) Reflect.set(Error, 'stackTraceLimit', limit)
  }
  // A program's own `Error.prepareStackTrace` may make anything of it.
  const stack = /** @type {unknown} */ (error.stack)
  if (typeof stack !== 'string') return error
  const begin = stack.indexOf('\n    at ', stack.indexOf(error.message) + error.message.length)
  if (begin < 0) return error
  const home = __filename.slice(0, -SELF.length).replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
  ownFrame ??= new RegExp(`[ (/]${home}(?:(?:lib|compat)[\\\\/]|(?:diagnostics|index|vectra)\\.m?js:)`)
  const frames = stack.slice(begin + 1).split('\n')
  const caller = frames.findIndex((frame) => !ownFrame?.test(frame) && !NODE_FRAME.test(frame))
  if (caller < 0) withoutCaller.add(error)
  const above = caller < 0 ? frames : frames.slice(0, caller)
  const own = above.findLastIndex((frame) => ownFrame?.test(frame)) + 1
  error.stack = [stack.slice(0, begin), ...frames.slice(own, own + limit)].join('\n')
  return error
}

/**
 * The same error, in the async function that the caller has called: if it was made elsewhere it gets its stack here.
 *
 * @template T
 * @param {T} error what a function of the caller has thrown, or what the package says of what that function has made
 * @returns {T}
 */
function passedOn(error) {
  return error instanceof Error && withoutCaller.delete(error) ? atCaller(error) : error
}

/** @param {unknown} value */
function describe(value) {
  if (value === null || value === undefined) return String(value)
  if (typeof value === 'function') return `function ${value.name}`
  if (typeof value === 'object') {
    const name = value.constructor?.name
    return name ? `an instance of ${name}` : inspect(value, { depth: -1 })
  }
  return `type ${typeof value} (${inspect(value).slice(0, 40)})`
}

/**
 * A path as users give it, which the process may use so.
 *
 * @param {unknown} value
 * @param {string} [name]
 * @param {import('./permission.js').Access} [access]
 * @returns {string}
 */
function toPath(value, name = 'path', access = 'write') {
  if (isUrl(value)) {
    if (value.protocol !== 'file:') {
      throw wrongValue(`The "${name}" argument must be a file: URL. Received ${inspect(value.href)}`)
    }
    value = pathOfUrl(new URL(value.href))
  } else if (types.isUint8Array(value)) {
    value = pathOfBytes(value, name)
  }
  if (typeof value !== 'string') throw wrongType(`The "${name}" argument`, 'of type string or an instance of Buffer or URL', value)
  if (value === '') throw wrongValue(`The "${name}" argument must not be empty`)
  if (value.includes('\0')) {
    throw wrongValue(`The "${name}" argument must be a string without null bytes. Received ${inspect(value)}`)
  }
  if (/^[a-z][a-z0-9+.-]+:\/\//i.test(value)) {
    throw wrongValue(
      `The "${name}" argument must be a path, not a URL in a string. Received ${inspect(value)}` +
        (/^file:/i.test(value) ? '. Pass new URL(…) instead' : ''),
    )
  }
  const path = LONE_SURROGATE.test(value) ? bytePaths().normalized(value) : value
  demand?.(path, access)
  return path
}

/** Half of a pair, which no UTF-8 leads to: with the flag `u` the halves of a pair do not match. */
const LONE_SURROGATE = /[\ud800-\udfff]/u

/** Names that are not UTF-8: few programs have any. */
const bytePaths = () => require('./byte-paths.js')

/** @param {Uint8Array} bytes @param {string} name */
function pathOfBytes(bytes, name) {
  if (isDetached(bytes)) throw wrongValue(`The "${name}" argument must not be a view of memory that was transferred`)
  const path = bytePaths().fromBytes(bytes)
  // The names of Windows are UTF-16.
  if (process.platform === 'win32' && LONE_SURROGATE.test(path)) throw wrongValue(`The "${name}" argument must be UTF-8. Received ${inspect(bytes)}`)
  return path
}

/** @param {URL} url */
function pathOfUrl(url) {
  try {
    return fileURLToPath(url)
  } catch (error) {
    if (!(error instanceof URIError) || process.platform === 'win32') throw error
    // Bytes that are not UTF-8. What a path cannot hold has been refused before; the rest of a URL is ASCII.
    const bytes = url.pathname.replace(/%([0-9a-f]{2})/gi, (_, digits) => String.fromCharCode(parseInt(digits, 16)))
    return bytePaths().fromBytes(Buffer.from(bytes, 'latin1'))
  }
}

/** As Node knows a URL. Those that `url.parse` makes are none. @param {unknown} value @returns {value is URL} */
function isUrl(value) {
  if (value instanceof URL) return true
  if (typeof value !== 'object' || value === null) return false
  const { href, protocol, auth, path } = /** @type {Record<string, unknown>} */ (value)
  return typeof href === 'string' && typeof protocol === 'string' && auth === undefined && path === undefined
}

/**
 * The absolute form of a path, by the current working directory. It is not normalised: in
 * `link/../file` the system follows the link first.
 *
 * @param {string} path
 */
function toAbsolute(path) {
  if (process.platform === 'win32') {
    const ending = /[\\/]$/.test(path) ? '\\' : ''
    const resolved = nodePath.resolve(path)
    return resolved.endsWith('\\') ? resolved : resolved + ending
  }
  if (nodePath.isAbsolute(path)) return path
  const cwd = process.cwd()
  const reachable = findWorkingDir(cwd)
  if (reachable === '') {
    throw coded(new Error('ENOENT: no such file or directory, the working directory of the process has been removed, uv_cwd'), 'ENOENT')
  }
  return `${reachable ?? cwd}/${path}`
}

/** By which path the working directory is reached that the system calls so; empty if it has been removed. @type {(cwd: string) => string | null | undefined} */
let findWorkingDir = () => undefined

/** Sets how that is found out: only the native side can. @param {typeof findWorkingDir} find */
function useWorkingDir(find) {
  findWorkingDir = find
}

/**
 * The bytes to write: a view of the caller's memory, or of the encoded string.
 *
 * @param {unknown} data
 * @param {BufferEncoding} encoding
 * @param {string} [orElse] what else the function takes, for the error
 * @returns {Uint8Array}
 */
function toBytes(data, encoding, orElse = '') {
  if (typeof data === 'string') return Buffer.from(data, encoding)
  if (!ArrayBuffer.isView(data)) {
    throw wrongType('The "data" argument', `of type string or an instance of Buffer, TypedArray or DataView${orElse}`, data)
  }
  if (isDetached(data)) throw detachedData()
  return types.isUint8Array(data) ? data : new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
}

/**
 * Whether data comes piece by piece, in one of the forms that `fs.writeFile` takes.
 *
 * @param {any} data
 */
function isPieces(data) {
  if (typeof data !== 'object' || data === null || ArrayBuffer.isView(data) || types.isStringObject(data)) return false
  return (
    typeof data[Symbol.asyncIterator] === 'function' || typeof data[Symbol.iterator] === 'function' || typeof data.getReader === 'function' ||
    (typeof data.stream === 'function' && typeof data.arrayBuffer === 'function')
  )
}

/** The error for data whose memory is not there any more. */
function detachedData() {
  return wrongValue('The "data" argument must not be a view of memory that is gone: its ArrayBuffer is detached or has become too short')
}

/**
 * Whether a view has lost its memory, transferred away or cut off by a resize. It looks like an
 * empty view.
 *
 * @param {ArrayBufferView} view
 */
function isDetached(view) {
  try {
    if (view.byteLength === 0 && !types.isDataView(view)) Uint8Array.prototype.keys.call(view)
    return false
  } catch {
    // `keys()`, and the length of a DataView, throw for no other reason.
    return true
  }
}

/**
 * Reads the options of a call, and adds the defaults that hold for it where the call gives no value.
 *
 * @template {Record<string, (value: any, name: string) => any>} C
 * @template {DefaultName} [A=never]
 * @param {unknown} options
 * @param {C} checks by the option's name
 * @param {string} caller the function that takes the options
 * @param {A[]} [also] defaults that hold for the function though it has no option of that name
 * @returns {{ [K in keyof C]?: ReturnType<C[K]> } & { [K in A]?: any }} the options that are set
 */
function readOptions(options, checks, caller, also) {
  return withDefaults(readOwnOptions(options, checks, caller), options, checks, also)
}

/**
 * Adds the defaults to options that have been read.
 *
 * @template {Record<string, (value: any, name: string) => any>} C
 * @template {DefaultName} [A=never]
 * @param {{ [K in keyof C]?: ReturnType<C[K]> }} read
 * @param {unknown} options as the function got them: they know whose defaults hold
 * @param {C} checks
 * @param {A[]} [also]
 * @returns {{ [K in keyof C]?: ReturnType<C[K]> } & { [K in A]?: any }}
 */
function withDefaults(read, options, checks, also) {
  const defaults = defaultsOf(options)?.for(checks, also)
  if (defaults === undefined) return /** @type {any} */ (read)
  return /** @type {any} */ (read === NO_OPTIONS ? defaults : { ...defaults, ...read })
}

/**
 * Reads an options object: every value is checked, and an unknown name is refused, so that a
 * misspelt option is never ignored in silence. No defaults are added.
 *
 * @template {Record<string, (value: any, name: string) => any>} C
 * @param {unknown} options
 * @param {C} checks by the option's name
 * @param {string} caller the function that takes the options
 * @returns {{ [K in keyof C]?: ReturnType<C[K]> }} the options that are set
 */
function readOwnOptions(options, checks, caller) {
  if (options instanceof BoundOptions) options = options.given
  if (options === undefined) return NO_OPTIONS
  if (options === null || typeof options !== 'object' || Array.isArray(options)) {
    const callback = typeof options === 'function' ? `. ${caller} calls no callback` : ''
    throw wrongType('The "options" argument', `of type object${callback}`, options)
  }
  /** @type {Record<string, unknown>} */
  const read = {}
  for (const [name, value] of Object.entries(options)) {
    const check = Object.hasOwn(checks, name) ? checks[name] : undefined
    if (check === undefined) throw wrongValue(unknownOption(name, Object.keys(checks), caller))
    if (value !== undefined) read[name] = check(value, `The "${name}" option`)
  }
  return /** @type {any} */ (read)
}

/** @typedef {'durability' | 'lock' | 'timeout' | 'indent' | 'retries' | 'logger' | 'newFileMode'} DefaultName */

/**
 * Values of options for the calls that do not give them: those of the thread, or those of one `createHoldfast`.
 */
class Defaults {
  /** @type {Readonly<Record<string, unknown>>} */
  #values = NO_OPTIONS
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

/**
 * Options for which a string stands for the encoding, as in `fs.writeFile`.
 *
 * @param {any} options
 * @returns {unknown}
 */
function withEncoding(options) {
  if (typeof options === 'string') return { encoding: options }
  if (options instanceof BoundOptions && typeof options.given === 'string') return new BoundOptions({ encoding: options.given }, options.defaults)
  return options
}

/** @type {any} */
const NO_OPTIONS = Object.freeze({})

/** @param {string} name @param {string[]} known @param {string} caller */
function unknownOption(name, known, caller) {
  const similar = known.find((candidate) => distance(name.toLowerCase(), candidate.toLowerCase()) <= 2)
  if (known.length === 0) return `Unknown option "${name}" for ${caller}.`
  return `Unknown option "${name}" for ${caller}. ` + (similar ? `Did you mean "${similar}"?` : `It knows ${known.join(', ')}.`)
}

/**
 * The edit distance: how many letters to change, add or remove.
 *
 * @param {string} a @param {string} b
 */
function distance(a, b) {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1]
      next[j] = Math.min(/** @type {number} */ (row[j - 1]) + (same ? 0 : 1), /** @type {number} */ (row[j]) + 1, /** @type {number} */ (next[j - 1]) + 1)
    }
    row = next
  }
  return /** @type {number} */ (row[b.length])
}

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

/** @param {unknown} value @param {string} name */
function boolean(value, name) {
  if (typeof value !== 'boolean') throw wrongType(name, 'of type boolean', value)
  return value
}

/**
 * @param {number} min
 * @param {number} max
 */
function integer(min, max) {
  /** @param {unknown} value @param {string} name */
  return (value, name) => {
    if (typeof value !== 'number') throw wrongType(name, 'of type number', value)
    if (!Number.isInteger(value)) throw outOfRange(name, 'an integer', value)
    if (value < min || value > max) throw outOfRange(name, `>= ${min} && <= ${max}`, value)
    return value
  }
}

/**
 * A time in milliseconds.
 *
 * @param {number} max
 */
function milliseconds(max) {
  /** @param {unknown} value @param {string} name */
  return (value, name) => {
    if (typeof value !== 'number') throw wrongType(name, 'of type number', value)
    if (!(value >= 0 && value <= max)) throw outOfRange(name, `>= 0 && <= ${max} (milliseconds)`, value)
    return value
  }
}

/**
 * @template {string} V
 * @param {V[]} values
 */
function oneOf(...values) {
  /** @param {unknown} value @param {string} name @returns {V} */
  return (value, name) => {
    if (typeof value !== 'string') throw wrongType(name, 'of type string', value)
    const found = values.find((candidate) => candidate === value)
    if (found === undefined) {
      throw wrongValue(`${name} must be one of ${values.map((known) => `'${known}'`).join(', ')}. Received ${inspect(value)}`)
    }
    return found
  }
}

/** @param {unknown} value @param {string} name @returns {BufferEncoding} */
function encoding(value, name) {
  if (typeof value !== 'string') throw wrongType(name, 'of type string', value)
  if (!Buffer.isEncoding(value)) throw wrongValue(`${name} is not an encoding that Node knows. Received ${inspect(value)}`)
  return value
}

/** @param {unknown} value @param {string} name @returns {(...args: any[]) => any} */
function fn(value, name) {
  if (typeof value !== 'function') throw wrongType(name, 'of type function', value)
  return /** @type {(...args: any[]) => any} */ (value)
}

/** @param {unknown} value @param {string} name @returns {AbortSignal} */
function abortSignal(value, name) {
  const { aborted, addEventListener, removeEventListener } = /** @type {Record<string, unknown>} */ (Object(value))
  if (typeof aborted !== 'boolean' || typeof addEventListener !== 'function' || typeof removeEventListener !== 'function') {
    throw wrongType(name, 'an instance of AbortSignal', value)
  }
  return /** @type {AbortSignal} */ (value)
}

module.exports = {
  BoundOptions,
  DEFAULT_LOCK_TIMEOUT,
  Defaults,
  LONGEST_DELAY,
  abortSignal,
  atCaller,
  boolean,
  boundLike,
  coded,
  defaultsOf,
  detachedData,
  encoding,
  fn,
  forVectra,
  integer,
  isDetached,
  isPieces,
  milliseconds,
  oneOf,
  outOfRange,
  passedOn,
  readOptions,
  readOwnOptions,
  setThreadDefaults,
  strict,
  strictMethods,
  surplusOf,
  toAbsolute,
  toBytes,
  toPath,
  useWorkingDir,
  withDefaults,
  withEncoding,
  wrongType,
  wrongValue,
}
