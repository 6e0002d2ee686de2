'use strict'

// Makes a log in argv[2] of as many collections as argv[3] says, with an entry each; closes it, opens it,
// appends another entry to each, and says what there is.

const { openWal } = require('../../index.js')
const { printLine } = require('../system.js')

const [, , dir, count] = process.argv
const names = Array.from({ length: Number(count) }, (_, number) => `c${number}`)

async function main() {
  const took = {}
  let started = performance.now()
  const lap = (/** @type {string} */ what) => {
    took[what] = Math.round(performance.now() - started)
    started = performance.now()
  }
  let wal = await openWal(dir)
  const append = (/** @type {string} */ name) => wal.append(name, [{ id: name, op: 'insert', payload: 'one' }])
  await Promise.all(names.map(append))
  lap('make')
  await wal.close()
  lap('close')
  wal = await openWal(dir)
  lap('open')
  await Promise.all(names.map(append))
  lap('append')
  let entries = 0
  for (const name of names) {
    for await (const entry of wal.replay(name)) entries += entry.id === name ? 1 : 0
  }
  lap('replay')
  const result = { collections: wal.stats().collections.length, damage: wal.damage.length, entries }
  await wal.close()
  lap('close')
  printLine(took)
  printLine(result)
}

main()
