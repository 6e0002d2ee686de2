'use strict'

const fs = require('node:fs')
const path = require('node:path')

const name = 'size'
const NATIVE_DIR = path.join(__dirname, '..', '..', 'lib', 'native')

/** @type {import('../harness/types.js').Probe['measure']} */
async function measure() {
  const addons = fs.readdirSync(NATIVE_DIR).filter((file) => file.endsWith('.node'))
  const rows = addons.map((file) => {
    const megabytes = fs.statSync(path.join(NATIVE_DIR, file)).size / 1e6
    return { name: file, median: megabytes, low: megabytes, high: megabytes, rounds: 1 }
  })
  return [{ key: name, title: 'Size of the addon, stripped as it is shipped', unit: 'MB', rows }]
}

module.exports = { name, measure }
