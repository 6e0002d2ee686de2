'use strict'

// The packages as they are published, in npm/: the main one without an addon, and one for each platform.

const { execFileSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const { TARGETS } = require('./targets.js')

const root = path.join(__dirname, '..', '..')
const isWindows = process.platform === 'win32'

/** What only those need who change holdfast: it is in the repository. */
const UNPUBLISHED = new Set(['docs/architecture.md', 'lib/native/binding.d.ts'])

/** @typedef {Record<string, any>} Manifest */

const manifestOf = (/** @type {string} */ dir) => /** @type {Manifest} */ (JSON.parse(fs.readFileSync(path.join(dir, 'package.json'), 'utf8')))

/** @param {string} dir @param {Manifest} manifest */
function writeManifest(dir, manifest) {
  fs.writeFileSync(path.join(dir, 'package.json'), `${JSON.stringify(manifest, null, 2)}\n`)
}

/** The files that npm packs from the checkout. */
function packedFiles() {
  const output = execFileSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'], shell: isWindows })
  return /** @type {{ files: { path: string }[] }[]} */ (JSON.parse(output)).flatMap(({ files }) => files.map((file) => file.path))
}

/**
 * Links to what is not in the package lead to the repository, and so do all where a page is shown elsewhere.
 *
 * @param {string} text
 * @param {string | undefined} repository
 */
function absoluteLinks(text, repository) {
  if (repository === undefined) return text
  return text.replace(/\]\((?!https?:|#)([^)\s]+)\)/g, (_, link) => `](${repository}/blob/main/${link})`)
}

/** The main package. @param {string} to @param {readonly string[]} [names] of the platforms that it offers */
function stageMain(to, names = TARGETS.map(({ name }) => name)) {
  fs.rmSync(to, { recursive: true, force: true })
  const { devDependencies: _, scripts: __, ...manifest } = manifestOf(root)
  for (const file of packedFiles()) {
    if (file.endsWith('.node') || file === 'package.json' || UNPUBLISHED.has(file)) continue
    fs.mkdirSync(path.dirname(path.join(to, file)), { recursive: true })
    fs.copyFileSync(path.join(root, file), path.join(to, file))
  }
  const readme = path.join(to, 'README.md')
  fs.writeFileSync(readme, absoluteLinks(fs.readFileSync(readme, 'utf8'), repositoryOf(manifest)))
  writeManifest(to, {
    ...manifest,
    optionalDependencies: Object.fromEntries(names.map((name) => [`@holdfast/${name}`, manifest.version])),
    scripts: { prepublishOnly: 'node ../../scripts/release/check.js' },
  })
}

/** The page of the repository. @param {Manifest} manifest @returns {string | undefined} */
function repositoryOf({ repository }) {
  return (typeof repository === 'string' ? repository : repository?.url)?.replace(/^git\+/, '').replace(/\.git$/, '')
}

/**
 * The package of a platform.
 *
 * @param {string} to
 * @param {import('./targets.js').Target} target
 * @param {string} addon the file
 * @param {string} notices
 */
function stagePlatform(to, { name, os, cpu, libc }, addon, notices) {
  fs.rmSync(to, { recursive: true, force: true })
  fs.mkdirSync(to, { recursive: true })
  const { version, license, engines, repository, bugs, homepage, author } = manifestOf(root)
  const where = `${{ linux: 'Linux', darwin: 'macOS', win32: 'Windows' }[os]} on ${cpu}${libc ? ` (${libc})` : ''}`
  writeManifest(to, {
    name: `@holdfast/${name}`,
    version,
    description: `The native addon of holdfast for ${where}`,
    license,
    ...(author && { author }),
    ...(repository && { repository }),
    ...(bugs && { bugs }),
    ...(homepage && { homepage }),
    os: [os],
    cpu: [cpu],
    ...(libc && { libc: [libc] }),
    engines,
    main: 'holdfast.node',
    files: ['holdfast.node', 'THIRD-PARTY-NOTICES'],
    preferUnplugged: true,
    publishConfig: { access: 'public' },
  })
  fs.copyFileSync(addon, path.join(to, 'holdfast.node'))
  fs.chmodSync(path.join(to, 'holdfast.node'), 0o644)
  fs.copyFileSync(path.join(root, 'LICENSE'), path.join(to, 'LICENSE'))
  fs.writeFileSync(path.join(to, 'THIRD-PARTY-NOTICES'), notices)
  fs.writeFileSync(path.join(to, 'README.md'), `# @holdfast/${name}\n\nThe native addon of holdfast for ${where}. Install \`holdfast\`: it brings this package where it is needed.\n`)
}

module.exports = { manifestOf, repositoryOf, stageMain, stagePlatform }
