'use strict'

// A file that is open for reading while others change it: pieces of it, and the wait until something is not as it was.

const { onAbort } = require('../support/abort.js')
const { CANCELLED } = require('../native/errors.js')
const port = require('../native/port.js')

/** How long after a look for a file that is not there the next one is. It doubles up to the other. */
const FIRST_PAUSE = 5
const LONGEST_PAUSE = 250

/** How many bytes are read at a time. */
const PIECE = 256 * 1024

class OpenFile {
  /** @type {number | undefined} */
  #number
  /** @param {string} path absolute */
  constructor(path) {
    this.path = path
  }

  /** @returns {Promise<boolean>} whether there is such a file */
  async open() {
    const { lines } = /** @type {import('../native/binding.js').OpenedLines} */ (await port.run((opened, id) => opened.openLines(id, this.path)))
    this.#number = lines
    return lines !== undefined
  }

  /** Waits until there is such a file, and opens it. @param {AbortSignal | undefined} signal */
  async appearance(signal) {
    for (let pause = FIRST_PAUSE; !(await this.open()); pause = Math.min(pause * 2, LONGEST_PAUSE)) {
      if (signal?.aborted) throw CANCELLED
      await new Promise((resolve) => {
        const stop = onAbort(signal, () => (clearTimeout(timer), resolve(undefined)))
        const timer = setTimeout(() => (stop(), resolve(undefined)), pause)
      })
    }
  }

  /** @param {number} offset @returns {Promise<import('../native/binding.js').LinesChunk>} */
  read(offset) {
    return port.run((opened, id) => opened.readLines(id, /** @type {number} */ (this.#number), offset, PIECE))
  }

  /**
   * Where to begin to read that wants the last lines, or those from an offset on.
   *
   * @param {number | undefined} last
   * @param {number} offset
   * @returns {Promise<import('../native/binding.js').LinesStart>}
   */
  start(last, offset) {
    return port.run((opened, id) => opened.startLines(id, /** @type {number} */ (this.#number), last, offset))
  }

  /** Resolves when the file has another size, or its name stands for something else, or it is closed. @param {number} size @param {'same' | 'other' | 'nothing'} name @returns {Promise<void>} */
  news(size, name) {
    return port.run((opened, id) => opened.awaitLines(id, /** @type {number} */ (this.#number), size, name))
  }

  /** A text that is another one after each change of the file, and of what its name stands for. @returns {Promise<string>} */
  async stamp() {
    const { stamp } = /** @type {import('../native/binding.js').LinesStamp} */ (await port.run((opened, id) => opened.stampLines(id, /** @type {number} */ (this.#number))))
    return stamp
  }

  /** Resolves when the stamp is another one, or the file is closed. @param {string} stamp @returns {Promise<void>} */
  change(stamp) {
    return port.run((opened, id) => opened.awaitChange(id, /** @type {number} */ (this.#number), stamp))
  }

  close() {
    if (this.#number !== undefined) port.open().closeLines(this.#number)
    this.#number = undefined
  }
}

module.exports = { OpenFile }
