'use strict'

// The options that all operations which write have in common.

const { LONGEST_DELAY, abortSignal, boolean, encoding, integer, milliseconds, oneOf, readOwnOptions, wrongType } = require('./arguments.js')
const logger = require('./logger.js')

const LARGEST_ID = 2 ** 32 - 2

const checks = {
  durability: oneOf('none', 'file', 'full'),
  mode: integer(0, 0o7777),
  newFileMode: integer(0, 0o777),
  createOnly: boolean,
  chown: owner,
  encoding,
  retries: integer(1, 1_000_000),
  retryDelay: milliseconds(LONGEST_DELAY),
  signal: abortSignal,
  makeDirs: boolean,
  followSymlinks: boolean,
  validate: oneOf('json'),
  logger: logger.check,
}

const ownerChecks = { uid: integer(0, LARGEST_ID), gid: integer(0, LARGEST_ID) }

/** @param {unknown} value @param {string} name */
function owner(value, name) {
  if (value === false) return false
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw wrongType(name, 'an object with uid and gid, or false', value)
  }
  const { uid, gid } = readOwnOptions(value, ownerChecks, 'chown')
  if (uid === undefined || gid === undefined) throw wrongType(name, 'an object with both uid and gid, or false', value)
  return { uid, gid }
}

/**
 * The options in the form of the native side; `undefined` when all are the default.
 *
 * @param {{ [K in keyof typeof checks]?: ReturnType<typeof checks[K]> }} options
 * @returns {import('../native/binding.js').WriteOptions | undefined}
 */
function toNative(options) {
  const { durability, mode, newFileMode, createOnly, chown, retries, retryDelay, makeDirs, followSymlinks, validate } = options
  const isDefault =
    durability === undefined && mode === undefined && newFileMode === undefined && createOnly === undefined &&
    chown === undefined && retries === undefined && retryDelay === undefined && makeDirs === undefined && followSymlinks === undefined &&
    validate === undefined
  if (isDefault) return undefined
  return {
    ...(durability !== undefined && { durability }),
    ...(mode !== undefined && { mode }),
    ...(newFileMode !== undefined && { newFileMode }),
    ...(createOnly !== undefined && { createOnly }),
    ...(chown === false && { keepOwner: false }),
    ...(chown && { uid: chown.uid, gid: chown.gid }),
    ...(retries !== undefined && { retries }),
    ...(retryDelay !== undefined && { retryDelay }),
    ...(makeDirs !== undefined && { makeDirs }),
    ...(followSymlinks !== undefined && { followSymlinks }),
    ...(validate !== undefined && { isJson: true }),
  }
}

/** What is to be refused before a file is written, once there is something: transactions are loaded by the first call. @type {(path: string, instead: string, isLocked: boolean) => void} */
let refuse = () => {}

/** @param {typeof refuse} check */
function useBeforeWrite(check) {
  refuse = check
}

/**
 * Refuses to write a file that the caller must write by other means.
 *
 * @param {string} path absolute
 * @param {string} instead those means
 * @param {boolean} isLocked whether the call takes the file's lock
 */
function beforeWrite(path, instead, isLocked) {
  refuse(path, instead, isLocked)
}

module.exports = { beforeWrite, checks, toNative, useBeforeWrite }
