'use strict'

// The package as users get it: packed, installed in an empty directory, and loaded in every way.

const assert = require('node:assert/strict')
const { spawnSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const { before, describe, test } = require('node:test')
const { modeOf, names, newDir, root } = require('./helpers.js')

const isWindows = process.platform === 'win32'

/** @param {string} command @param {string[]} args @param {string} cwd */
function run(command, args, cwd) {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    cwd, encoding: 'utf8', timeout: 120_000,
    // A cache of its own: it would be no offline test if npm knew the package.
    env: { ...process.env, npm_config_cache: path.join(base, 'cache'), npm_config_update_notifier: 'false', NODE_PATH: '' },
    shell: isWindows && command === 'npm',
  })
  assert.equal(status, 0, `${command} ${args.join(' ')} failed:\n${error ?? ''}${stdout}${stderr}`)
  return stdout
}

/** @param {string[]} args @param {string} cwd */
const node = (args, cwd) => run(process.execPath, args, cwd)

const base = newDir()
/** Where the package is installed. */
const home = path.join(base, 'home')
const installed = path.join(home, 'node_modules', 'holdfast')
const noNpm = spawnSync('npm', ['--version'], { shell: isWindows }).status !== 0 && 'npm is missing'

const contract = fs.readFileSync(path.join(root, 'index.d.ts'), 'utf8')

/** What the contract declares as values, each with its documentation. */
const declared = Array.from(
  contract.matchAll(/(?:\/\*\*((?:(?!\*\/)[^])*)\*\/\n)?^export (?:declare )?(?:abstract )?(?:function|class|const|let|var|enum|namespace) (\w+)/gm),
  ([, documentation = '', name = '']) => ({ documentation, name }),
  // The first of several overloads has the documentation.
).filter(({ name }, index, all) => all.findIndex((other) => other.name === name) === index)

describe('the packed package', { skip: noNpm }, () => {
  /** @type {{ path: string, mode: number }[]} */
  let packed = []

  before(() => {
    const [{ filename, files }] = JSON.parse(run('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', base], root))
    packed = files
    fs.mkdirSync(home)
    fs.writeFileSync(path.join(home, 'package.json'), '{ "name": "home", "private": true }')
    run('npm', ['install', '--offline', '--no-audit', '--no-fund', path.join(base, filename)], home)
    // What a TypeScript user has beside it.
    fs.mkdirSync(path.join(home, 'node_modules', '@types'))
    fs.symlinkSync(path.join(root, 'node_modules', '@types', 'node'), path.join(home, 'node_modules', '@types', 'node'), 'junction')
  })

  test('installs alone, without other packages', () => {
    assert.deepEqual(names(path.join(home, 'node_modules')).filter((name) => !name.startsWith('.')), ['@types', 'holdfast'])
    assert.equal(fs.lstatSync(installed).isSymbolicLink(), false)
  })

  test('has only files that are meant to be in it', () => {
    const files = packed.map(({ path: file }) => file)
    const inLib = files.filter((file) => file.startsWith('lib/')).map((file) => file.slice('lib/'.length))
    assert.ok(inLib.includes('native/binding.d.ts'), `${inLib}`)
    assert.equal(inLib.filter((file) => /^native\/holdfast\.[a-z0-9-]+\.node$/.test(file)).length, 1, `one addon in ${inLib}`)
    const sources = inLib.filter((file) => !/^native\/holdfast\.[a-z0-9-]+\.node$/.test(file) && file !== 'native/binding.d.ts')
    for (const file of sources) assert.match(file, /^(api|cli|lines|native|support|vectra|wal)\/[a-z-]+\.js$/)
    // Each module is needed: something that users call loads it.
    const loaded = JSON.parse(node(['-e', `
      const { AtomicOperations, LockManager, lockManager, SessionFileError, ...functions } = require('holdfast')
      for (const call of [...Object.values(functions), AtomicOperations.readFile, () => lockManager.acquireReadLock()]) {
        // All of them require arguments.
        try { Promise.resolve(call()).catch(() => {}) } catch {}
      }
      void (async () => {
        await functions.atomicWrite('pieces', ['piece'])
        await functions.withLock('strict', () => {}, { strictProtocol: true })
        const lines = await functions.openJsonLines('lines')
        await lines.append(1)
        for await (const line of lines.read()) void line
        for await (const value of functions.jsonFile('watched.json', { defaultValue: 1 }).watch()) if (value) break
        const writer = await functions.openWal('log', { onFlush() {} })
        await writer.append('one', [{ id: 'id', op: 'insert', payload: 'payload' }])
        for await (const entry of writer.replay('one')) void entry
        for await (const entry of writer.follow('one', { from: 1n })) if (entry) break
        await (await writer.consumer('name', 'one')).close()
        await writer.flush()
        await writer.close()
        await (await functions.openWal('log', { readOnly: true })).close()
        for (const entry of ['vectra', 'compat/write-file-atomic']) require('holdfast/' + entry)
        console.log(JSON.stringify(Object.keys(require.cache)))
      })()`], home)).map((/** @type {string} */ file) => path.relative(path.join(fs.realpathSync(installed), 'lib'), file).replaceAll(path.sep, '/'))
    // Loaded where the addon does not load (loading.test.js), and under a permission model (permission.test.js).
    const ofFailures = ['native/load-error.js', 'support/permission.js']
    // The overview asks each command what it is for.
    const ofCommands = JSON.parse(node(['-e', `
      const write = process.stdout.write
      process.stdout.write = () => true
      require(${JSON.stringify(path.join(installed, 'lib', 'cli', 'main.js'))}).main(['--help']).then(() => {
        process.stdout.write = write
        console.log(JSON.stringify(Object.keys(require.cache)))
      })`], home)).map((/** @type {string} */ file) => path.relative(path.join(fs.realpathSync(installed), 'lib'), file).replaceAll(path.sep, '/'))
    loaded.push(...ofCommands)
    for (const file of sources) assert.ok(loaded.includes(file) || ofFailures.includes(file), `nothing loads lib/${file}`)
    assert.deepEqual(files.filter((file) => !file.startsWith('lib/')).sort(), [
      'CHANGELOG.md', 'LICENSE', 'README.md', 'bin/holdfast.js',
      'compat/atomically.d.mts', 'compat/atomically.d.ts', 'compat/atomically.js', 'compat/atomically.mjs',
      'compat/proper-lockfile.d.mts', 'compat/proper-lockfile.d.ts', 'compat/proper-lockfile.js', 'compat/proper-lockfile.mjs',
      'compat/write-file-atomic.d.mts', 'compat/write-file-atomic.d.ts', 'compat/write-file-atomic.js', 'compat/write-file-atomic.mjs',
      'diagnostics.d.mts', 'diagnostics.d.ts', 'diagnostics.js', 'diagnostics.mjs', 'docs/architecture.md', 'docs/backups.md', 'docs/cli.md', 'docs/defaults.md', 'docs/diagnostics.md', 'docs/formats.md', 'docs/guarantees.md', 'docs/json-lines.md', 'docs/json.md', 'docs/locks.md', 'docs/logging.md', 'docs/migrate.md', 'docs/recovery.md', 'docs/transactions.md', 'docs/wal.md', 'docs/writing.md',
      'index.d.mts', 'index.d.ts', 'index.js', 'index.mjs', 'package.json',
      'vectra.d.mts', 'vectra.d.ts', 'vectra.js', 'vectra.mjs',
    ])
    for (const { path: file, mode } of packed) assert.equal(mode & 0o444, 0o444, `${file} is readable by all`)
  })

  test('has a command', () => {
    const { version } = JSON.parse(fs.readFileSync(path.join(root, 'package.json'), 'utf8'))
    assert.equal(run(path.join(home, 'node_modules', '.bin', isWindows ? 'holdfast.cmd' : 'holdfast'), ['--version'], home), `${version}\n`)
  })

  test('has documents whose links lead somewhere: to what is packed, or to what only the repository has', () => {
    const packedFiles = new Set(packed.map(({ path: file }) => file))
    /** The names under which a document's headings are found. @param {string} document */
    const anchors = (document) => Array.from(
      fs.readFileSync(path.join(root, document), 'utf8').matchAll(/^#+ (.*)$/gm),
      ([, title = '']) => title.toLowerCase().replace(/[^\p{L}\p{N} _-]/gu, '').replaceAll(' ', '-'),
    )
    let links = 0
    for (const document of [...packedFiles].filter((file) => file.endsWith('.md'))) {
      for (const [, link = ''] of fs.readFileSync(path.join(root, document), 'utf8').matchAll(/\]\(([^)\s]+)\)/g)) {
        if (/^https?:/.test(link)) continue
        links += 1
        const [file = '', anchor] = link.split('#')
        const target = file === '' ? document : path.posix.join(path.posix.dirname(document), file)
        const isPacked = packedFiles.has(target)
        if (target.endsWith('.md') || target.endsWith('.d.ts')) assert.ok(isPacked, `${document} leads to ${link}, which is not packed`)
        assert.ok(isPacked || fs.existsSync(path.join(root, target)), `${document} leads to ${link}, which is not there`)
        if (anchor !== undefined) assert.ok(anchors(target).includes(anchor), `${document} leads to ${link}, which has no such heading`)
      }
    }
    assert.ok(links >= 10, `only ${links} links were found`)
  })

  test('has a lock file that every npm leaves as it is, and that names each package with its version', () => {
    const { packages } = JSON.parse(fs.readFileSync(path.join(root, 'package-lock.json'), 'utf8'))
    for (const [name, entry] of Object.entries(/** @type {Record<string, { version?: string, libc?: string[] }>} */ (packages))) {
      assert.ok(name === '' || entry.version !== undefined, `npm ci stops at ${name}, which has no version`)
      // npm 10 takes the libc out, npm 11 puts it in.
      assert.equal(entry.libc, undefined, `${name} is for one libc`)
    }
  })

  test('runs nothing when it is installed, and needs no other package', () => {
    const manifest = JSON.parse(fs.readFileSync(path.join(installed, 'package.json'), 'utf8'))
    for (const script of ['preinstall', 'install', 'postinstall', 'preprepare', 'prepare', 'postprepare']) {
      assert.equal(manifest.scripts?.[script], undefined, script)
    }
    assert.equal(manifest.gypfile, undefined)
    assert.deepEqual(manifest.dependencies ?? {}, {})
    // Types, for those who want them.
    for (const name of Object.keys(manifest.peerDependencies ?? {})) assert.equal(manifest.peerDependenciesMeta[name].optional, true)
    assert.deepEqual(manifest.bundleDependencies ?? [], [])
  })

  test('names only entry points that are there, types first', () => {
    const { exports, main, types } = JSON.parse(fs.readFileSync(path.join(installed, 'package.json'), 'utf8'))
    const exists = (/** @type {string} */ file) => assert.ok(fs.existsSync(path.join(installed, file)), file)
    /** @param {string | Record<string, any>} entry */
    const visit = (entry) => {
      if (typeof entry === 'string') return exists(entry)
      if ('types' in entry) assert.equal(Object.keys(entry)[0], 'types')
      for (const inner of Object.values(entry)) visit(inner)
    }
    visit(exports)
    exists(main)
    exists(types)
  })

  /** The modules of a program's own that are loaded, and those of Node that were not before. @param {string} program */
  function loadedBy(program) {
    fs.writeFileSync(path.join(home, 'loads.mjs'), `
      import { createRequire } from 'node:module'
      const require = createRequire(import.meta.url)
      const before = new Set(process.moduleLoadList)
      ${program}
      console.log(JSON.stringify({
        own: Object.keys(require.cache),
        ofNode: process.moduleLoadList.filter((name) => !before.has(name) && name.startsWith('NativeModule ')).map((name) => name.slice('NativeModule '.length)),
      }))`)
    const { own, ofNode } = JSON.parse(node(['loads.mjs'], home))
    return { own: own.map((/** @type {string} */ file) => path.relative(fs.realpathSync(installed), file).replaceAll(path.sep, '/')).sort(), ofNode }
  }

  /** The modules that writing a file needs, and reporting why it could not be written. */
  const core = [
    'index.js', 'lib/api/atomic-write.js', 'lib/native/errors.js', 'lib/native/load.js', 'lib/native/port.js',
    'lib/support/abort.js', 'lib/support/arguments.js', 'lib/support/caller.js', 'lib/support/defaults.js', 'lib/support/diagnostics.js', 'lib/support/hints.js', 'lib/support/logger.js', 'lib/support/strict.js', 'lib/support/write-options.js',
  ]
  const withoutAddon = (/** @type {string[]} */ files) => files.filter((file) => !file.endsWith('.node'))

  test('loads with require no more than it takes to write a file', () => {
    const { own, ofNode } = loadedBy("require('holdfast')")
    assert.deepEqual(withoutAddon(own), core)
    assert.equal(own.length, core.length + 1, 'the addon is loaded: that it is missing shows at once')
    // Modules that load slowly, or that few calls need.
    for (const name of ['crypto', 'os', 'stream', 'timers/promises', 'worker_threads']) assert.ok(!ofNode.includes(name), `it loads ${name}`)
  })

  test('an import of everything loads nothing else either', () => {
    const names = declared.map(({ name }) => name)
    const { own } = loadedBy(`const { ${names.join(', ')} } = await import('holdfast')`)
    assert.deepEqual(withoutAddon(own), core)
  })

  test('writes when no more modules can be loaded', () => {
    // As in an exit handler of a process whose package is being replaced.
    const { own } = loadedBy(`
      const { atomicWrite, atomicWriteJson, atomicWriteSync, SessionFileError, setLogger } = require('holdfast')
      const { Module } = await import('node:module')
      for (const extension of Object.keys(Module._extensions)) Module._extensions[extension] = () => { throw new Error('it loads a module') }
      const told = []
      const logger = { debug: (_, message) => told.push(message), warn() {}, error: (_, message) => told.push(message) }
      setLogger(logger)
      const { signal } = new AbortController()
      atomicWriteSync('now', '1')
      await atomicWrite('then', '2', { signal, makeDirs: true, validate: 'json', durability: 'file' })
      await atomicWriteJson('json', { three: 3 })
      if (told.filter((message) => message === 'Atomic write completed successfully').length !== 3) throw new Error(told.join())
      for (const fail of [async () => atomicWriteSync('missing/file', ''), () => atomicWrite('missing/file', '')]) {
        const error = await fail().then(() => undefined, (error) => error)
        if (!(error instanceof SessionFileError) || error.code !== 'ENOENT' || !error.hint) throw error ?? new Error('no error')
      }`)
    assert.deepEqual(withoutAddon(own), core)
    assert.equal(['now', 'then', 'json'].map((name) => fs.readFileSync(path.join(home, name), 'utf8')).join(), '1,2,{"three":3}')
  })

  test('exports the same with import and require, and just what index.d.ts declares', () => {
    assert.ok(declared.length >= 5, 'the declarations were not understood')
    const expected = declared.map(({ name }) => name).sort()
    fs.writeFileSync(path.join(home, 'exports.mjs'), `
      import { createRequire } from 'node:module'
      import * as esm from 'holdfast'
      const cjs = createRequire(import.meta.url)('holdfast')
      console.log(JSON.stringify({
        esm: Object.keys(esm), cjs: Object.keys(cjs), same: Object.keys(cjs).filter((name) => esm[name] === cjs[name]),
        kinds: Object.entries(cjs).map(([name, value]) => [name, typeof value, value.name]),
      }))`)
    const { esm, cjs, same, kinds } = JSON.parse(node(['exports.mjs'], home))
    assert.deepEqual(esm.sort(), expected)
    assert.deepEqual(cjs.sort(), expected)
    assert.deepEqual(same.sort(), expected)
    for (const [name, kind, ownName] of kinds) {
      if (kind === 'function') assert.equal(ownName, name)
    }
  })

  test('each export has a check in scripts/release/smoke.cjs, which is run on every platform', () => {
    const smoke = fs.readFileSync(path.join(root, 'scripts', 'release', 'smoke.cjs'), 'utf8')
    const checked = new Set(Array.from(smoke.matchAll(/^check\('(\w+)/gm), ([, name = '']) => name))
    assert.deepEqual(declared.map(({ name }) => name).filter((name) => !checked.has(name)), [])
  })

  for (const [kind, file, load] of [
    ['ESM', 'loaded.mjs', "import { atomicWrite, atomicWriteSync, atomicWriteJson, SessionFileError } from 'holdfast'\nimport fs from 'node:fs'"],
    ['CJS', 'loaded.cjs', "const { atomicWrite, atomicWriteSync, atomicWriteJson, SessionFileError } = require('holdfast')\nconst fs = require('node:fs')"],
    ['import() from CJS', 'dynamic.cjs', "const fs = require('node:fs')\nlet atomicWrite, atomicWriteSync, atomicWriteJson, SessionFileError"],
  ]) {
    test(`works as ${kind}`, () => {
      const cwd = path.join(home, `run-${kind.replace(/\W/g, '')}`)
      fs.mkdirSync(cwd)
      fs.writeFileSync(path.join(cwd, `${file}`), `${load}
        async function main() {
          ${kind.startsWith('import()') ? "({ atomicWrite, atomicWriteSync, atomicWriteJson, SessionFileError } = await import('holdfast'))" : ''}
          await atomicWrite('a', 'async')
          atomicWriteSync('b', 'sync')
          await atomicWriteJson('c', { json: true })
          const error = await atomicWrite('missing/file', '').catch((error) => error)
          if (!(error instanceof SessionFileError)) throw error
          console.log(['a', 'b', 'c'].map((name) => fs.readFileSync(name, 'utf8')).join())
        }
        main()`)
      assert.equal(node([`${file}`], cwd).trim(), 'async,sync,{"json":true}')
      assert.deepEqual(names(cwd), ['a', 'b', 'c', `${file}`].sort())
    })
  }

  for (const { entry, exported, isFunction } of [
    { entry: 'holdfast/vectra', exported: ['AtomicFileStorage', 'AtomicOperations', 'LockManager', 'lockManager'], isFunction: false },
    { entry: 'holdfast/diagnostics', exported: ['channels'], isFunction: false },
    { entry: 'holdfast/compat/proper-lockfile', exported: ['check', 'checkSync', 'lock', 'lockSync', 'unlock', 'unlockSync'], isFunction: true },
    { entry: 'holdfast/compat/atomically', exported: ['readFile', 'readFileSync', 'writeFile', 'writeFileSync'], isFunction: false },
    { entry: 'holdfast/compat/write-file-atomic', exported: ['sync'], isFunction: true },
  ]) {
    test(`${entry} exports the same with import and require, and its example runs`, () => {
      const cwd = fs.mkdtempSync(path.join(home, 'entry-'))
      fs.writeFileSync(path.join(cwd, 'exports.mjs'), `
        import { createRequire } from 'node:module'
        import * as esm from '${entry}'
        const cjs = createRequire(import.meta.url)('${entry}')
        const { default: whole, ...named } = esm
        console.log(JSON.stringify({
          named: Object.keys(named), cjs: Object.keys(cjs), same: Object.keys(cjs).every((name) => named[name] === cjs[name]),
          isFunction: typeof cjs === 'function' && whole === cjs,
        }))`)
      const seen = JSON.parse(node(['exports.mjs'], cwd))
      assert.deepEqual(seen, { named: exported, cjs: seen.cjs, same: true, isFunction })
      assert.deepEqual(seen.cjs.sort(), exported)
      const file = path.join(installed, `${entry.replace('holdfast/', '')}.d.ts`)
      const [, example = ''] = /```js\n([^]*?)```/.exec(fs.readFileSync(file, 'utf8')) ?? []
      assert.ok(example.includes(entry))
      fs.writeFileSync(path.join(cwd, 'example.mjs'), example.replaceAll(/^ \* ?/gm, ''))
      node(['example.mjs'], cwd)
    })
  }

  test('hides what is inside, and shows package.json', () => {
    node(['-e', `
      const assert = require('node:assert')
      assert.equal(require('holdfast/package.json').name, 'holdfast')
      for (const inside of ['holdfast/lib/native/load.js', 'holdfast/lib/native/errors', 'holdfast/index.js']) {
        assert.throws(() => require(inside), { code: 'ERR_PACKAGE_PATH_NOT_EXPORTED' })
      }`], home)
  })

  describe('in TypeScript', () => {
    const tsc = path.join(root, 'node_modules', 'typescript', 'bin', 'tsc')
    const body = `
      const options: AtomicWriteOptions = { durability: 'none', mode: 0o600, signal: new AbortController().signal }
      const logger: Logger = { debug() {}, warn() {}, error() {} }
      async function main(): Promise<void> {
        setLogger(logger)
        const nothing: void = await atomicWrite('a', 'typed', options)
        atomicWriteSync(new URL('b', 'file://' + process.cwd() + '/'), new Uint8Array([116]))
        await atomicWriteJson('c', { typed: true }, { indent: 2 })
        try {
          await atomicWrite('missing/file', '')
        } catch (error) {
          if (!(error instanceof SessionFileError)) throw error
          const code: string | undefined = error.code
          console.log(code, nothing)
        }
        // @ts-expect-error the types are real ones and not any
        await atomicWrite('a', 'b', { durabilty: 'none' }).catch(() => {})
        // @ts-expect-error
        await atomicWrite('a', 1).catch(() => {})
      }
      main()
    `
    const named = "import { atomicWrite, atomicWriteSync, atomicWriteJson, setLogger, SessionFileError, type AtomicWriteOptions, type Logger } from 'holdfast'"
    const strict = { strict: true, exactOptionalPropertyTypes: true, noUncheckedIndexedAccess: true, noImplicitOverride: true, skipLibCheck: false, isolatedModules: true, target: 'es2022', outDir: 'out', rootDir: '.', types: ['node'] }

    for (const { title, file, head, options, out } of [
      { title: 'node16, as an ES module', file: 'main.mts', head: named, options: { module: 'node16', moduleResolution: 'node16', verbatimModuleSyntax: true }, out: 'main.mjs' },
      { title: 'node16, as CommonJS with import', file: 'main.cts', head: named, options: { module: 'node16', moduleResolution: 'node16' }, out: 'main.cjs' },
      {
        title: 'node16, as CommonJS with import = require', file: 'require.cts', options: { module: 'node16', moduleResolution: 'node16', verbatimModuleSyntax: true }, out: 'require.cjs',
        head: `
          import holdfast = require('holdfast')
          const { atomicWrite, atomicWriteSync, atomicWriteJson, setLogger, SessionFileError } = holdfast
          type AtomicWriteOptions = holdfast.AtomicWriteOptions
          type Logger = holdfast.Logger`,
      },
      { title: 'nodenext, as an ES module', file: 'main.mts', head: named, options: { module: 'nodenext', moduleResolution: 'nodenext' }, out: 'main.mjs' },
      { title: 'bundler', file: 'main.ts', head: named, options: { module: 'esnext', moduleResolution: 'bundler' } },
      { title: 'bundler, with the names of the module preserved', file: 'main.ts', head: named, options: { module: 'preserve', moduleResolution: 'bundler', verbatimModuleSyntax: true } },
      { title: 'bundler, as a namespace', file: 'main.ts', head: `import * as holdfast from 'holdfast'\n${named}\nholdfast.setLogger(null)`, options: { module: 'esnext', moduleResolution: 'bundler' } },
    ]) {
      test(`compiles${out ? ' and runs' : ''}: ${title}`, () => {
        const cwd = fs.mkdtempSync(path.join(home, 'ts-'))
        fs.writeFileSync(path.join(cwd, 'tsconfig.json'), JSON.stringify({ compilerOptions: { ...strict, ...options }, files: [file] }))
        fs.writeFileSync(path.join(cwd, file), `${head}\n${body}`)
        node([tsc, '-p', '.'], cwd)
        if (!out) return
        assert.equal(node([path.join('out', out)], cwd).trim(), 'ENOENT undefined')
        assert.deepEqual(names(cwd).filter((name) => name.length === 1), ['a', 'b', 'c'])
      })
    }

    for (const { title, file, head } of [
      { title: 'as an ES module', file: 'main.mts', head: "import lockfile, { check, lockSync, type LockOptions } from 'holdfast/compat/proper-lockfile'\nimport { AtomicFileStorage, LockManager, lockManager, type ManagedLock } from 'holdfast/vectra'" },
      { title: 'as CommonJS', file: 'main.cts', head: "import lockfile = require('holdfast/compat/proper-lockfile')\nimport vectra = require('holdfast/vectra')\nconst { check, lockSync } = lockfile\nconst { AtomicFileStorage, LockManager, lockManager } = vectra\ntype LockOptions = lockfile.LockOptions\ntype ManagedLock = vectra.ManagedLock" },
    ]) {
      test(`the other entry points compile: ${title}`, () => {
        const cwd = fs.mkdtempSync(path.join(home, 'ts-'))
        const compilerOptions = { ...strict, module: 'node16', moduleResolution: 'node16', noEmit: true }
        fs.writeFileSync(path.join(cwd, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: [file] }))
        fs.writeFileSync(path.join(cwd, file), `${head}
          const options: LockOptions = { stale: 5000, update: null, retries: { retries: 3, minTimeout: 10 }, onCompromised(error: Error) {} }
          export async function main(): Promise<void> {
            const release: () => Promise<void> = await lockfile('file', options)
            await release()
            const again: () => Promise<void> = await lockfile.lock('file')
            await lockfile.unlock('file')
            const held: boolean = await check('file') || lockfile.checkSync('file')
            const now: () => void = lockSync('file')
            // @ts-expect-error there are no retries without waiting
            lockSync('file', { retries: 1 })
            const manager: InstanceType<typeof LockManager> = lockManager
            const lock: ManagedLock = await manager.acquireReadLock('dir', { retries: 1, protocol: 'proper-lockfile' })
            const none: ManagedLock | null = await manager.tryAcquireWriteLock('dir')
            // @ts-expect-error
            await manager.acquireWriteLock('dir', { retry: 1 })
            const content: Buffer = await new AtomicFileStorage('dir', { durability: 'file' }).readFile('file')
            console.log(again, held, now, lock, none, content)
          }
        `)
        node([tsc, '-p', '.'], cwd)
      })
    }

    test('has no default export', () => {
      const cwd = fs.mkdtempSync(path.join(home, 'ts-'))
      const compilerOptions = { ...strict, module: 'node16', moduleResolution: 'node16', noEmit: true }
      fs.writeFileSync(path.join(cwd, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: ['main.mts'] }))
      fs.writeFileSync(path.join(cwd, 'main.mts'), "// @ts-expect-error there is none at run time either\nimport holdfast from 'holdfast'\nholdfast\n")
      node([tsc, '-p', '.'], cwd)
    })
  })

  describe('the examples of index.d.ts', () => {
    /** What is in the directory after an example, where that is known. @type {Record<string, (cwd: string) => void>} */
    const effects = {
      atomicWrite(cwd) {
        assert.equal(fs.readFileSync(path.join(cwd, 'session.json'), 'utf8'), '{"turn":1}')
        assert.deepEqual(fs.readFileSync(path.join(cwd, 'cache.bin')), Buffer.alloc(64))
        if (!isWindows) assert.equal(modeOf(path.join(cwd, 'cache.bin')), 0o600)
      },
      atomicWriteSync: (cwd) => assert.equal(fs.readFileSync(path.join(cwd, 'last-exit.json'), 'utf8'), '{"code":0}'),
      atomicWriteJson: (cwd) => assert.equal(fs.readFileSync(path.join(cwd, 'settings.json'), 'utf8'), '{\n  "theme": "dark"\n}'),
    }

    for (const { name, documentation } of declared) {
      const examples = Array.from(documentation.matchAll(/```js\n([^]*?)```/g), ([, code = '']) => code.replaceAll(/^ \* ?/gm, ''))

      test(`${name} has one, and it runs`, () => {
        assert.notEqual(examples.length, 0, `${name} has no example`)
        for (const code of examples) {
          assert.ok(code.includes(name), `it does not show ${name}:\n${code}`)
          const cwd = fs.mkdtempSync(path.join(home, 'example-'))
          fs.writeFileSync(path.join(cwd, 'example.mjs'), code)
          node(['example.mjs'], cwd)
          assert.deepEqual(names(cwd).filter((file) => file.endsWith('.tmp')), [])
          effects[name]?.(cwd)
        }
      })
    }
  })

  test('the examples of the pages in docs run, each page from its top', () => {
    const pages = packed.map(({ path: file }) => file).filter((file) => /^docs\/.*\.md$/.test(file))
    const withExamples = pages.filter((page) => {
      const examples = Array.from(fs.readFileSync(path.join(root, page), 'utf8').matchAll(/```js\n([^]*?)```/g), ([, code = '']) => code)
      const cwd = fs.mkdtempSync(path.join(home, 'page-'))
      for (const [index, code] of examples.entries()) {
        fs.writeFileSync(path.join(cwd, `${index}.mjs`), code)
        node([`${index}.mjs`], cwd)
      }
      return examples.length > 0
    })
    assert.ok(withExamples.includes('docs/json.md'), withExamples.join())
  })
})
