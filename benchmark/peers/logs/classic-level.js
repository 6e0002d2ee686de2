'use strict'

/** With `sync: true`: a batch is on the disk when it resolves. The id is a part of the key. @param {string} dir */
async function open(dir) {
  const { ClassicLevel } = require('classic-level')
  const db = new ClassicLevel(dir, { keyEncoding: 'utf8', valueEncoding: 'buffer' })
  await db.open()
  let last = 0
  return {
    /** @param {import('./tasks.js').LogEntry[]} batch */
    append: (batch) =>
      db.batch(batch.map(({ id, payload }) => ({ type: 'put', key: `${String(++last).padStart(12, '0')} ${id}`, value: payload })), { sync: true }),
    /** @param {(payload: Uint8Array) => void} visit */
    async scan(visit) {
      // Its fastest way by far.
      const iterator = db.iterator()
      for (;;) {
        const entries = await iterator.nextv(1000)
        if (entries.length === 0) break
        for (const [, value] of entries) visit(value)
      }
      await iterator.close()
    },
    close: () => db.close(),
  }
}

module.exports = { open }
