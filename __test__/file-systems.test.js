'use strict'

// File systems where people keep files, and that cannot do what others can: real ones where they can be mounted, and a
// pass-through file system that is told what to refuse.

const { test, describe } = require('node:test')
const assert = require('node:assert/strict')
const { spawn, spawnSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const { cleanUp, ext4, names, newDir, ordinaryDisk, whyNot } = require('./system.js')
const { collector, failure, holdfast, inChild } = require('./helpers.js')
const { everyFunction } = require('./programs/every-function.js')

/** The Python that Debian's packages are for. */
const PYTHON = '/usr/bin/python3'

/** @param {string} command @param {string[]} args @param {object} [options] */
const works = (command, args, options) => spawnSync(command, args, { stdio: 'ignore', ...options }).status === 0

const noFuse = (() => {
  if (whyNot.mount()) return whyNot.mount()
  return !fs.existsSync('/dev/fuse') && 'needs /dev/fuse'
})()
const noOdd = noFuse || (!works(PYTHON, ['-c', 'import fusepy']) && 'needs python3-fusepy')

/** @param {string} program @param {string} name */
const needs = (program, name) => noFuse || (!works('sh', ['-c', `command -v ${program}`]) && `needs ${name}`)

/** @param {string} point */
function unmount(point) {
  if (!works('fusermount', ['-u', point]) && !works('umount', [point])) spawnSync('umount', ['-l', point])
}

/**
 * A file system of a program that runs until the test is over.
 *
 * @param {import('node:test').TestContext} t
 * @param {(back: string, point: string) => [string, string[], import('node:child_process').SpawnOptions?]} command
 * @returns {Promise<{ dir: string, back: string }>}
 */
async function mounted(t, command) {
  const [back, dir] = [newDir(t), newDir(t)]
  const before = fs.statSync(dir).dev
  const [program, args, options] = command(back, dir)
  const child = spawn(program, args, { stdio: ['pipe', 'ignore', 'pipe'], ...options })
  let errors = ''
  child.stderr?.on('data', (chunk) => (errors += chunk))
  const ended = new Promise((resolve) => child.once('close', resolve))
  cleanUp(t, () => {
    unmount(dir)
    child.kill()
  })
  child.stdin?.end('secret\n')
  for (let look = 0; fs.statSync(dir).dev === before; look++) {
    if (look === 400) assert.fail(`${program} does not mount: ${errors}`)
    await new Promise((resolve) => setTimeout(resolve, 25))
  }
  t.after(() => ended)
  return { dir, back }
}

/** @param {import('node:test').TestContext} t @param {...string} oddities see programs/odd-file-system.py */
function odd(t, ...oddities) {
  return mounted(t, (back, point) => [PYTHON, [path.join(__dirname, 'programs', 'odd-file-system.py'), back, point, ...oddities]])
}

describe('a file system that cannot sync directories', { skip: noOdd }, () => {
  for (const code of ['EINVAL', 'ENOTSUP', 'EBADF']) {
    test(`(${code}) has every function, and the logger hears of it once`, async (t) => {
      const { dir } = await odd(t, `dirsync=${code}`)
      const { logger, entries } = collector()
      holdfast.setLogger(logger)
      t.after(() => holdfast.setLogger(null))
      await everyFunction(dir)
      const said = entries.filter(({ fields }) => 'limitation' in fields)
      assert.deepEqual(said.map(({ level, fields }) => [level, fields.limitation]), [['warn', 'syncDirectory']])
      assert.equal(said[0]?.fields.path, dir)
    })
  }

  test('is reported to the logger of a call where there is no other', async (t) => {
    const { dir } = await odd(t, 'dirsync=EINVAL')
    const { logger, entries } = collector()
    await holdfast.atomicWrite(path.join(dir, 'file'), 'x')
    await holdfast.atomicWrite(path.join(dir, 'file'), 'x', { logger })
    await holdfast.atomicWrite(path.join(dir, 'file'), 'x', { logger })
    assert.equal(entries.filter(({ fields }) => fields.limitation === 'syncDirectory').length, 1)
  })

  test('a sync that fails is an error all the same', async (t) => {
    const { dir } = await odd(t, 'dirsync=EIO')
    const error = await failure(() => holdfast.atomicWrite(path.join(dir, 'file'), 'x'))
    assert.deepEqual([error.code, error.syscall, error.committed], ['EIO', 'fsync', true])
  })
})

describe('a file system that lets no permission bits be changed', { skip: noOdd }, () => {
  for (const code of ['EPERM', 'EOPNOTSUPP', 'ENOSYS']) {
    test(`(${code}) has every function, keeps what a file allows, and the logger hears of what it cannot keep once`, async (t) => {
      const { dir } = await odd(t, `chmod=${code}`)
      const { logger, entries } = collector()
      holdfast.setLogger(logger)
      t.after(() => holdfast.setLogger(null))
      const umask = process.umask(0o022)
      t.after(() => process.umask(umask))
      await everyFunction(dir)
      const file = path.join(dir, 'file')
      for (const mode of [0o600, 0o640, 0o644, 0o755]) {
        fs.writeFileSync(file, 'old', { mode })
        for (const write of [holdfast.atomicWrite, (/** @type {string} */ to, /** @type {string} */ text) => holdfast.transaction([to], (tx) => tx.write(to, text))]) {
          await write(file, `${mode}`)
          assert.equal(fs.readFileSync(file, 'utf8'), `${mode}`)
          assert.equal(fs.statSync(file).mode & 0o777, mode)
        }
        fs.rmSync(file)
      }
      await holdfast.atomicWrite(file, 'x', { mode: 0o600 })
      assert.equal(fs.statSync(file).mode & 0o777, 0o600)
      // The umask takes it, and nothing gives it back.
      const error = await failure(() => holdfast.atomicWrite(file, 'y', { mode: 0o666 }))
      assert.deepEqual([error.syscall, error.committed], ['fchmod', false])
      assert.match(error.hint, /umask/)
      assert.deepEqual([fs.readFileSync(file, 'utf8'), fs.statSync(file).mode & 0o777], ['x', 0o600])
      const said = entries.filter(({ fields }) => 'limitation' in fields)
      assert.deepEqual(said.map(({ level, fields }) => [level, fields.limitation, fields.path]), [['warn', 'setPermissions', dir]])
      assert.deepEqual(names(dir).filter((name) => name.includes('.tmp')), [])
    })
  }
})

describe('a system that refuses locks of whole files', { skip: whyNot.strace() }, () => {
  const refused = (/** @type {string} */ code) => ['strace', '-f', '-qq', '-o', '/dev/null', '-e', 'trace=flock', '-e', `inject=flock:error=${code}`]
  const write = async (/** @type {any} */ { dir }, /** @type {any} */ { holdfast: own, path: paths, outcome }) => {
    /** @type {unknown[]} */
    const said = []
    own.setLogger({ debug() {}, error() {}, warn: (/** @type {any} */ fields) => fields.limitation && said.push([fields.limitation, fields.path]) })
    const outcomes = []
    for (const name of ['one', 'two']) outcomes.push(await outcome(() => own.atomicWrite(paths.join(dir, name), 'x')))
    return { outcomes, said }
  }

  for (const code of ['ENOLCK', 'EOPNOTSUPP']) {
    test(`(${code}) because it has none does without, and says so once`, async (t) => {
      const dir = newDir(t)
      const { outcomes, said } = await inChild(write, { dir }, { command: refused(code) })
      assert.deepEqual([outcomes, said], [['success', 'success'], [['lockFiles', dir]]])
      assert.deepEqual(names(dir), ['one', 'two'])
    })
  }

  test('because a sandbox forbids them is an error that says so', async (t) => {
    const dir = newDir(t)
    const { outcomes: [error] } = await inChild(write, { dir }, { command: refused('EPERM') })
    assert.deepEqual([error.code, error.syscall, error.committed], ['EPERM', 'flock', false])
    assert.match(error.hint, /does not let the program lock files/)
    assert.deepEqual(names(dir), [])
  })
})

describe('CIFS says now and then that an open is invalid, while another client replaces the file', { skip: whyNot.strace() }, () => {
  test('an update opens the lock file again', async (t) => {
    const dir = newDir(t)
    fs.writeFileSync(path.join(dir, 'state.json'), '{"n":0}')
    // There is a lock file to be opened.
    fs.writeFileSync(path.join(dir, '.state.json.lock'), '')
    const log = path.join(newDir(t), 'log')
    const command = ['strace', '-f', '-qq', '-o', log, '-P', '.state.json.lock', '-e', 'trace=openat,openat2', '-e', 'inject=openat,openat2:error=EINVAL:when=1..3']
    const outcome = await inChild(async (/** @type {any} */ { dir: where }, /** @type {any} */ { holdfast: own, path: paths, outcome: of }) =>
      of(() => own.updateJsonFile(paths.join(where, 'state.json'), (/** @type {any} */ data) => void data.n++)), { dir }, { command })
    assert.match(fs.readFileSync(log, 'utf8'), /EINVAL.*INJECTED/)
    assert.equal(outcome, 'success')
    assert.equal(fs.readFileSync(path.join(dir, 'state.json'), 'utf8'), '{"n":1}')
  })
})

describe('a file system with short names', { skip: noOdd }, () => {
  for (const limit of [143, 60]) {
    test(`of ${limit} bytes has every function for each name that it takes`, async (t) => {
      const { dir } = await odd(t, `names=${limit}`)
      for (const length of [limit, limit - 1, limit - 10, limit - 20]) {
        await everyFunction(dir, { name: `${'n'.repeat(length - 5)}.json` })
        for (const name of names(dir)) fs.rmSync(path.join(dir, name), { recursive: true })
      }
      const error = await failure(() => holdfast.atomicWrite(path.join(dir, 'n'.repeat(limit + 1)), 'x'))
      assert.equal(error.code, 'ENAMETOOLONG')
    })
  }
})

describe('a sandbox that refuses the calls that start and await write-back', { skip: whyNot.strace() || whyNot.ext4() }, () => {
  for (const code of ['ENOSYS', 'EPERM']) {
    test(`(${code}) has every function, on a file system where writes and transactions use them`, (t) => {
      const dir = ext4(t, 16 << 20, { journal: true })
      const log = path.join(newDir(t), 'strace')
      const calls = ['sync_file_range', 'syncfs']
      const command = ['-f', '-qq', '-o', log, '-e', `trace=${calls}`, ...calls.flatMap((call) => ['-e', `inject=${call}:error=${code}`])]
      const program = path.join(__dirname, 'programs', 'every-function.js')
      const { status, stderr } = spawnSync('strace', [...command, process.execPath, program, dir], { encoding: 'utf8' })
      assert.equal(status, 0, stderr)
      for (const call of calls) assert.match(fs.readFileSync(log, 'utf8'), new RegExp(`${call}\\(.*INJECTED`))
    })
  }
})

describe('a file system without a rename that replaces nothing and without hard links', { skip: noOdd }, () => {
  for (const code of ['EPERM', 'ENOSYS', 'ENOTSUP']) {
    test(`(${code}) has every function`, async (t) => {
      const { dir } = await odd(t, `link=${code}`)
      await everyFunction(dir)
    })
  }

  test('never replaces a backup, however many are made in one millisecond', async (t) => {
    const { dir } = await odd(t, 'link=EPERM')
    const file = path.join(dir, 'file')
    fs.writeFileSync(file, 'x')
    const taken = Array.from({ length: 1000 }, (_, i) => `${file}.${Date.now() + i}.backup`)
    for (const name of taken) fs.writeFileSync(name, 'mine')
    const made = await Promise.all(Array.from({ length: 12 }, () => holdfast.createBackup(file)))
    assert.equal(new Set(made).size, 12)
    for (const name of made) assert.equal(fs.readFileSync(name, 'utf8'), taken.includes(name) ? assert.fail(name) : 'x')
    for (const name of taken) assert.equal(fs.readFileSync(name, 'utf8'), 'mine')
  })
})

describe('a file system that numbers a file anew at each look', { skip: noOdd }, () => {
  test('takes writes, streams, backups and restores, and no call leaves a temp file', async (t) => {
    const { dir } = await odd(t, 'inodes=unstable')
    const file = path.join(dir, 'state.json')
    for (let i = 0; i < 5; i++) await holdfast.atomicWrite(file, JSON.stringify({ i }))
    holdfast.atomicWriteSync(file, '{"i":5}')
    const backup = await holdfast.createBackup(file)
    await holdfast.atomicWrite(file, '{}')
    await holdfast.restoreBackup(backup, file, { lock: false })
    assert.equal(fs.readFileSync(file, 'utf8'), '{"i":5}')
    /** @type {Record<string, () => Promise<unknown>>} */
    const calls = {
      lock: () => holdfast.withLock(file, () => {}),
      update: () => holdfast.updateJsonFile(file, (/** @type {{ i: number }} */ data) => void (data.i += 1)),
      transaction: () => holdfast.transaction([file], (tx) => tx.write(file, '{}')),
    }
    for (const [name, call] of Object.entries(calls)) {
      const error = await failure(call)
      assert.deepEqual([error.code, /st_ino/.test(error.hint ?? '')], ['ENOTSUP', true], `${name}: ${error.message}`)
    }
    assert.deepEqual(names(dir).filter((name) => /\.(tmp|claim|txn|prepared|intent)$/.test(name)), [])
  })
})

describe('a file under a lease (of an NFS client, or of samba)', { skip: whyNot.root() || whyNot.linux() || (!works('/usr/bin/python3', ['-V']) && 'needs python3') }, () => {
  /** @param {import('node:test').TestContext} t @param {string} file */
  async function lease(t, file) {
    const child = spawn(PYTHON, [path.join(__dirname, 'programs', 'lease.py'), file, '0.4'], { stdio: ['ignore', 'pipe', 'inherit'] })
    cleanUp(t, () => child.kill('SIGKILL'))
    await new Promise((resolve, reject) => {
      child.stdout?.once('data', resolve)
      child.once('close', () => reject(new Error('the lease could not be taken')))
    })
  }
  /** @type {Record<string, (file: string) => Promise<unknown>>} */
  const calls = {
    updateJsonFile: (file) => holdfast.updateJsonFile(file, (/** @type {{ n: number }} */ data) => void (data.n += 1)),
    atomicWrite: (file) => holdfast.atomicWrite(file, '{"n":2}'),
    createBackup: (file) => holdfast.createBackup(file),
    restoreBackup: (file) => holdfast.restoreBackup(file, `${file}.restored`),
    transaction: (file) => holdfast.transaction([file], (tx) => tx.updateJson(file, (/** @type {{ n: number }} */ data) => void (data.n += 1))),
    recoverFromCrash: async (file) => assert.equal((await holdfast.recoverFromCrash(file)).complete, true),
  }
  for (const [name, call] of Object.entries(calls)) {
    test(`${name} waits until it is given back, without holding up JavaScript`, async (t) => {
      const file = path.join(ordinaryDisk(t), 'state.json')
      fs.writeFileSync(file, '{"n":1}')
      await lease(t, file)
      let turns = 0
      const timer = setInterval(() => turns++, 10)
      await call(file).finally(() => clearInterval(timer))
      if (name !== 'atomicWrite') assert.ok(turns > 10, `${turns}`)
    })
  }

  test('on the lock file is waited for with the time-out of the call', async (t) => {
    const dir = ordinaryDisk(t)
    for (const [timeout, code] of /** @type {const} */ ([[10_000, undefined], [50, 'ELOCKED']])) {
      // Another one each time: this process keeps a lock file open for a moment after its use.
      const [file, lockFile] = [path.join(dir, `${timeout}`), path.join(dir, `.${timeout}.lock`)]
      fs.writeFileSync(lockFile, '')
      await lease(t, lockFile)
      const outcome = await holdfast.withLock(file, () => 'held', { timeout }).then(() => undefined, (error) => error.code)
      assert.equal(outcome, code)
      await holdfast.withLock(file, () => {})
    }
  })

  test('on the lock file: isLocked says what is so when it is given back', async (t) => {
    const file = path.join(ordinaryDisk(t), 'file')
    const lockFile = path.join(path.dirname(file), '.file.lock')
    fs.writeFileSync(lockFile, '')
    await lease(t, lockFile)
    assert.deepEqual(await holdfast.isLocked(file), { locked: false })
  })

  test('has nothing to do with a pipe, which is refused at once', async (t) => {
    const file = path.join(newDir(t), 'pipe')
    assert.ok(works('mkfifo', [file]))
    for (const call of [calls.updateJsonFile, calls.createBackup]) assert.equal((await failure(() => /** @type {any} */ (call)(file))).code, 'EINVAL')
  })
})

describe('a real file system has every function:', () => {
  /**
   * @param {string} title
   * @param {string | false} reason
   * @param {(t: import('node:test').TestContext) => Promise<string>} make its directory
   */
  const real = (title, reason, make) => test(title, { skip: reason }, async (t) => everyFunction(await make(t)))

  real('bindfs', needs('bindfs', 'bindfs'), async (t) => (await mounted(t, (back, point) => ['bindfs', ['-f', back, point]])).dir)
  real('encfs', needs('encfs', 'encfs'), async (t) => (await mounted(t, (back, point) => ['encfs', ['-f', '-S', '--standard', back, point]])).dir)
  real('rclone mount', needs('rclone', 'rclone'), async (t) => {
    const { dir } = await mounted(t, (back, point) => ['rclone', ['mount', '--vfs-cache-mode', 'writes', '--config', '/dev/null', back, point]])
    return dir
  })
  real('exfat-fuse', needs('mount.exfat-fuse', 'exfat-fuse') || needs('mkfs.exfat', 'exfatprogs'), async (t) => {
    const image = path.join(newDir(t), 'image')
    fs.writeFileSync(image, '')
    fs.truncateSync(image, 32 << 20)
    assert.ok(works('mkfs.exfat', [image]))
    const loop = spawnSync('losetup', ['-f', '--show', image], { encoding: 'utf8' }).stdout.trim()
    cleanUp(t, () => void spawnSync('losetup', ['-d', loop]))
    return (await mounted(t, (_, point) => ['mount.exfat-fuse', ['-d', loop, point]])).dir
  })
  real('overlay', whyNot.mount(), async (t) => {
    const disk = ordinaryDisk(t)
    const [lower, upper, work, point] = ['lower', 'upper', 'work', 'point'].map((name) => path.join(disk, name))
    for (const dir of [lower, upper, work, point]) fs.mkdirSync(String(dir))
    // On a disk of its own, because an overlay cannot have another one for its changes.
    assert.ok(works('mount', ['-t', 'overlay', '-o', `lowerdir=${lower},upperdir=${upper},workdir=${work}`, 'none', String(point)]))
    cleanUp(t, () => unmount(String(point)))
    return String(point)
  })
})
