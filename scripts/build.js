'use strict'

// `npm run build`: compiles the addon for this machine, and puts it beside lib/native/load.js, with the types of what it
// exports. `--debug` compiles without optimization.

const { execFileSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const { declarations } = require('./declarations.js')

const root = path.join(__dirname, '..')
const native = path.join(root, 'lib', 'native')

/** The platform of the addon, as load.js names it, by the target that Rust compiles for. @param {string} target */
function platformOf(target) {
  const [cpu = ''] = target.split('-')
  const arch = { x86_64: 'x64', i686: 'ia32', i586: 'ia32', aarch64: 'arm64', armv7: 'arm', riscv64gc: 'riscv64', riscv64a23: 'riscv64', powerpc64le: 'ppc64' }[cpu] ?? cpu
  if (target.includes('-windows-')) return `win32-${arch}`
  if (target.includes('-darwin')) return `darwin-${arch}`
  if (target.includes('-linux-')) return `linux-${arch}-${target.includes('musl') ? 'musl' : 'gnu'}`
  return `${target.split('-').at(-1)}-${arch}`
}

/** What Rust compiles for on this machine. */
function hostTarget() {
  const [, host] = /^host: (.*)$/m.exec(execFileSync('rustc', ['-vV'], { encoding: 'utf8' })) ?? []
  if (host === undefined) throw new Error('rustc does not say what it compiles for')
  return host
}

/** What the library of a target is called. @param {string} target */
function libraryOf(target) {
  if (target.includes('-windows-')) return 'holdfast.dll'
  return target.includes('-darwin') ? 'libholdfast.dylib' : 'libholdfast.so'
}

/** Puts a file in the place of another one, which a running process may have loaded. @param {string} from @param {string} to */
function replace(from, to) {
  fs.copyFileSync(from, `${to}.new`)
  fs.renameSync(`${to}.new`, to)
}

function main() {
  const isDebug = process.argv.includes('--debug')
  const target = hostTarget()
  const output = path.join(process.env.CARGO_TARGET_DIR ?? path.join(root, 'target'), isDebug ? 'debug' : 'release')
  // The macros of the binding write down there what they export, each time that they run.
  const types = path.join(output, 'exported-types')
  const isNew = !fs.existsSync(path.join(types, 'holdfast'))
  fs.mkdirSync(types, { recursive: true })
  const env = { ...process.env, NAPI_TYPE_DEF_TMP_FOLDER: types }
  if (isNew) env.NAPI_FORCE_BUILD_HOLDFAST = String(Date.now())
  // A Node for musl loads libraries, so it is itself linked to musl's.
  if (target.includes('-musl')) env.RUSTFLAGS = `${env.RUSTFLAGS ?? ''} -Ctarget-feature=-crt-static`
  execFileSync('cargo', ['build', '--lib', ...(isDebug ? [] : ['--release'])], { cwd: root, env, stdio: 'inherit' })

  // What was built for another platform, or by an earlier version, is not to be loaded or packed.
  for (const name of fs.readdirSync(native)) {
    if (name.startsWith('holdfast.') || name === 'binding.js') fs.unlinkSync(path.join(native, name))
  }
  replace(path.join(output, libraryOf(target)), path.join(native, `holdfast.${platformOf(target)}.node`))
  fs.writeFileSync(path.join(native, 'binding.d.ts'), declarations(fs.readFileSync(path.join(types, 'holdfast'), 'utf8')))
}

if (require.main === module) main()

module.exports = { hostTarget, libraryOf, platformOf, replace }
