'use strict'

// Opens the log in argv[2], appends what it is told to, and says what has come of it. argv[3] has the
// options, as JSON. The questions, and what they are answered with:
//
//   append: [collection, id]   'resolved', or the code of the error
//   run: [collection, name]    appends name.1, name.2, … until that fails: a line for each that is
//                              acknowledged, and at last the code
//   close                      as append

const readline = require('node:readline')
const { openWal } = require('../../index.js')
const { outcomeOf, printLine } = require('../system.js')

const [, , dir, options = '{}'] = process.argv
const entry = (id) => [{ id, op: 'insert', payload: id }]

async function main() {
  let wal
  try {
    wal = await openWal(dir, JSON.parse(options))
  } catch (error) {
    return printLine({ open: error.code, hint: error.hint })
  }
  printLine({ open: 'resolved', damage: wal.damage.length })
  for await (const text of readline.createInterface({ input: process.stdin })) {
    const { append, run, close } = JSON.parse(text)
    if (append) printLine(await outcomeOf(wal.append(append[0], entry(append[1]))))
    if (run) {
      for (let number = 1; ; number++) {
        const outcome = await outcomeOf(wal.append(run[0], entry(`${run[1]}.${number}`)))
        printLine(outcome === 'resolved' ? number : outcome)
        if (outcome !== 'resolved') break
      }
    }
    if (close) printLine(await outcomeOf(wal.close()))
  }
}

main()
