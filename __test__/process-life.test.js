'use strict'

// A process, or a thread of it, ends in the middle of writes, or its memory is taken away while
// being written: it never crashes and never hangs, and the target is one file or the other.

const { describe, test } = require('node:test')
const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { Program, fastDir, hasSeen, nameIn, newDir, strace, temps, tmpfs, whyNot } = require('./system.js')

const HUGE = 256 << 20

/** Runs a scenario of programs/process-life.js to its end. */
async function runScenario(t, scenario, { dir = fastDir(t), args = [], nodeArgs = [], code = 0 } = {}) {
  const target = path.join(dir, 'target')
  const hasRoom = !fs.existsSync(target) && scenario !== 'pendingRetry' && scenario !== 'terminatedBetweenAttempts'
  if (hasRoom) fs.writeFileSync(target, 'old 0')
  const program = new Program(t, 'process-life.js', { args: [scenario, dir, ...args], nodeArgs })
  const outcome = await program.outcome()
  assert.deepEqual({ code: outcome.code, signal: outcome.signal }, { code, signal: null }, outcome.errors)
  assert.doesNotMatch(outcome.errors, /panicked|FATAL ERROR/)
  return { dir, target, says: outcome.lines.at(-1), errors: outcome.errors }
}

/** Runs a scenario in which holdfast's threads wait so many milliseconds before each write, or another system call. */
async function runSlowed(t, scenario, delay, code, call = 'write') {
  for (let tries = 1; ; tries++) {
    const dir = fastDir(t)
    fs.writeFileSync(path.join(dir, 'target'), 'old 0')
    const program = new Program(t, 'process-life.js', { args: [scenario, dir] })
    const { io } = await program.next()
    const trace = await strace(t, io, [`${call}:delay_enter=${delay * 1000}`])
    program.tell('begin')
    const outcome = await program.outcome()
    const calls = await trace.done()
    assert.deepEqual({ code: outcome.code, signal: outcome.signal }, { code, signal: null }, outcome.errors)
    // A thread that did not exist yet was not slowed down.
    if (hasSeen(calls, dir)) return { dir, calls, lines: outcome.lines }
    assert.ok(tries < 3, 'the write has been seen')
  }
}

/** The target of a huge write has its old content or the new one, whole. */
function checkTarget({ target }, size = HUGE) {
  const found = fs.readFileSync(target)
  assert.ok(found.equals(Buffer.from('old 0')) || found.equals(Buffer.alloc(size, 'new')), `${found.length} bytes, neither old nor new`)
  return found.length === size ? 'new' : 'old'
}

/** At its end a process waits for its writes, but not for ever: on a slow disk a temp file may stay. */
function reportTemps(t, { dir }, most) {
  const left = temps(dir)
  assert.ok(left.length <= most, `${left}`)
  if (left.length > 0) t.diagnostic(`the disk took longer than the exit waits, and ${left.length} temp files are left`)
}

describe('pending writes', { concurrency: 2 }, () => {
  test('a large one keeps the process alive until it is done', async (t) => {
    assert.deepEqual((await runScenario(t, 'pendingLarge')).says, { isThere: true })
  })

  test('many keep the process alive until they are all done', async (t) => {
    assert.deepEqual((await runScenario(t, 'pendingMany', { dir: newDir(t) })).says, { last: 'content 499', files: 51 })
  })

  test('one that waits for its next attempt keeps the process alive', { skip: whyNot.mount() }, async (t) => {
    const dir = tmpfs(t, 'nr_inodes=1')
    assert.deepEqual((await runScenario(t, 'pendingRetry', { dir })).says, { code: 'ENOSPC', attempts: 3 })
  })

  test('nothing keeps the process alive after the last write, its idle threads included', { skip: whyNot.linux() }, async (t) => {
    const { says } = await runScenario(t, 'idle')
    assert.equal(says.isThere, true)
    assert.ok(says.threads > 0, 'it has not waited until they have ended')
  })

  test('loading holdfast starts no threads and keeps nothing alive', { skip: whyNot.linux() }, async (t) => {
    assert.deepEqual((await runScenario(t, 'required')).says, { threads: 0 })
  })
})

describe('a process that ends in mid-write', { concurrency: 2 }, () => {
  for (const [scenario, how, code] of [
    ['exits', 'process.exit()', 7],
    ['throws', 'an uncaught exception', 1],
    ['rejects', 'an unhandled rejection', 1],
  ]) {
    test(`by ${how} leaves a whole file and no temp file`, async (t) => {
      const ran = await runScenario(t, scenario, { code })
      const which = checkTarget(ran)
      reportTemps(t, ran, which === 'new' ? 0 : 1)
    })
  }

  test('by process.exit() waits for the write that has started', { skip: whyNot.strace() }, async (t) => {
    // The wait is limited, so a busy machine may fail it once.
    for (let tries = 1; ; tries++) {
      const { dir } = await runSlowed(t, 'exitsSlowly', 100, 7)
      const found = fs.readFileSync(path.join(dir, 'target'), 'utf8')
      assert.ok(found === 'new' || found === 'old 0', found)
      if (found === 'new' && temps(dir).length === 0) return
      assert.ok(tries < 4, `${tries} times the process has not waited`)
    }
  })

  test('by process.exit() with thousands of writes under way leaves whole files and no temp file', async (t) => {
    const { dir } = await runScenario(t, 'exitsWithMany', { code: 7 })
    assert.deepEqual(temps(dir), [])
    const files = fs.readdirSync(dir).filter((name) => name.startsWith('file-'))
    assert.ok(files.length > 0)
    for (const name of files) nameIn(fs.readFileSync(path.join(dir, name)))
  })

  test('by process.exit() while its worker threads write leaves whole files', async (t) => {
    const ran = await runScenario(t, 'exitsWithWorkers', { code: 7 })
    reportTemps(t, ran, 8)
    for (const name of fs.readdirSync(ran.dir)) if (name.startsWith('shared-')) nameIn(fs.readFileSync(path.join(ran.dir, name)))
  })

  for (const how of ['return', 'exit', 'throw', 'pending return', 'pending exit', 'pending throw']) {
    test(`saves by atomicWriteSync in its exit handler (${how})`, async (t) => {
      const code = how.includes('exit') ? 5 : how.includes('throw') ? 1 : 0
      const ran = await runScenario(t, 'savesAtExit', { args: [how], code })
      for (const durability of ['none', 'full']) {
        assert.equal(fs.readFileSync(path.join(ran.dir, `saved-${durability}`), 'utf8'), `${how} ${code}`)
      }
      const which = checkTarget(ran, HUGE / 2)
      if (how === 'pending return') assert.equal(which, 'new')
      reportTemps(t, ran, 2)
      for (const name of fs.readdirSync(ran.dir)) if (name.startsWith('file-')) nameIn(fs.readFileSync(path.join(ran.dir, name)))
    })
  }
})

describe('a worker thread that ends in mid-write', { concurrency: 2 }, () => {
  test('by terminate(), with a referenced Buffer of 256 MiB, does no harm', async (t) => {
    const { says } = await runScenario(t, 'terminated')
    assert.ok(says.largest > 0, 'it was in mid-write')
  })

  test('by terminate() before the system has read its Buffer keeps the Buffer until then', { skip: whyNot.strace() }, async (t) => {
    const { lines, calls } = await runSlowed(t, 'terminatedSlowly', 300, 0)
    assert.deepEqual(lines, [{ reused: 20, isWhole: true }])
    assert.deepEqual(calls.filter((line) => line.includes('EFAULT')), [], 'the memory was gone')
  })

  test('by terminate() under a lock releases it after the write that has started, however small', { skip: whyNot.strace() }, async (t) => {
    const { lines } = await runSlowed(t, 'terminatedUnderLock', 300, 0, 'renameat')
    assert.deepEqual(lines, [{ write: 0, lockedWrite: 0, update: 0, stream: 0, restore: 0, lockDir: 0 }], 'temp files while another thread holds the lock')
  })

  test('by terminate() between two attempts makes no further attempt', { skip: whyNot.mount() }, async (t) => {
    const dir = tmpfs(t, 'nr_inodes=1')
    assert.deepEqual((await runScenario(t, 'terminatedBetweenAttempts', { dir })).says, { files: [] })
  })

  test('by terminate(), while it waits among writes of other threads to the same file, harms none of them', async (t) => {
    assert.deepEqual((await runScenario(t, 'terminatedAmongOthers')).says, { files: ['target'] })
  })

  test('by process.exit() in the worker ends the worker only', async (t) => {
    assert.deepEqual((await runScenario(t, 'workerExits')).says, { code: 3 })
  })

  test('fifty that start and end while they write leave whole files', async (t) => {
    const { says } = await runScenario(t, 'fifty')
    assert.equal(says.files, 5)
    t.diagnostic(`exit codes: ${JSON.stringify(says.codes)}`)
    assert.equal((says.codes[0] ?? 0) + (says.codes[1] ?? 0), 150)
  })

  test('eight workers that load holdfast at the same moment all write', async (t) => {
    assert.deepEqual((await runScenario(t, 'loadedByMany')).says, { done: true })
  })

  test('the last that has holdfast loaded leaves its threads in peace', { skip: whyNot.linux() }, async (t) => {
    assert.deepEqual((await runScenario(t, 'outlived')).says, { done: true })
  })
})

describe('the memory of a write', { concurrency: 2 }, () => {
  test('may be transferred, freed or resized in mid-write: the write settles and nothing crashes', async (t) => {
    const { says } = await runScenario(t, 'taken', { nodeArgs: ['--expose-gc'] })
    t.diagnostic(JSON.stringify(says))
    assert.deepEqual(Object.keys(says), ['clone', 'worker', 'resize'])
  })

  test('may change in mid-write: the bytes are old or new ones of it', async (t) => {
    assert.deepEqual((await runScenario(t, 'changed')).says, { size: HUGE / 2, others: 0 })
  })

  test('is not collected while it is being written, even without another reference', async (t) => {
    assert.deepEqual((await runScenario(t, 'forgotten', { nodeArgs: ['--expose-gc'] })).says, { wrong: 0 })
  })

  test('may come from another realm', async (t) => {
    assert.deepEqual((await runScenario(t, 'contexts')).says, ['new', 'another,realm', 'ENOTDIR'])
  })
})
