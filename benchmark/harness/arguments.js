'use strict'

const { parseArgs } = require('node:util')

const USAGE = `node benchmark/run.js [--quick] [--only <name>]… [--disk tmpfs|ext4|flush5ms]… [--json <file>]

  --quick        fewer rounds and sizes: for a look, not for quoting
  --only <name>  one measurement: %NAMES%
  --disk <name>  one disk; without it all three
  --json <file>  where the results go (default: benchmark/results/latest.json)`

/**
 * @typedef {{ quick: boolean, only: string[], diskNames: string[], json: string | undefined }} Arguments
 */

/**
 * @param {string[]} words
 * @param {{ names: string[], disks: string[] }} known
 * @returns {Arguments | { usage: string, wrong: boolean }}
 */
function readArguments(words, known) {
  const usage = USAGE.replace('%NAMES%', known.names.join(', '))
  try {
    const { values } = parseArgs({
      args: words,
      options: {
        quick: { type: 'boolean', default: false },
        only: { type: 'string', multiple: true, default: [] },
        disk: { type: 'string', multiple: true, default: [] },
        json: { type: 'string' },
        help: { type: 'boolean', default: false },
      },
    })
    if (values.help) return { usage, wrong: false }
    const only = checked('--only', values.only ?? [], known.names)
    const diskNames = checked('--disk', values.disk ?? [], known.disks)
    return { quick: values.quick ?? false, only, diskNames, json: values.json }
  } catch (error) {
    return { usage: `${/** @type {Error} */ (error).message}\n\n${usage}`, wrong: true }
  }
}

/**
 * @param {string} option
 * @param {string[]} names
 * @param {string[]} known
 */
function checked(option, names, known) {
  for (const name of names) {
    if (!known.includes(name)) throw new Error(`${option} ${name}: known are ${known.join(', ')}`)
  }
  return names
}

module.exports = { readArguments }
