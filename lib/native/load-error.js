'use strict'

// Why the addon could not be loaded, in words that are true of the case, and what to do about it.

const fs = require('node:fs')
const path = require('node:path')

/** The platforms that there is a package for, by the names of the packages. */
const PLATFORMS = [
  'darwin-arm64', 'darwin-x64',
  'linux-arm-gnu', 'linux-arm64-gnu', 'linux-arm64-musl', 'linux-ppc64-gnu', 'linux-riscv64-gnu', 'linux-s390x-gnu', 'linux-x64-gnu', 'linux-x64-musl',
  'win32-arm64', 'win32-ia32', 'win32-x64',
]

/** @typedef {import('./load.js').Attempt} Attempt */

/** @typedef {{ code: string, found: string, reason: string, fix: string }} Diagnosis */

/**
 * The error to throw: a line that says what there is, one for the reason, one for what to do. The errors of all attempts are
 * its cause.
 *
 * @param {readonly Attempt[]} attempts
 * @param {string} version of holdfast
 * @param {readonly string[]} platforms that the addon may be for
 * @returns {Error & { code: string }}
 */
function explained(attempts, version, platforms) {
  const { code, found, reason, fix } = diagnosed(attempts, version, platforms)
  const where = `${platforms.join(' or ')} (${process.release?.name ?? 'node'} ${process.version})`
  const message = `holdfast ${version} cannot load its native addon on ${where}; ${found}.\nReason: ${reason}.\nFix: ${fix}.`
  const cause = new AggregateError(attempts.map(({ error }) => error), attempts.map(({ from, error }) => `${from}: ${textOf(error)}`).join('; '))
  return Object.assign(new Error(message, { cause }), { code })
}

/** @param {readonly Attempt[]} attempts @param {string} version @param {readonly string[]} platforms @returns {Diagnosis} */
function diagnosed(attempts, version, platforms) {
  // What was found and did not load tells more than what was not found.
  const { from, error } = attempts.find((attempt) => !isMissing(attempt)) ?? /** @type {Attempt} */ (attempts[0])
  const code = codeOf(error)
  if (code === 'ERR_DLOPEN_DISABLED') {
    return {
      code,
      found: 'this process may not load addons',
      reason: 'it was started with --no-addons, or with --permission and without --allow-addons',
      fix: 'start it with --allow-addons, or without --no-addons',
    }
  }
  const named = isNamed(from) ? 'HOLDFAST_ADDON names' : 'there is'
  if (code === 'ERR_ADDON_VERSION') {
    return { code, found: `${named} ${from}`, reason: `${textOf(error)}, and has to be of version ${version}`, fix: isPackage(from) ? `install holdfast anew, so that ${from} comes in the same version` : rebuild(from) }
  }
  if (!isMissing({ from, error })) return { code: 'ERR_DLOPEN_FAILED', found: `${named} ${from}`, ...refusal(from, textOf(error), platforms) }
  if (!isPackage(from)) return { code: 'MODULE_NOT_FOUND', found: `${named} ${from}`, reason: 'there is no such file', fix: 'set HOLDFAST_ADDON to the path of an addon, or remove it from the environment' }
  return { code: 'MODULE_NOT_FOUND', ...absence(version, platforms) }
}

/** What the system says of a library that it does not load. @param {string} from @param {string} text @param {readonly string[]} platforms */
function refusal(from, text, platforms) {
  const again = isPackage(from) ? `install ${from} anew` : rebuild(from)
  const said = text.replace(/\n[^]*/, '').replace(/\.$/, '')
  const [needed] = /GLIBC_[\d.]+/.exec(text) ?? []
  if (/not found/.test(text) && needed) return { reason: `the C library of this system is older than it needs (${needed}): ${said}`, fix: 'use a system with glibc 2.28 or later, or build holdfast there from its sources' }
  if (/ld-musl|libc\.musl|ld-linux|libc\.so\.6|symbol not found/.test(text)) return { reason: `it is for another C library than this process uses: ${said}`, fix: `remove node_modules, and install on a machine like this one (${platforms.join(' or ')})` }
  if (/wrong ELF class|incompatible architecture|cannot open shared object file: No such file|not a valid Win32|wrong architecture/i.test(text)) return { reason: `it is for another machine, or damaged: ${said}`, fix: again }
  if (/invalid ELF header|file too short|slice is not valid|not a mach-o file|Exec format error/i.test(text)) return { reason: `the file is damaged, or for another system: ${said}`, fix: again }
  return { reason: said, fix: again }
}

/** Why no package with an addon for this platform is there. @param {string} version @param {readonly string[]} platforms */
function absence(version, platforms) {
  const missing = platforms.map((platform) => `@holdfast/${platform}`).join(' or ')
  if (fs.existsSync(path.join(__dirname, '..', '..', 'Cargo.toml'))) {
    return { found: 'this is a checkout without a build', reason: 'the addon is not in the repository', fix: 'npm run build' }
  }
  if (!platforms.some((platform) => PLATFORMS.includes(platform))) {
    return { found: `there are addons for ${PLATFORMS.join(', ')}`, reason: 'none of them is for this platform', fix: 'use one of these, or build holdfast from its sources' }
  }
  const others = installed()
  if (others.length > 0) {
    return {
      found: `installed: ${others.join(', ')}`,
      reason: `${missing} is not installed: node_modules was made on another platform, or from a lock file that knows only that one`,
      fix: `remove node_modules, and install on this platform; if that does not help: npm install ${missing}@${version}`,
    }
  }
  return {
    found: `${missing} is not installed`,
    reason: 'it is an optional dependency of holdfast: such were left out (--omit=optional, --no-optional), or the lock file was made on another platform and does not have it',
    fix: `npm install --include=optional; if that does not help, remove node_modules and the lock file before it, or: npm install ${missing}@${version}`,
  }
}

/** The packages with addons that are there, whatever they are for. */
function installed() {
  const dirs = require.resolve.paths('@holdfast/any') ?? []
  return dirs.flatMap((dir) => {
    try {
      return fs.readdirSync(path.join(dir, '@holdfast')).map((name) => `@holdfast/${name}`)
    } catch {
      // There is no such directory, or no right to read it.
      return []
    }
  })
}

/** @param {string} from */
const isPackage = (from) => from.startsWith('@')

/** @param {string} from */
const isNamed = (from) => !isPackage(from) && path.dirname(from) !== __dirname

/** @param {string} from */
const rebuild = (from) => (isNamed(from) ? 'set HOLDFAST_ADDON to another file, or remove it from the environment' : 'npm run build')

/** Not: that something is missing which it needs in its turn. @param {Attempt} attempt */
const isMissing = ({ from, error }) => codeOf(error) === 'MODULE_NOT_FOUND' && textOf(error).includes(`'${from}'`)

/** @param {unknown} error */
const codeOf = (error) => /** @type {{ code?: string } | undefined} */ (error)?.code ?? ''

/** @param {unknown} error */
const textOf = (error) => String(/** @type {{ message?: unknown } | undefined} */ (error)?.message ?? error)

module.exports = { explained, PLATFORMS }
