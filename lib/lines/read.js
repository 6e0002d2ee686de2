'use strict'

// The lines of a file, as they are there or as they are appended.

const { abortSignal, boolean, fn, integer, oneOf, readOptions, wrongType, wrongValue } = require('../support/arguments.js')
const { onAbort } = require('../support/abort.js')
const { acquireLock } = require('../api/lock.js')
const { CANCELLED, badJson, failed, isError, missingFile } = require('../native/errors.js')
const { OpenFile } = require('../api/open-file.js')
const { BEGIN, END, markOf } = require('./encode.js')

const OPERATION = 'read lines'

const NEWLINE = 10
/** How long a reader waits for one who may be writing the end of the file at this moment. */
const PATIENCE = 1000

/** @param {unknown} value @param {string} name @returns {{ offset: number } | { line: number }} */
function start(value, name) {
  if (typeof value === 'number') return { offset: integer(0, Number.MAX_SAFE_INTEGER)(value, name) }
  const { offset, line } = /** @type {any} */ (readOptions(value, { offset: integer(0, Number.MAX_SAFE_INTEGER), line: integer(1, Number.MAX_SAFE_INTEGER) }, name))
  if ((offset === undefined) === (line === undefined)) throw wrongType(name, 'a number, { offset } or { line }', value)
  return line === undefined ? { offset } : { line }
}

const readChecks = { from: start, last: integer(0, Number.MAX_SAFE_INTEGER), onBadLine: oneOf('report', 'skip', 'throw'), raw: boolean, validate: fn, signal: abortSignal }
const followChecks = { from: start, onBadLine: oneOf('report', 'skip', 'throw'), raw: boolean, validate: fn, signal: abortSignal }

/** @typedef {{ offset?: number, line?: number }} Start where a caller wants to begin */
/** @typedef {{ wanted: number, start: number, line?: number | undefined }} From the first line that is wanted, and where to read from to have its whole append */
/** @typedef {{ [K in keyof typeof readChecks]?: any }} Options */
/** @typedef {{ value?: any, error?: import('../../index.js').SessionFileError | undefined, line: number | undefined, offset: number, end: number }} Line */

/** @type {From} */
const BEGINNING = { wanted: 0, start: 0 }

/** @param {unknown} options @returns {Options} */
function readLinesOptions(options) {
  const read = readOptions(options, readChecks, 'read')
  if (read.last !== undefined && read.from !== undefined) throw wrongValue('The "last" option and the "from" option exclude each other')
  return read
}

/** @param {unknown} options @returns {Options} */
const followLinesOptions = (options) => readOptions(options, followChecks, 'follow')

/** Splits a file into lines. Those of an append are given out together. */
class Splitter {
  /** The bytes that have been read and make no line yet. */
  #rest = Buffer.alloc(0)
  #offset
  #line
  #options
  #path
  /** The lines of an append that is not over. @type {Line[]} */
  #run = []
  #isBad = false

  /** @param {string} path @param {number} offset @param {number | undefined} line the number of the line there @param {Options} options */
  constructor(path, offset, line, options) {
    this.#path = path
    this.#offset = offset
    this.#line = line
    this.#options = options
  }

  /** Where the bytes that come next begin. */
  get position() {
    return this.#offset + this.#rest.length
  }

  /** Whether there is something that is no whole append. */
  get isWithin() {
    return this.#rest.length > 0 || this.#run.length > 0
  }

  /** Forgets what is no whole append, to have it again. */
  rewind() {
    this.#rest = Buffer.alloc(0)
    const [first] = this.#run
    if (first === undefined) return
    this.#offset = first.offset
    this.#line = first.line
    this.#run = []
    this.#isBad = false
  }

  /** @param {Buffer} bytes @returns {Line[]} those that are over */
  add(bytes) {
    const all = this.#rest.length === 0 ? bytes : Buffer.concat([this.#rest, bytes])
    /** @type {Line[]} */
    const found = []
    let from = 0
    const last = all.lastIndexOf(NEWLINE)
    if (last >= 0) {
      const text = all.toString('utf8', 0, last + 1)
      // Each character is one byte, so that positions need no count.
      const isPlain = text.length === last + 1
      for (let at = 0; from <= last;) {
        const end = text.indexOf('\n', at)
        const line = text.slice(at, end)
        const next = isPlain ? end + 1 : all.indexOf(NEWLINE, from) + 1
        this.#take(line, next - from, found)
        from = next
        at = end + 1
      }
    }
    this.#rest = Buffer.from(all.subarray(from))
    return found
  }

  /** What there is at the end of a file that grows no more. @returns {Line[]} */
  end() {
    /** @type {Line[]} */
    const found = []
    if (this.#rest.length > 0) {
      const rest = this.#rest
      this.#rest = Buffer.alloc(0)
      // Zeros may stand for a newline that was to follow.
      const text = rest.toString().replace(/(?<=[^\0])\0+$/, '')
      this.#take(text, rest.length, found, true)
    }
    this.#breakRun(found)
    return found
  }

  /** @param {string} text @param {number} bytes with its newline @param {Line[]} found @param {boolean} [isCut] */
  #take(text, bytes, found, isCut = false) {
    const [offset, line] = [this.#offset, this.#line]
    this.#offset += bytes
    if (this.#line !== undefined) this.#line++
    /** @type {Line} */
    const it = { line, offset, end: this.#offset }
    const mark = markOf(text)
    if (mark === undefined) {
      // Whatever was begun before has no end.
      this.#breakRun(found)
      if (this.#parse(it, text, isCut)) this.#give(it, found)
      return
    }
    if (mark === BEGIN) this.#breakRun(found)
    else if (this.#run.length === 0) this.#isBad = true
    this.#parse(it, text, isCut)
    if (it.error) this.#isBad = true
    this.#run.push(it)
    if (mark === END) this.#endRun(found)
  }

  /** Whether there is anything in the line. @param {Line} it @param {string} text @param {boolean} isCut */
  #parse(it, text, isCut) {
    const trimmed = text.trim()
    if (trimmed === '' || trimmed[0] === '#' || trimmed.startsWith('//')) return false
    if (this.#options.raw && !isCut && !text.includes('\0')) {
      it.value = trimmed
      return true
    }
    try {
      // The beginning of a number is a number.
      if (isCut && /^\s+[-\d]/.test(text)) throw new SyntaxError('Unexpected end of JSON input')
      const value = JSON.parse(it.offset === 0 && text.charCodeAt(0) === 0xfeff ? text.slice(1) : text)
      it.value = this.#options.raw ? trimmed : value
    } catch (error) {
      it.error = this.#bad(it, /** @type {Error} */ (error).message)
    }
    return true
  }

  /** @param {Line[]} found */
  #breakRun(found) {
    if (this.#run.length === 0) return
    this.#isBad = true
    this.#endRun(found)
  }

  /** @param {Line[]} found */
  #endRun(found) {
    const [run, isBad] = [this.#run, this.#isBad]
    this.#run = []
    this.#isBad = false
    for (const it of run) {
      if (isBad) {
        it.error ??= this.#bad(it, 'the line belongs to an append that is not there as a whole')
        delete it.value
      }
      this.#give(it, found)
    }
  }

  /** @param {Line} it @param {Line[]} found */
  #give(it, found) {
    const { onBadLine = 'report', validate, raw } = this.#options
    if (it.error) {
      if (onBadLine === 'throw') throw it.error
      if (onBadLine === 'report') found.push(it)
      return
    }
    if (validate && !raw) it.value = validate(it.value)
    found.push(it)
  }

  /** @param {Line} it @param {string} message */
  #bad({ line, offset }, message) {
    const where = line === undefined ? `at byte ${offset}` : `in line ${line}, at byte ${offset}`
    const error = /** @type {import('../../index.js').SessionFileError} */ (failed(this.#path, OPERATION, badJson(`${message} ${where}`)))
    if (line !== undefined) error.line = line
    return error
  }
}

/**
 * @param {string} target
 * @param {string} path absolute
 * @param {Options} options
 * @returns {AsyncGenerator<Line, void, undefined>}
 */
async function* readLines(target, path, options) {
  const { last, signal } = options
  const source = new OpenFile(path)
  try {
    if (signal?.aborted) throw CANCELLED
    if (!(await source.open())) throw missingFile(path)
    const from = await startOf(source, options.from, last)
    const splitter = splitterFor(target, from.start, options)
    let hasAsked = false
    for (;;) {
      const { bytes } = await source.read(splitter.position)
      if (signal?.aborted) throw CANCELLED
      if (bytes.length > 0) {
        yield* wanted(splitter.add(bytes), from)
        continue
      }
      if (splitter.isWithin && !hasAsked) {
        // Somebody may be writing it at this moment.
        hasAsked = true
        splitter.rewind()
        if (await nobodyWrites(path)) continue
        return
      }
      yield* wanted(splitter.end(), from)
      return
    }
  } catch (error) {
    throw outcome(target, error, signal)
  } finally {
    source.close()
  }
}

/** Waits for who is appending. @param {string} path */
async function nobodyWrites(path) {
  try {
    await (await acquireLock(path, { kind: 'read', timeout: PATIENCE })).release()
    return true
  } catch (error) {
    if (/** @type {any} */ (error).code === 'ELOCKED') return false
    // Who may take no lock there reads what is there.
    return true
  }
}

/**
 * @param {string} target
 * @param {string} path absolute
 * @param {Options} options
 * @returns {AsyncGenerator<Line, void, undefined>}
 */
async function* followLines(target, path, options) {
  const { signal } = options
  let source = new OpenFile(path)
  const stop = signal?.aborted ? () => {} : onAbort(signal, () => source.close())
  try {
    const isThere = await source.open()
    if (!isThere) await source.appearance(signal)
    let from = await startOf(source, options.from, isThere && options.from === undefined ? 0 : undefined)
    let splitter = splitterFor(target, from.start, options)
    for (;;) {
      if (signal?.aborted) throw CANCELLED
      const { bytes, size, name } = await source.read(splitter.position)
      let known = name
      if (bytes.length > 0) {
        yield* wanted(splitter.add(bytes), from)
        continue
      }
      if (name === 'other') {
        // Another file has its name, and nothing is appended to this one any more.
        yield* wanted(splitter.end(), from)
        const next = new OpenFile(path)
        if (await next.open()) {
          source.close()
          source = next
          from = BEGINNING
          splitter = splitterFor(target, 0, options)
          continue
        }
        // It was there, and is not any more: what comes next is news, though it is another one again.
        known = 'nothing'
      }
      // What is no whole append may be repaired before more comes.
      splitter.rewind()
      if (size < splitter.position) {
        from = BEGINNING
        splitter = splitterFor(target, 0, options)
      } else await source.news(size, known)
    }
  } catch (error) {
    throw outcome(target, signal?.aborted ? CANCELLED : error, signal)
  } finally {
    stop()
    source.close()
  }
}

/** Where to begin to read. @param {InstanceType<typeof OpenFile>} source @param {Start | undefined} from @param {number} [last] @returns {Promise<From>} */
async function startOf(source, from, last) {
  const offset = from?.offset ?? 0
  if (last === undefined && offset === 0) return { wanted: 0, start: 0, line: from?.line }
  return await source.start(last, offset)
}

/** @param {string} target @param {number} offset @param {Options} options */
function splitterFor(target, offset, options) {
  return new Splitter(target, offset, offset === 0 ? 1 : undefined, options)
}

/** Those from a place on. @param {Line[]} lines @param {From} from */
function wanted(lines, { wanted, line: first = 0 }) {
  if (wanted === 0 && first === 0) return lines
  return lines.filter(({ offset, line }) => offset >= wanted && (line === undefined || line >= first))
}

/** @param {string} target @param {unknown} error @param {AbortSignal} [signal] */
function outcome(target, error, signal) {
  return isError(error) && !('syscall' in error && /** @type {any} */ (error).operation === undefined) ? error : failed(target, OPERATION, error, signal)
}

module.exports = { followLines, followLinesOptions, readLines, readLinesOptions }
