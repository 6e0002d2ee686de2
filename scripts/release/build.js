'use strict'

// `npm run release:build -- --targets host|all|NAME,…` makes the packages in npm/, as they are published. Without --targets:
// host, for which Rust is enough; all other targets are built by cross.sh, which gets what it needs by itself (Debian, as root).
// `--fast` leaves optimization out, to see whether a target builds and runs. `--check` compiles, and makes nothing.

const { execFileSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const { hostTarget, libraryOf, platformOf } = require('../build.js')
const { faults } = require('./inspect.js')
const { notices } = require('./notices.js')
const { manifestOf, stageMain, stagePlatform } = require('./stage.js')
const { chosen } = require('./targets.js')

const root = path.join(__dirname, '..', '..')
const cross = path.join(__dirname, 'cross.sh')

/** @typedef {import('./targets.js').Target} Target */

/**
 * What the compiler calls the directories of this machine in messages of panics: nothing of them is in an addon.
 *
 * @param {string} output where it puts what it builds
 */
function remapped(output) {
  const home = process.env.CARGO_HOME ?? path.join(require('node:os').homedir(), '.cargo')
  const registry = path.join(home, 'registry', 'src')
  const indexes = fs.existsSync(registry) ? fs.readdirSync(registry).map((name) => path.join(registry, name)) : []
  const renamed = [[output, 'target'], ...indexes.map((index) => [index, 'crates']), [root, 'holdfast']]
  // The last one that fits holds.
  return renamed.reverse().map(([from, to]) => `--remap-path-prefix=${from}=${to}`)
}

/**
 * Compiles for this machine, with the Rust that is there, and gives the path of the addon.
 *
 * @param {string} [output] the directory for all that is compiled
 */
function compileHost(output = path.join(root, 'target', 'package')) {
  const target = hostTarget()
  const flags = [...remapped(output), ...(target.includes('-musl') ? ['-Ctarget-feature=-crt-static'] : [])]
  const env = { ...process.env, CARGO_TARGET_DIR: output, CARGO_ENCODED_RUSTFLAGS: flags.join('\x1f'), MACOSX_DEPLOYMENT_TARGET: '11.0' }
  execFileSync('cargo', ['build', '--release', '--lib', '--locked'], { cwd: root, env, stdio: 'inherit' })
  return path.join(output, 'release', libraryOf(target))
}

/** Compiles for another one. @param {Target} target @param {{ isFast: boolean, onlyCheck?: boolean }} how */
function compile(target, { isFast, onlyCheck = false }) {
  const env = { ...process.env, ...(isFast && { FAST: '1' }) }
  const output = execFileSync(cross, [onlyCheck ? 'check' : 'build', target.rust, root], { env, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] })
  return output.trim().split('\n').at(-1) ?? ''
}

/** @param {readonly string[]} words */
function main(words) {
  const at = words.indexOf('--targets')
  const host = platformOf(hostTarget())
  const isFast = words.includes('--fast')
  const onlyCheck = words.includes('--check')
  const { version } = manifestOf(root)
  let areGood = true
  for (const target of chosen(at < 0 ? 'host' : (words[at + 1] ?? ''), host)) {
    // zig sets the floor of glibc; without it the addon needs that of this machine, which is good enough to try it here.
    const isPlain = target.name === host && (at < 0 || words[at + 1] === 'host')
    const addon = isPlain ? compileHost() : compile(target, { isFast, onlyCheck })
    if (onlyCheck) continue
    const wrong = isFast ? [] : faults(addon, target, version)
    for (const fault of wrong) console.error(`@holdfast/${target.name}: ${fault}`)
    areGood &&= wrong.length === 0
    stagePlatform(path.join(root, 'npm', target.name), target, addon, notices(target.rust))
    console.log(`npm/${target.name}: ${(fs.statSync(addon).size / 1e6).toFixed(2)} MB${wrong.length > 0 ? ', not to be published' : ''}`)
  }
  if (!onlyCheck) stageMain(path.join(root, 'npm', 'holdfast'))
  if (!areGood) process.exitCode = 1
}

if (require.main === module) main(process.argv.slice(2))

module.exports = { compile, compileHost }
