'use strict'

const { execFile } = require('node:child_process')
const path = require('node:path')
const { promisify } = require('node:util')

const run = promisify(execFile)

/**
 * Runs one of the programs in a fresh process and parses what it prints.
 *
 * @param {string} program
 * @param {import('../harness/types.js').Implementation} implementation
 * @param {(string | number)[]} words
 * @returns {Promise<any>}
 */
async function measureInChild(program, { module = '', options = {} }, ...words) {
  const file = path.join(__dirname, 'programs', program)
  const { stdout } = await run(process.execPath, [file, module, JSON.stringify(options), ...words.map(String)])
  return JSON.parse(stdout)
}

module.exports = { measureInChild }
