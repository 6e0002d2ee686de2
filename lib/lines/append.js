'use strict'

// Lines that are appended in one call.

const { readOptions, toAbsolute, toPath, wrongType } = require('../support/arguments.js')
const { CANCELLED, failed } = require('../native/errors.js')
const { Appender, OPERATION } = require('./appender.js')
const { jsonLines, textLines } = require('./encode.js')
const { checks, settingsOf, signal } = require('./options.js')

const oneCall = { ...checks, signal }

/** Those that have something on its way, by path and settings. @type {Map<string, InstanceType<typeof Appender>>} */
const appenders = new Map()

/** @type {typeof import('../../index.js').appendJsonLines} */
async function appendJsonLines(path, values, options) {
  const read = readOptions(options, oneCall, 'appendJsonLines')
  const target = toPath(path)
  if (!Array.isArray(values)) throw wrongType('The "values" argument', 'an instance of Array', values)
  await append(target, jsonLines(values), values.length, read, true)
}

/** @type {typeof import('../../index.js').appendLines} */
async function appendLines(path, lines, options) {
  const read = readOptions(options, oneCall, 'appendLines')
  const target = toPath(path)
  const all = typeof lines === 'string' ? [lines] : lines
  if (!Array.isArray(all)) throw wrongType('The "lines" argument', 'of type string or an array of strings', lines)
  await append(target, textLines(all), all.length, read, false)
}

/**
 * @param {string} target
 * @param {string} text
 * @param {number} count
 * @param {any} read
 * @param {boolean} json
 */
async function append(target, text, count, read, json) {
  try {
    if (read.signal?.aborted) throw CANCELLED
    if (count > 0) await appenderOf(toAbsolute(target), read, json).append(text, count, read.signal)
  } catch (error) {
    throw failed(target, OPERATION, error, read.signal)
  }
}

/** @param {string} path @param {any} read @param {boolean} json */
function appenderOf(path, read, json) {
  const settings = settingsOf(read, json)
  const { durable, mode, makeDirs, timeout } = settings
  const key = [durable, json, mode, makeDirs, timeout, path].join(':')
  let found = appenders.get(key)
  if (found && found.settings.logger === settings.logger) return found
  const made = new Appender(path, settings, () => {
    if (appenders.get(key) === made) appenders.delete(key)
  })
  appenders.set(key, made)
  return made
}

module.exports = { appendJsonLines, appendLines }
