'use strict'

const path = require('node:path')
const { listBackups } = require('../../index.js')
const { JSON_OUTPUT, LOOKING } = require('./options.js')
const { size, span } = require('./output.js')

/** @type {import('./options.js').Command} */
module.exports = {
  summary: 'the backups of a file',
  usage: '<file> [--json]',
  details: 'Lists the backups of a file, the newest first. The file itself need not exist any more.',
  options: { json: JSON_OUTPUT },
  operands: [1, 1],
  operandName: '<file>',
  examples: [['holdfast backups state.json', ''], ['holdfast backups --json state.json | jq -r .backups[0].path', 'the newest one']],
  exits: LOOKING,
  failure: 3,
  async run({ operands: [file = ''], output, asJson, json }) {
    const backups = await listBackups(file)
    if (asJson) await json({ path: file, backups })
    else if (backups.length === 0) await output.line('none')
    else {
      const rows = backups.map((each) => [path.basename(each.path), each.createdAt.toISOString(), span(Date.now() - each.createdAt.getTime()), size(each.size)])
      await output.write(output.table(['BACKUP', 'MADE', 'AGE', 'SIZE'], rows))
    }
    return 0
  },
}
