'use strict'

const { RETRIES } = require('../incrementers/proper-lockfile.js')
const { countUp } = require('./holdfast.js')

/** @param {{ what: string }} options */
function open({ what }) {
  const { lock } = require('proper-lockfile')
  return {
    /** @param {string} path */
    increment: async (path) => {
      const release = await lock(path, { retries: RETRIES.processes })
      if (what === 'count') countUp(path)
      await release()
    },
  }
}

module.exports = { open }
