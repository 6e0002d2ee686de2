'use strict'

// Writes files over and over until it is killed. Each writer has a file of its own, and prints
// [file, number] when a write has been acknowledged.
//
// argv[2]: {dir, round, writers, durability, way}

const fs = require('node:fs')
const path = require('node:path')
const { setImmediate } = require('node:timers/promises')
const { atomicWrite, atomicWriteSync } = require('../../index.js')
const { signer } = require('../system.js')

const { dir, round, writers, durability, way } = JSON.parse(process.argv[2])
const SIZES = [1, 64, 3 * 1024, 17, 3 * 1024, 400, 1100, 2].map((kib) => kib * 1024)
// Made beforehand, so that most of the time is spent in writes. No two in succession are alike.
const makers = SIZES.map((size, index) => signer(`${round} ${index}`, size))

async function loop(file) {
  for (let number = 1; ; number++) {
    const bytes = makers[(number + file + round) % makers.length](`${round} ${number}`)
    const target = path.join(dir, `target-${file}`)
    if (way === 'sync') {
      atomicWriteSync(target, bytes, { durability })
      await setImmediate()
    } else {
      await atomicWrite(target, bytes, { durability })
    }
    // At once, not when the event loop gets to it: what is acknowledged is what was said.
    fs.writeSync(1, `${JSON.stringify([file, number])}\n`)
  }
}

for (let file = 0; file < writers; file++) loop(file)
