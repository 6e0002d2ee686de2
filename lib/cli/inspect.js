'use strict'

const fs = require('node:fs')
const path = require('node:path')
const { openWal, recoverFromCrash } = require('../../index.js')
const { holderCells, lockOf } = require('./lock-state.js')
const { JSON_OUTPUT } = require('./options.js')
const { printable, size } = require('./output.js')

/** @typedef {import('../../index.js').RecoveryAction} RecoveryAction */

const TEMP = /^\..+\.(?:[0-9a-f]{16}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.(?:tmp|claim)$/
const RECORD = /^\.holdfast\.[0-9a-f]{16}\.(?:prepared|intent)$/
const BACKUP = /^.+\.\d+\.backup$/
const LOCK = /^\.(.+)\.lock$/
const OF_LOG = new Set(['.holdfast.wal.closed', '.holdfast.wal.lock'])

/** A list that counts everything and keeps the first few, so that no folder is too large. @template T */
class Few {
  /** @param {number} limit */
  constructor(limit) {
    this.limit = limit
    this.total = 0
    /** @type {T[]} */
    this.items = []
  }

  /** @param {T} item */
  add(item) {
    this.total += 1
    if (this.items.length < this.limit) this.items.push(item)
  }

  toJSON() {
    return { total: this.total, items: this.items }
  }
}

/**
 * @typedef {object} Found
 * @property {Few<{ path: string, state: 'alive' | 'orphan' | 'failed', reason: string }>} temps
 * @property {Few<{ path: string, state: RecoveryAction['action'], reason: string }>} transactions
 * @property {Few<{ path: string, state: RecoveryAction['action'], reason: string }>} others
 * @property {Few<{ path: string, size: number }>} backups
 * @property {Few<{ path: string } & Awaited<ReturnType<typeof lockOf>>>} locks those that a process has
 * @property {Few<{ path: string, collections: object[], error?: unknown }>} logs
 * @property {number} damagedLogs how many of them cannot be read
 */

/** Whether a folder is a log: it has its notes, or a collection with a segment. @param {string} dir */
async function isLog(dir) {
  for await (const entry of await fs.promises.opendir(dir)) {
    if (OF_LOG.has(entry.name)) return true
    if (entry.isDirectory() && fs.existsSync(path.join(dir, entry.name, 'wal_current.avro'))) return true
  }
  return false
}

/** @param {string} dir @param {Found} found */
async function lookAtLog(dir, found) {
  try {
    const log = await openWal(dir, { readOnly: true })
    try {
      found.logs.add({ path: dir, collections: (await log.stats()).collections })
    } finally {
      await log.close()
    }
  } catch (error) {
    if (typeof (/** @type {NodeJS.ErrnoException} */ (error).code) !== 'string') throw error
    found.damagedLogs += 1
    found.logs.add({ path: dir, collections: [], error })
  }
}

/** @param {string} dir @param {Found} found @param {AbortSignal} signal */
async function lookInto(dir, found, signal) {
  for await (const { name, isFolder } of entriesOf(dir)) {
    signal.throwIfAborted()
    const file = path.join(dir, name)
    const [, locked] = LOCK.exec(name) ?? []
    if (isFolder) {
      if (await isLog(file).catch(unlessGone)) await lookAtLog(file, found)
    } else if (locked !== undefined) {
      const state = await lockOf(path.join(dir, locked), signal)
      if (state.state !== 'free') found.locks.add({ path: path.join(dir, locked), ...state })
    } else if (BACKUP.test(name)) {
      const stats = await fs.promises.lstat(file).catch(unlessGone)
      if (stats) found.backups.add({ path: file, size: stats.size })
    }
  }
}

/** What is in a folder, a few at a time. @param {string} dir */
async function* entriesOf(dir) {
  for await (const entry of await fs.promises.opendir(dir, { bufferSize: 256 })) yield { name: entry.name, isFolder: entry.isDirectory() }
}

/** For what may go, or be out of sight, while one looks. @param {NodeJS.ErrnoException} error @returns {undefined} */
function unlessGone(error) {
  if (error.code === 'ENOENT' || error.code === 'EACCES') return undefined
  throw error
}

/** @type {import('./options.js').Command} */
module.exports = {
  summary: 'what is in a folder: temp files, locks, backups, transactions, logs',
  usage: '[<folder>] [--limit <n>] [--json]',
  details: `Lists the temp files of a folder, alive or orphaned and why; the locks that a process has, and which one; backups;
unfinished transactions; write-ahead logs. Nothing is changed. Everything is counted, and of each kind so many are listed
as --limit says.`,
  options: { limit: { form: 'count', value: 'n', help: 'how many of each kind are listed (default: 100)' }, json: JSON_OUTPUT },
  operands: [0, 1],
  operandName: '<folder>',
  examples: [['holdfast inspect', 'this folder'], ['holdfast inspect --json data | jq .temps.total', '']],
  exits: [['0', 'all is in order'], ['1', 'something needs you: orphans, unfinished transactions, a damaged log'], ['2', 'wrong usage'], ['3', 'could not look']],
  failure: 3,
  async run({ options, operands: [dir = '.'], output, asJson, json, signal }) {
    const limit = options.limit ?? 100
    /** @type {Found} */
    const found = { temps: new Few(limit), transactions: new Few(limit), others: new Few(limit), backups: new Few(limit), locks: new Few(limit), logs: new Few(limit), damagedLogs: 0 }
    // First, so that what is no folder is told as such.
    await lookInto(dir, found, signal)
    const { actions, complete } = await recoverFromCrash(dir, { dryRun: true, validate: false, lock: false, logger: null, signal })
    for (const { path: file, action, reason } of actions) {
      const name = path.basename(file)
      const shown = path.join(dir, name)
      if (TEMP.test(name)) found.temps.add({ path: shown, state: action === 'left' ? 'alive' : action === 'failed' ? 'failed' : 'orphan', reason })
      else if (RECORD.test(name)) found.transactions.add({ path: shown, state: action, reason })
      else found.others.add({ path: shown, state: action, reason })
    }
    const needsYou = !complete || actions.some(({ action }) => action !== 'left') || found.damagedLogs > 0
    const { damagedLogs, ...lists } = found
    if (asJson) await json({ path: dir, ...lists })
    else await output.write(report(found, output) || `${printable(dir)}: nothing of holdfast\n`)
    return needsYou ? 1 : 0
  },
}

/** @param {Found} found @param {import('./output.js').Terminal} output */
function report({ temps, transactions, others, backups, locks, logs }, output) {
  /** @param {string} title @param {Few<any>} few @param {string[]} head @param {(item: any) => string[]} cells */
  const section = (title, few, head, cells) => (few.total === 0 ? '' : [
    `${output.style('cyan', `${title}: ${few.total}`)}\n`,
    output.table(head, few.items.map(cells)),
    few.total > few.items.length ? `… and ${few.total - few.items.length} more (--limit)\n` : '',
  ].join(''))
  /** @param {{ path: string, state: string, reason: string }} item */
  const stated = (item) => [item.path, item.state, item.reason]
  return [
    section('Temp files', temps, ['FILE', 'STATE', 'WHY'], stated),
    section('Transactions', transactions, ['RECORD', 'RECOVERY', 'WHY'], stated),
    section('Other files for recovery', others, ['FILE', 'RECOVERY', 'WHY'], stated),
    section('Locks', locks, ['FILE', 'STATE', 'HELD BY', 'PROCESS', 'MACHINE', 'FOR'], (item) => [item.path, item.state, ...(item.holder === undefined ? [] : holderCells(item.holder))]),
    section('Backups', backups, ['FILE', 'SIZE'], (item) => [item.path, size(item.size)]),
    section('Logs', logs, ['LOG', 'COLLECTIONS', 'SIZE', 'DAMAGE'], (item) => [
      item.path, String(item.collections.length),
      size(item.collections.reduce((/** @type {number} */ sum, /** @type {{ bytes: number }} */ { bytes }) => sum + bytes, 0)),
      item.error === undefined ? '' : item.error.message,
    ]),
  ].filter((text) => text !== '').join('\n')
}
