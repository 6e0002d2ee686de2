'use strict'

const path = require('node:path')

const OPS = { insert: 0, update: 1, delete: 2 }

/** In WAL mode, and with `synchronous=FULL`: a transaction is on the disk when it returns. @param {string} dir */
async function open(dir) {
  const Database = require('better-sqlite3')
  const db = new Database(path.join(dir, 'log.sqlite'))
  db.pragma('journal_mode = WAL')
  db.pragma('synchronous = FULL')
  db.exec('CREATE TABLE IF NOT EXISTS log (sequence INTEGER PRIMARY KEY, id TEXT, op INTEGER, timestamp INTEGER, payload BLOB)')
  const insert = db.prepare('INSERT INTO log (id, op, timestamp, payload) VALUES (?, ?, ?, ?)')
  const append = db.transaction((/** @type {import('./tasks.js').LogEntry[]} */ batch) => {
    const now = Date.now()
    for (const { id, op, payload } of batch) insert.run(id, OPS[op], now, payload)
  })
  const all = db.prepare('SELECT sequence, id, op, timestamp, payload FROM log ORDER BY sequence')
  return {
    append,
    /** @param {(payload: Uint8Array) => void} visit */
    async scan(visit) {
      for (const { payload } of all.iterate()) visit(payload)
    },
    close: () => db.close(),
  }
}

module.exports = { open }
