'use strict'

// Counts up in a JSON file, one update after the other, and says `1` after each that has been
// acknowledged: at once, so that nothing is lost when it is killed.
//
// Arguments: the file, how many times, the options as JSON.

const fs = require('node:fs')
const { updateJsonFile } = require('../..')

async function main(file, times, options) {
  for (let i = 0; i < times; i++) {
    await updateJsonFile(file, (data) => {
      data.count++
    }, options)
    fs.writeSync(1, '1\n')
  }
}

const [file, times, options = '{}'] = process.argv.slice(2)
main(file, Number(times), { timeout: Infinity, ...JSON.parse(options) })
