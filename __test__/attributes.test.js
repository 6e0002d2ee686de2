'use strict'

// Permission bits, owner, names, links, and what stands in the way: which file is written, and
// what it looks like afterwards.

const assert = require('node:assert/strict')
const { spawnSync } = require('node:child_process')
const fs = require('node:fs')
const net = require('node:net')
const path = require('node:path')
const { describe, test } = require('node:test')
const { NOBODY, collector, failure, holdfast, inChild, modeOf, names, newDir, temps, tinyDisk, whyNot } = require('./helpers.js')

const { atomicWrite, atomicWriteSync } = holdfast
const LEVELS = /** @type {const} */ (['none', 'file', 'full'])

/** A file with this content, mode and owner. @param {string} file */
function makeFile(file, { content = 'old', mode = 0o644, uid = process.getuid?.() ?? 0, gid = process.getgid?.() ?? 0 } = {}) {
  fs.writeFileSync(file, content)
  if (process.platform !== 'win32') fs.chownSync(file, uid, gid)
  fs.chmodSync(file, mode)
  return file
}

/** @param {string} file */
function attributes(file) {
  const { uid, gid, mode } = fs.lstatSync(file)
  return { uid, gid, mode: (mode & 0o7777).toString(8) }
}

/** @param {string} file */
function read(file) {
  return fs.readFileSync(file, 'utf8')
}

/** Writes in a child that is another user. @param {{ file: string, options?: object }} args @returns {Promise<any>} */
function writeAsNobody(args) {
  return inChild(({ file, options }, { holdfast, outcome }) => outcome(() => holdfast.atomicWrite(file, 'new', options)), args, { user: NOBODY })
}

describe('permission bits', { skip: whyNot.unix() }, () => {
  for (const umask of [0, 0o022, 0o027, 0o077, 0o777]) {
    const shown = umask.toString(8).padStart(3, '0')

    test(`a new file is 0644 less the umask ${shown}`, async (t) => {
      const dir = newDir(t)
      const left = await inChild(async ({ dir, umask }, { holdfast, path }) => {
        process.umask(umask)
        for (const durability of ['none', 'file', 'full']) {
          await holdfast.atomicWrite(path.join(dir, `async-${durability}`), 'new', { durability })
          holdfast.atomicWriteSync(path.join(dir, `sync-${durability}`), 'new', { durability })
        }
        await holdfast.atomicWriteJson(path.join(dir, 'json'), {})
        return process.umask()
      }, { dir, umask })
      assert.equal(left, umask, 'the umask of the process has changed')
      const modes = names(dir).map((name) => [name, modeOf(path.join(dir, name))])
      assert.equal(modes.length, 7)
      for (const [name, mode] of modes) assert.equal(mode, 0o644 & ~umask, `${name}`)
    })

    test(`an explicit mode is exact under the umask ${shown}, for new files and existing ones`, async (t) => {
      const dir = newDir(t)
      const modes = [0, 0o400, 0o444, 0o600, 0o640, 0o644, 0o666, 0o711, 0o755, 0o777, 0o1644, 0o2755, 0o4711, 0o7777]
      for (const mode of modes) makeFile(path.join(dir, `old-${mode}`), { mode: 0o640 })
      await inChild(async ({ dir, umask, modes }, { holdfast, path }) => {
        process.umask(umask)
        for (const mode of modes) {
          await holdfast.atomicWrite(path.join(dir, `new-${mode}`), 'new', { mode, durability: 'none' })
          holdfast.atomicWriteSync(path.join(dir, `sync-${mode}`), 'new', { mode, durability: 'none' })
          await holdfast.atomicWrite(path.join(dir, `old-${mode}`), 'new', { mode, durability: 'none' })
        }
      }, { dir, umask, modes })
      for (const name of names(dir)) {
        assert.equal(modeOf(path.join(dir, name)).toString(8), Number(name.split('-')[1]).toString(8), name)
      }
      assert.equal(names(dir).length, 3 * modes.length)
    })

    test(`an existing file keeps its mode under the umask ${shown}`, async (t) => {
      const dir = newDir(t)
      const modes = [0, 0o400, 0o444, 0o600, 0o604, 0o640, 0o644, 0o660, 0o666, 0o700, 0o755, 0o777, 0o1755, 0o2755, 0o4755, 0o6755]
      for (const mode of modes) makeFile(path.join(dir, `${mode}`), { mode })
      for (const durability of umask === 0o022 ? LEVELS : ['none']) {
        await inChild(async ({ dir, umask, modes, durability }, { holdfast, path }) => {
          process.umask(umask)
          for (const mode of modes) {
            await holdfast.atomicWrite(path.join(dir, `${mode}`), durability, { durability })
            holdfast.atomicWriteSync(path.join(dir, `${mode}`), durability, { durability })
          }
        }, { dir, umask, modes, durability })
        for (const mode of modes) {
          assert.equal(modeOf(path.join(dir, `${mode}`)).toString(8), mode.toString(8), durability)
          fs.chmodSync(path.join(dir, `${mode}`), mode | 0o400)
          assert.equal(read(path.join(dir, `${mode}`)), durability)
          fs.chmodSync(path.join(dir, `${mode}`), mode)
        }
      }
    })
  }

  for (const { about, existing, options, allowed } of [
    { about: 'a private file that exists', existing: 0o600, allowed: 0o600 },
    { about: 'a file for the group that exists', existing: 0o640, allowed: 0o640 },
    { about: 'a file for its owner to read that exists', existing: 0o400, allowed: 0o600 },
    { about: 'a new private file', options: { mode: 0o600 }, allowed: 0o600 },
    { about: 'a public file that becomes private', existing: 0o666, options: { mode: 0o600 }, allowed: 0o600 },
    { about: 'a private file that becomes public', existing: 0o600, options: { mode: 0o644 }, allowed: 0o644 },
    { about: 'a new file', allowed: 0o644 },
  ]) {
    test(`the temp of ${about} gives no user more rights than the file will`, async (t) => {
      const dir = newDir(t)
      const file = path.join(dir, 'file')
      if (existing !== undefined) makeFile(file, { mode: existing })
      const data = Buffer.alloc(64 << 20, 'x')
      /** @type {Set<number>} */
      const seen = new Set()
      // The write runs on threads of its own, so this one can look.
      for (let round = 0; round < 50 && seen.size === 0; round++) {
        let over = false
        const done = atomicWrite(file, data, { ...options, durability: 'none' }).finally(() => (over = true))
        done.catch(() => {})
        while (!over) {
          for (let look = 0; look < 200; look++) {
            for (const temp of temps(dir)) {
              const mode = fs.lstatSync(path.join(dir, temp), { throwIfNoEntry: false })?.mode
              if (mode !== undefined) seen.add(mode & 0o7777)
            }
          }
          await new Promise(setImmediate)
        }
        await done
        if (existing !== undefined) fs.chmodSync(file, existing)
      }
      assert.notEqual(seen.size, 0, 'no temp file was seen')
      for (const mode of seen) assert.equal(mode & ~allowed, 0, `a temp file had mode ${mode.toString(8)}`)
    })
  }

  test('a temp is made with its least mode at once, new and following nothing', { skip: whyNot.strace() }, async (t) => {
    const dir = newDir(t)
    const log = path.join(newDir(t), 'log')
    for (const [name, mode] of [['private', 0o600], ['group', 0o640], ['public', 0o644]]) makeFile(path.join(dir, `${name}`), { mode: Number(mode) })
    await inChild(async ({ dir }, { holdfast, path }) => {
      process.umask(0)
      for (const name of ['private', 'group', 'public']) await holdfast.atomicWrite(path.join(dir, name), 'new')
      await holdfast.atomicWrite(path.join(dir, 'explicit'), 'new', { mode: 0o640 })
      await holdfast.atomicWrite(path.join(dir, 'fresh'), 'new')
    }, { dir }, { command: ['strace', '-f', '-qq', '-o', log, '-e', 'trace=open,openat,chmod,fchmod,fchmodat,umask'] })
    const lines = read(log).split('\n')
    const opened = lines.map((line) => /openat\(.*"\.(\w+)\.[0-9a-f]{16}\.tmp", ([A-Z_|]+), (0\d+)\)/.exec(line)).filter((found) => found !== null)
    assert.deepEqual(opened.map(([, name, , mode]) => [name, mode]), [
      ['private', '0600'], ['group', '0600'], ['public', '0600'], ['explicit', '0600'], ['fresh', '0644'],
    ])
    for (const [, , flags] of opened) {
      for (const flag of ['O_CREAT', 'O_EXCL', 'O_NOFOLLOW', 'O_CLOEXEC']) assert.ok(flags.split('|').includes(flag), `${flag} in ${flags}`)
    }
    const umasks = lines.filter((line) => /\bumask\(/.test(line))
    assert.ok(umasks.length <= 1, `only the test itself sets the umask: ${umasks}`)
  })

  test('default ACLs of the directory apply to new files', { skip: noAcl() }, async (t) => {
    const dir = newDir(t)
    const { status, stderr } = spawnSync('setfacl', ['-d', '-m', 'u::rw,g::rw,o::-', dir], { encoding: 'utf8' })
    assert.equal(status, 0, stderr)
    fs.writeFileSync(path.join(dir, 'theirs'), 'new', { mode: 0o644 })
    await atomicWrite(path.join(dir, 'ours'), 'new')
    assert.deepEqual(attributes(path.join(dir, 'ours')), attributes(path.join(dir, 'theirs')))
  })
})

function noAcl() {
  return whyNot.linux() || (spawnSync('setfacl', ['--version']).status !== 0 && 'setfacl is missing')
}

describe('owner', { skip: whyNot.root() }, () => {
  test('an existing file keeps owner and group', async (t) => {
    const file = path.join(newDir(t), 'file')
    for (const durability of LEVELS) {
      for (const [uid, gid, mode] of [[12345, 23456, 0o640], [0, 23456, 0o660], [12345, 0, 0o600], [12345, 23456, 0o6755]]) {
        makeFile(file, { uid, gid, mode })
        await atomicWrite(file, 'new', { durability })
        assert.deepEqual(attributes(file), { uid, gid, mode: mode.toString(8) })
        atomicWriteSync(file, 'newer', { durability })
        assert.deepEqual(attributes(file), { uid, gid, mode: mode.toString(8) })
        assert.equal(read(file), 'newer')
      }
    }
  })

  test('chown sets the owner of new files and existing ones', async (t) => {
    const dir = newDir(t)
    const chown = { uid: 12345, gid: 23456 }
    makeFile(path.join(dir, 'old'), { uid: 1, gid: 1, mode: 0o640 })
    await atomicWrite(path.join(dir, 'old'), 'new', { chown })
    assert.deepEqual(attributes(path.join(dir, 'old')), { ...chown, mode: '640' })
    await atomicWrite(path.join(dir, 'new'), 'new', { chown })
    assert.deepEqual(attributes(path.join(dir, 'new')), { ...chown, mode: (0o644 & ~process.umask()).toString(8) })
    atomicWriteSync(path.join(dir, 'sync'), 'new', { chown, mode: 0o4750 })
    assert.deepEqual(attributes(path.join(dir, 'sync')), { ...chown, mode: '4750' })
    await atomicWrite(path.join(dir, 'largest'), 'new', { chown: { uid: 2 ** 32 - 2, gid: 2 ** 32 - 2 } })
    assert.equal(fs.statSync(path.join(dir, 'largest')).uid, 2 ** 32 - 2)
  })

  test('chown: false leaves the file to the process, and keeps its mode', async (t) => {
    const file = makeFile(path.join(newDir(t), 'file'), { uid: 12345, gid: 23456, mode: 0o640 })
    await atomicWrite(file, 'new', { chown: false })
    assert.deepEqual(attributes(file), { uid: process.getuid(), gid: process.getgid(), mode: '640' })
  })

  for (const [about, chown] of /** @type {const} */ ([['chown: false', false], ['chown to another user', { uid: 0, gid: 0 }]])) {
    test(`${about} does not make the program of one user run as another`, async (t) => {
      const file = path.join(newDir(t), 'file')
      for (const write of [atomicWrite, atomicWriteSync]) {
        makeFile(file, { uid: 12345, gid: 23456, mode: 0o6755 })
        await write(file, 'new', { chown })
        assert.deepEqual(attributes(file), { uid: 0, gid: 0, mode: '755' })
      }
    })
  }

  test('another user keeps the mode when the owner cannot be kept, and that is no error', async (t) => {
    const dir = newDir(t)
    fs.chmodSync(dir, 0o777)
    const file = path.join(dir, 'file')
    for (const durability of LEVELS) {
      makeFile(file, { mode: 0o640 })
      assert.equal(await writeAsNobody({ file, options: { durability } }), 'success')
      assert.deepEqual(attributes(file), { ...NOBODY, mode: '640' })
      assert.equal(read(file), 'new')
    }
    assert.equal(await writeAsNobody({ file: path.join(dir, 'given'), options: { chown: { uid: 0, gid: 0 } } }), 'success')
    assert.equal(fs.statSync(path.join(dir, 'given')).uid, NOBODY.uid)
  })

  test('the set-user-id and set-group-id bits go when owner and group cannot be kept', async (t) => {
    const dir = newDir(t)
    fs.chmodSync(dir, 0o777)
    for (const [mode, uid, gid, left] of [
      [0o4755, 0, 0, 0o755], [0o2755, 0, 0, 0o755], [0o6755, 0, 0, 0o755], [0o6755, 0, NOBODY.gid, 0o2755], [0o6755, NOBODY.uid, 0, 0o4755],
      [0o6755, NOBODY.uid, NOBODY.gid, 0o6755], [0o1644, 0, 0, 0o1644],
    ]) {
      const file = makeFile(path.join(dir, 'file'), { mode, uid, gid })
      assert.equal(await writeAsNobody({ file }), 'success')
      assert.deepEqual(attributes(file), { ...NOBODY, mode: left.toString(8) }, `from ${mode.toString(8)} of ${uid}:${gid}`)
    }
  })

  test('a user keeps the group of a file when it is one of theirs', async (t) => {
    const dir = newDir(t)
    fs.chmodSync(dir, 0o777)
    const file = makeFile(path.join(dir, 'file'), { gid: 4321, mode: 0o2640 })
    // As a user with groups beside its first one; `spawn` cannot make such a process.
    const ended = await inChild(async ({ file, nobody }, { holdfast, outcome }) => {
      process.setgroups([4321])
      process.setgid(nobody.gid)
      process.setuid(nobody.uid)
      return outcome(() => holdfast.atomicWrite(file, 'new'))
    }, { file, nobody: NOBODY })
    assert.equal(ended, 'success')
    assert.deepEqual(attributes(file), { uid: NOBODY.uid, gid: 4321, mode: '2640' })
  })

  test('a directory that hands its group on does so', async (t) => {
    const dir = newDir(t)
    fs.chownSync(dir, 0, 4321)
    fs.chmodSync(dir, 0o2755)
    await atomicWrite(path.join(dir, 'new'), 'new')
    assert.equal(fs.statSync(path.join(dir, 'new')).gid, 4321)
  })
})

describe('symbolic links', { skip: whyNot.unix() }, () => {
  /** @param {import('node:test').TestContext} t */
  function linked(t) {
    const dir = newDir(t)
    fs.mkdirSync(path.join(dir, 'real'))
    const target = makeFile(path.join(dir, 'real', 'target'), { mode: 0o640 })
    return { dir, target, link: path.join(dir, 'link') }
  }

  /** The link is still there, and the file it leads to is the new one. */
  function assertFollowed({ dir, target, link }, to) {
    assert.equal(fs.readlinkSync(link), to)
    assert.equal(read(target), 'new')
    assert.deepEqual(temps(dir), [])
    assert.deepEqual(temps(path.dirname(target)), [])
  }

  for (const [name, write] of Object.entries({ atomicWrite, atomicWriteSync })) {
    test(`${name} keeps a relative link and writes its target`, async (t) => {
      const paths = linked(t)
      fs.symlinkSync('real/target', paths.link)
      await write(paths.link, 'new')
      assertFollowed(paths, 'real/target')
      assert.equal(modeOf(paths.target), 0o640)
    })

    test(`${name} keeps an absolute link and writes its target`, async (t) => {
      const paths = linked(t)
      fs.symlinkSync(paths.target, paths.link)
      await write(paths.link, 'new')
      assertFollowed(paths, paths.target)
    })

    test(`${name} makes the file that a dangling link leads to`, async (t) => {
      const paths = linked(t)
      fs.rmSync(paths.target)
      fs.symlinkSync('real/target', paths.link)
      await write(paths.link, 'new')
      assertFollowed(paths, 'real/target')
    })

    test(`${name} puts the file in the place of the link when links are not followed`, async (t) => {
      const { dir, target, link } = linked(t)
      fs.chmodSync(target, 0o600)
      for (const to of ['real/target', 'nowhere', 'link', 'real', '/dev/null']) {
        fs.rmSync(link, { force: true })
        fs.symlinkSync(to, link)
        await write(link, 'new', { followSymlinks: false })
        assert.ok(fs.lstatSync(link).isFile(), to)
        assert.equal(read(link), 'new')
        assert.equal(modeOf(link), 0o644 & ~process.umask(), 'not the mode of what the link led to, nor 0777')
      }
      assert.equal(read(target), 'old')
      assert.deepEqual(names(dir), ['link', 'real'])
      assert.deepEqual(names(path.join(dir, 'real')), ['target'])
    })

    test(`${name} follows chains through directories that are links, each step from where the link really is`, async (t) => {
      const { dir } = linked(t)
      fs.mkdirSync(path.join(dir, 'deep', 'inner'), { recursive: true })
      const target = makeFile(path.join(dir, 'deep', 'target'))
      makeFile(path.join(dir, 'target'), { content: 'not this one' })
      fs.symlinkSync('deep/inner', path.join(dir, 'short'))
      fs.symlinkSync('../target', path.join(dir, 'deep', 'inner', 'third'))
      fs.symlinkSync(path.join(dir, 'short', 'third'), path.join(dir, 'second'))
      fs.symlinkSync('./second', path.join(dir, 'first'))
      await write(path.join(dir, 'first'), 'new')
      assert.equal(read(target), 'new')
      assert.equal(read(path.join(dir, 'target')), 'not this one')
      // The same with '..' in the path itself.
      await write(`${dir}/short/../target`, 'newer')
      assert.equal(read(target), 'newer')
      assert.deepEqual(names(dir), ['deep', 'first', 'real', 'second', 'short', 'target'])
    })

    test(`${name} follows 40 links, as the kernel does, and calls more a loop`, async (t) => {
      const { dir, target } = linked(t)
      fs.symlinkSync(target, path.join(dir, '1'))
      for (let i = 2; i <= 41; i++) fs.symlinkSync(`${i - 1}`, path.join(dir, `${i}`))
      await write(path.join(dir, '40'), 'new')
      assert.equal(read(target), 'new')
      const error = await failure(() => write(path.join(dir, '41'), 'newer'))
      assert.equal(error.code, 'ELOOP')
      assert.equal(read(target), 'new')
    })

    test(`${name} refuses loops with ELOOP`, async (t) => {
      const dir = newDir(t)
      fs.symlinkSync('self', path.join(dir, 'self'))
      fs.symlinkSync('pong', path.join(dir, 'ping'))
      fs.symlinkSync('./ping', path.join(dir, 'pong'))
      for (const file of ['self', 'ping', 'self/file']) {
        assert.equal((await failure(() => write(path.join(dir, file), 'new'))).code, 'ELOOP')
      }
      assert.deepEqual(names(dir), ['ping', 'pong', 'self'])
    })

    test(`${name} refuses a link to a directory with EISDIR and leaves both`, async (t) => {
      const { dir, link } = linked(t)
      fs.symlinkSync('real', link)
      assert.equal((await failure(() => write(link, 'new'))).code, 'EISDIR')
      assert.equal(fs.readlinkSync(link), 'real')
      assert.deepEqual(names(dir), ['link', 'real'])
      assert.deepEqual(names(path.join(dir, 'real')), ['target'])
    })

    test(`${name} refuses a dangling link into a directory that does not exist, with ENOENT`, async (t) => {
      const dir = newDir(t)
      fs.symlinkSync('missing/target', path.join(dir, 'link'))
      assert.equal((await failure(() => write(path.join(dir, 'link'), 'new'))).code, 'ENOENT')
      assert.deepEqual(names(dir), ['link'])
    })
  }

  test('the temp is made beside the target, so a link may lead to another disk', { skip: whyNot.mount() }, async (t) => {
    const [dir, disk] = [newDir(t), tinyDisk(t)]
    fs.symlinkSync(path.join(disk, 'target'), path.join(dir, 'link'))
    const { logger, of } = collector()
    await atomicWrite(path.join(dir, 'link'), 'new', { logger })
    assert.equal(read(path.join(disk, 'target')), 'new')
    assert.equal(path.dirname(of('Starting atomic write')[0]?.fields.tempPath), disk)
  })
})

describe('directories of other users', { skip: whyNot.root() }, () => {
  const PLANTED = 65534

  /** A directory like /tmp with a link of another user in it. @param {import('node:test').TestContext} t */
  function shared(t) {
    const dir = newDir(t)
    const target = makeFile(path.join(newDir(t), 'target'), { mode: 0o600 })
    fs.chmodSync(dir, 0o1777)
    const link = path.join(dir, 'link')
    fs.symlinkSync(target, link)
    fs.lchownSync(link, PLANTED, PLANTED)
    return { dir, target, link }
  }

  for (const [name, write] of Object.entries({ atomicWrite, atomicWriteSync })) {
    test(`${name} refuses another user's link in a shared directory with EACCES and leaves its target`, async (t) => {
      const { dir, target, link } = shared(t)
      const before = fs.statSync(target, { bigint: true })
      for (const durability of LEVELS) {
        const error = await failure(() => write(link, 'new', { durability }))
        assert.equal(error.code, 'EACCES')
        assert.equal(error.committed, false)
      }
      assert.equal(read(target), 'old')
      assert.equal(fs.statSync(target, { bigint: true }).ctimeNs, before.ctimeNs)
      assert.deepEqual(names(dir), ['link'])
      assert.deepEqual(names(path.dirname(target)), ['target'])
    })
  }

  test("refuses another user's link further down a chain, and a dangling one", async (t) => {
    const { dir, target, link } = shared(t)
    const own = path.join(newDir(t), 'own')
    fs.symlinkSync(link, own)
    assert.equal((await failure(() => atomicWrite(own, 'new'))).code, 'EACCES')
    fs.rmSync(target)
    assert.equal((await failure(() => atomicWrite(link, 'new'))).code, 'EACCES')
    assert.equal(fs.existsSync(target), false)
    assert.deepEqual(names(dir), ['link'])
  })

  test("replaces another user's link there when links are not followed", async (t) => {
    const { target, link } = shared(t)
    await atomicWrite(link, 'new', { followSymlinks: false })
    assert.ok(fs.lstatSync(link).isFile())
    assert.equal(fs.lstatSync(link).uid, process.getuid())
    assert.equal(read(target), 'old')
  })

  test("follows the user's own links there, those of the directory's owner, and any link in a directory that is not shared like that", async (t) => {
    const { dir, target, link } = shared(t)
    fs.lchownSync(link, process.getuid(), process.getgid())
    await atomicWrite(link, 'own')
    assert.equal(read(target), 'own')
    fs.lchownSync(link, PLANTED, PLANTED)
    for (const [uid, mode, about] of [[PLANTED, 0o1777, "the owner's"], [0, 0o777, 'not sticky'], [0, 0o1775, 'not for all']]) {
      fs.chownSync(dir, uid, 0)
      fs.chmodSync(dir, mode)
      await atomicWrite(link, about)
      assert.equal(read(target), about)
    }
  })

  test('links planted under the names of temp files are neither followed nor removed', async (t) => {
    const dir = newDir(t)
    const victim = makeFile(path.join(newDir(t), 'victim'), { content: 'precious', mode: 0o600 })
    const before = fs.statSync(victim, { bigint: true })
    fs.chownSync(dir, PLANTED, PLANTED)
    fs.chmodSync(dir, 0o777)
    const planted = ['.file.tmp', 'file.tmp', '.file.0000000000000000.tmp', `.file.${process.pid.toString(16).padStart(16, '0')}.tmp`, '.file.ffffffffffffffff.tmp']
    for (const name of planted) fs.symlinkSync(victim, path.join(dir, name))
    for (let i = 0; i < 100; i++) {
      await atomicWrite(path.join(dir, 'file'), `async ${i}`, { durability: 'none' })
      atomicWriteSync(path.join(dir, 'file'), `sync ${i}`, { durability: 'none' })
    }
    assert.equal(read(victim), 'precious')
    assert.equal(fs.statSync(victim, { bigint: true }).ctimeNs, before.ctimeNs)
    assert.deepEqual(names(dir), [...planted, 'file'].sort())
  })

  /**
   * Writes much, and does something to the directory as soon as the temp file is there.
   *
   * @param {string} directory
   * @param {(temp: string) => void} interfere
   */
  async function writeAgainst(dir, interfere, options = {}) {
    let settled = false
    const done = atomicWrite(path.join(dir, 'file'), Buffer.alloc(128 << 20, 'n'), options)
      .then(() => 'success', (error) => error)
      .finally(() => (settled = true))
    let isDone = false
    while (!settled && !isDone) {
      const [temp] = temps(dir)
      if (temp !== undefined) {
        interfere(path.join(dir, temp))
        isDone = true
      }
      await new Promise(setImmediate)
    }
    const ended = await done
    assert.ok(isDone, 'the temp file was never seen')
    return ended
  }

  test('a temp file that is swapped for a link while it is written leads to no other file', async (t) => {
    const dir = newDir(t)
    const victim = makeFile(path.join(newDir(t), 'victim'), { content: 'precious', mode: 0o600, uid: 12345, gid: 23456 })
    const before = fs.statSync(victim, { bigint: true })
    for (const options of [{}, { mode: 0o666, chown: { uid: PLANTED, gid: PLANTED } }]) {
      await writeAgainst(dir, (temp) => {
        fs.unlinkSync(temp)
        fs.symlinkSync(victim, temp)
      }, options)
      assert.equal(read(victim), 'precious')
      // Neither written nor given another mode or owner.
      assert.equal(fs.statSync(victim, { bigint: true }).ctimeNs, before.ctimeNs)
      fs.rmSync(path.join(dir, 'file'), { force: true })
    }
  })

  test('a directory that is swapped for a link while the write runs does not lead it elsewhere', async (t) => {
    const around = newDir(t)
    const dir = path.join(around, 'dir')
    const elsewhere = newDir(t)
    fs.mkdirSync(dir)
    const ended = await writeAgainst(dir, () => {
      fs.renameSync(dir, path.join(around, 'moved'))
      fs.symlinkSync(elsewhere, dir)
    })
    assert.deepEqual(names(elsewhere), [])
    assert.deepEqual(names(path.join(around, 'moved')), ended === 'success' ? ['file'] : [])
  })
})

describe('names', () => {
  test('other hard links of the file keep the old content', { skip: whyNot.unix() }, async (t) => {
    const dir = newDir(t)
    const file = makeFile(path.join(dir, 'file'), { mode: 0o600 })
    fs.linkSync(file, path.join(dir, 'other'))
    await atomicWrite(file, 'new')
    assert.equal(read(file), 'new')
    assert.equal(read(path.join(dir, 'other')), 'old')
    assert.equal(fs.statSync(file).nlink, 1)
  })

  const longest = {
    'ASCII letters': 'a'.repeat(255),
    'letters of two bytes': 'é'.repeat(127) + 'a',
    'letters of two bytes, one later': `a${'é'.repeat(127)}`,
    'letters of three bytes': '漢'.repeat(85),
    'letters of three bytes, one later': `a${'漢'.repeat(84)}bc`,
    'letters of four bytes': `${'😀'.repeat(63)}abc`,
    'letters of four bytes, three later': `abc${'😀'.repeat(63)}`,
    'combining marks': `${'e\u0301'.repeat(85)}`,
  }
  for (const [kind, name] of Object.entries(longest)) {
    test(`a name of 255 bytes in ${kind} works, and its temp has a legal name too`, { skip: whyNot.unix() }, async (t) => {
      assert.equal(Buffer.byteLength(name), 255)
      const dir = newDir(t)
      for (const write of [atomicWrite, atomicWriteSync]) {
        const { logger, of } = collector()
        await write(path.join(dir, name), 'new', { logger })
        assert.equal(read(path.join(dir, name)), 'new')
        const temp = path.basename(of('Starting atomic write')[0]?.fields.tempPath)
        // A hash of the whole name, by which recovery knows it, and the temp file's own digits.
        const [, stem = ''] = /^\.(.*)\.[0-9a-f]{16}\.[0-9a-f]{16}\.tmp$/u.exec(temp) ?? assert.fail(temp)
        assert.ok(Buffer.byteLength(temp) <= 255, `${Buffer.byteLength(temp)} bytes`)
        assert.ok(name.startsWith(stem), 'the name is only cut, and between letters')
        assert.ok(stem.isWellFormed() && !stem.includes('\ufffd'), stem)
        assert.ok(Buffer.byteLength(stem) > 255 - 22 - 17 - 4, 'no more is cut than has to be')
      }
      assert.deepEqual(names(dir), [name])
    })
  }

  test('a name is cut in its temp only when it must be', async (t) => {
    const dir = newDir(t)
    for (const length of [1, 100, 232, 233]) {
      const { logger, of } = collector()
      await atomicWrite(path.join(dir, 'n'.repeat(length)), 'new', { logger })
      const temp = path.basename(of('Starting atomic write')[0]?.fields.tempPath)
      assert.match(temp, new RegExp(`^\\.n{${length}}\\.[0-9a-f]{16}\\.tmp$`))
    }
  })

  test('a name of 256 bytes is refused with ENAMETOOLONG', { skip: whyNot.unix() }, async (t) => {
    const dir = newDir(t)
    for (const name of ['a'.repeat(256), 'é'.repeat(128), `${'😀'.repeat(64)}`, `${'a'.repeat(256)}/file`]) {
      for (const write of [atomicWrite, atomicWriteSync]) {
        assert.equal((await failure(() => write(path.join(dir, name), 'new'))).code, 'ENAMETOOLONG')
      }
    }
    assert.deepEqual(names(dir), [])
  })

  test('names that look like temp files, hidden files and odd letters work', async (t) => {
    const dir = newDir(t)
    const odd = ['.hidden', '.file.0123456789abcdef.tmp', 'a.tmp', '-rf', ' lead', "quote'", '%41', 'ünïcödé', 'e\u0301', '\u202eabc', '...']
      .concat(process.platform === 'win32' ? [] : ['new\nline', '\x01\x7f', '"', 'back\\slash', 'trail '])
    for (const name of odd) await atomicWrite(path.join(dir, name), name)
    for (const name of odd) assert.equal(read(path.join(dir, name)), name)
    assert.deepEqual(names(dir), [...odd].sort())
  })

  test('a path that ends in a separator, a dot or two is refused with EISDIR or ENOTDIR and nothing is written', async (t) => {
    const dir = newDir(t)
    makeFile(path.join(dir, 'file'))
    for (const end of ['/', '/.', '/..', '//']) {
      for (const start of [dir, `${dir}/file`, `${dir}/new`]) {
        for (const write of [atomicWrite, atomicWriteSync]) {
          assert.match((await failure(() => write(start + end, 'new'))).code, /^E(ISDIR|NOTDIR|NOENT)$/)
        }
      }
    }
    assert.equal(read(path.join(dir, 'file')), 'old')
    assert.deepEqual(names(dir), ['file'])
  })

  test('a relative path is that of the call, whatever the working directory becomes', async (t) => {
    const [before, after] = [newDir(t), newDir(t)]
    await inChild(async ({ before, after }, { holdfast, fs }) => {
      process.chdir(before)
      fs.mkdirSync('sub')
      const large = Buffer.alloc(8 << 20)
      const done = [
        holdfast.atomicWrite('small', 'new'), holdfast.atomicWrite('large', large), holdfast.atomicWrite('./sub/../dotted', 'new'),
        holdfast.atomicWrite('made/for/it', 'new', { makeDirs: true }), holdfast.atomicWriteJson('json', {}),
        ...Array.from({ length: 100 }, (_, i) => holdfast.atomicWrite(`sub/${i}`, 'new', { durability: 'none' })),
      ]
      process.chdir(after)
      await Promise.all(done)
      holdfast.atomicWriteSync('sync', 'new')
    }, { before, after })
    assert.deepEqual(names(before), ['dotted', 'json', 'large', 'made', 'small', 'sub'])
    assert.equal(names(path.join(before, 'sub')).length, 100)
    assert.deepEqual(names(after), ['sync'])
  })
})

describe('what is no regular file', { skip: whyNot.unix() }, () => {
  /** What can be in a target's place. @type {Record<string, { make: (at: string, t: any) => unknown, skip?: string | false }>} */
  const others = {
    'a FIFO': { make: (at) => assert.equal(spawnSync('mkfifo', [at]).status, 0) },
    'a socket': {
      make: (at, t) => new Promise((resolve) => {
        const server = net.createServer().listen(at, () => resolve(undefined))
        t.after(() => server.close())
      }),
    },
    'a character device': { make: (at) => assert.equal(spawnSync('mknod', [at, 'c', '1', '3']).status, 0), skip: whyNot.mount() },
    'a block device': { make: (at) => assert.equal(spawnSync('mknod', [at, 'b', '7', '250']).status, 0), skip: whyNot.mount() },
  }
  for (const [kind, { make, skip = false }] of Object.entries(others)) {
    test(`${kind} is refused and left as it is, through a link too`, { skip }, async (t) => {
      const dir = newDir(t)
      const file = path.join(dir, 'it')
      await make(file, t)
      fs.symlinkSync('it', path.join(dir, 'link'))
      const { ino, mode, ctimeMs } = fs.lstatSync(file)
      for (const write of [atomicWrite, atomicWriteSync]) {
        for (const options of [{}, { durability: 'none' }, { mode: 0o600 }]) {
          for (const name of ['it', 'link']) {
            const error = await failure(() => write(path.join(dir, name), 'new', options))
            assert.equal(error.code, 'EINVAL')
            assert.equal(error.committed, false)
          }
        }
        assert.equal((await failure(() => write(file, 'new', { followSymlinks: false }))).code, 'EINVAL')
      }
      const { ino: inoAfter, mode: modeAfter, ctimeMs: ctimeAfter } = fs.lstatSync(file)
      assert.deepEqual([inoAfter, modeAfter, ctimeAfter], [ino, mode, ctimeMs])
      assert.deepEqual(names(dir), ['it', 'link'])
    })
  }

  test('/dev/null is not replaced', async () => {
    const { ino } = fs.lstatSync('/dev/null')
    const { code } = await failure(() => atomicWrite('/dev/null', 'new'))
    // Not root: the directory cannot be written either way.
    assert.match(code, /^E(INVAL|ACCES)$/)
    assert.equal(fs.lstatSync('/dev/null').ino, ino)
    assert.ok(fs.lstatSync('/dev/null').isCharacterDevice())
  })

  test('a directory is refused with EISDIR and left with what is in it', async (t) => {
    const dir = newDir(t)
    fs.mkdirSync(path.join(dir, 'empty'))
    fs.mkdirSync(path.join(dir, 'full'))
    makeFile(path.join(dir, 'full', 'file'))
    for (const write of [atomicWrite, atomicWriteSync]) {
      for (const name of ['empty', 'full']) {
        for (const durability of LEVELS) {
          assert.equal((await failure(() => write(path.join(dir, name), 'new', { durability }))).code, 'EISDIR')
        }
      }
    }
    assert.deepEqual(names(dir), ['empty', 'full'])
    assert.deepEqual(names(path.join(dir, 'full')), ['file'])
  })
})

describe('makeDirs', () => {
  for (const umask of [0, 0o022, 0o077]) {
    test(`makes missing directories with 0777 less the umask ${umask.toString(8)}`, { skip: whyNot.unix() }, async (t) => {
      const dir = newDir(t)
      for (const durability of LEVELS) {
        await inChild(async ({ dir, umask, durability }, { holdfast, path }) => {
          process.umask(umask)
          await holdfast.atomicWrite(path.join(dir, durability, 'a/b/c/file'), 'new', { durability, makeDirs: true })
          holdfast.atomicWriteSync(path.join(dir, durability, 'd/e/file'), 'new', { durability, makeDirs: true })
          await holdfast.atomicWriteJson(path.join(dir, durability, 'f/json'), {}, { durability, makeDirs: true })
        }, { dir, umask, durability })
        for (const made of ['', 'a', 'a/b', 'a/b/c', 'd', 'd/e', 'f']) {
          assert.equal(modeOf(path.join(dir, durability, made)), 0o777 & ~umask, made)
        }
        assert.equal(read(path.join(dir, durability, 'a/b/c/file')), 'new')
      }
    })
  }

  test('leaves directories that exist as they are', { skip: whyNot.unix() }, async (t) => {
    const dir = newDir(t)
    fs.mkdirSync(path.join(dir, 'a/b'), { recursive: true })
    fs.chmodSync(path.join(dir, 'a'), 0o700)
    fs.chmodSync(path.join(dir, 'a/b'), 0o2770)
    await atomicWrite(path.join(dir, 'a/b/file'), 'new', { makeDirs: true })
    await atomicWrite(path.join(dir, 'a/b/c/file'), 'new', { makeDirs: true })
    assert.equal(modeOf(path.join(dir, 'a')), 0o700)
    assert.equal(modeOf(path.join(dir, 'a/b')), 0o2770)
    assert.deepEqual(names(path.join(dir, 'a/b')), ['c', 'file'])
  })

  test('makes nothing without being asked to: a missing directory is ENOENT', async (t) => {
    const dir = newDir(t)
    for (const options of [undefined, { makeDirs: false }, { makeDirs: undefined }]) {
      for (const write of [atomicWrite, atomicWriteSync]) {
        assert.equal((await failure(() => write(path.join(dir, 'a/b/file'), 'new', options))).code, 'ENOENT')
      }
    }
    assert.deepEqual(names(dir), [])
  })

  test('a file in the way is refused with ENOTDIR or EEXIST and left as it is', async (t) => {
    const dir = newDir(t)
    makeFile(path.join(dir, 'file'))
    for (const durability of LEVELS) {
      for (const write of [atomicWrite, atomicWriteSync]) {
        for (const name of ['file/new', 'file/a/b/new']) {
          const error = await failure(() => write(path.join(dir, name), 'new', { makeDirs: true, durability }))
          assert.match(error.code, /^E(NOTDIR|EXIST)$/)
          assert.equal(error.attempts, 1)
        }
      }
    }
    assert.equal(read(path.join(dir, 'file')), 'old')
    assert.deepEqual(names(dir), ['file'])
  })

  test('a link that leads nowhere in the way is an error and stays', { skip: whyNot.unix() }, async (t) => {
    const dir = newDir(t)
    fs.symlinkSync('nowhere', path.join(dir, 'link'))
    for (const durability of LEVELS) {
      assert.match((await failure(() => atomicWrite(path.join(dir, 'link/a/file'), 'new', { makeDirs: true, durability }))).code, /^E(NOENT|EXIST|NOTDIR)$/)
    }
    assert.deepEqual(names(dir), ['link'])
  })

  test('directories that were made stay when the write fails', { skip: whyNot.unix() }, async (t) => {
    const dir = newDir(t)
    const file = path.join(dir, 'a/b', 'n'.repeat(256))
    assert.equal((await failure(() => atomicWrite(file, 'new', { makeDirs: true }))).code, 'ENAMETOOLONG')
    assert.deepEqual(names(path.join(dir, 'a')), ['b'])
    assert.deepEqual(names(path.join(dir, 'a/b')), [])
  })

  test('takes paths with dots and doubled separators', async (t) => {
    const dir = newDir(t)
    await atomicWrite(`${dir}//a/./b/..//c/file`, 'new', { makeDirs: true })
    assert.equal(read(path.join(dir, 'a/c/file')), 'new')
    const made = path.join(dir, 'x/y/z')
    await inChild(async ({ dir }, { holdfast }) => {
      process.chdir(dir)
      await holdfast.atomicWrite('x/y/z/file', 'new', { makeDirs: true })
      await holdfast.atomicWrite('./x/y/z/other', 'new', { makeDirs: true })
      await holdfast.atomicWrite('here', 'new', { makeDirs: true })
    }, { dir })
    assert.deepEqual(names(made), ['file', 'other'])
    assert.equal(read(path.join(dir, 'here')), 'new')
  })

  for (const durability of LEVELS) {
    test(`200 writes at once into one missing tree all succeed with durability ${durability}`, async (t) => {
      const dir = newDir(t)
      const files = Array.from({ length: 200 }, (_, i) => path.join(dir, 'a/b', i % 2 ? 'c' : 'c/d/e', `sub${i % 5}`, `${i}`))
      await Promise.all(files.map((file, i) => atomicWrite(file, `${i}`, { makeDirs: true, durability })))
      for (const [i, file] of files.entries()) assert.equal(read(file), `${i}`)
      const leaves = [...new Set(files.map((file) => path.dirname(file)))]
      assert.equal(leaves.reduce((sum, leaf) => sum + names(leaf).length, 0), files.length + 0)
    })
  }
})

describe('directories with little permission', { skip: whyNot.root() }, () => {
  for (const durability of LEVELS) {
    test(`a directory that may be written but not listed works with durability ${durability}`, async (t) => {
      const hidden = unlisted(t)
      makeFile(path.join(hidden, 'old'), { ...NOBODY, mode: 0o640 })
      const outcomes = await inChild(async ({ hidden, durability }, { holdfast, fs, path, outcome }) => ({
        listing: await outcome(() => fs.readdirSync(hidden)).then(({ code }) => code),
        old: await outcome(() => holdfast.atomicWrite(path.join(hidden, 'old'), 'new', { durability })),
        new: await outcome(() => holdfast.atomicWrite(path.join(hidden, 'new'), 'new', { durability })),
        sync: await outcome(() => holdfast.atomicWriteSync(path.join(hidden, 'sync'), 'new', { durability })),
        there: await outcome(() => holdfast.atomicWrite(path.join(hidden, 'there'), 'new', { durability, makeDirs: true })),
      }), { hidden, durability }, { user: NOBODY })
      assert.deepEqual(outcomes, { listing: 'EACCES', old: 'success', new: 'success', sync: 'success', there: 'success' })
      assert.deepEqual(names(hidden), ['new', 'old', 'sync', 'there'])
      for (const name of names(hidden)) assert.equal(read(path.join(hidden, name)), 'new')
      assert.deepEqual(attributes(path.join(hidden, 'old')), { ...NOBODY, mode: '640' })
    })

    test(`makeDirs makes directories in one that may be written but not listed, with durability ${durability}`, async (t) => {
      const hidden = unlisted(t)
      const file = path.join(hidden, 'a/b/file')
      assert.equal(await writeAsNobody({ file, options: { durability, makeDirs: true } }), 'success')
      assert.equal(read(file), 'new')
    })
  }

  /** A directory of the user nobody, who may write to it but not list it. @param {import('node:test').TestContext} t */
  function unlisted(t) {
    const dir = newDir(t)
    fs.chownSync(dir, NOBODY.uid, NOBODY.gid)
    fs.chmodSync(dir, 0o300)
    return dir
  }

  test('a file that may not be read or written can be replaced in a directory that may be', async (t) => {
    const dir = newDir(t)
    fs.chownSync(dir, NOBODY.uid, NOBODY.gid)
    const file = makeFile(path.join(dir, 'file'), { mode: 0o000, ...NOBODY })
    assert.equal(await writeAsNobody({ file }), 'success')
    assert.deepEqual(attributes(file), { ...NOBODY, mode: '0' })
    assert.equal(read(file), 'new')
  })

  test("another user's file in a sticky directory is refused and left", async (t) => {
    const dir = newDir(t)
    fs.chmodSync(dir, 0o1777)
    const file = makeFile(path.join(dir, 'file'), { mode: 0o666 })
    const ended = await writeAsNobody({ file })
    assert.match(ended.code, /^E(PERM|ACCES)$/)
    assert.equal(read(file), 'old')
    assert.deepEqual(names(dir), ['file'])
  })
})
