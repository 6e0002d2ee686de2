'use strict'

const { isLocked } = require('../../index.js')
const { span } = require('./output.js')

/** @typedef {import('../../index.js').LockHolder} LockHolder */

/**
 * Who has the lock of a file. Of readers it is only known that there are some.
 *
 * @param {string} file
 * @param {AbortSignal} [signal]
 * @returns {Promise<{ state: 'free' | 'read' | 'write', holder?: LockHolder }>}
 */
async function lockOf(file, signal) {
  signal?.throwIfAborted()
  const [byWriter, byAny] = [await isLocked(file, { kind: 'read' }), await isLocked(file)]
  if (byWriter.locked) return { state: 'write', ...(byWriter.holder === undefined ? {} : { holder: byWriter.holder }) }
  if (!byAny.locked) return { state: 'free' }
  // A writer that came between the two looks has noted itself.
  return byAny.holder === undefined ? { state: 'read' } : { state: 'write', holder: byAny.holder }
}

/** @param {LockHolder} holder */
const holderCells = ({ pid, hostname, command, since }) => [command, String(pid), hostname, span(Date.now() - since.getTime())]

module.exports = { holderCells, lockOf }
