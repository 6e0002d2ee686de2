'use strict'

const fs = require('node:fs')
const path = require('node:path')

const name = 'size'
const LIBRARY = path.join(__dirname, '..', '..', 'lib', 'native')

/** @type {import('../suite.js').Probe['measure']} */
async function measure() {
  const addons = fs.readdirSync(LIBRARY).filter((file) => file.endsWith('.node'))
  const rows = addons.map((file) => {
    const megabytes = fs.statSync(path.join(LIBRARY, file)).size / 1e6
    return { name: file, median: megabytes, low: megabytes, high: megabytes, rounds: 1 }
  })
  return [{ key: name, title: 'Size of the addon, stripped as it is shipped', unit: 'MB', rows }]
}

module.exports = { name, measure }
