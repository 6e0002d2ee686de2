'use strict'

// Lines as they stand in a file; src/lines/format.rs says why.

const { wrongType, wrongValue } = require('../support/arguments.js')

// Before the lines of an append that has several: JSON allows blanks there. They say where in it a line stands.
const BEGIN = ' \t \t'
const MIDDLE = ' \t\t '
const END = ' \t\t\t'

/** The mark of a line, if it has one. @param {string} line */
function markOf(line) {
  if (line.charCodeAt(0) !== 32 || line.charCodeAt(1) !== 9) return undefined
  const mark = line.slice(0, BEGIN.length)
  return mark === BEGIN || mark === MIDDLE || mark === END ? mark : undefined
}

/**
 * @param {readonly unknown[]} values
 * @param {(value: unknown) => unknown} [check] see `validate` of `openJsonLines`
 */
function jsonLines(values, check) {
  const last = values.length - 1
  let text = ''
  for (const [index, value] of values.entries()) {
    const line = JSON.stringify(check ? check(value) : value)
    if (line === undefined) throw wrongType(last === 0 ? 'The "value" argument' : `The value at ${index}`, 'a value that JSON has', value)
    if (last > 0) text += index === 0 ? BEGIN : index < last ? MIDDLE : END
    // The beginning of a number is a number.
    else if (/^[-\d]/.test(line)) text += ' '
    text += line + '\n'
  }
  return text
}

/** @param {readonly unknown[]} lines */
function textLines(lines) {
  let text = ''
  for (const line of lines) {
    if (typeof line !== 'string') throw wrongType('The "lines" argument', 'of type string or an array of strings', line)
    if (/[\n\0]/.test(line)) throw wrongValue('The "lines" argument must not have line breaks or NULs within a line')
    text += line + '\n'
  }
  return text
}

module.exports = { BEGIN, END, jsonLines, markOf, textLines }
