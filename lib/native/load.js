'use strict'

// Finds the addon for this machine and loads it: the one that `npm run build` has put beside this file, or that of the
// package for this platform. Why it cannot, if it cannot, is for load-error.js to say.

const fs = require('node:fs')
const path = require('node:path')

/** Of this file and of the addon: one of another version may lack functions, or take other arguments. */
const VERSION = '0.1.0'

/** @typedef {{ from: string, error: unknown }} Attempt */

function load() {
  /** @type {Attempt[]} */
  const attempts = []
  for (const from of candidates()) {
    try {
      const addon = require(from)
      // Those that have no such function are older than it.
      const version = addon.version?.()
      if (version === VERSION) return addon
      attempts.push({ from, error: Object.assign(new Error(`it is of version ${version ?? 'unknown'}`), { code: 'ERR_ADDON_VERSION' }) })
    } catch (error) {
      attempts.push({ from, error })
    }
  }
  throw require('./load-error.js').explained(attempts, VERSION, platforms())
}

/** What to load, the first that works. */
function candidates() {
  const named = mayReadEnvironment() ? process.env.HOLDFAST_ADDON : undefined
  if (named) return [path.resolve(named)]
  const built = platforms().map((platform) => path.join(__dirname, `holdfast.${platform}.node`)).find((file) => fs.existsSync(file))
  return built === undefined ? platforms().map((platform) => `@holdfast/${platform}`) : [built]
}

/** What Deno has beside Node's interfaces, where this runs in it. It would ask its user for permission, at every load. */
const deno = /** @type {{ Deno?: { build: { target: string }, permissions: { querySync(query: object): { state: string } } } }} */ (globalThis).Deno

function mayReadEnvironment() {
  return deno === undefined || deno.permissions.querySync({ name: 'env', variable: 'HOLDFAST_ADDON' }).state === 'granted'
}

/** The platforms whose addon may be the one for this process. On Linux they are two where its libc cannot be told. */
function platforms() {
  const platform = `${process.platform}-${process.arch}`
  if (process.platform !== 'linux') return [platform]
  if (deno !== undefined) return [`${platform}-${deno.build.target.endsWith('musl') ? 'musl' : 'gnu'}`]
  const interpreter = interpreterOf('/proc/self/exe')
  if (interpreter === undefined) return [`${platform}-gnu`, `${platform}-musl`]
  return [`${platform}-${path.basename(interpreter).startsWith('ld-musl-') ? 'musl' : 'gnu'}`]
}

/**
 * The program that an executable names to load its libraries: each libc has its own. A report of the process
 * would tell the libc as well, but looks up network names and environment for it.
 *
 * @param {string} file in ELF
 * @returns {string | undefined} undefined if it names none, or cannot be read
 */
function interpreterOf(file) {
  /** @type {number | undefined} */
  let fd
  try {
    const opened = (fd = fs.openSync(file, 'r'))
    const bytes = (/** @type {number} */ offset, /** @type {number} */ length) => {
      const buffer = Buffer.alloc(length)
      return buffer.subarray(0, fs.readSync(opened, buffer, 0, length, offset))
    }
    const header = bytes(0, 64)
    const is64 = header[4] === 2
    const isLittle = header[5] === 1
    const short = (/** @type {Buffer} */ of, /** @type {number} */ at) => (isLittle ? of.readUInt16LE(at) : of.readUInt16BE(at))
    const int = (/** @type {Buffer} */ of, /** @type {number} */ at) => (isLittle ? of.readUInt32LE(at) : of.readUInt32BE(at))
    const long = (/** @type {Buffer} */ of, /** @type {number} */ at) => (is64 ? Number(isLittle ? of.readBigUInt64LE(at) : of.readBigUInt64BE(at)) : int(of, at))
    const size = short(header, is64 ? 54 : 42)
    const count = short(header, is64 ? 56 : 44)
    const entries = bytes(long(header, is64 ? 32 : 28), size * count)
    for (let at = 0; at < size * count; at += size) {
      const PT_INTERP = 3
      if (int(entries, at) !== PT_INTERP) continue
      const text = bytes(long(entries, at + (is64 ? 8 : 4)), long(entries, at + (is64 ? 32 : 16))).toString('latin1')
      return text.replace(/\0.*$/s, '')
    }
  } catch {
    // Not readable, for instance without the permission to: the caller then tries both.
  } finally {
    if (fd !== undefined) fs.closeSync(fd)
  }
  return undefined
}

/** @type {typeof import('./binding.js')} */
module.exports = load()
