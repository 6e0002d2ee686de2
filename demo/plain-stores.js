'use strict'

// The session store as it is without holdfast, to set beside it.

const fs = require('node:fs/promises')
const { SessionStore } = require('./session-store.js')
const { addTurn, newSession } = require('./session.js')

/** With nothing but Node's own `fs`. */
class PlainStore extends SessionStore {
  async save(session) {
    await fs.writeFile(this.fileOf(session.id), JSON.stringify(session))
  }

  async append(id, reply) {
    const session = await loadOrBegin(this, id)
    addTurn(session, reply(session))
    await this.save(session)
    return session
  }
}

/** With the package write-file-atomic. */
class WriteFileAtomicStore extends SessionStore {
  async save(session) {
    await require('write-file-atomic')(this.fileOf(session.id), JSON.stringify(session))
  }

  /** @returns {string | undefined} which one is installed, if one is */
  static get version() {
    try {
      return require('write-file-atomic/package.json').version
    } catch {
      return undefined
    }
  }
}

/**
 * The session; a new one if there is none yet, or if it cannot be read, as many agents do.
 *
 * @param {SessionStore} store
 * @param {string} id
 * @param {number} [bytes] of a new one
 */
async function loadOrBegin(store, id, bytes) {
  try {
    return await store.load(id)
  } catch (error) {
    if (error.code !== 'ENOENT' && !(error instanceof SyntaxError)) throw error
    return newSession(id, bytes)
  }
}

/** By the names that child programs are given. */
const stores = { holdfast: SessionStore, 'fs.writeFile': PlainStore, 'write-file-atomic': WriteFileAtomicStore }

/** @param {string} name @param {string} dir @returns {SessionStore} */
function openStore(name, dir) {
  return new stores[name](dir)
}

module.exports = { WriteFileAtomicStore, loadOrBegin, openStore }
