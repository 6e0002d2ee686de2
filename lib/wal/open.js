'use strict'

// Opens write-ahead logs. Loading a file takes longer than most calls, so each is loaded when it
// is needed.

const { LONGEST_DELAY, abortSignal, boolean, integer, milliseconds, oneOf, readOwnOptions, toAbsolute, toPath, withDefaults, wrongType, wrongValue } = require('../support/arguments.js')
const { defaultsOf } = require('../support/defaults.js')
const { traced, traces } = require('../support/diagnostics.js')
const { failed } = require('../native/errors.js')
const { waitFor } = require('../api/lock.js')
const logger = require('../support/logger.js')

const FLUSH_THRESHOLD = 64 * 1024 * 1024

const readerChecks = {
  readOnly: boolean,
  codec: oneOf('json'),
  recovery: oneOf('strict', 'tolerateTail', 'skipCorrupt'),
}

const checks = {
  ...readerChecks,
  syncMode: oneOf('always', 'perBatch', 'periodic', 'never'),
  syncInterval: integer(1, LONGEST_DELAY),
  segmentSize: integer(4096, 2 ** 32),
  segmentAge: integer(1, Number.MAX_SAFE_INTEGER),
  memtable: boolean,
  onFlush: aFunction,
  flushThreshold: integer(1, Number.MAX_SAFE_INTEGER),
  highWaterMark: integer(1, 2 ** 30),
  timeout: milliseconds(Infinity),
  signal: abortSignal,
  logger: logger.check,
}

/** @typedef {{ [K in keyof typeof checks]?: ReturnType<typeof checks[K]> } & { consumerTimeout?: number | undefined }} Options */

/** @param {unknown} value @param {string} name */
function aFunction(value, name) {
  if (typeof value !== 'function') throw wrongType(name, 'of type function', value)
  return /** @type {import('../../index.js').WalFlush} */ (value)
}

/**
 * What goes together and what does not, so that no option is ignored in silence.
 *
 * @param {Options} read
 */
function checkTogether(read) {
  const { syncMode, syncInterval, memtable, onFlush, flushThreshold } = read
  if (read.readOnly) {
    const other = Object.keys(read).find((name) => !Object.hasOwn(readerChecks, name))
    if (other !== undefined) throw wrongValue(`The "${other}" option has no meaning with "readOnly": a reader changes nothing`)
  }
  if (syncInterval !== undefined && syncMode !== 'periodic') {
    throw wrongValue(`The "syncInterval" option needs "syncMode" to be 'periodic'`)
  }
  if (flushThreshold !== undefined && !onFlush) throw wrongValue('The "flushThreshold" option needs "onFlush"')
  if (onFlush && memtable === false) throw wrongValue('The "onFlush" option needs the memtable')
}

/** @type {typeof import('../../index.js').openWal} */
const openWal = async function openWal(/** @type {any} */ dir, /** @type {any} */ options) {
  const given = readOwnOptions(options, checks, 'openWal')
  const target = toPath(dir, 'dir', given.readOnly ? 'read' : 'dir')
  checkTogether(given)
  // After the check: a default for writers is nothing that the caller has asked of a reader.
  const read = { ...withDefaults(given, options, checks), consumerTimeout: /** @type {number | undefined} */ (defaultsOf(options)?.get('timeout')) }
  const path = toAbsolute(target).replace(/(?<=[^\\/])[\\/]+$/, '')
  return /** @type {any} */ (read.readOnly ? openToRead(target, path, read) : tracedOpen(target, path, read))
}

/** @param {string} target @param {string} path @param {Options} options */
async function openToRead(target, path, { recovery, codec, consumerTimeout }) {
  const { WalReader } = require('./reader.js')
  const reader = new WalReader(target, path, { recovery, codec, consumerTimeout })
  // A path that leads nowhere is no log without entries.
  await reader.collections()
  return reader
}

/** @param {string} target @param {string} path @param {Options} options */
async function openToAppend(target, path, options) {
  const { syncMode, syncInterval, recovery, segmentSize, segmentAge, memtable, highWaterMark, timeout, signal } = options
  const settings = /** @type {import('../native/binding.js').WalOptions} */ ({
    syncMode, syncInterval, recovery, segmentSize, segmentAge, memtable, timeout, queueBytes: highWaterMark,
  })
  const { onFlush, flushThreshold = FLUSH_THRESHOLD } = options
  try {
    /** @type {import('../native/binding.js').OpenedWal} */
    const opened = await waitFor(signal, (opened, id) => opened.openWal(id, path, settings))
    const { Wal } = require('./log.js')
    return new Wal(target, opened, { syncMode, onFlush, flushThreshold, logger: options.logger, codec: options.codec, path, consumerTimeout: options.consumerTimeout })
  } catch (error) {
    throw failed(target, 'open wal', error, signal)
  }
}

const tracedOpen = traced(traces.wal, openToAppend, (dir) => ({ operation: 'open wal', dir }))

module.exports = { openWal }
