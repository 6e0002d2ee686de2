'use strict'

// Checks of arguments. All arguments are checked before anything happens, and each error names the
// wrong one, in Node's words and with Node's codes. Values of another realm count, such as those that a
// test runner or `vm` makes: `instanceof` does not know them.

const nodePath = require('node:path')
const { fileURLToPath } = require('node:url')
const { inspect, types } = require('node:util')
const { atCaller } = require('./caller.js')
const { BoundOptions, defaultsOf } = require('./defaults.js')

/** @typedef {import('./defaults.js').DefaultName} DefaultName */

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
  DEFAULT_LOCK_TIMEOUT,
  LONGEST_DELAY,
  abortSignal,
  boolean,
  coded,
  describe,
  detachedData,
  encoding,
  fn,
  integer,
  isDetached,
  isPieces,
  milliseconds,
  oneOf,
  outOfRange,
  readOptions,
  readOwnOptions,
  toAbsolute,
  toBytes,
  toPath,
  useWorkingDir,
  withDefaults,
  withEncoding,
  wrongType,
  wrongValue,
}
