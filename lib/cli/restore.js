'use strict'

const fs = require('node:fs')
const { createBackup, listBackups, restoreBackup, withLock } = require('../../index.js')
const { JSON_OUTPUT } = require('./options.js')
const { printable } = require('./output.js')

/** @type {import('./options.js').Command} */
module.exports = {
  summary: 'replace a file by a backup of it',
  usage: '<file> [<backup>] [--backup] [--validate json] [--timeout <time>] [--json]',
  details: `Replaces the file by its newest backup, or by the one that is named, in one step and under the lock of the file. The
backup stays.`,
  options: {
    backup: { form: 'flag', help: 'make a backup of the present file first' },
    validate: { form: 'text', value: 'format', choices: ['json'], help: 'json: refuse a backup that is not JSON' },
    timeout: { form: 'duration', value: 'time', help: 'how long to wait for the lock: 500ms, 10s, 2m; 0s tries once (default: 10s)' },
    json: JSON_OUTPUT,
  },
  operands: [1, 2],
  operandName: '<file>',
  examples: [['holdfast restore state.json', 'the newest backup'], ['holdfast restore --backup state.json state.json.1767225600000.backup', 'that one; it can be taken back']],
  exits: [['0', 'the file is that of the backup'], ['1', 'it is as it was, and the message says why'], ['2', 'wrong usage']],
  failure: 1,
  async run({ options, operands: [file = '', named], output, asJson, json, signal }) {
    const timeout = options.timeout ?? 10_000
    const done = await withLock(file, async () => {
      const backup = named ?? (await listBackups(file))[0]?.path
      if (backup === undefined) throw Object.assign(new Error(`there is no backup of ${file}`), { code: 'ENOENT' })
      const replaced = options.backup && fs.existsSync(file) ? await createBackup(file, { signal }) : undefined
      await restoreBackup(backup, file, { validate: options.validate, signal })
      return { path: file, backup, ...(replaced === undefined ? {} : { replaced }) }
    }, { timeout, signal })
    if (asJson) await json(done)
    else {
      await output.line(`${printable(file)} is ${printable(done.backup)} again`)
      if (done.replaced !== undefined) await output.line(`what it was is ${printable(done.replaced)}`)
    }
    return 0
  },
}
