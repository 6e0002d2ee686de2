'use strict'

const fs = require('node:fs/promises')
const path = require('node:path')
const holdfast = require('holdfast')
const { addTurn, newSession } = require('./session.js')

/** @typedef {import('./session.js').Session} Session */

/** Keeps the sessions of an agent, each in a JSON file of its own: what a user would write. */
class SessionStore {
  /** @param {string} dir */
  constructor(dir) {
    this.dir = dir
  }

  /** @param {string} id */
  fileOf(id) {
    return path.join(this.dir, `${id}.json`)
  }

  /** @param {string} id @returns {Promise<Session>} */
  async load(id) {
    return JSON.parse(await fs.readFile(this.fileOf(id), 'utf8'))
  }

  /** @param {Session} session */
  async save(session) {
    await holdfast.atomicWriteJson(this.fileOf(session.id), session)
  }

  /**
   * Adds a turn, also while other processes add theirs.
   *
   * @param {string} id
   * @param {(session: Session) => { by: string, text: string }} reply the turn that follows
   *   on what has been said so far
   */
  append(id, reply) {
    return holdfast.updateJsonFile(this.fileOf(id), (session) => addTurn(session, reply(session)), {
      defaultValue: newSession(id),
    })
  }

  /** @param {string} id @returns {Promise<string>} where the backup is */
  backup(id) {
    return holdfast.createBackup(this.fileOf(id), { validate: 'json' })
  }

  /** @param {string} id */
  backups(id) {
    return holdfast.listBackups(this.fileOf(id))
  }

  /** @param {string} id @param {string} backup */
  async restore(id, backup) {
    await holdfast.restoreBackup(backup, this.fileOf(id), { validate: 'json' })
  }

  /** Whether this build of holdfast has backups. */
  static get hasBackups() {
    return ['createBackup', 'restoreBackup', 'listBackups'].every((name) => typeof holdfast[name] === 'function')
  }
}

module.exports = { SessionStore }
