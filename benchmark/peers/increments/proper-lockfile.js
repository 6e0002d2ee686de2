'use strict'

const fs = require('node:fs/promises')

/**
 * It polls, so its speed is decided by how often. These are the best settings of those that
 * were tried, from every millisecond to once a second: one for a few processes, one for
 * thousands of calls in one process, where the polling itself takes the time.
 */
const RETRIES = {
  processes: { forever: true, retries: 3, minTimeout: 2, maxTimeout: 10, randomize: true },
  // As the lock managers poll that use this package.
  slow: { forever: true, retries: 10, minTimeout: 100, maxTimeout: 1000 },
  calls: { forever: true, retries: 8, minTimeout: 10, maxTimeout: 500, randomize: true },
}

/** @param {{ retries: keyof typeof RETRIES, queue?: boolean }} options */
function open({ retries: preset, queue }) {
  const { lock } = require('proper-lockfile')
  const writeFileAtomic = require('write-file-atomic')
  const retries = RETRIES[preset]
  /** @param {string} path */
  const increment = async (path) => {
    const release = await lock(path, { retries })
    try {
      const data = JSON.parse(await fs.readFile(path, 'utf8'))
      data.count++
      await writeFileAtomic(path, JSON.stringify(data))
    } finally {
      await release()
    }
  }
  if (!queue) return { operate: increment }
  /** @type {Promise<void>} */
  let last = Promise.resolve()
  return {
    /** @param {string} path */
    operate: (path) => (last = last.then(() => increment(path))),
  }
}

module.exports = { open, RETRIES }
