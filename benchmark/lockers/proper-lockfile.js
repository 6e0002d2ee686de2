'use strict'

const { RETRIES } = require('../incrementers/proper-lockfile.js')
const { countUp } = require('./holdfast.js')

/** @param {{ what: string, retries?: keyof typeof RETRIES }} options */
function open({ what, retries = 'processes' }) {
  const { lock } = require('proper-lockfile')
  return {
    /** @param {string} path */
    increment: async (path) => {
      const release = await lock(path, { retries: RETRIES[retries] })
      if (what === 'count') countUp(path)
      await release()
    },
  }
}

module.exports = { open }
