'use strict'

// What the specs need of the machine: small disks, child processes, system calls that fail.
// Everything that is made here is also removed here, whatever the outcome of the test.

const { spawn, spawnSync } = require('node:child_process')
const { createCipheriv, createHash } = require('node:crypto')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const readline = require('node:readline')

/** Longer than anything takes that does not hang: a guard, never an expectation. */
const HANG_TIMEOUT = 180_000

// Undoes at the end of the process what a failed hook or a signal has left.
const toUndo = new Set()
const stacks = new WeakMap()
process.on('exit', () => {
  for (const undo of [...toUndo].reverse()) undo()
})
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.once(signal, () => process.exit(1))

/** Runs `undo` once, after the test and in reverse order, or at the end of the process at the latest. */
function cleanUp(t, undo) {
  const once = () => {
    if (toUndo.delete(once)) undo()
  }
  toUndo.add(once)
  if (!t) return once
  if (!stacks.has(t)) {
    stacks.set(t, [])
    t.after(() => {
      for (const undo of stacks.get(t).reverse()) undo()
    })
  }
  stacks.get(t).push(once)
  return once
}

// -- What this machine can do ---------------------------------------------------------------

const remember = (probe) => {
  let answer
  return () => (answer ??= { reason: probe() || false }).reason
}

const works = (command, args) => spawnSync(command, args, { stdio: 'ignore', timeout: HANG_TIMEOUT }).status === 0

/** Reasons to skip a test; `false` when there is none. */
const whyNot = {
  linux: remember(() => process.platform !== 'linux' && 'needs Linux'),
  unix: remember(() => process.platform === 'win32' && 'needs a Unix'),
  root: remember(() => whyNot.unix() || (process.getuid() !== 0 && 'needs root, to give files away and to act as another user')),
  mount: remember(() => {
    if (whyNot.linux()) return whyNot.linux()
    if (process.getuid() !== 0) return 'needs root, to mount a small disk'
    const at = fs.mkdtempSync(path.join(os.tmpdir(), 'holdfast-probe-'))
    try {
      if (!works('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'none', at])) return 'may not mount file systems here'
      return !works('umount', [at]) && 'may not unmount file systems here'
    } finally {
      fs.rmdirSync(at)
    }
  }),
  ext4: remember(() => {
    if (whyNot.mount()) return whyNot.mount()
    if (!mkfs()) return 'needs mkfs.ext4 (e2fsprogs)'
    const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'holdfast-probe-'))
    try {
      const { error, undo } = mountImage(dir, 1 << 20)
      undo?.()
      return error
    } finally {
      fs.rmSync(dir, { recursive: true })
    }
  }),
  strace: remember(() => {
    if (whyNot.linux()) return whyNot.linux()
    if (!works('strace', ['-V'])) return 'needs strace'
    // The way the tests use it: on a process that it has not started.
    return !works('sh', ['-c', 'sleep 0.2 & exec strace -o /dev/null -p $!']) && 'may not trace processes here'
  }),
  people: remember(() => whyNot.linux() || whyNot.root() || (!works('setpriv', ['--reuid=1', '--regid=1', '--clear-groups', 'true']) && 'needs setpriv (util-linux), to act as other users')),
  namespaces: remember(() => whyNot.mount() || (!works('unshare', ['-m', 'true']) && 'needs unshare (util-linux) and the right to make mount namespaces')),
  prlimit: remember(() => whyNot.linux() || (!works('prlimit', ['--version']) && 'needs prlimit (util-linux)')),
  flock: remember(() => whyNot.linux() || (!works('flock', ['--version']) && 'needs flock (util-linux)')),
}

// -- Directories and disks ----------------------------------------------------------------------

/**
 * An empty directory that every user may look into, for one test, or without one for the process. All
 * symbolic links in its path are resolved.
 */
function newDir(t, parent = os.tmpdir()) {
  const made = fs.realpathSync(fs.mkdtempSync(path.join(parent, 'holdfast-test-')))
  fs.chmodSync(made, 0o755)
  cleanUp(t, () => fs.rmSync(made, { recursive: true, force: true }))
  return made
}

/** A directory in memory; an ordinary one where there is none. */
function fastDir(t) {
  try {
    if (process.platform === 'linux') return newDir(t, '/dev/shm')
  } catch {
    // It does not exist, or not for this user.
  }
  return newDir(t)
}

/** A disk in memory, mounted with these options of tmpfs. */
function tmpfs(t, options) {
  const at = fs.realpathSync(fs.mkdtempSync(path.join(os.tmpdir(), 'holdfast-disk-')))
  cleanUp(t, () => {
    spawnSync('umount', ['-l', at], { stdio: 'ignore' })
    fs.rmdirSync(at)
  })
  run('mount', ['-t', 'tmpfs', '-o', options, 'none', at])
  return at
}

/** A fresh ext4 of so many bytes, in blocks of 1 KiB. A journal takes up at least 1 MiB of it. */
function ext4(t, bytes, { journal = false } = {}) {
  const { at, error, undo } = mountImage(newDir(t), bytes, journal)
  if (error) throw new Error(error)
  cleanUp(t, undo)
  return at
}

/** An ordinary disk: a fresh ext4 where it can be mounted, or else the disk of the temporary directory. */
const ordinaryDisk = (t) => (whyNot.ext4() ? newDir(t) : newDir(t, ext4(t, 64 << 20, { journal: true })))

const mkfs = remember(() => ['/sbin/mkfs.ext4', '/usr/sbin/mkfs.ext4', '/usr/bin/mkfs.ext4'].find((file) => fs.existsSync(file)))

function mountImage(dir, bytes, journal) {
  const image = path.join(dir, 'image')
  const at = path.join(dir, 'disk')
  fs.mkdirSync(at)
  fs.writeFileSync(image, '')
  fs.truncateSync(image, bytes)
  if (!works(mkfs(), ['-q', '-F', '-b', '1024', '-m', '0', '-O', journal ? 'has_journal' : '^has_journal', image])) return { error: 'mkfs.ext4 does not work here' }
  if (!works('mount', ['-o', 'loop', image, at])) return { error: 'may not mount loop devices here' }
  return { at, undo: () => spawnSync('umount', ['-l', at], { stdio: 'ignore' }) }
}

function run(command, args) {
  const { status, stderr, error } = spawnSync(command, args, { encoding: 'utf8', timeout: HANG_TIMEOUT })
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: ${error ?? stderr}`)
}

/** A file that takes up all free blocks, and can free some of them. */
class Filler {
  constructor(disk) {
    this.file = path.join(disk, 'filler')
    this.descriptor = fs.openSync(this.file, 'w')
    this.block = fs.statfsSync(disk).bsize
  }

  /** Leaves exactly so many blocks free. */
  leave(blocks) {
    const block = Buffer.alloc(this.block, 'f')
    let size = fs.fstatSync(this.descriptor).size
    for (;;) {
      let written = 0
      try {
        written = fs.writeSync(this.descriptor, block, 0, block.length, size)
      } catch (error) {
        if (error.code !== 'ENOSPC') throw error
      }
      if (written < block.length) break
      size += written
    }
    fs.ftruncateSync(this.descriptor, size - blocks * this.block)
  }

  close() {
    fs.closeSync(this.descriptor)
    fs.unlinkSync(this.file)
  }
}

// -- Contents -------------------------------------------------------------------------------

/** `size` bytes that no other seed has, and of which no two parts are alike. */
function content(seed, size) {
  const key = createHash('sha256').update(String(seed)).digest().subarray(0, 16)
  return createCipheriv('aes-128-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(size))
}

/** Makes bytes that name themselves, so that a reader can tell whether they are whole. */
function signer(seed, size) {
  const body = content(seed, size)
  const hash = createHash('sha1').update(body).digest('hex')
  return (name) => Buffer.concat([Buffer.from(`${JSON.stringify({ name, size, hash })}\n`), body])
}

const signed = (name, size) => signer(name, size)(name)

/** The name in bytes made by `signed`; throws unless they are whole. */
function nameIn(bytes) {
  const end = bytes.indexOf('\n')
  if (end < 0) throw new Error(`torn: ${bytes.length} bytes and not one line`)
  const { name, size, hash } = JSON.parse(bytes.subarray(0, end).toString())
  const body = bytes.subarray(end + 1)
  if (body.length !== size) throw new Error(`torn: ${body.length} bytes of ${size}`)
  if (createHash('sha1').update(body).digest('hex') !== hash) throw new Error(`torn: not the bytes of ${name}`)
  return name
}

/** The name of a temp file; the target's name is the first group. */
const TEMP = /^\.(.*)\.[0-9a-f]{16}\.tmp$/s

/** What is in a directory, hidden files included. */
function names(dir) {
  return fs.readdirSync(dir).sort()
}

/** The names of the temp files in a directory, of all targets. */
function temps(dir) {
  return names(dir).filter((name) => name.endsWith('.tmp'))
}

/** Prints a value as a line of JSON, in one call, so that the line is whole or not there. */
const printLine = (value) => fs.writeSync(1, `${JSON.stringify(value)}\n`)

/** The code with which a promise rejects, or 'resolved'. */
const outcomeOf = (promise) => promise.then(() => 'resolved', (error) => error.code ?? String(error))

// -- Processes ------------------------------------------------------------------------------

/** A program of `programs/` in a process of its own. It reads and writes lines of JSON. */
class Program {
  constructor(t, name, { args = [], nodeArgs = [], env = {}, under = [], root = path.join(__dirname, '..') } = {}) {
    const command = [...under, process.execPath, ...nodeArgs, path.join(root, '__test__', 'programs', name), ...args]
    this.child = spawn(command[0], command.slice(1), { env: { ...process.env, ...env }, stdio: ['pipe', 'pipe', 'pipe'] })
    this.pid = this.child.pid
    this.errors = ''
    this.child.stderr.on('data', (text) => (this.errors += text))
    // A killed process reads no more.
    this.child.stdin.on('error', () => {})
    this.lines = []
    this.waiting = []
    readline.createInterface({ input: this.child.stdout }).on('line', (line) => {
      this.lines.push(JSON.parse(line))
      this.waiting.shift()?.()
    })
    this.ended = new Promise((resolve, reject) => {
      this.child.once('error', reject)
      this.child.once('close', (code, signal) => resolve({ code, signal, errors: this.errors, lines: this.lines }))
    })
    this.ended.then(() => this.waiting.forEach((wake) => wake()), () => {})
    this.end = cleanUp(t, () => this.child.kill('SIGKILL'))
  }

  /** The next line. */
  async next() {
    if (this.lines.length === 0) await guarded(new Promise((resolve) => this.waiting.push(resolve)), this)
    if (this.lines.length === 0) {
      const { code, signal } = await this.ended
      throw new Error(`The program has ended, with ${signal ?? code}, and not answered. ${this.errors}`)
    }
    return this.lines.shift()
  }

  /** Sends a line and takes the next one as its answer. */
  ask(question) {
    this.tell(question)
    return this.next()
  }

  tell(message) {
    this.child.stdin.write(`${JSON.stringify(message)}\n`)
  }

  /** How it ended: the exit code, the signal, what it wrote. */
  async outcome() {
    const outcome = await guarded(this.ended, this)
    this.end()
    return outcome
  }

  kill(signal = 'SIGKILL') {
    this.child.kill(signal)
  }
}

async function guarded(promise, program) {
  let timer
  const limit = new Promise((_, reject) => {
    timer = setTimeout(() => {
      program.kill('SIGKILL')
      reject(new Error(`The program hangs. ${program.errors}`))
    }, HANG_TIMEOUT)
  })
  return Promise.race([promise, limit]).finally(() => clearTimeout(timer))
}

/** The threads of a process that are holdfast's own, by number. */
function ioThreads(pid) {
  return fs.readdirSync(`/proc/${pid}/task`).filter((thread) => {
    try {
      return fs.readFileSync(`/proc/${pid}/task/${thread}/comm`, 'utf8').startsWith('holdfast-io')
    } catch {
      return false // It has ended meanwhile.
    }
  })
}

// -- System calls ---------------------------------------------------------------------------

/**
 * Whether a trace shows a write in `dir`. A thread that did not exist yet when strace was attached
 * may have made it; then the write has to be repeated.
 */
const hasSeen = (trace, dir) => trace.some((line) => line.includes(dir))

/**
 * Attaches strace to some threads, and to no others of their process. It resolves when it is
 * attached; `done()` detaches it and resolves with the traced calls, one a line.
 */
async function strace(t, threads, injections = []) {
  const log = path.join(fastDir(t), 'strace')
  const args = ['-y', '-s', '16', '-o', log, '-e', 'trace=%file,%desc']
  for (const injection of injections) args.push('-e', `inject=${injection}`)
  for (const thread of threads) args.push('-p', String(thread))
  const child = spawn('strace', args, { stdio: ['ignore', 'ignore', 'pipe'] })
  const kill = cleanUp(t, () => child.kill('SIGKILL'))
  const ended = new Promise((resolve) => child.once('close', resolve))
  let text = ''
  let attached = 0
  await new Promise((resolve, reject) => {
    child.stderr.on('data', (chunk) => {
      text += chunk
      attached = text.match(/attached$/gm)?.length ?? 0
      // A thread that has just ended is no loss; that nothing is traced would be.
      const failed = text.match(/^strace: attach: /gm)?.length ?? 0
      if (attached + failed >= threads.length) resolve()
    })
    child.once('error', reject)
    child.once('close', () => reject(new Error(`strace did not attach: ${text}`)))
  })
  return {
    async done() {
      child.kill('SIGINT')
      await ended
      kill()
      return fs.readFileSync(log, 'utf8').split('\n').filter(Boolean)
    },
  }
}

/**
 * The system calls in a trace that have to do with `dir`: the thread that made each, its
 * name, and its number among the calls of that name on that thread, as strace counts them.
 */
function callsIn(trace, dir) {
  const counts = new Map()
  const calls = []
  for (const line of trace) {
    const [, thread = '', name] = /^(?:(\d+) +)?(\w+)\(/.exec(line) ?? []
    if (name === undefined) continue
    const number = (counts.get(`${thread} ${name}`) ?? 0) + 1
    counts.set(`${thread} ${name}`, number)
    if (line.includes(dir)) calls.push({ thread, name, number, line })
  }
  return calls
}

/** What each call of a write is to it, from the trace of one that succeeds. */
function sequenceOf(trace, dir, durability) {
  const calls = callsIn(trace, dir)
  const last = (is) => calls.findLastIndex(({ name }) => is.test(name))
  const renamed = last(/^rename/)
  return {
    calls,
    /** The call that creates the temp file. */
    created: calls.findIndex(({ line }) => line.includes('O_EXCL')),
    /** From here on the new content is in place. */
    renamed,
    /** The last call that the promise stands for. */
    settled: durability === 'full' ? last(/sync/) : renamed,
  }
}

module.exports = {
  Filler, Program, TEMP, callsIn, cleanUp, content, ext4, fastDir, hasSeen, ioThreads, nameIn, names, newDir, ordinaryDisk, outcomeOf, printLine, run, sequenceOf, signed, signer, strace, temps, tmpfs, whyNot,
}
