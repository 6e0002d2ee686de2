'use strict'

/** @param {{ durability: 'none' | 'file' | 'full' }} options */
function open({ durability }) {
  const { atomicWrite } = require('../../../index.js')
  return {
    /** @param {string} path @param {Buffer} data */
    write: (path, data) => atomicWrite(path, data, { durability }),
  }
}

module.exports = { open }
