'use strict'

// What people see: tables as wide as the terminal, colour only there, and never a control character of a file's name.

const util = require('node:util')

/** @typedef {Output} Terminal */

/** @typedef {'bold' | 'dim' | 'red' | 'green' | 'yellow' | 'cyan'} Style */

/**
 * A text with nothing in it that a terminal obeys: names of files may have escape sequences. Halves of surrogate pairs are
 * bytes that are not UTF-8.
 *
 * @param {string} text
 */
function printable(text) {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]|\p{Cs}/gu, (character) => {
    const code = character.codePointAt(0) ?? 0
    if (code >= 0xdc80 && code <= 0xdcff) return `\\x${(code - 0xdc00).toString(16)}`
    return code < 0x100 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u{${code.toString(16)}}`
  })
}

/** @param {string} text */
const widthOf = (text) => Array.from(text).length

/** A text cut in its middle, so that the name at the end of a path stays. @param {string} text @param {number} width */
function shortened(text, width) {
  const characters = Array.from(text)
  if (characters.length <= width) return text
  const tail = Math.ceil((width - 1) * 0.6)
  return `${characters.slice(0, width - 1 - tail).join('')}…${characters.slice(characters.length - tail).join('')}`
}

/** @param {number} bytes */
function size(bytes) {
  if (bytes < 1024) return `${bytes} B`
  const exponent = Math.min(4, Math.floor(Math.log2(bytes) / 10))
  return `${(bytes / 1024 ** exponent).toFixed(1)} ${'KMGT'[exponent - 1]}iB`
}

/** A time span in its largest unit. @param {number} ms */
function span(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000))
  if (ms < 1000) return `${Math.max(0, Math.round(ms))} ms`
  if (seconds < 120) return `${seconds} s`
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`
  if (seconds < 172_800) return `${Math.round(seconds / 3600)} h`
  return `${Math.round(seconds / 86_400)} days`
}

class Output {
  /** @param {NodeJS.WriteStream} stdout @param {NodeJS.WriteStream} stderr */
  constructor(stdout, stderr) {
    this.stdout = stdout
    this.stderr = stderr
  }

  /** Whether a person is there to answer a question. */
  get canAsk() {
    return process.stdin.isTTY === true && this.stderr.isTTY === true
  }

  /** How wide lines may be: what is not a terminal gets all of them. */
  get width() {
    return this.stdout.isTTY ? Math.max(40, this.stdout.columns || 80) : Infinity
  }

  /** @param {Style} style @param {string} text @param {NodeJS.WriteStream} [stream] */
  style(style, text, stream = this.stdout) {
    const { NO_COLOR = '', TERM } = process.env
    // Node 20.0 to 20.11 have no styleText.
    if (!stream.isTTY || NO_COLOR !== '' || TERM === 'dumb' || typeof util.styleText !== 'function') return text
    // Whether there is a terminal is known by now.
    return /** @type {any} */ (util.styleText)(style, text, { validateStream: false })
  }

  /** Writes, and resolves when there is room for more. @param {string} text @returns {Promise<void>} */
  async write(text) {
    if (this.stdout.write(text)) return
    await new Promise((resolve) => this.stdout.once('drain', resolve))
  }

  /** @param {string} text */
  line(text) {
    return this.write(`${text}\n`)
  }

  /** @param {string} text */
  error(text) {
    this.stderr.write(`${text}\n`)
  }

  /** @param {string} words of the command @param {Error} error */
  failure(words, error) {
    const { hint, holder } = /** @type {Partial<import('../../index.js').SessionFileError>} */ (error)
    this.error(`${this.style('red', `holdfast ${words}:`, this.stderr)} ${printable(error.message)}`)
    if (holder !== undefined && !error.message.includes(String(holder.pid))) {
      this.error(`held by ${printable(holder.command)} (process ${holder.pid} on ${printable(holder.hostname)})`)
    }
    if (hint !== undefined) this.error(printable(hint))
  }

  /**
   * A table whose widest column is cut where the terminal is narrow.
   *
   * @param {readonly string[]} head
   * @param {readonly (readonly string[])[]} rows
   */
  table(head, rows) {
    const cells = rows.map((row) => row.map(printable))
    const widths = head.map((title, column) => cells.reduce((widest, row) => Math.max(widest, widthOf(row[column] ?? '')), widthOf(title)))
    const gaps = 2 * (head.length - 1)
    for (;;) {
      const excess = widths.reduce((sum, width) => sum + width, gaps) - this.width
      const widest = Math.max(...widths)
      if (excess <= 0 || widest <= 8) break
      widths[widths.indexOf(widest)] = widest - 1
    }
    /** @param {readonly string[]} row */
    const lineOf = (row) => row.map((cell, column) => {
      const cut = shortened(cell, widths[column] ?? 0)
      return column === head.length - 1 ? cut : cut + ' '.repeat((widths[column] ?? 0) - widthOf(cut))
    }).join('  ').trimEnd()
    return [this.style('bold', lineOf(head)), ...cells.map(lineOf)].map((line) => `${line}\n`).join('')
  }
}

module.exports = { Output, printable, size, span }
