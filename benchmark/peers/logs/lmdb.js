'use strict'

/** Without `overlappingSync`, which resolves before the disk has it. The id is a part of the key. @param {string} dir */
async function open(dir) {
  const db = require('lmdb').open({ path: dir, encoding: 'binary', overlappingSync: false })
  let last = 0
  return {
    /** @param {import('./tasks.js').LogEntry[]} batch */
    append: (batch) =>
      db.batch(() => {
        for (const { id, payload } of batch) db.put([++last, id], payload)
      }),
    /** @param {(payload: Uint8Array) => void} visit */
    async scan(visit) {
      for (const { value } of db.getRange({})) visit(value)
    },
    close: () => db.close(),
  }
}

module.exports = { open }
