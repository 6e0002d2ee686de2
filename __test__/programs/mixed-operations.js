'use strict'

// Writes, updates, backs up, restores and commits in one directory until it is killed, beside others that do
// the same and some that recover. Says what has been acknowledged: a line {own}, {counted} or
// {committed} each time, and {error} should anything fail.
//
// argv[2]: {dir, number, first}: its own number, and the number of its first write.

const fs = require('node:fs')
const path = require('node:path')
const { finished } = require('node:stream/promises')
const { setImmediate } = require('node:timers/promises')
const holdfast = require('../../index.js')
const { printLine } = require('../system.js')

const { dir, number, first } = JSON.parse(process.argv[2])
const own = path.join(dir, `own-${number}.json`)
const counter = path.join(dir, 'counter.json')
const shared = path.join(dir, 'shared.json')
const DURABILITIES = ['none', 'file', 'full']

const text = (value) => JSON.stringify({ value, filler: 'x'.repeat((value * 7919) % 20_000) })

/** Work that goes on by itself. */
const works = [
  async (round) => {
    const value = first + round
    await holdfast.atomicWrite(own, text(value), { durability: DURABILITIES[round % 3] })
    printLine({ own: value })
  },
  async () => {
    await holdfast.updateJsonFile(counter, (data) => void data.count++, { durability: 'none', timeout: 60_000 })
    printLine({ counted: 1 })
  },
  async (round) => {
    const stream = holdfast.createAtomicWriteStream(shared, { durability: 'none' })
    const whole = text(round)
    stream.write(whole.slice(0, 9))
    await setImmediate()
    stream.end(whole.slice(9))
    await finished(stream)
  },
  async (round) => {
    const target = path.join(dir, `copy-${number}.json`)
    const backup = await holdfast.createBackup(shared, { durability: 'none' })
    await holdfast.restoreBackup(backup, target, { durability: DURABILITIES[round % 3], timeout: 60_000 })
    fs.unlinkSync(backup)
  },
  async () => {
    const { actions } = await holdfast.recoverFromCrash(dir, { minAge: 0, promote: true })
    const failed = actions.find(({ action }) => action === 'failed')
    if (failed) throw failed.error
  },
]

if (holdfast.transaction) {
  const pair = ['pair-a.json', 'pair-b.json'].map((name) => path.join(dir, name))
  works.push(async () => {
    await holdfast.transaction(
      pair,
      async (tx) => {
        for (const file of pair) await tx.updateJson(file, (data) => void data.count++)
      },
      { timeout: 60_000 },
    )
    printLine({ committed: 1 })
  })
}

for (const work of works) {
  void (async () => {
    try {
      for (let round = 1; ; round++) await work(round)
    } catch (error) {
      printLine({ error: `${error.stack}` })
    }
  })()
}
