'use strict'

// Files that several users share: whoever comes first must not lock the others out.

const assert = require('node:assert/strict')
const { spawnSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const { describe, test } = require('node:test')
const { asPerson, failure, holdfast, inChild, mount, names, newDir, newFile, readableByAll, whyNot } = require('./helpers.js')
const { lockFileOf } = require('./programs/lock-peer.js')

const ROOT = 0
const TEAM = 5500
/** @type {import('./helpers.js').Person} */
const ANNA = { uid: 5501, groups: [TEAM] }
/** @type {import('./helpers.js').Person} */
const BEN = { uid: 5502, groups: [TEAM] }
/** @type {import('./helpers.js').Person} Not in the team. */
const CARL = { uid: 5503 }

const SKIP = { skip: whyNot.people() }

/** The ids of the owner and the group of a file, and its permissions. @param {string} file */
function rightsOf(file) {
  const { uid, gid, mode } = fs.lstatSync(file)
  return `${uid}:${gid} ${(mode & 0o7777).toString(8)}`
}

/**
 * Makes a file.
 *
 * @param {string} file @param {number} uid @param {number} gid @param {number} mode @param {string} [content]
 */
function make(file, uid, gid, mode, content = '{}') {
  fs.writeFileSync(file, content)
  fs.chownSync(file, uid, gid)
  fs.chmodSync(file, mode)
  return file
}

/** @param {import('node:test').TestContext} t @param {number} uid @param {number} gid @param {number} mode */
function makeDir(t, uid, gid, mode) {
  const dir = path.join(newDir(t), 'dir')
  fs.mkdirSync(dir)
  fs.chownSync(dir, uid, gid)
  fs.chmodSync(dir, mode)
  return dir
}

/**
 * Takes a lock as another user, and releases it: `'success'`, or the code of the error.
 *
 * @param {import('./helpers.js').Person} person @param {string} file @param {object} [options]
 */
async function lockAs(person, file, options = {}) {
  const outcome = await inChild(({ file, options }, { holdfast, outcome }) => {
    return outcome(async () => (await holdfast.acquireLock(file, options)).release())
  }, { file, options }, { person })
  return outcome.code ?? outcome
}

/** Counts once in a JSON file. @param {import('./helpers.js').Person} person @param {string} file */
function count(person, file) {
  return inChild(({ file }, { holdfast, outcome }) => outcome(() => holdfast.updateJsonFile(file, (/** @type {any} */ data) => {
    data.n = (data.n ?? 0) + 1
  }, { defaultValue: {} })), { file }, { person })
}

/** What a process leaves that is killed while it has a lock. @param {import('./helpers.js').Person | undefined} person @param {string} file @param {object} [options] */
async function killedWith(person, file, options = {}) {
  const program = `require(${JSON.stringify(readableByAll())}).acquireLock(${JSON.stringify(file)}, ${JSON.stringify(options)}).then(() => setTimeout(() => process.kill(process.pid, 'SIGKILL'), 20))`
  const [command = process.execPath, ...args] = [...(person ? asPerson(person) : []), process.execPath, '-e', program]
  const { status, signal, stderr } = spawnSync(command, args, { encoding: 'utf8' })
  assert.ok(signal === 'SIGKILL' || status === 137, `${status} ${stderr}`)
}

describe('lock files', SKIP, () => {
  test('of a person who came first are open to all who may use the file, whatever the umask', async (t) => {
    for (const [mode, expected] of /** @type {const} */ ([[0o664, '666'], [0o660, '660'], [0o640, '660'], [0o600, '600'], [0o444, '666']])) {
      for (const umask of ['022', '0777']) {
        const dir = makeDir(t, ROOT, TEAM, 0o2775)
        const file = make(path.join(dir, 's.json'), ANNA.uid, TEAM, mode)
        await killedWith({ ...ANNA, umask }, file)
        assert.equal(rightsOf(lockFileOf(file)), `${ANNA.uid}:${TEAM} ${expected}`, `${mode.toString(8)} ${umask}`)
      }
    }
  })

  test('are made for the users of the folder where there is no file yet', async (t) => {
    for (const [mode, expected] of /** @type {const} */ ([[0o2775, '666'], [0o2770, '660'], [0o1777, '666']])) {
      const dir = makeDir(t, ROOT, TEAM, mode)
      const file = path.join(dir, 'new')
      await killedWith({ ...ANNA, umask: '077' }, file)
      assert.equal(rightsOf(lockFileOf(file)), `${ANNA.uid}:${TEAM} ${expected}`)
    }
  })

  test('of the superuser belong to the owner of the file, or of the folder', async (t) => {
    const dir = makeDir(t, ANNA.uid, ANNA.uid, 0o755)
    const file = make(path.join(dir, 's.json'), ANNA.uid, ANNA.uid, 0o600)
    for (const each of [file, path.join(dir, 'new.json')]) await killedWith(undefined, each)
    assert.equal(rightsOf(lockFileOf(file)), `${ANNA.uid}:${ANNA.uid} 600`)
    assert.equal(rightsOf(lockFileOf(path.join(dir, 'new.json'))), `${ANNA.uid}:${ANNA.uid} 666`)
    for (const each of [file, path.join(dir, 'new.json')]) assert.equal(await count(ANNA, each), 'success')
  })

  test('let two people update a file of a setgid folder in turns', async (t) => {
    for (const [umask, mode] of /** @type {const} */ ([['022', 0o664], ['077', 0o660]])) {
      const dir = makeDir(t, ROOT, TEAM, 0o2775)
      const file = make(path.join(dir, 's.json'), ROOT, TEAM, mode)
      for (const person of [ANNA, BEN, ANNA]) assert.equal(await count({ ...person, umask }, file), 'success')
      assert.equal(fs.readFileSync(file, 'utf8'), '{"n":3}')
    }
  })

  test('name the owner of the file where a member of its group has made them, and nobody else', async (t) => {
    // Carl is not in the group of his file, so in a lock file of Ben's he has no class of his own.
    const dir = makeDir(t, ROOT, TEAM, 0o2771)
    const file = make(path.join(dir, 's.json'), CARL.uid, TEAM, 0o660)
    await killedWith(BEN, file)
    const lock = lockFileOf(file)
    assert.equal(rightsOf(lock), `${BEN.uid}:${TEAM} 660`)
    for (const [person, expected] of /** @type {const} */ ([[CARL, 'success'], [ANNA, 'success'], [{ uid: 5504 }, 'EACCES']])) {
      assert.equal(await lockAs(person, file), expected)
    }
  })

  test('keep out whom the access control list of the file keeps out, and let in whom it lets in', async (t) => {
    const dir = makeDir(t, ROOT, ROOT, 0o777)
    const file = make(path.join(dir, 's.json'), ROOT, TEAM, 0o600)
    if (spawnSync('setfacl', ['-m', `u:${CARL.uid}:rw,g::---,m::rw`, file]).status !== 0) return t.skip('needs setfacl (acl)')
    await killedWith(undefined, file)
    assert.equal(rightsOf(lockFileOf(file)), `${ROOT}:${TEAM} 660`)
    // Who has had the lock removes its file, and another may make one.
    for (const [person, expected] of /** @type {const} */ ([[ANNA, 'EACCES'], [CARL, 'success']])) {
      assert.equal(await lockAs(person, file), expected)
    }
  })

  test('do not take their permissions from the default list of the folder', async (t) => {
    const dir = makeDir(t, ROOT, TEAM, 0o2770)
    const file = make(path.join(dir, 's.json'), ANNA.uid, TEAM, 0o660)
    if (spawnSync('setfacl', ['-d', '-m', `u:${CARL.uid}:rwx,g::---`, dir]).status !== 0) return t.skip('needs setfacl (acl)')
    fs.chmodSync(dir, 0o2775)
    await killedWith(ANNA, file)
    for (const [person, expected] of /** @type {const} */ ([[BEN, 'success'], [CARL, 'EACCES']])) {
      assert.equal(await lockAs(person, file), expected)
    }
  })

  test('that are too narrow are opened to the others by their owner, and by the superuser', async (t) => {
    const dir = makeDir(t, ROOT, TEAM, 0o2775)
    const file = path.join(dir, 's.json')
    const lock = lockFileOf(file)
    for (const [owner, who, expected] of /** @type {const} */ ([[ANNA.uid, ANNA, `${ANNA.uid}:${TEAM} 666`], [ANNA.uid, undefined, `${ROOT}:${TEAM} 666`]])) {
      make(file, ROOT, TEAM, 0o664)
      make(lock, owner, ANNA.uid, 0o644, '')
      const refused = await count(BEN, file)
      assert.equal(refused.code, 'EACCES')
      assert.match(refused.hint, /taking the lock once/)
      assert.equal(refused.cause.path, lock)
      await killedWith(who, file)
      assert.equal(rightsOf(lock), expected)
      assert.equal(await count(BEN, file), 'success')
    }
    make(lock, ANNA.uid, TEAM, 0o777, '')
    await killedWith(ANNA, file)
    assert.equal(rightsOf(lock), `${ANNA.uid}:${TEAM} 777`)
  })

  test('have their permissions before they have their name', async (t) => {
    if (whyNot.strace()) return t.skip(String(whyNot.strace()))
    const dir = makeDir(t, ROOT, TEAM, 0o2775)
    const file = make(path.join(dir, 's.json'), ROOT, TEAM, 0o664)
    // Killed before each of the calls that may give it its name or change it: what is there is right.
    for (const call of ['linkat', 'renameat2', 'fchmod', 'fchown', 'fsetxattr', 'fcntl']) {
      for (let nth = 1; nth < 8; nth++) {
        fs.rmSync(lockFileOf(file), { force: true })
        const source = `require(${JSON.stringify(readableByAll())}).acquireLock(${JSON.stringify(file)}).then((lock) => lock.release())`
        const strace = ['strace', '-f', '-qq', '-o', '/dev/null', '-e', `trace=${call}`, '-e', `inject=${call}:signal=KILL:when=${nth}`]
        const [command = '', ...args] = [...asPerson({ ...ANNA, umask: '077' }), ...strace, process.execPath, '-e', source]
        const { status, signal } = spawnSync(command, args)
        const wasKilled = signal === 'SIGKILL' || status === 137
        if (fs.existsSync(lockFileOf(file))) assert.equal(rightsOf(lockFileOf(file)), `${ANNA.uid}:${TEAM} 666`, `${call} ${nth}`)
        assert.deepEqual(names(dir).filter((name) => !['s.json', path.basename(lockFileOf(file))].includes(name)), [], `${call} ${nth}`)
        if (!wasKilled) break
      }
    }
  })

  test('get them also where a file cannot be made without a name, nor renamed without replacing', async (t) => {
    if (whyNot.strace()) return t.skip(String(whyNot.strace()))
    const dir = makeDir(t, ROOT, TEAM, 0o2775)
    const file = make(path.join(dir, 's.json'), ROOT, TEAM, 0o664)
    const ways = [['inject=linkat:error=ENOENT:when=1'], ['inject=linkat:error=ENOENT:when=1', 'inject=renameat2:error=EINVAL'], ['inject=linkat:error=EPERM', 'inject=renameat2:error=EINVAL']]
    for (const faults of ways) {
      const strace = ['strace', '-f', '-qq', '-o', '/dev/null', '-e', 'trace=linkat,renameat2', ...faults.flatMap((fault) => ['-e', fault])]
      const source = `require(${JSON.stringify(readableByAll())}).acquireLock(${JSON.stringify(file)}).then(() => setTimeout(() => process.kill(process.pid, 'SIGKILL'), 20))`
      const [command = '', ...args] = [...asPerson({ ...ANNA, umask: '077' }), ...strace, process.execPath, '-e', source]
      spawnSync(command, args)
      assert.equal(rightsOf(lockFileOf(file)), `${ANNA.uid}:${TEAM} 666`, faults.join())
      assert.deepEqual(names(dir), [path.basename(lockFileOf(file)), 's.json'])
      fs.rmSync(lockFileOf(file))
    }
  })

  test('are made in a sticky folder where the system protects the files of others from O_CREAT', async (t) => {
    const setting = '/proc/sys/fs/protected_regular'
    if (!fs.existsSync(setting)) return t.skip('needs fs.protected_regular')
    const dir = makeDir(t, ROOT, ROOT, 0o1777)
    const file = make(path.join(dir, 's'), CARL.uid, CARL.uid, 0o644)
    await killedWith(ANNA, file)
    for (const person of [BEN, CARL]) {
      assert.equal(await lockAs(person, file), 'success', `fs.protected_regular is ${fs.readFileSync(setting, 'utf8')}`)
    }
  })
})

describe('read locks', SKIP, () => {
  const READ = /** @type {const} */ ({ kind: 'read' })

  /** Has somebody hold a lock until it is released. @param {import('node:test').TestContext} t @param {import('./helpers.js').Person} person @param {string} file @param {object} options */
  async function held(t, person, file, options) {
    const signals = makeDir(t, ROOT, ROOT, 0o777)
    const [taken, over] = ['taken', 'over'].map((name) => path.join(signals, name))
    const ended = inChild(async ({ file, options, taken, over }, { holdfast, fs, outcome }) => outcome(async () => {
      const lock = await holdfast.acquireLock(file, options)
      fs.writeFileSync(taken, '')
      while (!fs.existsSync(over)) await new Promise((resolve) => setTimeout(resolve, 5))
      await lock.release()
    }), { file, options, taken, over }, { person })
    const failed = ended.then((outcome) => assert.equal(outcome, 'success'))
    const isTaken = async () => {
      while (!fs.existsSync(taken ?? '')) await new Promise((resolve) => setTimeout(resolve, 5))
    }
    await Promise.race([failed, isTaken()])
    return {
      release: async () => {
        fs.writeFileSync(over ?? '', '')
        await failed
      },
    }
  }

  /** @param {string} file @param {object} [options] */
  const couldHave = async (file, options) => {
    const lock = await holdfast.tryAcquireLock(file, options)
    await lock?.release()
    return lock !== null
  }

  /** A reader keeps out writers and no reader, and is kept out by a writer. @param {import('node:test').TestContext} t @param {string} file @param {string} seen the file as the reader sees it @param {import('./helpers.js').Person} person */
  async function excludes(t, file, seen, person) {
    const reading = await held(t, person, seen, READ)
    assert.equal(await couldHave(file), false)
    assert.equal(await couldHave(file, READ), true)
    assert.equal((await holdfast.isLocked(file)).locked, true)
    assert.equal((await failure(holdfast.acquireLock(file, { timeout: 100 }))).code, 'ELOCKED')
    assert.equal(await lockAs(person, seen, { ...READ, timeout: 100 }), 'success')
    let hasWritten = false
    const writing = holdfast.withLock(file, async () => {
      hasWritten = true
      assert.equal(await lockAs(person, seen, { ...READ, timeout: 100 }), 'ELOCKED')
    })
    await new Promise((resolve) => setTimeout(resolve, 50))
    assert.equal(hasWritten, false)
    // A writer that waits comes before readers that come later.
    assert.equal(await lockAs(person, seen, { ...READ, timeout: 100 }), 'ELOCKED')
    await reading.release()
    await writing
    assert.equal(await couldHave(file), true)
    assert.equal(await lockAs(person, seen, READ), 'success')
  }

  test('are for everybody who may read the file, where the lock file cannot be written to', async (t) => {
    const dir = makeDir(t, ROOT, ROOT, 0o755)
    const file = make(path.join(dir, 's.json'), ROOT, ROOT, 0o644)
    const keeping = await held(t, { uid: ROOT }, file, READ)
    fs.chmodSync(lockFileOf(file), 0o644)
    assert.equal(await lockAs(CARL, file, { timeout: 0 }), 'EACCES')
    assert.equal(await lockAs(CARL, file, READ), 'success')
    const reading = await held(t, CARL, file, READ)
    await keeping.release()
    assert.equal(await couldHave(file), false)
    await reading.release()
    assert.equal(await couldHave(file), true)
  })

  test('are for everybody who may read the file, where there is no lock file and none can be made', async (t) => {
    const dir = makeDir(t, ROOT, ROOT, 0o755)
    const file = make(path.join(dir, 's.json'), ROOT, ROOT, 0o644)
    const reading = await held(t, CARL, file, READ)
    assert.deepEqual(names(dir), ['s.json'])
    await reading.release()
    await excludes(t, file, file, CARL)
    fs.rmSync(lockFileOf(file), { force: true })
    assert.equal(await lockAs(CARL, file), 'EACCES')
  })

  test('are also had on a read-only mount, and keep out who writes through another', async (t) => {
    if (whyNot.mount()) return t.skip(String(whyNot.mount()))
    const dir = makeDir(t, ROOT, ROOT, 0o755)
    const file = make(path.join(dir, 's.json'), ROOT, ROOT, 0o644)
    const at = makeDir(t, ROOT, ROOT, 0o755)
    mount(t, at, '--bind', dir)
    mount(t, at, '-o', 'remount,ro,bind')
    for (const person of [CARL, { uid: ROOT }]) {
      fs.rmSync(lockFileOf(file), { force: true })
      await excludes(t, file, path.join(at, 's.json'), person)
    }
    assert.equal(await lockAs({ uid: ROOT }, path.join(at, 'other')), 'EROFS')
  })

  test('of readers without rights see no half of what a writer does', async (t) => {
    const dir = makeDir(t, ROOT, ROOT, 0o755)
    const file = make(path.join(dir, 's.json'), ROOT, ROOT, 0o644)
    const [one, other] = ['one', 'other'].map((name) => make(path.join(dir, name), ROOT, ROOT, 0o644, '0'))
    let over = false
    const reading = Promise.all([CARL, ANNA].map((person) => inChild(async ({ file, one, other }, { holdfast, fs }) => {
      let [reads, end] = [0, Date.now() + 2500]
      for (; Date.now() < end; reads++) {
        await holdfast.withLock(file, async () => {
          const before = fs.readFileSync(one, 'utf8')
          await new Promise((resolve) => setImmediate(resolve))
          if (fs.readFileSync(other, 'utf8') !== before) throw new Error('half of it')
        }, { kind: 'read', timeout: 30_000 })
      }
      return reads
    }, { file, one, other }, { person }))).finally(() => (over = true))
    let writes = 0
    for (; !over; writes++) {
      await holdfast.withLock(file, async () => {
        fs.writeFileSync(one ?? '', String(writes))
        await new Promise((resolve) => setImmediate(resolve))
        fs.writeFileSync(other ?? '', String(writes))
        // So that there is often none. The last act under a lock may remove it.
        if (writes % 2) fs.rmSync(lockFileOf(file), { force: true })
      })
      await new Promise((resolve) => setTimeout(resolve, writes % 5))
    }
    for (const reads of await reading) assert.ok(reads > 10, `${reads} reads beside ${writes} writes`)
    assert.ok(writes > 10)
  })
})

describe('transactions', SKIP, () => {
  /** Runs a transaction as another user, perhaps killed at its nth rename. @param {import('./helpers.js').Person} person @param {string[]} files @param {string} [fault] */
  const transact = (person, files, fault) => {
    const strace = fault ? ['strace', '-f', '-qq', '-o', '/dev/null', '-e', 'trace=renameat,renameat2', '-e', `inject=renameat,renameat2:${fault}`] : []
    return inChild(({ files, who }, { holdfast, outcome }) => outcome(() => holdfast.transaction(files, async (/** @type {any} */ tx) => {
      for (const file of files) await tx.write(file, who)
    })), { files, who: `of ${person.uid}` }, { person, command: strace })
  }

  /** @param {string} dir */
  const records = (dir) => names(dir).filter((name) => /\.(prepared|intent)$/.test(name))

  test('of somebody with another umask, who has died or is at work, stop nobody else', async (t) => {
    if (whyNot.strace()) return t.skip(String(whyNot.strace()))
    for (const [gid, mode] of /** @type {const} */ ([[TEAM, 0o2770], [ROOT, 0o777], [ROOT, 0o1777]])) {
      const dir = makeDir(t, ROOT, gid, mode)
      const [mine, yours] = [['a1', 'a2'], ['b1']].map((all) => all.map((name) => path.join(dir, name)))
      const secretive = { ...ANNA, umask: '077' }
      // Before it was decided.
      await assert.rejects(transact(secretive, mine, 'signal=KILL:when=1'))
      assert.equal(records(dir).length, 1)
      assert.equal(await transact(BEN, yours), 'success')
      // While it is under way.
      const slow = transact(secretive, [path.join(dir, 'a3')], 'delay_enter=1500000:when=1')
      while (records(dir).length < 2) await new Promise((resolve) => setTimeout(resolve, 20))
      assert.equal(await transact(BEN, yours), 'success')
      assert.equal(await slow, 'success')
      // In a sticky folder nobody may tidy up for others.
      const cleaner = mode === 0o1777 ? ANNA : BEN
      const { value } = await inChild(async ({ dir }, { holdfast }) => ({ value: await holdfast.recoverFromCrash(dir) }), { dir }, { person: cleaner })
      assert.ok(value.actions.every((/** @type {any} */ { action }) => action === 'removed'), JSON.stringify(value))
      assert.deepEqual(records(dir), [])
      assert.equal(fs.readFileSync(path.join(dir, 'b1'), 'utf8'), `of ${BEN.uid}`)
    }
  })

  test('that have been decided are completed by the next person who may change the files', async (t) => {
    if (whyNot.strace()) return t.skip(String(whyNot.strace()))
    const dir = makeDir(t, ROOT, TEAM, 0o2770)
    const files = ['a1', 'a2'].map((name) => make(path.join(dir, name), ROOT, TEAM, 0o660, 'old'))
    // The first rename decides.
    await assert.rejects(transact({ ...ANNA, umask: '077' }, files, 'signal=KILL:when=2'))
    assert.deepEqual(files.map((file) => fs.readFileSync(file, 'utf8')), ['old', 'old'])
    const read = ({ files }, { holdfast, fs, outcome }) => outcome(() => holdfast.transaction(files, async () => {
      if (!files.every((file) => fs.readFileSync(file, 'utf8') === `of ${5501}`)) throw new Error('not completed')
    }))
    assert.equal(await inChild(read, { files }, { person: BEN }), 'success')
    assert.deepEqual(names(dir).filter((name) => !name.endsWith('.lock')), ['a1', 'a2'])
  })

  test('leave records that only those may change who may replace them', async (t) => {
    if (whyNot.strace()) return t.skip(String(whyNot.strace()))
    for (const [gid, mode, expected] of /** @type {const} */ ([[TEAM, 0o2775, '664'], [ANNA.uid, 0o755, '644'], [ANNA.uid, 0o700, '644'], [TEAM, 0o3770, '640']])) {
      for (const umask of ['022', '077']) {
        const dir = makeDir(t, ANNA.uid, gid, mode)
        await assert.rejects(transact({ ...ANNA, umask }, [path.join(dir, 'a')], 'signal=KILL:when=1'))
        const wanted = umask === '022' ? expected : { 664: '660', 644: '600', 640: '640' }[expected]
        const allowed = umask === '022' && mode === 0o3770 ? '644' : wanted
        assert.equal(rightsOf(path.join(dir, records(dir)[0] ?? '')), `${ANNA.uid}:${gid} ${allowed}`, `${mode.toString(8)} ${umask}`)
      }
    }
  })
})

describe('a log', SKIP, () => {
  /** Its lock file is beside it. @type {typeof makeDir} */
  const logDir = (t, uid, gid, mode) => {
    const dir = path.join(makeDir(t, ROOT, ROOT, 0o777), 'log')
    fs.mkdirSync(dir)
    fs.chownSync(dir, uid, gid)
    fs.chmodSync(dir, mode)
    return dir
  }

  /** Appends as another user, with so small segments that it makes new ones. @param {import('./helpers.js').Person | undefined} person @param {string} dir @param {number} from @param {number} [count] */
  const append = (person, dir, from, count = 40) => inChild(async ({ dir, from, count }, { holdfast, outcome }) => outcome(async () => {
    const log = await holdfast.openWal(dir, { segmentSize: 4096 })
    for (let n = from; n < from + count; n++) await log.append('c', [{ id: `${n}`, op: 'insert', payload: 'x'.repeat(500) }])
    await log.checkpoint('c', BigInt(5))
    await log.close()
  }), { dir, from, count }, { person })

  test('of a folder that several people may write to is written by one after the other, whatever their umask', async (t) => {
    for (const umask of ['022', '077']) {
      const dir = logDir(t, ROOT, TEAM, 0o2770)
      const people = [ANNA, BEN, ANNA, undefined, BEN]
      for (const [index, person] of people.entries()) {
        assert.equal(await append(person && { ...person, umask }, dir, index * 40), 'success', `${index} ${umask}`)
      }
      const log = await holdfast.openWal(dir)
      t.after(() => log.close())
      assert.equal([...log.entries('c')].length, 195)
      assert.deepEqual(log.damage, [])
      assert.equal(names(path.join(dir, 'c')).length > 10, true)
    }
  })

  test('that the superuser has written to stays its owner\'s', async (t) => {
    const dir = logDir(t, ANNA.uid, ANNA.uid, 0o755)
    assert.equal(await append(undefined, dir, 0), 'success')
    assert.equal(await append(ANNA, dir, 40), 'success')
    for (const name of names(path.join(dir, 'c'))) assert.equal(fs.statSync(path.join(dir, 'c', name)).uid, ANNA.uid)
  })

  test('is no more open to others than its folder and the umask let it be', async (t) => {
    for (const [mode, umask, expected] of /** @type {const} */ ([[0o755, '022', '644'], [0o755, '077', '600'], [0o700, '077', '600'], [0o2775, '077', '660'], [0o2775, '022', '664']])) {
      const dir = logDir(t, ANNA.uid, TEAM, mode)
      assert.equal(await append({ ...ANNA, umask }, dir, 0, 20), 'success')
      for (const name of names(path.join(dir, 'c'))) {
        assert.match(rightsOf(path.join(dir, 'c', name)), new RegExp(` ${expected}$`), `${mode.toString(8)} ${umask} ${name}`)
      }
      const execute = { 644: '755', 600: '700', 660: '2770', 664: '2775' }[expected]
      assert.match(rightsOf(path.join(dir, 'c')), new RegExp(` ${execute}$`), `${mode.toString(8)} ${umask}`)
    }
  })
})

describe('the note in a lock file', () => {
  test('names the program and never its arguments', (t) => {
    const dir = newDir(t)
    const program = path.join(dir, 'program.js')
    fs.writeFileSync(program, `require(${JSON.stringify(readableByAll())}).acquireLock(${JSON.stringify(path.join(dir, 'k'))}).then(() => setTimeout(() => process.kill(process.pid, 'SIGKILL'), 50))`)
    const source = fs.readFileSync(program, 'utf8')
    const secret = '--password=hunter2'
    for (const [args, name, input] of /** @type {[string[], string, string?][]} */ ([
      [[program, secret], 'program.js'],
      [['--stack-size=900', program, secret], 'program.js'],
      [['-e', source, '--', secret], path.basename(process.execPath)],
      [['-e', source, `/etc/${secret}`], path.basename(process.execPath)],
      [['-', secret], path.basename(process.execPath), source],
    ])) {
      const { signal, stderr } = spawnSync(process.execPath, args, { input, encoding: 'utf8' })
      assert.equal(signal, 'SIGKILL', stderr)
      const note = fs.readFileSync(lockFileOf(path.join(dir, 'k')), 'utf8')
      assert.doesNotMatch(note, /hunter2/, args.join(' '))
      assert.equal(JSON.parse(note).command, name)
      assert.deepEqual(Object.keys(JSON.parse(note)).sort(), ['command', 'hostname', 'pid', 'since'])
    }
  })

  test('is written over what a crash has left of one, and over nothing else', async (t) => {
    const file = newFile(t)
    const lock = lockFileOf(file)
    const note = `${JSON.stringify({ command: 'a.js', hostname: 'h', pid: 1, since: 1 })}\n`
    for (const left of ['', note, `${note}tail of a longer one"}\n`, note.slice(0, 5), note.slice(0, 30), '\0'.repeat(100), `${note.slice(0, 20)}${'\0'.repeat(9)}`]) {
      fs.writeFileSync(lock, left)
      await holdfast.withLock(file, async () => assert.equal((await holdfast.isLocked(file)).holder?.pid, process.pid))
    }
    for (const foreign of ['a diary\n', '{"pid":1}\n', '1234\n', '{}', '\n', `\0${note}`]) {
      fs.writeFileSync(lock, foreign)
      for (const options of [{}, { timeout: 0 }, { kind: /** @type {const} */ ('read') }]) {
        const error = await failure(holdfast.acquireLock(file, options))
        assert.equal(error.code, 'EEXIST', JSON.stringify(foreign))
        assert.equal(error.cause.path, lock)
        assert.match(error.hint, /left as it is/)
      }
      assert.equal((await failure(holdfast.updateJsonFile(file, () => {}, { defaultValue: {} }))).code, 'EEXIST')
      assert.equal(fs.readFileSync(lock, 'utf8'), foreign)
      fs.rmSync(lock)
    }
    assert.ok(!fs.existsSync(file))
  })

  test('is written into no directory, pipe or link that has the name of the lock file', { skip: whyNot.unix() }, async (t) => {
    const file = newFile(t)
    const lock = lockFileOf(file)
    const other = path.join(path.dirname(file), 'other')
    fs.writeFileSync(other, 'a diary\n')
    for (const [place, code] of /** @type {[() => void, string][]} */ ([
      [() => fs.mkdirSync(lock), 'EISDIR'],
      [() => void spawnSync('mkfifo', [lock]), 'EEXIST'],
      [() => fs.symlinkSync(other, lock), 'ELOOP'],
      [() => fs.symlinkSync('nowhere', lock), 'ELOOP'],
    ])) {
      place()
      const before = fs.lstatSync(lock).ino
      for (const kind of /** @type {const} */ (['write', 'read'])) {
        const error = await failure(holdfast.acquireLock(file, { kind }))
        assert.equal(error.code, code)
        assert.equal(error.cause.path, lock)
        assert.ok(error.hint)
      }
      // Nobody can have it. A link might lead to anything.
      if (code === 'ELOOP') assert.equal((await failure(holdfast.isLocked(file))).code, code)
      else assert.deepEqual(await holdfast.isLocked(file), { locked: false })
      assert.equal(fs.lstatSync(lock).ino, before)
      fs.rmSync(lock, { recursive: true })
    }
    assert.equal(fs.readFileSync(other, 'utf8'), 'a diary\n')
    assert.deepEqual(names(path.dirname(file)), ['other'])
  })
})
