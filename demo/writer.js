'use strict'

// One of several processes that add turns to the same session. `node writer.js <store> <dir> <id> <name>`

const { openStore } = require('./plain-stores.js')
const { onStop, tell } = require('./programs.js')

const [name, dir, id, by] = process.argv.slice(2)

let isAsked = false
onStop(() => (isAsked = true))

async function work() {
  const store = openStore(name, dir)
  for (let own = 1; !isAsked; own++) {
    await store.append(id, () => {
      tell('begun', own)
      return { by, text: String(own) }
    })
    tell('saved', own)
  }
  process.exit()
}

work()
