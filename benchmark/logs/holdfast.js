'use strict'

/** @param {string} dir */
async function open(dir) {
  const { openWal } = require('../../index.js')
  const wal = await openWal(dir)
  return {
    /** @param {import('./log.js').Entry[]} batch */
    append: (batch) => wal.append('log', batch),
    /** @param {(payload: Uint8Array) => void} take */
    async scan(take) {
      for await (const { payload } of wal.replay('log')) take(/** @type {Uint8Array} */ (payload))
    },
    /** As its user does when the entries are elsewhere: the space of a segment serves again. */
    async release() {
      const { last } = wal.stats().collections[0] ?? { last: 0n }
      await wal.checkpoint('log', last)
      return Number(last)
    },
    close: () => wal.close(),
  }
}

module.exports = { open }
