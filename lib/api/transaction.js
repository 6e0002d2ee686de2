'use strict'

// Several files that change together. The caller's function stages changes here; when it has
// returned, all of them go to the native side in one trip.

const { onAbort } = require('../support/abort.js')
const { DEFAULT_LOCK_TIMEOUT, boolean, coded, milliseconds, oneOf, readOptions, readOwnOptions, toAbsolute, toBytes, toPath, withEncoding, wrongType, wrongValue } = require('../support/arguments.js')
const { passedOn } = require('../support/caller.js')
const { strictMethods } = require('../support/strict.js')
const { traced, traces } = require('../support/diagnostics.js')
const { CANCELLED, Thrown, badJson, existingFile, failed, inUpdate, missingFile } = require('../native/errors.js')
const { heldFor, waitFor } = require('./lock.js')
const heldLong = require('../support/held-long.js')
const context = require('../support/lock-context.js')
const { logDecisions } = require('../support/logger.js')
const port = require('../native/port.js')
const { checkDefault, checkMade, checks: textChecks, formOf, inForm, untouched, valueOf } = require('./json-text.js')
const { orCancelled } = require('./update-json.js')
const writeOptions = require('../support/write-options.js')
require('./own-files.js')

const { native } = port

const OPERATION = 'transaction'

const { mode, newFileMode, createOnly, chown, retries, retryDelay, signal, makeDirs, validate, logger, encoding } = writeOptions.checks
const checks = {
  durability: oneOf('none', 'full'), mode, newFileMode, chown, retries, retryDelay, signal, makeDirs, validate, logger,
  timeout: milliseconds(Infinity), warnAfter: milliseconds(Infinity),
}
const writeChecks = { encoding, createOnly }
const updateChecks = { ...textChecks, defaultValue: (/** @type {unknown} */ value) => value, allowPrimitive: boolean }

/** @typedef {{ [K in keyof typeof checks]?: ReturnType<typeof checks[K]> } & { indent?: string | number }} Options */

/** @typedef {import('../../index.js').Transaction} PublicTransaction */

/** @type {typeof import('../../index.js').transaction} */
async function transaction(paths, fn, options) {
  const given = readOptions(options, checks, 'transaction', ['indent'])
  // Of the defaults: less than that is none for a transaction, more holds what it promises.
  /** @type {Options} */
  const read = /** @type {string | undefined} */ (given.durability) === 'file' ? { ...given, durability: 'full' } : given
  if (!Array.isArray(paths)) throw wrongType('The "paths" argument', 'an instance of Array', paths)
  if (paths.length === 0) throw wrongValue('The "paths" argument must name one file at least. Received []')
  const targets = paths.map((path, index) => toPath(path, `paths[${index}]`))
  if (typeof fn !== 'function') throw wrongType('The "fn" argument', 'of type function', fn)
  return /** @type {any} */ (await tracedTransaction(targets, fn, read))
}

/** @param {string[]} targets @param {(tx: PublicTransaction) => unknown} fn @param {Options} read */
async function attempt(targets, fn, read) {
  /** @type {string[]} */
  let absolute = []
  try {
    absolute = targets.map(toAbsolute)
    return await perform(absolute, targets, fn, read)
  } catch (error) {
    if (error instanceof Thrown) throw passedOn(error.value)
    const { subject } = /** @type {{ subject?: string }} */ (error)
    const index = subject === undefined ? -1 : absolute.indexOf(subject)
    throw withHint(failed(targets[index] ?? /** @type {string} */ (targets[0]), OPERATION, error, read.signal))
  }
}

const tracedTransaction = traced(traces.transaction, attempt, (paths, _fn, { durability = 'full' }) => ({ operation: OPERATION, paths: [...paths], durability }))

/** @param {Error & { committed?: boolean, hint?: string }} error */
function withHint(error) {
  if (error.committed) {
    error.hint = 'The transaction is decided, but is not complete. recoverFromCrash, or the next transaction on one of the files, completes it.'
  }
  return error
}

/**
 * @template T
 * @param {string[]} paths
 * @param {string[]} targets
 * @param {(tx: PublicTransaction) => T} fn
 * @param {Options} options
 */
async function perform(paths, targets, fn, options) {
  const { signal } = options
  const settings = writeOptions.toNative(options)
  const held = heldFor(...paths)
  /** @type {import('../native/binding.js').TransactionBegun} */
  const begun = await waitFor(signal, (opened, id) =>
    opened.beginTransaction(id, paths, settings, options.timeout ?? DEFAULT_LOCK_TIMEOUT, held),
  )
  logDecisions(options.logger, begun.settled)
  const numbers = begun.locks
  // A call in the function that needs one of these locks would wait for the transaction.
  const locks = numbers.map((number) => context.create(number, 'write', ''))
  if (locks[0]) locks[0].files = paths
  // The logger is told once of all of them.
  const running = paths.map((path, index) => heldLong.begin('transaction', path, index === 0 ? options : { warnAfter: Infinity }))
  const staged = new Staged(paths, targets, begun.sameAs, begun.lockOf)
  const parts = new native.TransactionParts()
  const control = new native.Control()
  /** @type {{ error: unknown } | undefined} */
  let failure
  /** @type {unknown} */
  let value
  try {
    value = await run(staged, fn, locks, options)
    for (const { path, bytes, isCreated, lock, model } of staged.changes()) {
      if (bytes) parts.write(path, bytes, isCreated, lock, model)
      else parts.remove(path, lock)
    }
  } catch (error) {
    failure = { error }
  } finally {
    staged.end()
    for (const lock of locks) lock.isLive = false
  }
  // This releases the locks, whatever comes of it; without parts it does nothing else.
  const changes = failure ? new native.TransactionParts() : parts
  const stop = onAbort(signal, () => control.cancel())
  if (signal?.aborted) control.cancel()
  try {
    await port.run((opened, id) =>
      opened.commitTransaction(id, paths, changes, settings, numbers, failure ? undefined : control),
    )
  } finally {
    for (const held of running) heldLong.end(held)
    stop()
  }
  if (failure) throw failure.error
  return value
}

/**
 * Runs the caller's function, and waits for what it has started.
 *
 * @param {Staged} staged
 * @param {(tx: PublicTransaction) => unknown} fn
 * @param {import('../support/lock-context.js').HeldLock[]} locks
 * @param {Options} options
 */
async function run(staged, fn, locks, { signal, indent }) {
  if (signal?.aborted) throw CANCELLED
  try {
    const outcome = context.run(locks, async () => {
      const value = await fn(new Transaction(staged, indent))
      await staged.idle()
      return value
    })
    return await orCancelled(outcome, signal)
  } catch (error) {
    throw error === CANCELLED || signal?.aborted ? CANCELLED : new Thrown(error)
  }
}

/** What a transaction has made of its files so far. */
class Staged {
  isOver = false
  /** @type {string[]} */
  #paths
  #targets
  #sameAs
  #lockOf
  /** By the number of the file: its new content, or `null` if it is removed. @type {Map<number, Buffer | null>} */
  #contents = new Map()
  /** The numbers of the files that must not be there yet. @type {Set<number>} */
  #created = new Set()
  /** By the number of the file: the one whose content it has, if that was renamed. @type {Map<number, number>} */
  #models = new Map()
  /** Settles when the last operation on a file is over. They run one after another. @type {Map<number, Promise<void>>} */
  #last = new Map()
  /** @type {Set<Promise<unknown>>} */
  #pending = new Set()

  /**
   * @param {string[]} paths
   * @param {string[]} targets
   * @param {number[]} sameAs for each path the number of the first one that is the same file
   * @param {number[]} lockOf for each path the number of its lock
   */
  constructor(paths, targets, sameAs, lockOf) {
    this.#paths = paths
    this.#targets = targets
    this.#sameAs = sameAs
    this.#lockOf = lockOf
  }

  /** The number of the file that a path of the caller's names. @param {unknown} path @param {string} [name] of the argument */
  find(path, name = 'path') {
    const target = toPath(path, name)
    if (this.isOver) throw over()
    const absolute = toAbsolute(target)
    let index = this.#paths.indexOf(absolute)
    if (index < 0) index = this.#paths.map(plain).indexOf(plain(absolute))
    const file = this.#sameAs[index]
    if (file === undefined) {
      throw wrongValue(`The "${name}" argument must be one of the paths that the transaction names. Received '${target}'`)
    }
    return file
  }

  /** @param {number} file */
  path(file) {
    return /** @type {string} */ (this.#paths[file])
  }

  /** @param {number} file */
  lock(file) {
    return /** @type {number} */ (this.#lockOf[file])
  }

  /** @param {number} file */
  target(file) {
    return /** @type {string} */ (this.#targets[file])
  }

  /**
   * Runs an operation after those on the same file that were asked for before.
   *
   * @template T
   * @param {number} file
   * @param {() => Promise<T>} operation
   * @param {number} [other] a second file that it is on: the operation has its turn on both at once
   * @returns {Promise<T>} to be returned to the caller as it is: Node reports it if the caller does not handle it while the function runs
   */
  runInOrder(file, operation, other = file) {
    const files = other === file ? [file] : [file, other]
    for (const each of files) {
      if (context.current().some(({ updates }) => updates === this.#mark(each))) {
        throw failed(this.target(each), OPERATION, inUpdate())
      }
    }
    const before = files.map((each) => this.#last.get(each))
    let finish = () => {}
    const last = new Promise((/** @type {(value: void) => void} */ resolve) => {
      finish = resolve
    })
    for (const each of files) this.#last.set(each, last)
    /** @type {{ outcome?: Promise<T> }} */
    const own = {}
    const run = async () => {
      try {
        for (const each of before) await each
        if (this.isOver) throw over()
        return await operation()
      } finally {
        if (own.outcome) this.#pending.delete(own.outcome)
        finish()
      }
    }
    const outcome = (own.outcome = run())
    this.#pending.add(outcome)
    return outcome
  }

  /** Runs a function as part of an update of a file. @template T @param {number} file @param {() => T} fn */
  async inUpdate(file, fn) {
    const mark = context.create(undefined, 'write', this.#mark(file))
    try {
      return await context.run([mark], fn)
    } finally {
      mark.isLive = false
    }
  }

  /** No path has such a form. @param {number} file */
  #mark(file) {
    return `\0${this.#id}:${file}`
  }

  #id = ++transactions

  /**
   * Settles when all operations that were started are over; rejects if one fails. Then no other
   * code has to handle that failure.
   */
  async idle() {
    while (this.#pending.size > 0) await Promise.all(this.#pending)
  }

  /** Ends the transaction: operations that still run change nothing, and their failures are ignored. */
  end() {
    this.isOver = true
    for (const outcome of this.#pending) outcome.catch(() => {})
  }

  /** @param {number} file @param {Buffer | null} content */
  set(file, content) {
    this.#contents.set(file, content)
    if (content === null) {
      this.#created.delete(file)
      this.#models.delete(file)
    }
  }

  /** Gives the content of a file to another one. @param {number} from @param {number} to */
  async move(from, to) {
    const content = await this.get(from)
    if (this.isOver) throw over()
    if (content === undefined) throw missingFile(this.path(from))
    if (from === to) return
    const model = this.#models.get(from) ?? from
    this.set(from, null)
    this.set(to, content)
    this.#created.delete(to)
    this.#models.set(to, model)
  }

  /** Whether there is the file, as it would be. @param {number} file */
  async has(file) {
    const content = this.#contents.get(file)
    return content === undefined ? (await this.#read(file)) !== undefined : content !== null
  }

  /** The files, each once, in the order of the caller's list. */
  *files() {
    for (const [index, file] of this.#sameAs.entries()) {
      if (file === index) yield file
    }
  }

  /** Whether the transaction has changed it so far. @param {number} file */
  isChanged(file) {
    return this.#contents.has(file)
  }

  /** Makes a file, of which there must be none. @param {number} file @param {Buffer} content */
  async create(file, content) {
    const staged = this.#contents.get(file)
    if (staged) throw existingFile(this.path(file))
    const isThere = (await this.#read(file)) !== undefined
    if (isThere && staged === undefined) throw existingFile(this.path(file))
    if (this.isOver) throw over()
    this.#contents.set(file, content)
    // If it is removed in this transaction, the new one replaces it.
    if (!isThere) this.#created.add(file)
  }

  /** The content as it would be; `undefined` if there is none. @param {number} file @returns {Promise<Buffer | undefined>} */
  async get(file) {
    const content = this.#contents.get(file)
    // A copy: what the caller does to it changes nothing here.
    if (content !== undefined) return content === null ? undefined : Buffer.from(content)
    return this.#read(file)
  }

  /** The content as it is on the disk. @param {number} file @returns {Promise<Buffer | undefined>} */
  async #read(file) {
    /** @type {import('../native/binding.js').FileBytes} */
    const { bytes } = await port.run((opened, id) => opened.readBytes(id, this.path(file), this.lock(file)))
    return bytes
  }

  /** The same as text, strictly. @param {number} file @returns {Promise<string | undefined>} */
  async text(file) {
    const content = this.#contents.get(file)
    if (content === null) return undefined
    if (content !== undefined) return decode(content)
    /** @type {import('../native/binding.js').JsonUpdateStart} */
    const { text } = await port.run((opened, id) => void opened.beginJsonUpdate(id, this.path(file), undefined, undefined, undefined, undefined, this.lock(file)))
    return text
  }

  *changes() {
    for (const [file, bytes] of this.#contents) {
      const model = this.#models.get(file)
      yield { path: this.path(file), bytes, isCreated: this.#created.has(file), lock: this.lock(file), model: model === undefined ? undefined : this.path(model) }
    }
  }
}

let transactions = 0

/** @param {string} path */
function plain(path) {
  return path.replace(/[\\/](?:\.?[\\/])+/g, '/')
}

function over() {
  return coded(new Error('The transaction is over: its function has returned, thrown or been cancelled'), 'ERR_INVALID_STATE')
}

/** @param {Buffer} bytes */
function decode(bytes) {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    throw badJson('invalid UTF-8')
  }
}

/**
 * Starts an operation, and passes its promise on itself. (That of an `async` function would be
 * another, which `idle` could not handle for the caller.)
 *
 * @template T
 * @param {() => Promise<T>} start
 * @returns {Promise<T>}
 */
function begin(start) {
  try {
    return start()
  } catch (error) {
    return Promise.reject(error)
  }
}

/** @implements {PublicTransaction} */
class Transaction {
  #staged
  #indent

  /** @param {Staged} staged @param {string | number} [indent] that of updates whose options do not say so */
  constructor(staged, indent = 'keep') {
    this.#staged = staged
    this.#indent = indent
  }

  /**
   * @param {string | URL} path
   * @param {BufferEncoding} [encoding]
   * @returns {Promise<any>}
   */
  read(path, encoding) {
    return begin(() => {
      const file = this.#staged.find(path)
      const name = encoding === undefined ? undefined : writeChecks.encoding(encoding, 'The "encoding" argument')
      return this.#staged.runInOrder(file, async () => {
        const bytes = await this.#attempt(file, () => this.#staged.get(file))
        if (!bytes) throw missingHint(failed(this.#staged.target(file), OPERATION, missingFile(this.#staged.path(file))))
        return name === undefined ? bytes : bytes.toString(name)
      })
    })
  }

  /**
   * @param {string | URL} path
   * @param {string | ArrayBufferView} data
   * @param {{ encoding?: BufferEncoding | undefined, createOnly?: boolean | undefined } | BufferEncoding} [options]
   */
  write(path, data, options) {
    return begin(() => {
      const file = this.#staged.find(path)
      const { encoding = 'utf8', createOnly } = readOwnOptions(withEncoding(options), writeChecks, 'write')
      // A copy: a caller that reuses its buffer does not change what is written.
      const bytes = Buffer.from(toBytes(data, encoding))
      return this.#staged.runInOrder(file, async () => {
        if (createOnly) await this.#attempt(file, () => this.#staged.create(file, bytes))
        else this.#staged.set(file, bytes)
      })
    })
  }

  /** @param {string | URL} path @returns {Promise<boolean>} */
  exists(path) {
    return begin(() => {
      const file = this.#staged.find(path)
      return this.#staged.runInOrder(file, () => this.#attempt(file, () => this.#staged.has(file)))
    })
  }

  /** @param {string | URL} from @param {string | URL} to @returns {Promise<void>} */
  rename(from, to) {
    return begin(() => {
      const [first, second] = [this.#staged.find(from, 'from'), this.#staged.find(to, 'to')]
      return this.#staged.runInOrder(first, () => this.#attempt(first, () => this.#staged.move(first, second), 'There is no such file.'), second)
    })
  }

  /** @returns {Promise<{ path: string, exists: boolean, isChanged: boolean }[]>} */
  list() {
    return begin(async () => {
      const listed = []
      for (const file of this.#staged.files()) {
        listed.push(this.#staged.runInOrder(file, () => this.#attempt(file, async () => ({
          path: this.#staged.target(file), exists: await this.#staged.has(file), isChanged: this.#staged.isChanged(file),
        }))))
      }
      return Promise.all(listed)
    })
  }

  /** @param {string | URL} path */
  remove(path) {
    return begin(() => {
      const file = this.#staged.find(path)
      return this.#staged.runInOrder(file, async () => this.#staged.set(file, null))
    })
  }

  /**
   * @param {string | URL} path
   * @param {(data: any) => unknown} update
   * @param {import('../../index.js').TransactionUpdateOptions<any>} [options]
   * @returns {Promise<any>}
   */
  updateJson(path, update, options) {
    return begin(() => {
      const file = this.#staged.find(path)
      const read = { indent: this.#indent, ...readOwnOptions(options, updateChecks, 'updateJson') }
      if (typeof update !== 'function') throw wrongType('The "update" argument', 'of type function', update)
      checkDefault(read)
      return this.#staged.runInOrder(file, async () => {
        const { data, text } = await this.#attempt(file, async () => {
          const text = await this.#staged.text(file)
          return { data: valueOf({ path: this.#staged.path(file), text }, read), text }
        })
        const form = formOf(text)
        const before = text === undefined ? undefined : untouched(data, read, form)
        const made = await this.#staged.inUpdate(file, () => update(data))
        checkMade(data, made, read.allowPrimitive)
        const changed = inForm(made === undefined ? data : made, read, form, 'What the "update" function returns')
        if (this.#staged.isOver) throw over()
        const { parse = JSON.parse, reviver } = read
        if (text !== undefined && changed === before) return parse(text, reviver)
        this.#staged.set(file, Buffer.from(changed))
        return parse(changed, reviver)
      })
    })
  }

  /** @template T @param {number} file @param {() => Promise<T>} operation @param {string} [hint] for a file that is missing */
  async #attempt(file, operation, hint) {
    try {
      return await operation()
    } catch (error) {
      if (error instanceof Thrown) throw passedOn(error.value)
      const made = failed(this.#staged.target(file), OPERATION, error)
      throw missingHint(made, hint)
    }
  }
}

strictMethods(Transaction, {
  read: 'path encoding', write: 'path data options', exists: 'path', rename: 'from to', remove: 'path', updateJson: 'path update options',
})

/** @param {Error & { code?: string, hint?: string }} error @param {string} [hint] */
function missingHint(error, hint = 'There is no such file. `updateJson` begins with `defaultValue` then.') {
  if (error.code === 'ENOENT') error.hint = hint
  return error
}

module.exports = { transaction }
