'use strict'

// `prepublishOnly`: stops `npm publish`, with reasons, where anything is missing of what makes a release.

const fs = require('node:fs')
const path = require('node:path')
const { faults } = require('./inspect.js')
const { manifestOf } = require('./stage.js')
const { TARGETS } = require('./targets.js')

const root = path.join(__dirname, '..', '..')

/**
 * What is missing.
 *
 * @param {string} [npm] the directory with the packages
 * @returns {string[]}
 */
function missing(npm = path.join(root, 'npm')) {
  const manifest = manifestOf(root)
  const { version } = manifest
  const text = (/** @type {string} */ file) => fs.readFileSync(path.join(root, file), 'utf8')
  const others = {
    'Cargo.toml': /^version = "(.*)"$/m.exec(text('Cargo.toml'))?.[1],
    'lib/native/load.js': /^const VERSION = '(.*)'$/m.exec(text('lib/native/load.js'))?.[1],
  }
  return [
    ...['repository', 'bugs', 'homepage', 'author', 'license', 'description'].filter((field) => !manifest[field]).map((field) => `package.json has no "${field}"`),
    ...Object.entries(others).filter(([, other]) => other !== version).map(([file, other]) => `package.json has version ${version}, and ${file} has ${other}`),
    ...(new RegExp(`^## ${version.replaceAll('.', '\\.')}(?!.*unreleased)`, 'm').test(text('CHANGELOG.md')) ? [] : [`CHANGELOG.md has no release ${version}, or says that it is unreleased`]),
    ...TARGETS.flatMap((target) => ofPlatform(path.join(npm, target.name), target, version)),
    ...ofMain(path.join(npm, 'holdfast'), version),
  ]
}

/** @param {string} dir @param {import('./targets.js').Target} target @param {string} version */
function ofPlatform(dir, target, version) {
  const name = `@holdfast/${target.name}`
  const addon = path.join(dir, 'holdfast.node')
  if (!fs.existsSync(addon)) return [`${name} is not there: npm run release:build -- --targets ${target.name}`]
  const found = manifestOf(dir).version
  return [
    ...(found === version ? [] : [`${name} has version ${found}, not ${version}`]),
    ...(fs.existsSync(path.join(dir, 'THIRD-PARTY-NOTICES')) ? [] : [`${name} has no THIRD-PARTY-NOTICES`]),
    ...faults(addon, target, version).map((fault) => `${name}: ${fault}`),
  ]
}

/** @param {string} dir @param {string} version */
function ofMain(dir, version) {
  if (!fs.existsSync(path.join(dir, 'package.json'))) return ['the main package is not there: npm run release:build']
  const manifest = manifestOf(dir)
  const wanted = manifest.optionalDependencies ?? {}
  return [
    ...(manifest.version === version ? [] : [`holdfast has version ${manifest.version} in npm/, not ${version}`]),
    ...TARGETS.filter(({ name }) => wanted[`@holdfast/${name}`] !== version).map(({ name }) => `holdfast does not depend on @holdfast/${name} ${version}`),
  ]
}

function main() {
  const reasons = missing()
  // What npm packs here has the addon of this machine and no other.
  if (fs.realpathSync(process.cwd()) === fs.realpathSync(root)) reasons.push('the checkout is not published, but the directories in npm/: first those of the platforms, then npm/holdfast')
  if (reasons.length === 0) return
  console.error(`This is not published:\n${reasons.map((reason) => `- ${reason}`).join('\n')}`)
  process.exitCode = 1
}

if (require.main === module) main()

module.exports = { missing }
