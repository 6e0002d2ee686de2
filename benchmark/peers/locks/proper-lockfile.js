'use strict'

const { RETRIES } = require('../increments/proper-lockfile.js')
const { increment } = require('./holdfast.js')

/** @param {{ section: string, retries?: keyof typeof RETRIES }} options */
function open({ section, retries = 'processes' }) {
  const { lock } = require('proper-lockfile')
  return {
    /** @param {string} path */
    operate: async (path) => {
      const release = await lock(path, { retries: RETRIES[retries] })
      if (section === 'count') increment(path)
      await release()
    },
  }
}

module.exports = { open }
