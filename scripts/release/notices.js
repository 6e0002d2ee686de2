'use strict'

// THIRD-PARTY-NOTICES: the licences of the crates that are linked into an addon.

const { execFileSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')

const root = path.join(__dirname, '..', '..')

/** Licences that ask for no more than that they are reproduced. */
const ACCEPTED = new Set(['MIT', 'Apache-2.0', 'Apache-2.0 WITH LLVM-exception', 'ISC', 'BSD-2-Clause', 'BSD-3-Clause', 'BSL-1.0', 'Unicode-3.0', 'Unlicense', 'Zlib', '0BSD'])

/** @typedef {{ name: string, version: string, license: string, dir: string, authors: string[] }} Crate */

/** The crates that are linked into the addon of a target: not those that run at compile time. @param {string} target @returns {Crate[]} */
function crates(target) {
  const cargo = (/** @type {string[]} */ ...words) => execFileSync('cargo', [...words, '--locked'], { cwd: root, encoding: 'utf8', maxBuffer: 1 << 28 })
  const tree = cargo('tree', '--target', target, '--edges', 'normal,no-proc-macro', '--prefix', 'none', '--format', '{p}')
  const linked = new Set(tree.split('\n').map((line) => /^(\S+) v(\S+)/.exec(line)).filter((match) => match !== null).map(([, name, version]) => `${name}@${version}`))
  /** @type {{ packages: { name: string, version: string, license: string | null, manifest_path: string, authors: string[], source: string | null }[] }} */
  const { packages } = JSON.parse(cargo('metadata', '--format-version', '1'))
  return packages
    .filter(({ name, version, source }) => source !== null && linked.has(`${name}@${version}`))
    .map(({ name, version, license, manifest_path: manifest, authors }) => ({ name, version, license: license ?? '', dir: path.dirname(manifest), authors }))
    .sort((a, b) => (a.name < b.name ? -1 : 1))
}

/** The licences among which a crate lets its users choose. @param {string} expression */
const choices = (expression) => expression.replace(/\//g, ' OR ').split(/ OR /).map((each) => each.replace(/[()]/g, '').trim())

/** Whether each part of a choice is accepted. @param {string} choice */
const isAccepted = (choice) => choice.split(' AND ').every((part) => ACCEPTED.has(part.trim()))

/** The text of the licence of a crate, or of several if they hold together. @param {Crate} crate */
function licenceText({ name, version, license, dir, authors }) {
  if (!choices(license).some(isAccepted)) throw new Error(`${name} ${version} has the licence '${license}', which nobody has looked at`)
  const files = fs.readdirSync(dir).filter((file) => /^(licen[sc]e|copying|unlicense|notice)/i.test(file) && fs.statSync(path.join(dir, file)).isFile()).sort()
  // One is enough where the crate lets its users choose.
  const mit = choices(license).includes('MIT') ? files.filter((file) => /mit/i.test(file)) : []
  const texts = (mit.length > 0 ? mit : files).map((file) => fs.readFileSync(path.join(dir, file), 'utf8').trim())
  // Some crates name their licence and bring no text.
  return texts.length > 0 ? texts.join('\n\n') : `${license}\nCopyright (c) ${authors.join(', ') || `the authors of ${name}`}`
}

/** @param {string} target as Rust calls it */
function notices(target) {
  const all = crates(target)
  if (all.length < 10) throw new Error(`only ${all.length} crates were found for ${target}`)
  const head = 'The addon of holdfast contains the Rust standard library (MIT OR Apache-2.0, copyright the Rust Project contributors) and these crates.\n'
  return [head, ...all.map((crate) => `${'='.repeat(80)}\n${crate.name} ${crate.version} (${crate.license})\n\n${licenceText(crate)}\n`)].join('\n')
}

module.exports = { crates, notices }
