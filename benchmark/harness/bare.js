'use strict'

const { execFile, execFileSync } = require('node:child_process')
const { build } = require('../../scripts/crates.js')

/** @type {string | undefined} */
let program

/** @param {string} command @param {Record<string, string | number>} values */
function words(command, values) {
  return [command, ...Object.entries(values).map(([name, value]) => `${name}=${value}`)]
}

/**
 * Runs the program of bare system calls.
 *
 * @param {string} command
 * @param {Record<string, string | number>} values
 * @returns {Promise<any>}
 */
function bare(command, values) {
  program ??= build('bare')
  const file = program
  return new Promise((resolve, reject) => {
    execFile(file, words(command, values), (error, stdout, stderr) => {
      if (error) reject(new Error(stderr || error.message))
      else resolve(JSON.parse(stdout))
    })
  })
}

/** @param {string} command @param {Record<string, string | number>} values */
function bareSync(command, values) {
  program ??= build('bare')
  execFileSync(program, words(command, values))
}

module.exports = { bare, bareSync }
