'use strict'

const path = require('node:path')
const readline = require('node:readline/promises')
const { recoverFromCrash } = require('../../index.js')
const { JSON_OUTPUT } = require('./options.js')
const { printable } = require('./output.js')

/**
 * @typedef {import('../../index.js').RecoveryReport} RecoveryReport
 * @typedef {import('../../index.js').RecoveryAction} RecoveryAction
 */

/** What an action will be called before it is done. @type {Partial<Record<RecoveryAction['action'], string>>} */
const TO_COME = { removed: 'remove', promoted: 'promote', restored: 'restore', setAside: 'set aside', completed: 'complete' }

/** What an action was. @type {Partial<Record<RecoveryAction['action'], string>>} */
const DONE = { setAside: 'set aside' }

/** Actions that change nothing. */
const IDLE = new Set(['left', 'failed', 'conflict'])

/** @param {RecoveryReport} report @param {boolean} isDone @param {import('./output.js').Terminal} output */
function table({ actions }, isDone, output) {
  const names = isDone ? DONE : TO_COME
  return output.table(['ACTION', 'FILE', 'WHY'], actions.map(({ action, path: file, to, reason, error }) => [
    names[action] ?? action,
    to === undefined ? path.relative('', file) : `${path.relative('', file)} → ${path.basename(to)}`,
    error === undefined ? reason : error.message,
  ]))
}

/** @param {string} question @param {AbortSignal} signal */
async function agrees(question, signal) {
  const terminal = readline.createInterface({ input: process.stdin, output: process.stderr })
  // Ctrl-C, and a terminal that goes away, are no answer.
  const gone = new AbortController()
  signal.addEventListener('abort', () => gone.abort(), { once: true })
  terminal.once('SIGINT', () => process.kill(process.pid, 'SIGINT'))
  terminal.once('close', () => gone.abort())
  try {
    return /^y(es)?$/i.test((await terminal.question(`${question} [y/N] `, { signal: gone.signal })).trim())
  } catch (error) {
    if (gone.signal.aborted && !signal.aborted) return false
    throw error
  } finally {
    terminal.close()
  }
}

/** @type {import('./options.js').Command} */
module.exports = {
  summary: 'put in order what a crash has left',
  usage: '[<path>] [--dry-run] [--recursive] [--promote] [--legacy] [--backups] [--min-age <time>] [--yes] [--json]',
  details: `Removes orphaned temp files, completes what transactions have left, and replaces corrupt JSON files where there is something
better; beside one file, or in a folder (default: this one). What live processes are writing is left alone. In a terminal
it shows what it would do, and asks; anywhere else it does it.`,
  options: {
    'dry-run': { form: 'flag', short: 'n', help: 'only say what would be done' },
    recursive: { form: 'flag', short: 'r', help: 'in all folders below, too' },
    promote: { form: 'flag', help: 'in a folder: let a temp file that is one whole JSON text become a missing file (always for a file that is named)' },
    legacy: { form: 'flag', help: 'in a folder: handle <file>.tmp and <file>.bak of other programs as well (always for a file that is named)' },
    backups: { form: 'flag', help: 'a missing or corrupt file goes back to its newest good backup where there is nothing newer' },
    'min-age': { form: 'duration', value: 'time', help: 'how old a temp file without a lock has to be: 0s, 10m (default: 1m)' },
    yes: { form: 'flag', short: 'y', help: 'do not ask' },
    json: JSON_OUTPUT,
  },
  operands: [0, 1],
  operandName: '<path>',
  examples: [['holdfast recover --dry-run', 'what would be done in this folder'], ['holdfast recover session.json', ''], ['holdfast recover --recursive --yes /var/lib/app', 'before a service starts']],
  exits: [['0', 'all is in order'], ['1', 'something needs you: it failed, or is in conflict, or you said no'], ['2', 'wrong usage'], ['3', 'could not look']],
  failure: 3,
  async run({ options, operands: [where = '.'], output, asJson, json, signal }) {
    /** @param {boolean} dryRun */
    const recover = (dryRun) => recoverFromCrash(where, {
      dryRun, recursive: options.recursive, promote: options.promote, legacy: options.legacy, backups: options.backups, minAge: options['min-age'], signal,
    })
    const isDryRun = options['dry-run'] === true
    if (!isDryRun && !options.yes && output.canAsk) {
      const plan = await recover(true)
      const changes = plan.actions.filter(({ action }) => !IDLE.has(action)).length
      if (changes > 0) {
        output.error(table(plan, false, output).trimEnd())
        if (!(await agrees(`Do that (${changes} ${changes === 1 ? 'change' : 'changes'})?`, signal))) {
          if (asJson) await json({ path: where, dryRun: true, ...plan })
          return 1
        }
      }
    }
    const report = await recover(isDryRun)
    if (asJson) await json({ path: where, dryRun: isDryRun, ...report })
    else if (report.actions.length === 0) await output.line(`${printable(where)}: nothing to do`)
    else await output.write(table(report, !isDryRun, output))
    const needsYou = !report.complete || report.actions.some(({ action }) => action === 'failed' || action === 'conflict')
    return needsYou ? 1 : 0
  },
}
