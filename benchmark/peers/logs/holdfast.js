'use strict'

/** @param {string} dir */
async function open(dir) {
  const { openWal } = require('../../../index.js')
  const wal = await openWal(dir)
  return {
    /** @param {import('./tasks.js').LogEntry[]} batch */
    append: (batch) => wal.append('log', batch),
    /** @param {(payload: Uint8Array) => void} visit */
    async scan(visit) {
      for await (const { payload } of wal.replay('log')) visit(/** @type {Uint8Array} */ (payload))
    },
    /** As users do once the entries are stored elsewhere: the segments' space is reused. */
    async release() {
      const { last } = wal.stats().collections[0] ?? { last: 0n }
      await wal.checkpoint('log', last)
      return Number(last)
    },
    close: () => wal.close(),
  }
}

module.exports = { open }
