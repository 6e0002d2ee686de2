'use strict'

// The system calls of a write fail, one after the other, in a real process: once and for ever,
// with every error that a disk has to offer. Which calls there are is taken from a trace of a
// write that succeeds, so that none is left out when the engine changes.
//
// What has to hold: resolved means that the new bytes are there, rejected that the old file is
// there and nothing else, rejected with `committed` that the new bytes are there after all.

const { describe, test } = require('node:test')
const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { Program, content, fastDir, hasSeen, ordinaryDisk, sequenceOf, strace, temps, whyNot } = require('./system.js')

const RETRIED = ['ENOSPC', 'EIO', 'EDQUOT']
const ERRORS = [...RETRIED, 'EINTR', 'EACCES']
const SIZE = 5000

/** A child that writes one file, and the expected state of that file. */
class Bench {
  static async open(t, shape, disk = fastDir) {
    const bench = new Bench()
    bench.t = t
    bench.root = disk(t)
    bench.dir = path.join(bench.root, 'dir')
    fs.mkdirSync(bench.dir)
    bench.program = new Program(t, 'writer.js', { args: [fastDir(t)] })
    bench.shape = shapes[shape]
    bench.path = path.join(bench.dir, 'target')
    bench.written = 0
    return bench
  }

  /** Sets up the state before a write. */
  prepare() {
    const { path: asked, file = asked, options } = this.shape(this)
    this.asked = asked
    this.file = file
    this.shapeOptions = options
    this.old = read(file)
    this.inode = this.old && fs.statSync(file).ino
  }

  /** Writes while these calls fail. */
  async write(way, options, injections, tries = 3) {
    this.prepare()
    this.durability = options.durability ?? 'full'
    const { io, sync } = await this.program.ask({ do: 'threads', withSync: way === 'writeSync' })
    this.fresh = { seed: ++this.written, size: SIZE }
    const trace = await strace(this.t, way === 'write' ? io : [sync], injections)
    const answer = await this.program.ask({ do: way, path: this.asked, ...this.fresh, options: { ...options, ...this.shapeOptions } })
    const lines = await trace.done()
    if (!hasSeen(lines, this.dir) && tries > 1) return this.write(way, options, injections, tries - 1)
    return { ...answer, trace: lines }
  }

  /** The calls of a write that succeeds. */
  async sequence(way, options) {
    // The first write on a thread may make more calls than later ones.
    await this.write(way, options, [])
    const { done, error, trace } = await this.write(way, options, [])
    assert.ok(done, error?.message)
    const sequence = sequenceOf(trace, this.dir, options.durability)
    assert.ok(sequence.created >= 0 && sequence.created < sequence.renamed && sequence.renamed <= sequence.settled, trace.join('\n'))
    assert.equal(new Set(sequence.calls.map(({ thread }) => thread)).size, 1, 'an attempt is made on one thread')
    return sequence
  }

  /** What contradicts the outcome of a write. */
  problems({ done, error, trace }) {
    const problems = []
    const found = read(this.file)
    const fresh = content(this.fresh.seed, this.fresh.size)
    const is = (bytes) => (bytes === undefined || found === undefined ? bytes === found : found.equals(bytes))
    const expected = done || error.committed ? fresh : this.old
    if (!is(expected)) problems.push(`the file is ${is(fresh) ? 'new' : is(this.old) ? 'old' : 'torn'}`)
    if (expected === this.old && this.old && fs.statSync(this.file).ino !== this.inode) problems.push('the old bytes are in another file')
    const dir = path.dirname(this.file)
    const left = fs.existsSync(dir) ? temps(dir) : []
    if (left.length > 0) problems.push(`left behind: ${left}`)
    if (error && error.name !== 'SessionFileError') problems.push(`a ${error.name}`)
    problems.push(...wrongSyncs(trace, done ? this.durability : 'none'))
    // The next case starts clean.
    for (const name of left) fs.unlinkSync(path.join(dir, name))
    return problems
  }
}

const SYNC = /^(?:\d+ +)?(?:fsync|fdatasync|sync_file_range|syncfs)\((?:\d+<([^>]*)>)?.* = (-1 (\w+)|0)/

/** What is wrong with the order of the syncs in a trace, for a write that was acknowledged. */
function wrongSyncs(trace, durability) {
  const wrong = []
  const failed = new Set()
  let before = false
  let after = false
  let isRenamed = false
  for (const line of trace) {
    // Each attempt is on its own.
    if (line.includes('O_EXCL')) before = after = isRenamed = false
    if (/^(?:\d+ +)?rename.* = 0/.test(line)) isRenamed = true
    const [, file, result, error] = SYNC.exec(line) ?? []
    if (result === undefined) continue
    if (failed.has(file)) wrong.push(`synced again after a failed sync: ${file}`)
    // An interrupted call is continued.
    if (error && error !== 'EINTR') failed.add(file)
    if (result === '0' && isRenamed) after = true
    if (result === '0' && !isRenamed) before = true
  }
  // A later attempt may have been made on a thread that is not traced.
  if (!isRenamed) return wrong
  if (durability !== 'none' && !before) wrong.push('renamed before it was synced')
  if (durability === 'full' && !after) wrong.push('not synced after the rename')
  return wrong
}

function read(file) {
  try {
    return fs.readFileSync(file)
  } catch {
    return undefined
  }
}

/** What is at the path before the write. */
const shapes = {
  /** A file with attributes that have to be carried over. */
  existing({ path: file }) {
    if (!fs.existsSync(file)) {
      fs.writeFileSync(file, 'old')
      fs.chmodSync(file, 0o640)
      if (process.getuid() === 0) fs.chownSync(file, 7, 7)
    }
    return { path: file }
  },
  missing({ path: file }) {
    fs.rmSync(file, { force: true })
    return { path: file }
  },
  link({ path: file, dir }) {
    const link = path.join(dir, 'link')
    if (!fs.existsSync(link)) {
      fs.writeFileSync(file, 'old')
      fs.symlinkSync('target', link)
    }
    return { path: link, file }
  },
  dirs({ dir }) {
    const first = path.join(dir, 'first')
    fs.rmSync(first, { recursive: true, force: true })
    return { path: path.join(first, 'second/target'), options: { makeDirs: true } }
  },
}

// The last write of an operation on holdfast's threads wakes JavaScript. It must not fail for
// ever, or Node aborts; it does not mind being interrupted often.
const OFTEN = 3000

// Calls that only ask which way is the better one. Without an answer the safe way is used.
const QUESTIONS = new Set(['fstatfs', 'statfs'])

/**
 * Fails each call of the sequence with each error, once or for ever, and calls `check` with
 * what came of it and what the call is to the write. It gathers what is wrong.
 */
async function failEach(t, { shape, disk, way, options, errors = ERRORS, times = ['once', 'for ever'], check }) {
  const bench = await Bench.open(t, shape, disk)
  const sequence = await bench.sequence(way, options)
  const { calls, created, renamed, settled } = sequence
  const problems = []
  let cases = 0
  for (const [index, { name, number, line }] of calls.entries()) {
    for (const time of times) {
      // The later occurrences have been seen when it failed for ever from the first on.
      for (const error of errors) {
        let when = time === 'once' ? `${number}` : `${number}+`
        if (way === 'write' && name === 'write' && time === 'for ever') {
          if (error !== 'EINTR') continue
          when = `${number}..${number + OFTEN}`
        }
        const outcome = await bench.write(way, options, [`${name}:error=${error}:when=${when}`])
        cases++
        const wrong = bench.problems(outcome)
        if (!outcome.trace.some((line) => line.includes('(INJECTED)'))) wrong.push('nothing has failed')
        const affected = time === 'once' ? [index] : calls.flatMap((call, other) => (other >= index && call.name === name ? [other] : []))
        // After its last sync the write checks whether the target is still this file.
        const isQuestion = QUESTIONS.has(name) || (name === 'newfstatat' && affected[0] > renamed)
        const matters = !isQuestion && affected.some((other) => other >= created && other <= settled)
        check?.(outcome, {
          error, time, name, line, matters,
          isFatal: matters || (time === 'for ever' && name !== 'close' && !isQuestion),
          isCommitted: affected[0] > renamed,
          // An interrupted close has closed the file.
          isClosed: name === 'close' && error === 'EINTR',
        }, (problem) => wrong.push(problem))
        const came = outcome.done ? 'resolved' : JSON.stringify(outcome.error)
        if (wrong.length > 0) problems.push(`${error} ${time} from ${line.replace(/^\d+ +/, '')}: ${wrong.join(', ')} (${came})`)
      }
    }
  }
  t.diagnostic(`${calls.length} calls, ${cases} faults: ${calls.map(({ name }) => name).join(' ')}`)
  assert.deepEqual(problems, [])
}

/** The required outcome of one attempt with a fault. */
function oneAttempt({ done, error }, { error: code, time, matters, isFatal, isCommitted, isClosed }, wrong) {
  if (error && error.code !== code) wrong(`the code is ${error.code}`)
  if (error && error.attempts !== 1) wrong(`${error.attempts} attempts`)
  if (error && Boolean(error.committed) !== isCommitted) wrong(`committed is ${error.committed}`)
  if (code === 'EINTR' && time === 'once') {
    if (!done) wrong('an interruption is not continued')
  } else if (done && (time === 'once' ? matters : isFatal) && !isClosed) {
    wrong('the fault is not reported')
  }
}

/** The required outcome of three attempts with a fault. */
function threeAttempts({ done, error }, { error: code, time, matters, isFatal, isCommitted, isClosed }, wrong) {
  const isRetried = RETRIED.includes(code) && !isCommitted
  if (time === 'once' && (isRetried || code === 'EINTR') && !done) wrong('another attempt would have succeeded')
  else if (time === 'once' && !isRetried && code !== 'EINTR' && done && matters) wrong('the fault is not reported')
  else if (time === 'for ever' && isFatal && done && !isClosed) wrong('the fault is not reported')
  if (error && error.code !== code) wrong(`the code is ${error.code}`)
  if (error && error.attempts !== (isRetried ? 3 : 1)) wrong(`${error.attempts} attempts`)
  if (error && Boolean(error.committed) !== isCommitted) wrong(`committed is ${error.committed}`)
}

describe('a system call that fails', { skip: whyNot.strace(), concurrency: 2 }, () => {
  for (const durability of ['none', 'file', 'full']) {
    test(`atomicWrite with '${durability}' tells the truth after one attempt`, (t) =>
      failEach(t, { shape: 'existing', way: 'write', options: { durability, retries: 1 }, check: oneAttempt }))

    test(`atomicWriteSync with '${durability}' makes three attempts and tells the truth`, (t) =>
      failEach(t, { shape: 'existing', way: 'writeSync', options: { durability, retryDelay: 1 }, check: threeAttempts }))
  }

  // A file system on a disk gets other calls than one in memory.
  for (const durability of ['file', 'full']) {
    test(`atomicWrite with '${durability}' tells the truth on a disk`, (t) =>
      failEach(t, { shape: 'existing', disk: ordinaryDisk, way: 'write', options: { durability, retries: 1 }, errors: ['EIO', 'EINTR'], check: oneAttempt }))
  }

  test('atomicWrite gets through once there is an attempt without a fault', (t) =>
    failEach(t, {
      shape: 'existing',
      way: 'write',
      // One fault on each thread: holdfast has at most 64.
      options: { durability: 'full', retries: 65, retryDelay: 1 },
      errors: [...RETRIED, 'EINTR'],
      times: ['once'],
      check: ({ done }, { isCommitted }, wrong) => done || isCommitted || wrong('another attempt would have succeeded'),
    }))

  for (const [shape, title, check] of [
    ['missing', 'a new file', oneAttempt],
    ['link', 'the file behind a symbolic link', oneAttempt],
    // A directory that is there already, or seems to be, is as good as one that was made.
    ['dirs', 'a file in new directories', undefined],
  ]) {
    test(`atomicWrite of ${title} tells the truth`, (t) =>
      failEach(t, { shape, way: 'write', options: { durability: 'full', retries: 1 }, errors: ['ENOSPC', 'EIO', 'EINTR'], check }))
  }
})

describe('a disk that fails twice or lies', { skip: whyNot.strace() }, () => {
  test('the first error is reported when the temp file cannot be removed either', async (t) => {
    const bench = await Bench.open(t, 'existing')
    for (const way of ['write', 'writeSync']) {
      for (const [name, number, code] of [['write', 1, 'ENOSPC'], ['fsync', 1, 'EIO'], ['renameat', 1, 'EACCES'], ['fchmod', 1, 'EIO']]) {
        const outcome = await bench.write(way, { retries: 1 }, [`${name}:error=${code}:when=${number}`, 'unlinkat:error=EPERM:when=1+'])
        assert.equal(outcome.error.code, code)
        assert.equal(outcome.error.committed, false)
        const left = temps(bench.dir)
        assert.equal(left.length, 1)
        // Recovery will find it: its lock is free.
        assert.deepEqual(bench.problems(outcome), [`left behind: ${left}`])
      }
    }
  })

  test('a disk that takes bytes and does not keep them gets no rename', async (t) => {
    const bench = await Bench.open(t, 'existing')
    for (const way of ['write', 'writeSync']) {
      // strace answers in place of the system: nothing is written.
      for (const taken of [1, SIZE - 1, SIZE]) {
        const outcome = await bench.write(way, { retries: 1 }, [`write:retval=${taken}:when=1`])
        assert.deepEqual([outcome.error?.code, outcome.error?.committed], ['EIO', false], `${taken} bytes taken`)
        assert.deepEqual(bench.problems(outcome), [])
      }
    }
  })

  test('a disk that takes no bytes and gives no error does not hang the write', async (t) => {
    const bench = await Bench.open(t, 'existing')
    for (const [way, when] of [['write', '1'], ['writeSync', '1+']]) {
      const outcome = await bench.write(way, { retryDelay: 1, retries: way === 'write' ? 1 : 3 }, [`write:retval=0:when=${when}`])
      assert.equal(outcome.error.code, 'EIO')
      assert.deepEqual(bench.problems(outcome), [])
    }
  })
})
