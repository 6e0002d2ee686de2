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
        assert.doesNotMatch(message, /npm/)
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

describe('a package whose addon does not load', () => {
  /** @param {import('node:test').TestContext} t @param {(dir: string) => void} change */
  function loadError(t, change) {
    const dir = newDir(t)
    fs.cpSync(path.join(root, 'lib'), path.join(dir, 'lib'), { recursive: true })
    fs.copyFileSync(path.join(root, 'index.js'), path.join(dir, 'index.js'))
    change(path.join(dir, 'lib', 'native'))
    const { stdout, stderr } = node(`
      try {
        require(${JSON.stringify(dir)})
      } catch (error) {
        console.log(JSON.stringify({ code: error.code, message: error.message }))
      }`)
    assert.notEqual(stdout, '', stderr)
    return JSON.parse(stdout)
  }

  /** @param {string} dir */
  const addons = (dir) => fs.readdirSync(dir).filter((name) => name.endsWith('.node')).map((name) => path.join(dir, name))

  test('because it is missing says for which platform, and where it comes from', (t) => {
    const { code, message } = loadError(t, (dir) => addons(dir).forEach((file) => fs.unlinkSync(file)))
    assert.equal(code, 'MODULE_NOT_FOUND')
    assert.ok(message.includes(`${process.platform} on ${process.arch}`), message)
    assert.match(message, /optional dependenc/)
  })

  test('because the system refuses it says what the system said', (t) => {
    const { code, message } = loadError(t, (dir) => addons(dir).forEach((file) => fs.writeFileSync(file, 'no library')))
    assert.equal(code, 'ERR_DLOPEN_FAILED')
    assert.match(message, /native addon does not load here: .*\.node/)
  })
})
