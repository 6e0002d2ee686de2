'use strict'

// The text of JSON files: how values are read from it, and in which form they are written.

const { inspect } = require('node:util')
const { coded, fn, wrongType } = require('../support/arguments.js')
const { Thrown, badJson, emptyJson, missingFile } = require('../native/errors.js')
const { native } = require('../native/port.js')
const { textChecks, textOf } = require('./atomic-write.js')

/** How much of a text is looked at for its indentation. */
const LOOKED_AT = 1 << 16

/**
 * @typedef {object} Form the form in which a file's text is
 * @property {string} indent what one level is indented by; empty if all is on one line
 * @property {boolean} isCrlf whether its lines end with CR LF
 * @property {boolean} endsLine whether its last line has an end
 */

/** That of a new file. @type {Form} */
const PLAIN = Object.freeze({ indent: '', isCrlf: false, endsLine: false })

/** @param {string | undefined} text @returns {Form} */
function formOf(text) {
  if (text === undefined) return PLAIN
  const head = text.slice(0, LOOKED_AT).trimStart()
  const [, lineEnd, indent = ''] = /(\r?\n)[\r\n]*([ \t]*)[^\s\]}]/.exec(head) ?? []
  const isCrlf = lineEnd === undefined ? /\r\n\s*$/.test(text) : lineEnd === '\r\n'
  return { indent: indent.slice(0, 10), isCrlf, endsLine: /\n\s*$/.test(text.slice(-LOOKED_AT)) }
}

/** The same where there may be a file whose form can be kept. @param {unknown} value @param {string} name */
function indentOrKeep(value, name) {
  return value === 'keep' ? value : textChecks.indent(value, name)
}

/** @param {unknown} value @param {string} name @returns {boolean | 'keep'} */
function finalNewlineOrKeep(value, name) {
  if (typeof value !== 'boolean' && value !== 'keep') throw wrongType(name, "of type boolean or 'keep'", value)
  return value
}

/** Options of functions that read JSON. */
const readChecks = { parse: fn, reviver: fn }
/** Options of functions that read and write JSON. */
const checks = { ...readChecks, ...textChecks, indent: indentOrKeep, finalNewline: finalNewlineOrKeep }

/** @typedef {{ [K in keyof typeof checks]?: ReturnType<typeof checks[K]> }} TextOptions */

/**
 * The text of a value in the form that the options ask for, and otherwise in that of the file.
 *
 * @param {unknown} value
 * @param {TextOptions} options
 * @param {Form} form
 * @param {string} what the value, for the error if it has no text
 */
function inForm(value, { stringify, replacer, indent = 'keep', finalNewline = 'keep' }, form, what) {
  const text = textOf(value, {
    stringify, replacer,
    indent: indent === 'keep' ? form.indent : indent,
    finalNewline: finalNewline === 'keep' ? form.endsLine : finalNewline,
  }, what)
  // No string in JSON has the end of a line in it.
  return form.isCrlf ? text.replace(/\r?\n/g, '\r\n') : text
}

/**
 * The text that a file would have if nothing but its form were changed. A text that is the same after an update
 * means that nothing is to be written: each byte stays, however the file is formatted. None where the options
 * ask for a form of their own, or where there is no such text: what is nested too deeply can be read, and
 * replaced.
 *
 * @param {unknown} value what was read
 * @param {TextOptions} options
 * @param {Form} form
 */
function untouched(value, options, form) {
  const { indent = 'keep', finalNewline = 'keep' } = options
  if (indent !== 'keep' || finalNewline !== 'keep') return undefined
  try {
    return inForm(value, options, form, 'The content of the file')
  } catch {
    return undefined
  }
}

/**
 * The value of a text, or a copy of the default.
 *
 * @param {{ path: string, text: string | undefined }} file
 * @param {TextOptions & { defaultValue?: unknown }} options
 */
function valueOf({ path, text }, { defaultValue, ...options }) {
  const { parse = JSON.parse, reviver, stringify = JSON.stringify } = options
  if (text === undefined) {
    if (defaultValue === undefined) throw missingFile(path)
    return parse(stringify(defaultValue, options.replacer), reviver)
  }
  try {
    return parse(text, reviver)
  } catch (error) {
    if (text.trim() === '') throw emptyJson()
    const bad = native.locateJsonError(text)
    // It is JSON: the caller's function has failed, or wants something else.
    if (!bad && (options.parse || reviver)) throw new Thrown(error)
    const message = bad ? `${bad.message} at line ${bad.line} column ${bad.column}` : String(error)
    throw badJson(message, bad ? { line: bad.line, column: bad.column } : undefined)
  }
}

/**
 * Refuses a default value that no text stands for, before anything happens.
 *
 * @param {TextOptions & { defaultValue?: unknown }} options
 */
function checkDefault({ defaultValue, stringify = JSON.stringify, replacer }) {
  if (defaultValue === undefined) return
  if (typeof stringify(defaultValue, replacer) !== 'string') throw wrongType('The "defaultValue" option', 'a value that has a JSON text', defaultValue)
}

/**
 * Refuses what a function that was to change an object in place has returned by a slip: the value of its last
 * expression.
 *
 * @param {unknown} data what the function got
 * @param {unknown} made what it has returned
 * @param {boolean | undefined} allowPrimitive
 */
function checkMade(data, made, allowPrimitive) {
  if (typeof data !== 'object' || data === null || allowPrimitive) return
  if (!['string', 'number', 'boolean', 'bigint'].includes(typeof made)) return
  const shown = inspect(made, { maxStringLength: 40 })
  const there = Array.isArray(data) ? 'an array' : 'an object'
  throw coded(
    new TypeError(
      `The "update" function returned ${shown} (type ${typeof made}), which would replace the whole content of the file, ${there}. ` +
        'To change the content in place put the body of the function in braces, (data) => { … }, so that it returns nothing. `allowPrimitive: true` allows it.',
    ),
    'ERR_INVALID_RETURN_VALUE',
  )
}

module.exports = { checkDefault, checkMade, checks, formOf, inForm, readChecks, untouched, valueOf }
