'use strict'

const assert = require('node:assert/strict')
const { spawn } = require('node:child_process')
const { once } = require('node:events')
const net = require('node:net')
const path = require('node:path')
const { test } = require('node:test')
const { holdfast, newDir } = require('./helpers.js')

const { acquireLock, isLocked } = holdfast

const PROCESSES = 16
const THREADS = 4
/** How long the test runs, in milliseconds, */
const DURATION = 20_000
/** and between one kill and the next, on average. */
const PAUSE = 250

/**
 * Observes which threads are in a critical section. A thread that enters beside an excluded one gets its
 * answer only when the fate of the other is known: if the other was killed, its socket is closed, and all is
 * well; if it sends another message, both were inside.
 */
class LockObserver {
  /** @type {Set<{ pid: number, kind: string, socket: net.Socket, section: string, late: (() => void)[] }>} */
  inside = new Set()
  /** @type {string[]} */
  violations = []
  sections = { read: 0, write: 0 }
  mostReaders = 0
  mostProcesses = 0
  excused = 0
  /** By process: how often its threads have been inside. @type {Map<number, Map<net.Socket, number>>} */
  entries = new Map()

  server = net.createServer((socket) => {
    let rest = ''
    socket.setEncoding('utf8').on('data', (text) => {
      const lines = (rest + text).split('\n')
      rest = lines.pop() ?? ''
      for (const line of lines) this.#hear(socket, line)
    })
    socket.on('error', () => {})
    socket.on('close', () => {
      for (const one of this.inside) if (one.socket === socket) this.#gone(one)
    })
  })

  /** @param {net.Socket} socket @param {string} line */
  #hear(socket, line) {
    const [id, pid, what = '', section = ''] = line.split(' ')
    const answer = () => socket.writable && socket.write(`${id}\n`)
    if (what === 'leave') {
      const own = [...this.inside].find((one) => one.socket === socket && one.section === section)
      if (!own) return void this.violations.push(`${pid} leaves what it has not entered`)
      if (own.late.length > 0) this.violations.push(`${pid} was inside to ${own.kind}, and another thread entered`)
      this.#gone(own)
      return answer()
    }
    const own = { pid: Number(pid), kind: what, socket, section, late: [] }
    const others = [...this.inside].filter((other) => what === 'write' || other.kind === 'write')
    this.inside.add(own)
    this.sections[/** @type {'read' | 'write'} */ (what)]++
    const entries = this.entries.get(own.pid) ?? new Map()
    this.entries.set(own.pid, entries.set(socket, (entries.get(socket) ?? 0) + 1))
    if (what === 'read') {
      const readers = [...this.inside].filter(({ kind }) => kind === 'read')
      this.mostReaders = Math.max(this.mostReaders, readers.length)
      this.mostProcesses = Math.max(this.mostProcesses, new Set(readers.map(({ pid }) => pid)).size)
    }
    let open = others.length
    if (open === 0) return answer()
    for (const other of others) {
      /** @type {(() => void)[]} */ (other.late).push(() => {
        this.excused++
        if (--open === 0) answer()
      })
    }
  }

  /** @param {typeof this.inside extends Set<infer One> ? One : never} one */
  #gone(one) {
    this.inside.delete(one)
    for (const late of one.late) late()
  }
}

test('readers share the lock with readers only and writers with none, whichever process is killed', { timeout: 8 * DURATION }, async (t) => {
  const dir = newDir(t)
  const file = path.join(dir, 'file')
  const observer = new LockObserver()
  const address = process.platform === 'win32' ? `\\\\?\\pipe\\${path.basename(dir)}` : path.join(dir, 'observer')
  observer.server.listen(address)
  await once(observer.server, 'listening')
  t.after(() => observer.server.close())

  /** @type {Map<number | undefined, { child: import('node:child_process').ChildProcess, ended: Promise<any[]>, errors: () => string }>} */
  const running = new Map()
  const start = () => {
    const child = spawn(process.execPath, [path.join(__dirname, 'programs', 'lock-contention.js'), file, address, `${THREADS}`], { stdio: ['pipe', 'ignore', 'pipe'] })
    let said = ''
    child.stderr.setEncoding('utf8').on('data', (text) => (said += text))
    child.stdin.on('error', () => {})
    running.set(child.pid, { child, ended: once(child, 'exit'), errors: () => said })
    t.after(() => child.kill('SIGKILL'))
  }
  for (let i = 0; i < PROCESSES; i++) start()

  const killed = { read: 0, write: 0, outside: 0 }
  const random = (/** @type {number} */ below) => Math.floor(Math.random() * below)
  for (const end = performance.now() + DURATION; performance.now() < end; ) {
    await new Promise((resolve) => setTimeout(resolve, random(2 * PAUSE)))
    // A thread that is inside now, as often as any other; writers are inside for moments only.
    const inside = [...observer.inside].sort((a, b) => Number(a.kind === 'read') - Number(b.kind === 'read'))[0]
    const victim = (random(3) && inside && running.get(inside.pid)) || [...running.values()][random(running.size)]
    if (!victim) continue
    const role = [...observer.inside].find(({ pid }) => pid === victim.child.pid)?.kind ?? 'outside'
    killed[/** @type {keyof typeof killed} */ (role)]++
    running.delete(victim.child.pid)
    victim.child.kill('SIGKILL')
    const [code, signal] = await victim.ended
    assert.deepEqual([code, signal], [null, 'SIGKILL'], victim.errors())
    start()
  }
  for (const { child } of running.values()) child.stdin?.write('stop\n')
  for (const { ended, errors } of running.values()) assert.deepEqual(await ended, [0, null], errors())

  // No lock outlives its holder.
  for (const kind of /** @type {const} */ (['read', 'write'])) {
    assert.equal((await isLocked(file, { kind })).locked, false)
    await (await acquireLock(file, { kind, timeout: 0 })).release()
  }
  const kills = killed.read + killed.write + killed.outside
  t.diagnostic(`${observer.sections.read} reads and ${observer.sections.write} writes, up to ${observer.mostReaders} readers in ${observer.mostProcesses} processes at once; ${kills} processes killed, ${killed.read} of them reading and ${killed.write} writing`)
  assert.deepEqual(observer.violations, [])
  assert.ok(observer.mostReaders > 1 && observer.mostProcesses > 1, 'readers have met')
  assert.ok(observer.sections.write > 0 && kills > 0)
  for (const pid of running.keys()) {
    assert.equal(observer.entries.get(pid ?? 0)?.size, THREADS, `a thread of ${pid} has never held the lock`)
  }
})
