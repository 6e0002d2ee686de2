'use strict'

// `holdfast write`, `backup`, `restore` and `backups`.

const assert = require('node:assert/strict')
const { spawnSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const { describe, test } = require('node:test')
const { answer, ended, run, start } = require('./cli.js')
const { fullDisk, holdfast, modeOf, newDir, root, temps, whyNot } = require('./helpers.js')

const bin = `${process.execPath} ${path.join(root, 'bin/holdfast.js')}`

/** A folder with a file. @param {import('node:test').TestContext} t @param {string} [content] */
function withFile(t, content = 'old') {
  const cwd = newDir(t)
  const file = path.join(cwd, 'f')
  fs.writeFileSync(file, content)
  return { cwd, file, content: () => fs.readFileSync(file, 'utf8') }
}

describe('write', () => {
  test('replaces a file that the pipeline itself reads, however large', (t) => {
    const { cwd, content } = withFile(t, Array.from({ length: 200_000 }, (_, i) => `${(i * 7919) % 200_000}\n`).join(''))
    const { status, stderr } = spawnSync('sh', ['-c', `sort -n f | ${bin} write f`], { cwd, encoding: 'utf8' })
    assert.equal(status, 0, stderr)
    assert.equal(content(), Array.from({ length: 200_000 }, (_, i) => `${i}\n`).join(''))
  })

  test('says nothing, keeps the mode, and leaves nothing else', async (t) => {
    const { cwd, file, content } = withFile(t)
    fs.chmodSync(file, 0o640)
    assert.deepEqual(await run(['write', 'f'], { cwd, input: 'new' }), { code: 0, signal: null, stdout: '', stderr: '' })
    assert.deepEqual([content(), modeOf(file), fs.readdirSync(cwd)], ['new', 0o640, ['f']])
  })

  test('with --mode sets the mode', async (t) => {
    const { cwd, file } = withFile(t)
    await run(['write', '--mode', '0600', 'f'], { cwd, input: 'new' })
    assert.equal(modeOf(file), 0o600)
  })

  test('with --json refuses what is not JSON, and says where', async (t) => {
    const { cwd, content } = withFile(t)
    const { code, stderr } = await run(['write', '--json', 'f'], { cwd, input: '{"a":1,\n}' })
    assert.equal(code, 1)
    assert.match(stderr, /EBADJSON.*line 2/)
    assert.match((await run(['write', '--json', 'f'], { cwd })).stderr, /EEMPTYJSON/)
    assert.deepEqual([content(), fs.readdirSync(cwd)], ['old', ['f']])
    assert.equal((await run(['write', '--json', 'f'], { cwd, input: '{}' })).code, 0)
    assert.equal(content(), '{}')
  })

  test('with --backup keeps what was there, and makes no backup of a write that fails', async (t) => {
    const { cwd, file } = withFile(t)
    assert.equal((await run(['write', '--backup', '--json', 'f'], { cwd, input: '{' })).code, 1)
    assert.deepEqual(fs.readdirSync(cwd), ['f'])
    assert.equal((await run(['write', '--backup', '--lock', 'f'], { cwd, input: 'new' })).code, 0)
    const [backup, ...others] = await holdfast.listBackups(file)
    assert.equal(others.length, 0)
    assert.equal(fs.readFileSync(backup?.path ?? '', 'utf8'), 'old')
    assert.equal((await run(['write', '--backup', 'g'], { cwd, input: 'new' })).code, 0, 'a file that is not there needs none')
    assert.deepEqual(await holdfast.listBackups(path.join(cwd, 'g')), [])
  })

  test('with --create-only never replaces a file', async (t) => {
    const { cwd, content } = withFile(t)
    const { code, stderr } = await run(['write', '--create-only', 'f'], { cwd, input: 'new' })
    assert.equal(code, 1)
    assert.match(stderr, /EEXIST/)
    assert.equal(content(), 'old')
    assert.equal((await run(['write', '--create-only', 'g'], { cwd, input: 'new' })).code, 0)
  })

  test('with --lock waits for who has it', async (t) => {
    const { cwd, file, content } = withFile(t)
    const lock = await holdfast.acquireLock(file)
    const done = run(['write', '--lock', 'f'], { cwd, input: 'new' })
    await new Promise((resolve) => setTimeout(resolve, 500))
    assert.equal(content(), 'old')
    await lock.release()
    assert.equal((await done).code, 0)
    assert.equal(content(), 'new')
  })

  for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP'])) {
    test(`${signal} leaves the file as it was, and nothing beside it`, async (t) => {
      const { cwd, content } = withFile(t)
      const child = start(['write', '--backup', 'f'], { cwd })
      const end = ended(child)
      child.stdin.write('half')
      while (temps(cwd).length === 0) await new Promise((resolve) => setTimeout(resolve, 5))
      child.kill(signal)
      assert.equal((await end).signal, signal)
      assert.deepEqual([content(), fs.readdirSync(cwd)], ['old', ['f']])
    })
  }

  test('SIGKILL leaves the file as it was, and a temp file that recovery removes', async (t) => {
    const { cwd, content } = withFile(t)
    const child = start(['write', 'f'], { cwd })
    const end = ended(child)
    child.stdin.write('half')
    while (temps(cwd).length === 0) await new Promise((resolve) => setTimeout(resolve, 5))
    child.kill('SIGKILL')
    await end
    assert.equal(content(), 'old')
    await holdfast.recoverFromCrash(cwd)
    assert.deepEqual(fs.readdirSync(cwd), ['f'])
  })

  test('on a full disk ends with 1, and the file is as it was', { skip: whyNot.mount() }, async (t) => {
    const { dir, filler } = fullDisk(t)
    fs.truncateSync(filler, 200 << 10)
    fs.writeFileSync(path.join(dir, 'f'), 'old')
    const { code, stderr } = await run(['write', 'f'], { cwd: dir, input: 'x'.repeat(200 << 10) })
    assert.equal(code, 1)
    assert.match(stderr, /ENOSPC/)
    assert.equal(fs.readFileSync(path.join(dir, 'f'), 'utf8'), 'old')
    assert.deepEqual(fs.readdirSync(dir).sort(), ['f', 'filler'])
  })

  test('readers beside it see the old file or the new one, whole', async (t) => {
    const { cwd, content } = withFile(t, 'a'.repeat(100_000))
    let writing = true
    const writer = (async () => {
      for (const letter of 'bcdef') await run(['write', 'f', '--durability', 'none'], { cwd, input: letter.repeat(100_000) })
      writing = false
    })()
    const seen = new Set()
    while (writing) {
      const text = content()
      assert.equal(text, (text[0] ?? '').repeat(100_000))
      seen.add(text[0])
      await new Promise((resolve) => setImmediate(resolve))
    }
    await writer
    assert.equal(content()[0], 'f')
    assert.ok(seen.size > 1)
  })

  test('another user is told what he may not do', { skip: whyNot.people() }, async (t) => {
    const { cwd, content } = withFile(t)
    fs.chmodSync(cwd, 0o755)
    const { code, stderr } = await run(['write', 'f'], { cwd, input: 'new', person: { uid: 65534 } })
    assert.equal(code, 1)
    assert.match(stderr, /EACCES/)
    assert.equal(content(), 'old')
  })
})

describe('backup, backups and restore', () => {
  test('go there and back', async (t) => {
    const { cwd, file, content } = withFile(t)
    const { backup, ...rest } = await answer(['backup', '--json', 'f'], { cwd })
    assert.deepEqual(rest, { version: 1, command: 'backup', path: 'f' })
    fs.writeFileSync(file, 'newer')
    const { backups, ...head } = await answer(['backups', 'f', '--json'], { cwd })
    assert.deepEqual(head, { version: 1, command: 'backups', path: 'f' })
    assert.equal(backups.length, 1)
    assert.deepEqual(Object.keys(backups[0]).sort(), ['createdAt', 'path', 'size'])
    assert.match((await run(['backups', 'f'], { cwd })).stdout, new RegExp(`^BACKUP .*\n${path.basename(backup)} .* 3 B\n$`))
    const restored = await answer(['restore', '--backup', 'f', '--json'], { cwd })
    assert.equal(content(), 'old')
    assert.equal(path.basename(restored.backup), path.basename(backup))
    assert.equal(fs.readFileSync(path.resolve(cwd, restored.replaced), 'utf8'), 'newer')
    await run(['restore', 'f', restored.replaced], { cwd })
    assert.equal(content(), 'newer')
  })

  test('with --keep older ones go', async (t) => {
    const { cwd, file } = withFile(t)
    for (let i = 0; i < 4; i += 1) assert.equal((await run(['backup', '--keep', '2', 'f'], { cwd })).code, 0)
    assert.equal((await holdfast.listBackups(file)).length, 2)
  })

  test('with --validate json nothing corrupt is backed up or restored', async (t) => {
    const { cwd, file, content } = withFile(t, '{')
    assert.match((await run(['backup', '--validate', 'json', 'f'], { cwd })).stderr, /EBADJSON/)
    await run(['backup', 'f'], { cwd })
    fs.writeFileSync(file, '{}')
    const { code, stderr } = await run(['restore', '--validate', 'json', 'f'], { cwd })
    assert.equal(code, 1)
    assert.match(stderr, /EBADJSON/)
    assert.equal(content(), '{}')
  })

  test('what is not there is told', async (t) => {
    const { cwd, content } = withFile(t)
    assert.equal((await run(['backups', 'f'], { cwd })).stdout, 'none\n')
    const { code, stderr } = await run(['restore', 'f'], { cwd })
    assert.equal(code, 1)
    assert.match(stderr, /there is no backup of f/)
    assert.equal((await run(['backup', 'none'], { cwd })).code, 1)
    assert.equal((await run(['backups', 'none/f'], { cwd })).code, 3)
    assert.equal(content(), 'old')
  })

  test('restore waits for the lock as long as --timeout says', async (t) => {
    const { cwd, file, content } = withFile(t)
    await holdfast.createBackup(file)
    fs.writeFileSync(file, 'newer')
    const lock = await holdfast.acquireLock(file)
    const { code, stderr } = await run(['restore', '--timeout', '0s', 'f'], { cwd })
    await lock.release()
    assert.equal(code, 1)
    assert.match(stderr, /ELOCKED/)
    assert.equal(content(), 'newer')
  })
})
