'use strict'

// Access control lists and extended attributes: what a file has of them it keeps, whatever replaces its
// content, and nobody gets access by a write who had none before.

const assert = require('node:assert/strict')
const { spawnSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const { finished } = require('node:stream/promises')
const { describe, test } = require('node:test')
const { holdfast, modeOf, names, newDir, temps, whyNot } = require('./helpers.js')
const { cleanUp, ext4, tmpfs } = require('./system.js')

/** Users: one that the list names, and one that is only in the file's group. */
const NAMED = 12345
const GROUP = 23456
const MEMBER = { uid: 12346, gid: GROUP }

/** @param {string} command @param {string[]} args */
function run(command, args) {
  const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: 'utf8' })
  assert.equal(status, 0, `${command} ${args.join(' ')}: ${error ?? stderr}`)
  return stdout
}

/** @param {string} command */
const isMissing = (command) => spawnSync(command, ['--version']).status !== 0 && `needs ${command}`
const noLists = () => whyNot.root() || isMissing('setfacl') || isMissing('getfacl')
const noAttributes = () => whyNot.root() || isMissing('setfattr') || isMissing('getfattr')

/** @param {string} file */
const listOf = (file) => run('getfacl', ['-n', '-c', '-p', '--absolute-names', file]).trim().split('\n')

/** Whether a user may read a file. @param {{ uid: number, gid: number }} user @param {string} file */
const mayRead = (user, file) => spawnSync('cat', [file], { ...user, stdio: 'ignore' }).status === 0

/** A file that its owner and one other user may read, and its group may not. @param {string} file */
function makeSecret(file, text = '{"token":"secret"}') {
  fs.writeFileSync(file, text)
  fs.chownSync(file, 0, GROUP)
  fs.chmodSync(file, 0o600)
  run('setfacl', ['-m', `u:${NAMED}:rw,g::-,m::rw`, file])
  return file
}

/** @param {string} file @param {import('node:stream').Writable} stream */
async function streamed(stream) {
  stream.end('{}')
  await finished(stream)
}

/** Every function that replaces the content of a file. @type {Record<string, (file: string) => unknown>} */
const ways = {
  "atomicWrite with durability 'none'": (file) => holdfast.atomicWrite(file, '{}', { durability: 'none' }),
  "atomicWrite with durability 'file'": (file) => holdfast.atomicWrite(file, '{}', { durability: 'file' }),
  'atomicWrite': (file) => holdfast.atomicWrite(file, '{}'),
  'many calls of atomicWrite at once': (file) => Promise.all(Array.from({ length: 40 }, (_, i) => holdfast.atomicWrite(i === 0 ? file : `${file}-${i}`, '{}'))),
  'atomicWriteSync': (file) => holdfast.atomicWriteSync(file, '{}'),
  'atomicWriteJson': (file) => holdfast.atomicWriteJson(file, {}, { lock: true }),
  'updateJsonFile': (file) => holdfast.updateJsonFile(file, () => ({})),
  'createAtomicWriteStream': (file) => streamed(holdfast.createAtomicWriteStream(file)),
  'transaction': (file) => holdfast.transaction([file, `${file}-2`], async (tx) => {
    await tx.write(file, '{}')
    await tx.write(`${file}-2`, '{}')
  }),
  'restoreBackup': async (file) => {
    fs.writeFileSync(`${file}.backup`, '{}')
    await holdfast.restoreBackup(`${file}.backup`, file)
  },
}

/** @type {Record<string, (t: import('node:test').TestContext) => string>} */
const disks = { 'on the disk of the temporary directory': (t) => newDir(t), 'in memory': (t) => tmpfs(t, 'size=4m') }
if (!whyNot.ext4()) disks['on ext4'] = (t) => ext4(t, 16 << 20, { journal: true })

describe('the list of a file stays, and its group gets nothing', { skip: noLists() }, () => {
  for (const [where, disk] of Object.entries(disks)) {
    for (const [name, way] of Object.entries(ways)) {
      test(`${name}, ${where}`, async (t) => {
        const dir = disk(t)
        fs.chmodSync(dir, 0o755)
        const file = makeSecret(path.join(dir, 'secret.json'))
        const before = listOf(file)
        await way(file)
        assert.equal(fs.readFileSync(file, 'utf8'), '{}')
        assert.deepEqual(listOf(file), before)
        assert.equal(mayRead({ uid: NAMED, gid: NAMED }, file), true)
        assert.equal(mayRead(MEMBER, file), false)
      })
    }
  }

  test('a backup has it, and so has the file that is restored from it', async (t) => {
    const file = makeSecret(path.join(newDir(t), 'secret.json'))
    const before = listOf(file)
    const backup = await holdfast.createBackup(file)
    assert.deepEqual(listOf(backup), before)
    assert.equal(mayRead(MEMBER, backup), false)
    fs.unlinkSync(file)
    await holdfast.restoreBackup(backup, file)
    assert.deepEqual(listOf(file), before)
  })

  test('recoverFromCrash gives it to what takes the place of a corrupt file', async (t) => {
    const file = makeSecret(path.join(newDir(t), 'secret.json'), '{"tok')
    const before = listOf(file)
    const temp = path.join(path.dirname(file), '.secret.json.0123456789abcdef.tmp')
    fs.writeFileSync(temp, '{"token":"new"}')
    const { actions } = await holdfast.recoverFromCrash(file, { minAge: 0 })
    assert.deepEqual(actions.map(({ action }) => action).sort(), ['restored', 'setAside'])
    assert.equal(fs.readFileSync(file, 'utf8'), '{"token":"new"}')
    assert.deepEqual(listOf(file), before)
    assert.equal(mayRead(MEMBER, file), false)
  })

  test('a mode that is asked for is its mask, as with chmod', async (t) => {
    const file = makeSecret(path.join(newDir(t), 'secret.json'))
    await holdfast.atomicWrite(file, '{}', { mode: 0o640 })
    const written = listOf(file)
    fs.chmodSync(makeSecret(file), 0o640)
    assert.deepEqual(written, listOf(file))
    await holdfast.atomicWrite(file, '{}', { mode: 0o600 })
    assert.equal(mayRead({ uid: NAMED, gid: NAMED }, file), false)
  })

  test('one that is set while a stream is open is there when it has replaced the file', async (t) => {
    const file = path.join(newDir(t), 'secret.json')
    fs.writeFileSync(file, 'old')
    fs.chmodSync(file, 0o664)
    const stream = holdfast.createAtomicWriteStream(file)
    await new Promise((resolve) => stream.write('new', resolve))
    fs.chownSync(file, 0, GROUP)
    run('setfacl', ['-m', `u:${NAMED}:rw,g::-,m::rw`, file])
    const before = listOf(file)
    stream.end()
    await finished(stream)
    assert.deepEqual(listOf(file), before)
  })
})

describe('the list that a directory gives to new files', { skip: noLists() }, () => {
  /** @param {import('node:test').TestContext} t */
  function openDir(t) {
    const dir = newDir(t)
    run('setfacl', ['-d', '-m', `u:${NAMED}:rwx,g::r,m::rwx,o::-`, dir])
    return dir
  }

  for (const [name, way] of Object.entries(ways)) {
    test(`is not given to a file that has none: ${name}`, async (t) => {
      const dir = newDir(t)
      const file = path.join(dir, 'plain.json')
      fs.writeFileSync(file, '{"old":1}')
      fs.chownSync(file, 0, GROUP)
      fs.chmodSync(file, 0o640)
      run('setfacl', ['-d', '-m', `u:${NAMED}:rwx,g::rwx,m::rwx,o::rwx`, dir])
      await way(file)
      assert.equal(fs.readFileSync(file, 'utf8'), '{}')
      assert.deepEqual(listOf(file), ['user::rw-', 'group::r--', 'other::---'])
      assert.equal(mayRead({ uid: NAMED, gid: NAMED }, file), false)
    })
  }

  test('is that of a new file, as for any other program', async (t) => {
    const dir = openDir(t)
    fs.writeFileSync(path.join(dir, 'theirs'), 'new', { mode: 0o644 })
    const expected = listOf(path.join(dir, 'theirs'))
    assert.ok(expected.some((line) => line.startsWith(`user:${NAMED}:`)))
    await holdfast.atomicWrite(path.join(dir, 'ours'), 'new')
    await streamed(holdfast.createAtomicWriteStream(path.join(dir, 'stream')))
    await holdfast.updateJsonFile(path.join(dir, 'update'), () => {}, { defaultValue: {} })
    await holdfast.transaction([path.join(dir, 'tx')], (tx) => tx.write(path.join(dir, 'tx'), '{}'))
    for (const name of ['ours', 'stream', 'update', 'tx']) assert.deepEqual(listOf(path.join(dir, name)), expected, name)
  })
})

describe('extended attributes', { skip: noAttributes() }, () => {
  /** @param {string} file */
  const attributesOf = (file) => run('getfattr', ['-d', '-m', '-', '--absolute-names', file]).split('\n').filter((line) => line.includes('=')).sort()

  for (const [name, way] of Object.entries(ways)) {
    test(`of users stay: ${name}`, async (t) => {
      const file = path.join(newDir(t), 'file.json')
      fs.writeFileSync(file, '{"old":1}')
      run('setfattr', ['-n', 'user.origin', '-v', 'https://example.org/', file])
      run('setfattr', ['-n', 'user.long', '-v', 'x'.repeat(700), file])
      const before = attributesOf(file)
      assert.equal(before.length, 2)
      await way(file)
      assert.deepEqual(attributesOf(file), before)
    })
  }

  test('of users stay in a backup, and with a file that only its owner may read', async (t) => {
    const file = path.join(newDir(t), 'file')
    fs.writeFileSync(file, 'old')
    run('setfattr', ['-n', 'user.note', '-v', 'kept', file])
    fs.chmodSync(file, 0o444)
    assert.deepEqual(attributesOf(await holdfast.createBackup(file)), attributesOf(file))
    await holdfast.atomicWrite(file, 'new')
    assert.deepEqual(attributesOf(file), ['user.note="kept"'])
    assert.equal(modeOf(file), 0o444)
  })

  test('that the system takes away with the content are taken away: capabilities', { skip: isMissing('setcap') && 'needs setcap' }, async (t) => {
    const file = path.join(newDir(t), 'program')
    fs.writeFileSync(file, 'old', { mode: 0o755 })
    if (spawnSync('setcap', ['cap_net_raw+ep', file]).status !== 0) return t.skip('the file system keeps no capabilities')
    await holdfast.atomicWrite(file, 'new')
    assert.deepEqual(attributesOf(file), [])
  })
})

describe('what is changed while a file is written', { skip: whyNot.unix() }, () => {
  test('a chmod during a stream is not undone', async (t) => {
    const dir = newDir(t)
    const file = path.join(dir, 'file')
    fs.writeFileSync(file, 'old')
    fs.chmodSync(file, 0o666)
    const stream = holdfast.createAtomicWriteStream(file)
    await new Promise((resolve) => stream.write('new', resolve))
    fs.chmodSync(file, 0o600)
    stream.end()
    await finished(stream)
    assert.equal(modeOf(file), 0o600)
    assert.deepEqual(names(dir), ['file'])
  })

  test('a chmod during the function of an update or a transaction is not undone', async (t) => {
    const file = path.join(newDir(t), 'file.json')
    for (const write of [
      () => holdfast.updateJsonFile(file, (data) => (fs.chmodSync(file, 0o600), { ...data, n: 1 })),
      () => holdfast.transaction([file], async (tx) => {
        await tx.write(file, '{}')
        fs.chmodSync(file, 0o600)
      }),
    ]) {
      fs.writeFileSync(file, '{}')
      fs.chmodSync(file, 0o666)
      await write()
      assert.equal(modeOf(file), 0o600)
    }
  })

  test('a chmod during a long write is not undone', async (t) => {
    const file = path.join(newDir(t), 'file')
    const data = Buffer.alloc(32 << 20, 'x')
    for (let round = 0; round < 3; round++) {
      fs.writeFileSync(file, 'old')
      fs.chmodSync(file, 0o666)
      let over = false
      const done = holdfast.atomicWrite(file, data).finally(() => (over = true))
      while (!over && temps(path.dirname(file)).length === 0) await new Promise(setImmediate)
      fs.chmodSync(file, 0o600)
      await done
      assert.equal(modeOf(file), 0o600)
    }
  })
})

describe('a mode that the mount does not keep', { skip: whyNot.mount() || isMissing('bindfs') || (!fs.existsSync('/dev/fuse') && 'needs /dev/fuse') }, () => {
  test('is an error where less was asked for than the file will have, and no error otherwise', async (t) => {
    const [source, at] = [newDir(t), newDir(t)]
    // Every file has mode 0755 there, as on FAT, whatever is asked for.
    run('bindfs', ['-p', '0755', '--chmod-ignore', source, at])
    cleanUp(t, () => spawnSync('umount', ['-l', at]))
    const file = path.join(at, 'file')
    for (const [name, write] of Object.entries({
      atomicWrite: () => holdfast.atomicWrite(file, 'new', { mode: 0o600 }),
      stream: () => streamed(holdfast.createAtomicWriteStream(file, { mode: 0o600 })),
      transaction: () => holdfast.transaction([file], (tx) => tx.write(file, 'new'), { mode: 0o600 }),
    })) {
      await assert.rejects(async () => write(), { code: 'ENOTSUP', hint: /permission bits/ }, name)
      assert.deepEqual(names(source).filter((each) => !each.endsWith('.lock') && !each.startsWith('.fuse_hidden')), [], name)
    }
    await holdfast.atomicWrite(file, 'old', { mode: 0o755 })
    await holdfast.atomicWrite(file, 'new')
    assert.equal(fs.readFileSync(file, 'utf8'), 'new')
    await assert.rejects(holdfast.atomicWrite(file, 'newer', { mode: 0o600 }), { code: 'ENOTSUP' })
    assert.equal(fs.readFileSync(file, 'utf8'), 'new')
  })
})
