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
/** How long it goes on, in milliseconds, */
const WHILE = 20_000
/** and between one kill and the next, on average. */
const PAUSE = 250

/**
 * Watches who is inside. Whoever enters beside somebody he must not be beside is kept waiting
 * until it is known what has become of the other: if he was killed, and his socket closed, all
 * is well; if he says anything more, both were inside.
 */
class Judge {
  /** @type {Set<{ pid: number, kind: string, socket: net.Socket, section: string, late: (() => void)[] }>} */
  inside = new Set()
  /** @type {string[]} */
  violations = []
  sections = { read: 0, write: 0 }
  mostReaders = 0
  mostProcesses = 0
  excused = 0
  /** By process: how often its threads have been inside. @type {Map<number, Map<net.Socket, number>>} */
  turns = new Map()

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
      if (own.late.length > 0) this.violations.push(`${pid} was inside to ${own.kind}, and somebody else entered`)
      this.#gone(own)
      return answer()
    }
    const own = { pid: Number(pid), kind: what, socket, section, late: [] }
    const others = [...this.inside].filter((other) => what === 'write' || other.kind === 'write')
    this.inside.add(own)
    this.sections[/** @type {'read' | 'write'} */ (what)]++
    const turns = this.turns.get(own.pid) ?? new Map()
    this.turns.set(own.pid, turns.set(socket, (turns.get(socket) ?? 0) + 1))
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

test('readers are beside readers, never beside a writer, and writers alone, whoever is killed', { timeout: 8 * WHILE }, async (t) => {
  const dir = newDir(t)
  const file = path.join(dir, 'file')
  const judge = new Judge()
  const address = process.platform === 'win32' ? `\\\\?\\pipe\\${path.basename(dir)}` : path.join(dir, 'judge')
  judge.server.listen(address)
  await once(judge.server, 'listening')
  t.after(() => judge.server.close())

  /** @type {Map<number | undefined, { child: import('node:child_process').ChildProcess, ended: Promise<any[]>, errors: () => string }>} */
  const running = new Map()
  const start = () => {
    const child = spawn(process.execPath, [path.join(__dirname, 'programs', 'lock-crowd.js'), file, address, `${THREADS}`], { stdio: ['pipe', 'ignore', 'pipe'] })
    let said = ''
    child.stderr.setEncoding('utf8').on('data', (text) => (said += text))
    child.stdin.on('error', () => {})
    running.set(child.pid, { child, ended: once(child, 'exit'), errors: () => said })
    t.after(() => child.kill('SIGKILL'))
  }
  for (let i = 0; i < PROCESSES; i++) start()

  const killed = { read: 0, write: 0, outside: 0 }
  const random = (/** @type {number} */ below) => Math.floor(Math.random() * below)
  for (const end = performance.now() + WHILE; performance.now() < end; ) {
    await new Promise((resolve) => setTimeout(resolve, random(2 * PAUSE)))
    // Whoever is inside just now, as often as anybody; writers are there for moments only.
    const inside = [...judge.inside].sort((a, b) => Number(a.kind === 'read') - Number(b.kind === 'read'))[0]
    const victim = (random(3) && inside && running.get(inside.pid)) || [...running.values()][random(running.size)]
    if (!victim) continue
    const role = [...judge.inside].find(({ pid }) => pid === victim.child.pid)?.kind ?? 'outside'
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
  t.diagnostic(`${judge.sections.read} reads and ${judge.sections.write} writes, up to ${judge.mostReaders} readers in ${judge.mostProcesses} processes at once; ${kills} processes killed, ${killed.read} of them reading and ${killed.write} writing`)
  assert.deepEqual(judge.violations, [])
  assert.ok(judge.mostReaders > 1 && judge.mostProcesses > 1, 'readers have met')
  assert.ok(judge.sections.write > 0 && kills > 0)
  for (const pid of running.keys()) {
    assert.equal(judge.turns.get(pid ?? 0)?.size, THREADS, `a thread of ${pid} has never had its turn`)
  }
})
