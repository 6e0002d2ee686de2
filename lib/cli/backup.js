'use strict'

const { createBackup } = require('../../index.js')
const { JSON_OUTPUT } = require('./options.js')
const { printable } = require('./output.js')

/** @type {import('./options.js').Command} */
module.exports = {
  summary: 'make a backup of a file',
  usage: '<file> [--keep <n>] [--validate json] [--json]',
  details: 'Copies the file to <file>.<milliseconds since 1970>.backup, whole and on the disk, and says its name. It replaces nothing.',
  options: {
    keep: { form: 'count', value: 'n', help: 'remove older backups of the file, so that n are left, this one included (default: all)' },
    validate: { form: 'text', value: 'format', choices: ['json'], help: 'json: do not back up a file that is not JSON' },
    json: JSON_OUTPUT,
  },
  operands: [1, 1],
  operandName: '<file>',
  examples: [['holdfast backup state.json', ''], ['holdfast backup --keep 5 --validate json state.json', 'never the sixth, never a corrupt one']],
  exits: [['0', 'there is a backup'], ['1', 'there is none, and the message says why'], ['2', 'wrong usage']],
  failure: 1,
  async run({ options, operands: [file = ''], output, asJson, json, signal }) {
    const backup = await createBackup(file, { keep: options.keep, validate: options.validate, signal })
    if (asJson) await json({ path: file, backup })
    else await output.line(printable(backup))
    return 0
  },
}
