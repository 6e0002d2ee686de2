'use strict'

// The platforms that there is a package for, and how its addon is built.

/**
 * @typedef {object} Target
 * @property {string} name of the package, below `@holdfast/`: what lib/native/load.js asks for
 * @property {string} rust what Rust calls it
 * @property {string} os
 * @property {string} cpu
 * @property {'glibc' | 'musl'} [libc]
 * @property {string} [floor] the oldest glibc that the addon may need
 */

/** The oldest macOS that the addon may need. */
const MACOS_FLOOR = '11.0'

/** Node 20's own on x64, arm64, ppc64 and s390x. */
const GLIBC_FLOOR = '2.28'

/** @type {Target[]} */
const TARGETS = [
  { name: 'darwin-arm64', rust: 'aarch64-apple-darwin', os: 'darwin', cpu: 'arm64' },
  { name: 'darwin-x64', rust: 'x86_64-apple-darwin', os: 'darwin', cpu: 'x64' },
  { name: 'linux-arm-gnu', rust: 'armv7-unknown-linux-gnueabihf', os: 'linux', cpu: 'arm', libc: 'glibc', floor: GLIBC_FLOOR },
  { name: 'linux-arm64-gnu', rust: 'aarch64-unknown-linux-gnu', os: 'linux', cpu: 'arm64', libc: 'glibc', floor: GLIBC_FLOOR },
  { name: 'linux-arm64-musl', rust: 'aarch64-unknown-linux-musl', os: 'linux', cpu: 'arm64', libc: 'musl' },
  { name: 'linux-ppc64-gnu', rust: 'powerpc64le-unknown-linux-gnu', os: 'linux', cpu: 'ppc64', libc: 'glibc', floor: GLIBC_FLOOR },
  // There is no older Node for it.
  { name: 'linux-riscv64-gnu', rust: 'riscv64gc-unknown-linux-gnu', os: 'linux', cpu: 'riscv64', libc: 'glibc', floor: '2.36' },
  { name: 'linux-s390x-gnu', rust: 's390x-unknown-linux-gnu', os: 'linux', cpu: 's390x', libc: 'glibc', floor: GLIBC_FLOOR },
  { name: 'linux-x64-gnu', rust: 'x86_64-unknown-linux-gnu', os: 'linux', cpu: 'x64', libc: 'glibc', floor: GLIBC_FLOOR },
  { name: 'linux-x64-musl', rust: 'x86_64-unknown-linux-musl', os: 'linux', cpu: 'x64', libc: 'musl' },
  { name: 'win32-arm64', rust: 'aarch64-pc-windows-gnullvm', os: 'win32', cpu: 'arm64' },
  { name: 'win32-ia32', rust: 'i686-pc-windows-gnu', os: 'win32', cpu: 'ia32' },
  { name: 'win32-x64', rust: 'x86_64-pc-windows-gnu', os: 'win32', cpu: 'x64' },
]

/** The targets that words of a command line name: `all`, or names with commas. @param {string} words @param {string} host */
function chosen(words, host) {
  if (words === 'all') return TARGETS
  return words.split(',').map((word) => {
    const name = word === 'host' ? host : word
    const target = TARGETS.find((each) => each.name === name)
    if (!target) throw new Error(`there is no target '${name}'; there are host, all, ${TARGETS.map((each) => each.name).join(', ')}`)
    return target
  })
}

module.exports = { GLIBC_FLOOR, MACOS_FLOOR, TARGETS, chosen }
