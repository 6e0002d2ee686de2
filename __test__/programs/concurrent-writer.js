'use strict'

// Writes to files that other processes write to at the same time. Prints when it is ready, starts
// on a line of input.
//
// argv[2]: {dir, files, writes, name}

const path = require('node:path')
const { once } = require('node:events')
const { atomicWrite } = require('../../index.js')
const { signed } = require('../system.js')

const { dir, files, writes, name } = JSON.parse(process.argv[2])

async function main() {
  console.log('"ready"')
  await once(process.stdin, 'data')
  process.stdin.destroy()
  await Promise.all(Array.from({ length: files }, async (_, file) => {
    for (let i = 0; i < writes; i++) {
      await atomicWrite(path.join(dir, `target-${file}`), signed(`${name} ${i}`, (i * 7919) % 50_000), { durability: i % 8 ? 'none' : 'full' })
    }
  }))
}

main()
