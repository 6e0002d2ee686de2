'use strict'

// Saves one session and tells how that went. `node save-once.js <store> <dir> <id> <bytes>`

const { openStore } = require('./plain-stores.js')
const { tell } = require('./programs.js')
const { newSession } = require('./session.js')

const [name, dir, id, bytes] = process.argv.slice(2)

// Under a limit write-file-atomic would otherwise kill the process: it listens to every signal.
if (process.platform !== 'win32') process.on('SIGXFSZ', () => {})

openStore(name, dir)
  .save(newSession(id, Number(bytes)))
  .then(
    () => tell('resolved'),
    ({ code, attempts, committed }) => tell('rejected', code, attempts, committed),
  )
