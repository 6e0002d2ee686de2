'use strict'

// How the package is loaded: again and again, and where it cannot be.

const assert = require('node:assert/strict')
const { spawnSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const { describe, test } = require('node:test')
const { newDir, root } = require('./helpers.js')

/** @param {string} source @param {string[]} [args] */
function node(source, args = []) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [...args, '-e', source], { encoding: 'utf8', cwd: root, timeout: 60_000 })
  return { status, stdout, stderr }
}

describe('modules that are loaded anew, as test runners do it,', () => {
  for (const [name, keeps] of [['with the addon as it is', (/** @type {string} */ file) => file.endsWith('.node')], ['and the addon with them', () => false]]) {
    test(`leave no listeners, threads or memory behind, ${name}`, (t) => {
      const dir = newDir(t)
      const { status, stdout, stderr } = node(`
        const fs = require('node:fs')
        const { createRequire } = require('node:module')
        const path = require('node:path')
        const keeps = ${keeps}
        process.on('warning', (warning) => console.error(warning.name, warning.message))
        const use = async (i) => {
          for (const file of Object.keys(require.cache)) if (!keeps(file)) delete require.cache[file]
          // A loader of its own: Node keeps all that one has ever loaded.
          const holdfast = createRequire(${JSON.stringify(path.join(root, 'index.js'))})(${JSON.stringify(root)})
          const file = path.join(${JSON.stringify(dir)}, 'file.json')
          await holdfast.atomicWrite(file, JSON.stringify({ i }), { signal: new AbortController().signal })
          await holdfast.updateJsonFile(file, (data) => ({ i: data.i + 1 }))
          await holdfast.withLock(file, () => {})
          await holdfast.withLock(file, () => {}, { protocol: 'proper-lockfile' })
          const stream = holdfast.createAtomicWriteStream(file)
          await new Promise((resolve, reject) => stream.on('error', reject).end('{}', resolve))
          if (fs.readFileSync(file, 'utf8') !== '{}') throw new Error('not written')
        }
        const run = async () => {
          for (let i = 0; i < 20; i++) await use(i)
          gc()
          const before = process.memoryUsage().heapUsed
          for (let i = 0; i < 50; i++) await use(i)
          gc()
          const listeners = process.eventNames().reduce((sum, name) => sum + process.listenerCount(name), 0)
          console.log(JSON.stringify({ listeners, grown: process.memoryUsage().heapUsed - before }))
        }
        run()`, ['--expose-gc'])
      assert.equal(status, 0, stderr)
      assert.equal(stderr, '')
      const { listeners, grown } = JSON.parse(stdout)
      assert.ok(listeners < 10, `${listeners} listeners`)
      // A copy of all modules is about 1 MiB.
      assert.ok(grown < 10 << 20, `50 loads took ${grown} bytes`)
    })
  }

  test('finish what has begun when the process exits', (t) => {
    const dir = newDir(t)
    const { status, stderr } = node(`
      const load = () => {
        for (const file of Object.keys(require.cache)) delete require.cache[file]
        return require(${JSON.stringify(root)})
      }
      for (let i = 0; i < 20; i++) load().atomicWrite(${JSON.stringify(dir)} + '/file-' + i, Buffer.alloc(4 << 20)).catch(() => {})
      setTimeout(() => process.exit(7), 20)`)
    assert.equal(status, 7, stderr)
    assert.deepEqual(fs.readdirSync(dir).filter((name) => name.endsWith('.tmp')), [])
  })
})

describe('a process that may not load addons', () => {
  const allowed = process.allowedNodeEnvironmentFlags.has('--permission') ? ['--permission', '--allow-fs-read=*', '--allow-fs-write=*'] : ['--experimental-permission', '--allow-fs-read=*', '--allow-fs-write=*']

  for (const [name, args] of Object.entries({ '--no-addons': ['--no-addons'], '--permission': allowed })) {
    for (const entry of ['.', './compat/proper-lockfile.js', './vectra.js']) {
      test(`is told so: ${name}, require('${entry}')`, () => {
        const { stdout, stderr } = node(`
          try {
            require(${JSON.stringify(entry)})
          } catch (error) {
            console.log(JSON.stringify({ code: error.code, message: error.message, cause: error.cause instanceof Error }))
          }`, args)
        assert.notEqual(stdout, '', stderr)
        const { code, message, cause } = JSON.parse(stdout)
        assert.equal(code, 'ERR_DLOPEN_DISABLED')
        assert.match(message, /--no-addons, or with --permission and without --allow-addons/)
        assert.doesNotMatch(message, /npm|package/)
        assert.equal(cause, true)
      })
    }
  }

  test('works with --permission and --allow-addons', (t) => {
    if (!process.allowedNodeEnvironmentFlags.has('--allow-addons')) return t.skip('this version of Node has no such flag')
    const file = path.join(newDir(t), 'file')
    const { status, stderr } = node(`require('.').atomicWrite(${JSON.stringify(file)}, 'new')`, [...allowed, '--allow-addons'])
    assert.equal(status, 0, stderr)
    assert.equal(fs.readFileSync(file, 'utf8'), 'new')
  })
})

describe('an addon that does not load', () => {
  const { version } = JSON.parse(fs.readFileSync(path.join(root, 'package.json'), 'utf8'))
  const [built = ''] = fs.readdirSync(path.join(root, 'lib', 'native')).filter((name) => name.endsWith('.node'))
  const platform = built.replace(/^holdfast\.(.*)\.node$/, '$1')
  const isLinux = process.platform === 'linux'

  /**
   * A directory in which holdfast is installed as from a registry, with these packages of addons.
   *
   * @param {import('node:test').TestContext} t
   * @param {Record<string, string | Buffer>} packages the addon in each, or the path of one to copy
   */
  function install(t, packages) {
    const modules = path.join(newDir(t), 'node_modules')
    const home = path.join(modules, 'holdfast')
    fs.cpSync(path.join(root, 'lib'), path.join(home, 'lib'), { recursive: true, filter: (file) => !file.endsWith('.node') })
    fs.copyFileSync(path.join(root, 'index.js'), path.join(home, 'index.js'))
    for (const [name, addon] of Object.entries(packages)) {
      const dir = path.join(modules, name)
      fs.mkdirSync(dir, { recursive: true })
      fs.writeFileSync(path.join(dir, 'package.json'), JSON.stringify({ name, version, main: 'holdfast.node' }))
      if (typeof addon === 'string') fs.copyFileSync(addon, path.join(dir, 'holdfast.node'))
      else fs.writeFileSync(path.join(dir, 'holdfast.node'), addon)
    }
    return home
  }

  /** Loads it, after some other code, and gives the error. @param {string} home @param {{ before?: string, args?: string[], env?: Record<string, string> }} [how] */
  function loadError(home, { before = '', args = [], env = {} } = {}) {
    const { stdout, stderr } = spawnSync(process.execPath, [...args, '-e', `
      ${before}
      try {
        require(${JSON.stringify(home)})
      } catch (error) {
        const { code, message, cause } = error
        console.log(JSON.stringify({ code, message, causes: cause.errors.map(({ code }) => code), cause: cause.message }))
      }`], { encoding: 'utf8', cwd: root, timeout: 60_000, env: { ...process.env, ...env } })
    assert.notEqual(stdout, '', stderr || 'it loaded')
    const error = JSON.parse(stdout)
    const lines = error.message.split('\n')
    assert.equal(lines.length, 3, error.message)
    assert.ok(lines[0].startsWith(`holdfast ${version} cannot load its native addon on `), error.message)
    assert.match(lines[1], /^Reason: ./)
    assert.match(lines[2], /^Fix: ./)
    assert.doesNotMatch(error.message, /bug|wasi/i)
    return { ...error, found: lines[0], reason: lines[1], fix: lines[2] }
  }

  /** A process that believes to run on another platform. @param {string} name @param {string} arch */
  const pretend = (name, arch) => `Object.defineProperty(process, 'platform', { value: '${name}' }); Object.defineProperty(process, 'arch', { value: '${arch}' })`

  /** An executable of which only the name of its interpreter is there. @param {string} interpreter @param {{ bits: 32 | 64, isLittle: boolean }} form */
  function executable(interpreter, { bits, isLittle }) {
    const file = Buffer.alloc(4096)
    const is64 = bits === 64
    const put = (/** @type {number} */ value, /** @type {number} */ at, /** @type {number} */ length) => (isLittle ? file.writeUIntLE(value, at, length) : file.writeUIntBE(value, at + (length === 8 ? 2 : 0), Math.min(length, 6)))
    const long = (/** @type {number} */ value, /** @type {number} */ at) => put(value, at, is64 ? (isLittle ? 6 : 8) : 4)
    file.write('\x7fELF', 'latin1')
    file[4] = is64 ? 2 : 1
    file[5] = isLittle ? 1 : 2
    long(512, is64 ? 32 : 28)
    const size = is64 ? 56 : 32
    put(size, is64 ? 54 : 42, 2)
    put(2, is64 ? 56 : 44, 2)
    // The first entry is another one.
    put(6, 512, 4)
    put(3, 512 + size, 4)
    long(3000, 512 + size + (is64 ? 8 : 4))
    long(interpreter.length + 1, 512 + size + (is64 ? 32 : 16))
    file.write(`${interpreter}\0garbage`, 3000, 'latin1')
    return file
  }

  test('loads from the package for the platform, and from the file that HOLDFAST_ADDON names', (t) => {
    const from = install(t, { [`@holdfast/${platform}`]: path.join(root, 'lib', 'native', built) })
    const file = path.join(newDir(t), 'file')
    const write = (/** @type {string} */ home) => `require(${JSON.stringify(home)}).atomicWriteSync(${JSON.stringify(file)}, 'written')`
    assert.deepEqual(node(write(from)), { status: 0, stdout: '', stderr: '' })
    assert.equal(fs.readFileSync(file, 'utf8'), 'written')
    fs.unlinkSync(file)
    const { status, stderr } = spawnSync(process.execPath, ['-e', write(install(t, {}))], { encoding: 'utf8', env: { ...process.env, HOLDFAST_ADDON: path.join(root, 'lib', 'native', built) } })
    assert.equal(status, 0, stderr)
    assert.equal(fs.readFileSync(file, 'utf8'), 'written')
  })

  test('because its package is missing: says which, and how it comes', (t) => {
    const { code, found, reason, fix, causes } = loadError(install(t, {}))
    assert.equal(code, 'MODULE_NOT_FOUND')
    assert.ok(found.includes(`${platform} (node ${process.version}); @holdfast/${platform} is not installed`), found)
    assert.match(reason, /--omit=optional/)
    assert.ok(fix.includes(`npm install @holdfast/${platform}@${version}`), fix)
    assert.deepEqual(causes, ['MODULE_NOT_FOUND'])
  })

  test('because it was installed on another platform: says on which', (t) => {
    const { found, reason } = loadError(install(t, { '@holdfast/openbsd-x64': Buffer.from('library') }))
    assert.match(found, /installed: @holdfast\/openbsd-x64/)
    assert.match(reason, /made on another platform/)
  })

  test('because there is none for the platform: says for which there are', (t) => {
    const { code, found, fix } = loadError(install(t, {}), { before: pretend('sunos', 'x64') })
    assert.equal(code, 'MODULE_NOT_FOUND')
    assert.match(found, /on sunos-x64 .*there are addons for .*linux-x64-musl.*win32-x64/)
    assert.match(fix, /from its sources/)
  })

  test('because a checkout was not built: says how it is', (t) => {
    const home = install(t, {})
    fs.copyFileSync(path.join(root, 'Cargo.toml'), path.join(home, 'Cargo.toml'))
    const { found, fix } = loadError(home)
    assert.match(found, /a checkout without a build/)
    assert.equal(fix, 'Fix: npm run build.')
  })

  test('because the file is damaged: says what the system said', (t) => {
    const { code, found, reason, fix, causes, cause } = loadError(install(t, { [`@holdfast/${platform}`]: Buffer.from('no library') }))
    assert.equal(code, 'ERR_DLOPEN_FAILED')
    assert.ok(found.includes(`there is @holdfast/${platform}`), found)
    if (isLinux) assert.match(reason, /damaged, or for another system: .*(?:invalid ELF header|file too short)/)
    assert.ok(fix.includes(`install @holdfast/${platform} anew`), fix)
    assert.deepEqual(causes, ['ERR_DLOPEN_FAILED'])
    assert.ok(cause.startsWith(`@holdfast/${platform}: `), cause)
  })

  test('because HOLDFAST_ADDON names no file, or none that loads: says so, and tries no other', (t) => {
    const home = install(t, { [`@holdfast/${platform}`]: path.join(root, 'lib', 'native', built) })
    const missing = path.join(newDir(t), 'missing.node')
    const none = loadError(home, { env: { HOLDFAST_ADDON: missing } })
    assert.equal(none.code, 'MODULE_NOT_FOUND')
    assert.ok(none.found.includes(`HOLDFAST_ADDON names ${missing}`), none.found)
    fs.writeFileSync(missing, 'no library')
    const damaged = loadError(home, { env: { HOLDFAST_ADDON: missing } })
    assert.equal(damaged.code, 'ERR_DLOPEN_FAILED')
    assert.match(damaged.fix, /HOLDFAST_ADDON/)
  })

  for (const [what, source, shown] of /** @type {const} */ ([['another', "exports.version = () => '0.0.1'", '0.0.1'], ['an unknown', '', 'unknown']])) {
    test(`because it is of ${what} version: says of which`, (t) => {
      const home = install(t, { [`@holdfast/${platform}`]: Buffer.from('') })
      const dir = path.join(path.dirname(home), '@holdfast', platform)
      fs.writeFileSync(path.join(dir, 'package.json'), JSON.stringify({ main: 'addon.js' }))
      fs.writeFileSync(path.join(dir, 'addon.js'), source)
      const { code, reason, fix } = loadError(home)
      assert.equal(code, 'ERR_ADDON_VERSION')
      assert.equal(reason, `Reason: it is of version ${shown}, and has to be of version ${version}.`)
      assert.match(fix, /in the same version/)
    })
  }

  test('for a libc that the system has not: says that it is for another one', (t) => {
    const { reason } = loadError(install(t, { [`@holdfast/${platform}`]: Buffer.from('') }), {
      before: "process.dlopen = () => { throw Object.assign(new Error('libc.musl-x86_64.so.1: cannot open shared object file: No such file or directory'), { code: 'ERR_DLOPEN_FAILED' }) }",
    })
    assert.match(reason, /another C library/)
  })

  test('for a system that is too old: says which C library it takes', (t) => {
    const { reason, fix } = loadError(install(t, { [`@holdfast/${platform}`]: Buffer.from('') }), {
      before: "process.dlopen = () => { throw Object.assign(new Error(\"/lib/libc.so.6: version `GLIBC_2.28' not found (required by holdfast.node)\"), { code: 'ERR_DLOPEN_FAILED' }) }",
    })
    assert.match(reason, /older than it needs \(GLIBC_2\.28\)/)
    assert.match(fix, /glibc 2\.28/)
  })

  for (const [interpreter, form, platforms] of /** @type {const} */ ([
    ['/lib/ld-musl-x86_64.so.1', { bits: 64, isLittle: true }, 'linux-x64-musl'],
    ['/nix/store/x-glibc/lib/ld-linux-x86-64.so.2', { bits: 64, isLittle: true }, 'linux-x64-gnu'],
    ['/lib/ld64.so.1', { bits: 64, isLittle: false }, 'linux-x64-gnu'],
    ['/lib/ld-musl-armhf.so.1', { bits: 32, isLittle: true }, 'linux-x64-musl'],
    [undefined, undefined, 'linux-x64-gnu or linux-x64-musl'],
  ])) {
    test(`is asked for by the interpreter of the process: ${interpreter ?? 'none that can be read'}`, (t) => {
      const file = path.join(newDir(t), 'executable')
      if (interpreter !== undefined) fs.writeFileSync(file, executable(interpreter, form))
      const { found, causes } = loadError(install(t, {}), {
        before: `${pretend('linux', 'x64')}
          const fs = require('node:fs')
          const { openSync } = fs
          fs.openSync = (name, ...rest) => openSync(name === '/proc/self/exe' ? ${JSON.stringify(file)} : name, ...rest)
          process.report.getReport = () => { throw new Error('no report') }`,
      })
      assert.ok(found.includes(` on ${platforms} (`), found)
      assert.equal(causes.length, platforms.split(' or ').length)
    })
  }

  test('the version that is asked for is that of the package, and of the addon', () => {
    const source = fs.readFileSync(path.join(root, 'lib', 'native', 'load.js'), 'utf8')
    assert.equal(/^const VERSION = '(.*)'$/m.exec(source)?.[1], version)
    assert.equal(/^version = "(.*)"$/m.exec(fs.readFileSync(path.join(root, 'Cargo.toml'), 'utf8'))?.[1], version)
    assert.equal(require('../lib/native/load.js').version(), version)
  })
})
