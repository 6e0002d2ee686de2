'use strict'

const { load } = require('./peers.js')

/** Without `overlappingSync`, which resolves before the disk has it. The id is a part of the key. @param {string} dir */
async function open(dir) {
  const db = load('lmdb').open({ path: dir, encoding: 'binary', overlappingSync: false })
  let last = 0
  return {
    /** @param {import('./log.js').Entry[]} batch */
    append: (batch) =>
      db.batch(() => {
        for (const { id, payload } of batch) db.put([++last, id], payload)
      }),
    /** @param {(payload: Uint8Array) => void} take */
    async scan(take) {
      for (const { value } of db.getRange({})) take(value)
    },
    close: () => db.close(),
  }
}

module.exports = { open }
