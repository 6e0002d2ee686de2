'use strict'

// Moves money between accounts, each a JSON file, by transactions on some of them, until it is
// told to stop or killed. Says `1` after each that has been acknowledged.
//
// Argument: the accounts, in the order in which they are named, and the options, as JSON.

const fs = require('node:fs')
const { transaction } = require('../..')

const { accounts, options, seed } = JSON.parse(process.argv[2])

let state = seed
function random(limit) {
  state = (Math.imul(state, 1103515245) + 12345) >>> 0
  return Math.floor((state / 2 ** 32) * limit)
}

let isOver = false
process.stdin.on('data', () => {
  isOver = true
}).unref()

async function main() {
  while (!isOver) {
    const chosen = accounts.filter(() => random(3) > 0)
    if (chosen.length < 2) continue
    const amount = random(100)
    const [from, to] = random(2) ? [chosen[0], chosen.at(-1)] : [chosen.at(-1), chosen[0]]
    await transaction(chosen, async (tx) => {
      await tx.updateJson(from, (account) => void (account.balance -= amount))
      await tx.updateJson(to, (account) => void (account.balance += amount))
    }, options)
    fs.writeSync(1, '1\n')
  }
}

main()
