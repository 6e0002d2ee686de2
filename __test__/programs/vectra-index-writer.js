'use strict'

// Adds items to an index of the package `vectra` until it is killed, and prints the id of each that is in it:
// `node vectra-index-writer.js <dir> <name>`.

const { LocalIndex } = require('vectra')
const { AtomicFileStorage, lockManager } = require('../../vectra.js')

const [, , dir = '', name = ''] = process.argv

async function run() {
  for (let i = 0; ; i++) {
    const lock = await lockManager.acquireWriteLock(dir)
    try {
      // An index remembers what it has read: another process may have changed it since.
      const index = new LocalIndex(dir, undefined, new AtomicFileStorage())
      const { id } = await index.insertItem({ id: `${name}-${i}`, vector: [i + 1, 1], metadata: { name, text: 'x'.repeat(500) } })
      console.log(id)
    } finally {
      await lock.release()
    }
  }
}

run()
