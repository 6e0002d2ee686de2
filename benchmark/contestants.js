'use strict'

/**
 * Who takes part, and what each promises of an acknowledged write after a power cut:
 * `'none'`, `'file'` (the old content or the new, whole) or `'full'` (the new).
 *
 * @typedef {object} Contestant
 * @property {string} name
 * @property {'none' | 'file' | 'full'} guarantee
 * @property {string} [module] In `contestants/`; without it the bare system calls.
 * @property {object} [options] For its `open`.
 * @property {boolean} [ordered] Writes to one file take effect in call order.
 * @property {Partial<Record<string, [command: string, values: Record<string, string | number>]>>} [bare]
 *   What the bare program does in each kind of run.
 */

const REFERENCE = { none: 'write-file-atomic, no fsync', file: 'write-file-atomic', full: 'write-file-atomic' }

/** @type {Contestant[]} */
const contestants = [
  { name: 'holdfast none', guarantee: 'none', module: 'holdfast', options: { durability: 'none' }, ordered: true },
  { name: REFERENCE.none, guarantee: 'none', module: 'write-file-atomic', options: { fsync: false }, ordered: true },
  { name: 'steno', guarantee: 'none', module: 'steno', ordered: true },
  { name: 'bare none', guarantee: 'none', bare: oneByOne('none', 0) },
  { name: 'bare none, locked', guarantee: 'none', bare: oneByOne('none', 1) },
  { name: 'holdfast file', guarantee: 'file', module: 'holdfast', options: { durability: 'file' }, ordered: true },
  { name: REFERENCE.file, guarantee: 'file', module: 'write-file-atomic', options: { fsync: true }, ordered: true },
  { name: 'atomically', guarantee: 'file', module: 'atomically', ordered: true },
  { name: 'fast-write-atomic', guarantee: 'file', module: 'fast-write-atomic' },
  { name: 'bare file', guarantee: 'file', bare: oneByOne('file', 0) },
  { name: 'holdfast full', guarantee: 'full', module: 'holdfast', options: { durability: 'full' }, ordered: true },
  { name: 'bare full', guarantee: 'full', bare: oneByOne('full', 0) },
  { name: 'bare batch', guarantee: 'full', bare: { atOnce: ['batch', { form: 'textbook' }] } },
  { name: 'bare batch, ordered', guarantee: 'full', bare: { atOnce: ['batch', { form: 'ordered' }] } },
]

/**
 * @param {string} sync
 * @param {number} lock
 * @returns {NonNullable<Contestant['bare']>}
 */
function oneByOne(sync, lock) {
  return { oneByOne: ['one-by-one', { sync, lock }] }
}

/**
 * Who counts up a number in a JSON file that many share, under a lock.
 *
 * @typedef {object} Incrementer
 * @property {string} name
 * @property {string} module In `incrementers/`.
 */

const INCREMENT_REFERENCE = 'proper-lockfile + write-file-atomic'

/** @type {Incrementer[]} */
const incrementers = [
  { name: 'holdfast updateJsonFile', module: 'update-json-file' },
  { name: 'holdfast withLock + atomicWrite', module: 'with-lock' },
  { name: INCREMENT_REFERENCE, module: 'proper-lockfile' },
]

/** @param {string} name */
function contestant(name) {
  const found = contestants.find((one) => one.name === name)
  if (!found) throw new Error(`no contestant is called ${name}`)
  return found
}

module.exports = { contestants, contestant, incrementers, REFERENCE, INCREMENT_REFERENCE }
