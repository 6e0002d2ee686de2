'use strict'

const assert = require('node:assert/strict')
const { fork } = require('node:child_process')
const { once } = require('node:events')
const fs = require('node:fs')
const path = require('node:path')
const { test } = require('node:test')
const { holdfast, newDir } = require('./helpers.js')
const { Peer } = require('./programs/lock-peer.js')

const { acquireLock, isLocked } = holdfast

const PROCESSES = 16
const THREADS = 2
/** How long the test runs, in milliseconds. */
const DURATION = 15_000
/** Between one kill and the next. */
const PAUSE = 150

test('no two processes are in a critical section together, whichever is killed, and no lock outlives its holder', { timeout: 8 * DURATION }, async (t) => {
  const dir = newDir(t)
  const file = path.join(dir, 'file')
  fs.writeFileSync(path.join(dir, 'occupant'), Buffer.alloc(16))
  fs.writeFileSync(path.join(dir, 'progress'), '')
  fs.writeFileSync(path.join(dir, 'violations'), '')

  /** Of every thread there ever was: whether it was killed or terminated. @type {{ wasEnded: boolean }[]} */
  const threads = []
  const newThread = () => threads.push({ wasEnded: false }) - 1
  /** @type {Map<number | undefined, { child: import('node:child_process').ChildProcess, slots: number[], ended: Promise<any[]> }>} */
  const running = new Map()
  const start = () => {
    const slots = Array.from({ length: THREADS }, newThread)
    const child = fork(path.join(__dirname, 'programs', 'lock-exclusion.js'), [dir, ...slots.map(String)], { execArgv: [] })
    running.set(child.pid, { child, slots, ended: once(child, 'exit') })
    t.after(() => child.kill('SIGKILL'))
  }
  for (let i = 0; i < PROCESSES; i++) start()

  let kills = 0
  let holdersKilled = 0
  let terminated = 0
  const random = (/** @type {number} */ below) => Math.floor(Math.random() * below)
  for (const end = performance.now() + DURATION; performance.now() < end; ) {
    await new Promise((resolve) => setTimeout(resolve, random(2 * PAUSE)))
    // The current holder, as often as any other process.
    const { holder } = await isLocked(file)
    const victim = (random(2) && running.get(holder?.pid)) || [...running.values()][random(running.size)]
    if (!victim) continue
    const { child, slots, ended } = victim
    if (random(4) === 0) {
      const index = random(THREADS)
      const thread = threads[slots[index] ?? -1]
      if (thread) thread.wasEnded = true
      slots[index] = newThread()
      child.send({ terminate: index, slot: slots[index] })
      terminated++
      continue
    }
    if (child.pid === holder?.pid) holdersKilled++
    running.delete(child.pid)
    child.kill('SIGKILL')
    const [, signal] = await ended
    assert.equal(signal, 'SIGKILL')
    for (const slot of slots) Object.assign(threads[slot] ?? {}, { wasEnded: true })
    kills++
    start()
  }
  for (const { child } of running.values()) child.send('stop')
  for (const { ended } of running.values()) assert.deepEqual(await ended, [0, null])

  // No lock outlives its holder.
  assert.deepEqual(await isLocked(file), { locked: false })
  await (await acquireLock(file, { timeout: 0 })).release()
  await new Peer(t).acquire(file, { timeout: 0 })

  const progress = fs.readFileSync(path.join(dir, 'progress'))
  const sections = threads.map((_, slot) => (progress.length >= 8 * (slot + 1) ? Number(progress.readBigUInt64LE(8 * slot)) : 0))
  const reported = sections.reduce((sum, count) => sum + count, 0)
  const counted = Number(fs.readFileSync(path.join(dir, 'occupant')).readBigUInt64LE(8))
  t.diagnostic(`${counted} critical sections, ${kills} processes killed (${holdersKilled} of them while they held the lock), ${terminated} threads terminated, ${threads.length} threads in all`)

  assert.equal(fs.readFileSync(path.join(dir, 'violations'), 'utf8'), '')
  assert.ok(kills > 0 && terminated > 0)
  for (const [slot, { wasEnded }] of threads.entries()) assert.ok(wasEnded || (sections[slot] ?? 0) > 0, `thread ${slot} has never held the lock`)
  // Each section counts once: fewer would mean two at a time, more only those that ended before they could report.
  assert.ok(counted >= reported, `${reported} sections reported, but only ${counted} counted`)
  assert.ok(counted <= reported + kills + terminated, `${counted} sections counted, but only ${reported} reported`)
})
