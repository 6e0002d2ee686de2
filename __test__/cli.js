'use strict'

// The command line, run as users run it: as a child, in a folder.

const { spawn } = require('node:child_process')
const path = require('node:path')
const { asPerson, readableByAll, root } = require('./helpers.js')

/**
 * @typedef {object} Running
 * @property {string} [cwd]
 * @property {string} [input] what it reads from standard input; without it that is empty
 * @property {Record<string, string>} [env]
 * @property {import('./helpers.js').Person} [person]
 */

/** @param {string[]} args @param {Running} [options] */
function start(args, { cwd = '/', env = {}, person } = {}) {
  const bin = path.join(person === undefined ? root : readableByAll(), 'bin', 'holdfast.js')
  const [file = process.execPath, ...rest] = [...(person === undefined ? [] : asPerson(person)), process.execPath, bin, ...args]
  // A child that takes this long hangs.
  return spawn(file, rest, { cwd, stdio: ['pipe', 'pipe', 'pipe'], env: { ...process.env, ...env }, timeout: 60_000, killSignal: 'SIGKILL' })
}

/**
 * @param {import('node:child_process').ChildProcessWithoutNullStreams} child
 * @returns {Promise<{ code: number | null, signal: string | null, stdout: string, stderr: string }>}
 */
function ended(child) {
  return new Promise((resolve, reject) => {
    let [stdout, stderr] = ['', '']
    child.stdout.setEncoding('utf8').on('data', (text) => (stdout += text))
    child.stderr.setEncoding('utf8').on('data', (text) => (stderr += text))
    child.on('error', reject)
    child.on('close', (code, signal) => resolve({ code, signal, stdout, stderr }))
  })
}

/** @param {string[]} args @param {Running} [options] */
function run(args, options = {}) {
  const child = start(args, options)
  // It may end without having read it.
  child.stdin.on('error', () => {}).end(options.input ?? '')
  return ended(child)
}

/** The answer to a call with `--json`, which is one line. @param {string[]} args @param {Running} [options] @returns {Promise<any>} */
async function answer(args, options) {
  const { stdout, stderr } = await run(args, options)
  if (!/^[^\n]+\n$/.test(stdout)) throw new Error(`no line: ${stdout}${stderr}`)
  return JSON.parse(stdout)
}

module.exports = { answer, ended, run, start }
