'use strict'

// What the drop-ins for other packages that write files have in common: arguments as `node:fs` takes them, and
// errors in its form.

const { inspect } = require('node:util')
const { integer, toAbsolute, wrongValue } = require('../support/arguments.js')
const { atCaller } = require('../support/caller.js')
const { SessionFileError, isError } = require('../native/errors.js')

/** Permission bits of a new file before the umask, as `fs.open` has them. */
const NEW_FILE_MODE = 0o666

const anyMode = integer(0, 2 ** 32 - 1)

/**
 * The error of the system behind an error of ours, with the fields that Node gives it; ours, with its advice, is
 * the cause. Anything else is passed on as it is.
 *
 * @param {unknown} error
 */
function nativeForm(error) {
  if (!(error instanceof SessionFileError) || !isError(error.cause)) return error
  const { message, code, errno, syscall, path, dest } = /** @type {NodeJS.ErrnoException & { dest?: string }} */ (error.cause)
  const fields = Object.entries({ errno, code, syscall, path, dest }).filter(([, value]) => value !== undefined)
  return atCaller(Object.assign(new Error(message, { cause: error }), Object.fromEntries(fields)))
}

/** A string is a path even if it looks like a URL, and an empty one is the working directory. @param {any} path */
function pathOf(path) {
  return typeof path === 'string' ? toAbsolute(path) : path
}

/** @param {unknown} mode a number, or octal digits; what a `stat` gives is one, too */
function permissionsOf(mode) {
  const isOctal = typeof mode === 'string' && /^[0-7]+$/.test(mode)
  if (typeof mode === 'string' && !isOctal) {
    throw wrongValue(`The argument 'mode' must be a 32-bit unsigned integer or an octal string. Received ${inspect(mode)}`)
  }
  return anyMode(isOctal ? parseInt(mode, 8) : mode, 'The "mode" option') & 0o7777
}

/** The permission bits that a new file would get, for a file that may be there. */
function permissionsOfNew() {
  return NEW_FILE_MODE & ~process.umask()
}

/**
 * A text in bytes. As with `fs.write`, an encoding that Node does not know is UTF-8.
 *
 * @param {string} text
 * @param {unknown} encoding
 */
function encoded(text, encoding) {
  const name = String(encoding || 'utf8')
  if (/^hex$/i.test(name) && text.length % 2 === 1) {
    throw wrongValue(`The argument 'encoding' is invalid for data of length ${text.length}. Received ${inspect(name)}`)
  }
  return Buffer.from(text, Buffer.isEncoding(name) ? name : 'utf8')
}

/** The owner in the form of our option; an object may have more than that, as a `stat` has. @param {any} chown */
function ownerOf(chown) {
  return chown === false ? false : { uid: chown.uid, gid: chown.gid }
}

module.exports = { NEW_FILE_MODE, encoded, nativeForm, ownerOf, pathOf, permissionsOf, permissionsOfNew }
