'use strict'

// What `npm run release:build` makes and what stops `npm publish`, tried with the addon of this machine. The packages
// themselves are tried by `npm run test:release`.

const assert = require('node:assert/strict')
const { spawnSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const { describe, test } = require('node:test')
const { newDir, root } = require('./helpers.js')
const { libraryOf, platformOf } = require('../scripts/build.js')
const { declarations } = require('../scripts/declarations.js')
const { missing } = require('../scripts/release/check.js')
const { faults, isNewer } = require('../scripts/release/inspect.js')
const { crates, notices } = require('../scripts/release/notices.js')
const { manifestOf, stageMain, stagePlatform } = require('../scripts/release/stage.js')
const { TARGETS, chosen } = require('../scripts/release/targets.js')
const { RUNTIMES, managers } = require('../scripts/release/try.js')
const { PLATFORMS } = require('../lib/native/load-error.js')

const { version } = manifestOf(root)
const [built = ''] = fs.readdirSync(path.join(root, 'lib', 'native')).filter((name) => name.endsWith('.node'))
const addon = path.join(root, 'lib', 'native', built)
const host = TARGETS.find(({ name }) => built === `holdfast.${name}.node`)
const noHost = !host && 'there is no package for this platform'
const noReadelf = spawnSync('readelf', ['--version']).error !== undefined && 'readelf is missing'

describe('the platforms', () => {
  test('are those that the loader names, and the rows of cross.sh', () => {
    assert.deepEqual(TARGETS.map(({ name }) => name), PLATFORMS)
    const script = fs.readFileSync(path.join(root, 'scripts', 'release', 'cross.sh'), 'utf8')
    for (const { name, rust } of TARGETS) {
      assert.match(script, new RegExp(`^${rust} +${name} `, 'm'))
      assert.equal(platformOf(rust), name, rust)
    }
    assert.deepEqual(['x86_64-pc-windows-msvc', 'aarch64-apple-darwin', 'x86_64-unknown-linux-musl'].map(libraryOf), ['holdfast.dll', 'libholdfast.dylib', 'libholdfast.so'])
  })

  test('are chosen by name, and a wrong name says which there are', () => {
    assert.deepEqual(chosen('host,win32-x64', 'linux-x64-musl').map(({ name }) => name), ['linux-x64-musl', 'win32-x64'])
    assert.equal(chosen('all', ''), TARGETS)
    assert.throws(() => chosen('linux-x46', ''), /there is no target 'linux-x46'; there are host, all, darwin-arm64/)
  })
})

describe('the packages', { skip: noHost }, () => {
  test('are a main one without an addon, which asks for exact versions, and one with nothing but the addon', (t) => {
    const dir = newDir(t)
    stageMain(path.join(dir, 'holdfast'))
    const main = manifestOf(path.join(dir, 'holdfast'))
    assert.deepEqual(main.optionalDependencies, Object.fromEntries(TARGETS.map(({ name }) => [`@holdfast/${name}`, version])))
    assert.equal(main.devDependencies, undefined)
    assert.deepEqual(Object.keys(main.scripts), ['prepublishOnly'])
    const files = /** @type {string[]} */ (fs.readdirSync(path.join(dir, 'holdfast'), { recursive: true })).map((file) => file.replaceAll(path.sep, '/'))
    assert.ok(files.includes('lib/native/load.js') && files.includes('index.d.mts'))
    assert.deepEqual(files.filter((file) => file.endsWith('.node')), [])

    const target = /** @type {import('../scripts/release/targets.js').Target} */ (host)
    stagePlatform(path.join(dir, 'platform'), target, addon, 'notices')
    const { name, os, cpu, libc, main: entry, version: own, scripts } = manifestOf(path.join(dir, 'platform'))
    assert.deepEqual({ name, os, cpu, libc, entry, own, scripts }, {
      name: `@holdfast/${target.name}`, os: [process.platform], cpu: [process.arch], libc: target.libc && [target.libc], entry: 'holdfast.node', own: version, scripts: undefined,
    })
    assert.deepEqual(fs.readdirSync(path.join(dir, 'platform')).sort(), ['LICENSE', 'README.md', 'THIRD-PARTY-NOTICES', 'holdfast.node', 'package.json'])

    // As an installation: the main one finds the other.
    fs.mkdirSync(path.join(dir, 'node_modules', '@holdfast'), { recursive: true })
    fs.renameSync(path.join(dir, 'holdfast'), path.join(dir, 'node_modules', 'holdfast'))
    fs.renameSync(path.join(dir, 'platform'), path.join(dir, 'node_modules', '@holdfast', target.name))
    const smoke = spawnSync(process.execPath, [path.join(root, 'scripts', 'release', 'smoke.cjs')], { cwd: dir, encoding: 'utf8', timeout: 120_000, env: { ...process.env, HOLDFAST_ADDON: '' } })
    assert.match(smoke.stdout, /: \d{2} passed, 0 failed\n$/, smoke.stderr)
    assert.equal(smoke.status, 0)
  })

  test('bring the licences of the crates that are linked in, and of no others', () => {
    const target = /** @type {import('../scripts/release/targets.js').Target} */ (host)
    const names = crates(target.rust).map(({ name }) => name)
    for (const name of ['napi', 'crc32c', 'serde_json', 'rand']) assert.ok(names.includes(name), name)
    // These run when it is compiled, or when it is tested.
    for (const name of ['syn', 'napi-derive', 'thiserror-impl', 'tempfile', 'apache-avro', 'holdfast']) assert.ok(!names.includes(name), name)
    const text = notices(target.rust)
    assert.match(text, /^crc32c .*\n\n[^=]*Permission is hereby granted/m)
    assert.equal(text.split('\n').filter((line) => line === '='.repeat(80)).length, names.length)
  })
})

describe('an addon is not published', { skip: noHost || noReadelf }, () => {
  const target = /** @type {import('../scripts/release/targets.js').Target} */ (host)

  test('that is for another system, of another version, or needs a newer one', (t) => {
    const found = (/** @type {Partial<import('../scripts/release/targets.js').Target>} */ other, of = version) => faults(addon, { ...target, ...other }, of).join('\n')
    assert.match(found({ cpu: 's390x' }), /no library for Linux on s390x/)
    assert.match(found({ os: 'win32', cpu: 'x64' }), /no library for Windows on x64/)
    assert.match(found({ os: 'darwin', cpu: 'arm64' }), /no library for macOS on arm64/)
    assert.match(found({}, '99.0.0'), /not of version 99\.0\.0/)
    if (target.libc === 'glibc') {
      assert.match(found({ floor: '2.5' }), /it needs glibc 2\.\d+, and may need no more than 2\.5/)
      assert.doesNotMatch(found({ floor: '9.0' }), /needs glibc/)
      assert.match(found({ libc: 'musl' }), /linked to glibc/)
    }
    const file = path.join(newDir(t), 'addon.node')
    fs.writeFileSync(file, Buffer.concat([fs.readFileSync(addon), Buffer.from(`${require('node:os').homedir()}/secret/x.rs`), Buffer.alloc(4 << 20)]))
    assert.match(faults(file, target, version).join('\n'), /it has \d+ bytes, more than/)
    assert.match(faults(file, target, version).join('\n'), /a path of the machine that it was built on/)
  })

  test('versions are compared by their numbers', () => {
    assert.deepEqual([isNewer('2.34', '2.28'), isNewer('2.9', '2.28'), isNewer('2.28', '2.28'), isNewer('2.28.1', '2.28'), isNewer('3', '2.28')], [true, false, false, true, true])
  })
})

test('README says how far each platform, package manager and runtime was tried, and nothing has failed', () => {
  const [, table = ''] = /<!-- matrix -->\n([^]*?)<!-- end -->/.exec(fs.readFileSync(path.join(root, 'README.md'), 'utf8')) ?? []
  const outcomes = new Map(Array.from(table.matchAll(/^\| (.+) \| (.+) \|$/gm), ([, what = '', outcome = '']) => [what, outcome]))
  const tried = [...Object.keys(managers({ base: '', url: '', env: {}, version })).map((name) => `installed by ${name}`), ...Object.keys(RUNTIMES).map((name) => `run by ${name}`)]
  for (const what of tried) assert.match(outcomes.get(what) ?? 'missing', /: \d+ passed$/, what)
  for (const { name } of TARGETS) assert.match(outcomes.get(name) ?? 'missing', /: \d+ passed$|^built, not run yet$|^not built$/, name)
  assert.doesNotMatch(table, /FAILED/)
})

describe('npm publish', () => {
  test('says everything that is missing', (t) => {
    const reasons = missing(newDir(t)).join('\n')
    for (const { name } of TARGETS) assert.ok(reasons.includes(`@holdfast/${name} is not there: npm run release:build -- --targets ${name}`), name)
    assert.match(reasons, /the main package is not there/)
  })

  test('is refused in the checkout, whose package has the addon of one platform', () => {
    const { status, stderr } = spawnSync('npm', ['publish', '--dry-run'], { cwd: root, encoding: 'utf8', timeout: 120_000, shell: process.platform === 'win32' })
    assert.notEqual(status, 0)
    assert.match(stderr, /This is not published:/)
    assert.match(stderr, /the checkout is not published, but the directories in npm\//)
  })
})

test('the types of the addon are made of what its macros write down', () => {
  const items = [
    { kind: 'struct', name: 'Port', js_doc: '/** The port. */\n', def: '' },
    { kind: 'impl', name: 'Port', js_doc: '', def: '/**\n * Opens\n * it.\n */\nopen(id: number): void' },
    { kind: 'fn', name: 'addonId', js_doc: '', def: 'function addonId(): number' },
    { kind: 'interface', name: 'Found', js_doc: '', def: 'name: string' },
  ]
  const text = declarations(items.map((item) => `${JSON.stringify(item)}\n`).join(''))
  assert.match(text, /^\/\/ Made by /)
  assert.equal(text.slice(text.indexOf('export interface')), `export interface Found {
  name: string
}

/** The port. */
export declare class Port {
  /**
   * Opens
   * it.
   */
  open(id: number): void
}

export declare function addonId(): number
`)
  assert.throws(() => declarations('{"kind":"enum","name":"Kind","js_doc":"","def":""}'), /Kind: an item of kind enum/)
})
