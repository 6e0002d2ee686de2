'use strict'

const fs = require('node:fs')
const { count } = require('./report.js')
const { SessionStore } = require('./session-store.js')

const ID = 'shared'

/**
 * @param {import('./report.js').Report} report
 * @param {SessionStore} store with a session in it
 */
async function backups(report, store) {
  report.act(
    '4 · Damage and backup',
    'The session is backed up. Then its second half is cut off, as by a program that does not write atomically.',
  )
  const file = store.fileOf(ID)
  const good = fs.readFileSync(file)
  const { hasBackups } = SessionStore

  let backup = ''
  if (hasBackups) {
    backup = await store.backup(ID)
    report.check(fs.readFileSync(backup).equals(good), 'The backup is the session', 'they are compared, byte for byte', `${count(good.length, 'byte')} are the same`)
  }

  fs.truncateSync(file, Math.floor(good.length / 2))
  const damaged = fs.readFileSync(file)
  const untouched = () => fs.readFileSync(file).equals(damaged)

  const appended = await outcome(store.append(ID, () => ({ by: 'demo', text: 'is anybody there?' })))
  report.check(
    appended.code === 'EBADJSON' && untouched(),
    'A damaged file is not taken for an empty one',
    'a turn is added to it; then it is compared',
    `${appended.text}; ${untouched() ? 'the file is untouched' : 'the file has changed'}`,
  )

  if (!hasBackups) {
    report.skip('Backups', 'this build of holdfast has no createBackup and restoreBackup yet')
    return
  }
  const refused = await outcome(store.backup(ID))
  const kept = (await store.backups(ID)).length
  report.check(
    refused.code === 'EBADJSON' && kept === 1,
    'Damage is not backed up',
    'a backup of the damaged file is asked for; then backups are counted',
    `${refused.text}; ${count(kept, 'backup')}`,
  )

  await store.restore(ID, backup)
  const restored = fs.readFileSync(file).equals(good)
  const before = JSON.parse(good.toString())
  const after = await store.append(ID, () => ({ by: 'demo', text: 'here we are again' }))
  report.check(
    restored && after.turn === before.turn + 1,
    'The backup is restored, and work goes on',
    'file and backup are compared, and a turn is added',
    `${restored ? 'the same' : 'not the same'}; turn ${before.turn} is followed by turn ${after.turn}`,
  )
}

/** @param {Promise<unknown>} promise */
async function outcome(promise) {
  try {
    await promise
    return { code: undefined, text: 'accepted' }
  } catch (error) {
    const where = error.line === undefined ? '' : ` at line ${error.line}, column ${error.column.toLocaleString('en-US')}`
    return { code: error.code, text: `refused with ${error.code ?? error}${where}` }
  }
}

module.exports = { backups }
