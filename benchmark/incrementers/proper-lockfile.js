'use strict'

const fs = require('node:fs/promises')

/**
 * How often it looks whether the lock is free decides its speed. These are the best of the
 * settings that were tried, from every millisecond to once a second, each for its case: a
 * few processes, and thousands of calls in one, where looking often is what takes the time.
 */
const RETRIES = {
  processes: { forever: true, retries: 3, minTimeout: 2, maxTimeout: 10, randomize: true },
  // As the lock managers poll that are built on it.
  slow: { forever: true, retries: 10, minTimeout: 100, maxTimeout: 1000 },
  calls: { forever: true, retries: 8, minTimeout: 10, maxTimeout: 500, randomize: true },
}

/** @param {{ among: keyof typeof RETRIES, queue?: boolean }} options */
function open({ among, queue }) {
  const { lock } = require('proper-lockfile')
  const writeFileAtomic = require('write-file-atomic')
  const retries = RETRIES[among]
  /** @param {string} path */
  const guarded = async (path) => {
    const release = await lock(path, { retries })
    try {
      const data = JSON.parse(await fs.readFile(path, 'utf8'))
      data.count++
      await writeFileAtomic(path, JSON.stringify(data))
    } finally {
      await release()
    }
  }
  if (!queue) return { increment: guarded }
  /** @type {Promise<void>} */
  let last = Promise.resolve()
  return {
    /** @param {string} path */
    increment: (path) => (last = last.then(() => guarded(path))),
  }
}

module.exports = { open, RETRIES }
