'use strict'

// The agent that is killed: it keeps several conversations going at once, and saves each after
// every turn. `node agent.js <store> <dir> <id>=<bytes>…`

const { loadOrBegin, openStore } = require('./plain-stores.js')
const { onStop, tell } = require('./programs.js')
const { addTurn } = require('./session.js')

const [name, dir, ...sessions] = process.argv.slice(2)
const store = openStore(name, dir)

/** @param {string} id @param {number} bytes */
async function converse(id, bytes) {
  const session = await loadOrBegin(store, id, bytes)
  for (;;) {
    addTurn(session, { by: `agent ${process.pid}`, text: 'And one thing more.' })
    await store.save(session)
    tell('saved', id, session.turn)
  }
}

onStop(() => process.exit())
for (const session of sessions) {
  const [id, bytes] = session.split('=')
  converse(id, Number(bytes))
}
