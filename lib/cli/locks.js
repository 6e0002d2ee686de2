'use strict'

const { holderCells, lockOf } = require('./lock-state.js')
const { JSON_OUTPUT, LOOKING } = require('./options.js')

/** @type {import('./options.js').Command} */
module.exports = {
  summary: 'who has the lock of a file',
  usage: '<file> [--json]',
  details: 'Says whether the lock of a file is free, and who has it. Nothing is changed, and nobody is kept out meanwhile.',
  options: { json: JSON_OUTPUT },
  operands: [1, 1],
  operandName: '<file>',
  examples: [['holdfast locks state.json', ''], ['holdfast locks --json state.json', '{"version":1,"command":"locks","path":"state.json","state":"free"}']],
  exits: LOOKING,
  failure: 3,
  async run({ operands: [file = ''], output, asJson, json, signal }) {
    const found = await lockOf(file, signal)
    if (asJson) await json({ path: file, ...found })
    else if (found.state === 'free') await output.line('free')
    else if (found.holder === undefined) await output.line(found.state === 'read' ? 'held by readers' : 'held by a writer that has not noted itself')
    else await output.write(output.table(['HELD BY', 'PROCESS', 'MACHINE', 'FOR'], [holderCells(found.holder)]))
    return 0
  },
}
