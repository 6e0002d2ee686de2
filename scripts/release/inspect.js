'use strict'

// What must hold for an addon that is published. Each check answers with what is wrong.

const { execFileSync } = require('node:child_process')
const fs = require('node:fs')
const os = require('node:os')
const { MACOS_FLOOR } = require('./targets.js')

/** Larger is a mistake: something that was never there has been linked in, or symbols were not stripped. */
const LARGEST = 4 << 20

/** @param {string} a @param {string} b */
function isNewer(a, b) {
  const [left = [], right = []] = [a, b].map((version) => version.split('.').map(Number))
  const at = left.findIndex((number, index) => number !== (right[index] ?? 0))
  return at >= 0 && Number(left[at]) > (right[at] ?? 0)
}

/**
 * What is wrong with an addon.
 *
 * @param {string} file
 * @param {import('./targets.js').Target} target
 * @param {string} version that it has to be of
 * @returns {string[]}
 */
function faults(file, target, version) {
  const bytes = fs.readFileSync(file)
  const text = bytes.toString('latin1')
  return [
    ...(bytes.length > LARGEST ? [`it has ${bytes.length} bytes, more than ${LARGEST}`] : []),
    ...wrongFormat(bytes, target),
    ...buildPaths(text).map((found) => `it has a path of the machine that it was built on: ${found}`),
    ...(text.includes('napi_register_module_v1') ? [] : ['it exports no napi_register_module_v1']),
    ...(text.includes(version) ? [] : [`it is not of version ${version}`]),
    ...(target.os === 'linux' ? faultsOfElf(file, target) : []),
    ...(target.os === 'darwin' ? faultsOfMacho(bytes) : []),
  ]
}

/** @param {string} text */
function buildPaths(text) {
  const homes = [os.homedir(), process.env.CARGO_HOME, process.cwd()].filter((each) => each !== undefined && each.length > 1)
  const known = homes.filter((home) => text.includes(`${home}/`))
  return [...known.map(String), ...(text.match(/[\w./-]*(?:registry\/src|\.cargo)\/[\w./-]*/g) ?? [])].slice(0, 3)
}

/** Its machine, by its first bytes. @param {Buffer} bytes @param {import('./targets.js').Target} target */
function wrongFormat(bytes, { os: system, cpu }) {
  const word = (/** @type {number} */ at, isLittle = true) => (isLittle ? bytes.readUInt16LE(at) : bytes.readUInt16BE(at))
  if (system === 'linux') {
    const machine = { x64: 62, arm64: 183, arm: 40, riscv64: 243, ppc64: 21, s390x: 22 }[cpu]
    const isElf = bytes.subarray(0, 4).toString('latin1') === '\x7fELF'
    return isElf && word(18, bytes[5] === 1) === machine ? [] : [`it is no library for Linux on ${cpu}`]
  }
  if (system === 'darwin') {
    const machine = { x64: 0x01000007, arm64: 0x0100000c }[cpu]
    return bytes.readUInt32LE(0) === 0xfeedfacf && bytes.readUInt32LE(4) === machine ? [] : [`it is no library for macOS on ${cpu}`]
  }
  const machine = { x64: 0x8664, ia32: 0x14c, arm64: 0xaa64 }[cpu]
  return bytes.subarray(0, 2).toString('latin1') === 'MZ' && word(bytes.readUInt32LE(60) + 4) === machine ? [] : [`it is no library for Windows on ${cpu}`]
}

/** @param {string} file @param {import('./targets.js').Target} target */
function faultsOfElf(file, { libc, floor }) {
  const dump = (/** @type {string} */ what) => execFileSync('readelf', ['-W', what, file], { encoding: 'utf8', maxBuffer: 1 << 28 })
  const needed = Array.from(dump('-d').matchAll(/\(NEEDED\).*\[(.*)\]/g), ([, name = '']) => name)
  const versions = new Set(Array.from(dump('-V').matchAll(/GLIBC_([\d.]+)/g), ([, number = '']) => number))
  const known = libc === 'musl' ? /^libc\.so$|^libc\.musl|^libgcc_s\.so\.1$/ : /^(?:libc|libm|libdl|libpthread|librt|libgcc_s|ld.*|libutil)\.so\.\d$/
  return [
    ...needed.filter((name) => !known.test(name)).map((name) => `it needs ${name}`),
    ...(libc === 'musl' && versions.size > 0 ? ['it is linked to glibc'] : []),
    ...[...versions].filter((number) => floor !== undefined && isNewer(number, floor)).map((number) => `it needs glibc ${number}, and may need no more than ${floor}: build it with zig (cross.sh)`),
    ...(dump('-S').includes('.symtab') ? ['it is not stripped'] : []),
  ]
}

/** @param {Buffer} bytes */
function faultsOfMacho(bytes) {
  const LC_BUILD_VERSION = 0x32
  const LC_CODE_SIGNATURE = 0x1d
  /** @type {Map<number, number>} */
  const commands = new Map()
  for (let index = 0, at = 32; index < bytes.readUInt32LE(16); index++, at += bytes.readUInt32LE(at + 4)) commands.set(bytes.readUInt32LE(at), at)
  const built = commands.get(LC_BUILD_VERSION)
  const least = built === undefined ? undefined : bytes.readUInt32LE(built + 12)
  const oldest = least === undefined ? 'nothing' : `${least >> 16}.${(least >> 8) & 255}`
  return [
    ...(least !== undefined && !isNewer(oldest, MACOS_FLOOR) ? [] : [`it needs macOS ${oldest}, and may need no more than ${MACOS_FLOOR}`]),
    ...(commands.has(LC_CODE_SIGNATURE) ? [] : ['it is not signed, not even ad hoc: Macs with arm64 load nothing unsigned']),
  ]
}

module.exports = { faults, isNewer }
