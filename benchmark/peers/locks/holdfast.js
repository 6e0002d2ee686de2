'use strict'

const fs = require('node:fs')
const { setTimeout: pause } = require('node:timers/promises')
const { handOverClock } = require('./hand-over-clock.js')

const NO_TIMEOUT = { timeout: Infinity }

/** What is done with the lock is named by `section`. @param {{ section: string, readers?: number }} options */
function open({ section, readers = 1 }) {
  const { acquireLock, withLock } = require('../../../index.js')
  const clock = handOverClock()
  /** @type {Record<string, (path: string) => Promise<unknown>>} */
  const sections = {
    acquireRelease: async (path) => (await acquireLock(path, NO_TIMEOUT)).release(),
    withLock: (path) => withLock(path, () => {}, NO_TIMEOUT),
    count: (path) => withLock(path, () => increment(path), NO_TIMEOUT),
    handOver: async (path) => {
      const lock = await acquireLock(path, NO_TIMEOUT)
      clock.acquired(path)
      // The other process starts to wait meanwhile.
      await pause(2)
      clock.releasing()
      await lock.release()
    },
    read: (path) => Promise.all(Array.from({ length: readers }, () => withLock(path, () => {}, { kind: 'read', ...NO_TIMEOUT }))),
  }
  return { operate: sections[section] }
}

/** @param {string} path */
function increment(path) {
  fs.writeFileSync(path, `${Number(fs.readFileSync(path, 'utf8')) + 1}`)
}

module.exports = { open, increment }
