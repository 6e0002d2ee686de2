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
/** How long it goes on, in milliseconds. */
const WHILE = 15_000
/** Between one kill and the next. */
const PAUSE = 150

test('nobody is ever in a critical section beside another, whoever is killed, and no lock outlives its holder', { timeout: 8 * WHILE }, async (t) => {
  const dir = newDir(t)
  const file = path.join(dir, 'file')
  fs.writeFileSync(path.join(dir, 'witness'), Buffer.alloc(16))
  fs.writeFileSync(path.join(dir, 'progress'), '')
  fs.writeFileSync(path.join(dir, 'violations'), '')

  /** Of every thread there ever was: whether it was cut off. @type {{ cutOff: boolean }[]} */
  const threads = []
  const newThread = () => threads.push({ cutOff: false }) - 1
  /** @type {Map<number | undefined, { child: import('node:child_process').ChildProcess, places: number[], ended: Promise<any[]> }>} */
  const running = new Map()
  const start = () => {
    const places = Array.from({ length: THREADS }, newThread)
    const child = fork(path.join(__dirname, 'programs', 'lock-witness.js'), [dir, ...places.map(String)], { execArgv: [] })
    running.set(child.pid, { child, places, ended: once(child, 'exit') })
    t.after(() => child.kill('SIGKILL'))
  }
  for (let i = 0; i < PROCESSES; i++) start()

  let kills = 0
  let holdersKilled = 0
  let terminated = 0
  const random = (/** @type {number} */ below) => Math.floor(Math.random() * below)
  for (const end = performance.now() + WHILE; performance.now() < end; ) {
    await new Promise((resolve) => setTimeout(resolve, random(2 * PAUSE)))
    // Whoever holds the lock just now, as often as anybody.
    const { holder } = await isLocked(file)
    const victim = (random(2) && running.get(holder?.pid)) || [...running.values()][random(running.size)]
    if (!victim) continue
    const { child, places, ended } = victim
    if (random(4) === 0) {
      const index = random(THREADS)
      const thread = threads[places[index] ?? -1]
      if (thread) thread.cutOff = true
      places[index] = newThread()
      child.send({ terminate: index, place: places[index] })
      terminated++
      continue
    }
    if (child.pid === holder?.pid) holdersKilled++
    running.delete(child.pid)
    child.kill('SIGKILL')
    const [, signal] = await ended
    assert.equal(signal, 'SIGKILL')
    for (const place of places) Object.assign(threads[place] ?? {}, { cutOff: true })
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
  const sections = threads.map((_, place) => (progress.length >= 8 * (place + 1) ? Number(progress.readBigUInt64LE(8 * place)) : 0))
  const reported = sections.reduce((sum, count) => sum + count, 0)
  const counted = Number(fs.readFileSync(path.join(dir, 'witness')).readBigUInt64LE(8))
  t.diagnostic(`${counted} critical sections, ${kills} processes killed (${holdersKilled} of them while they held the lock), ${terminated} threads terminated, ${threads.length} threads in all`)

  assert.equal(fs.readFileSync(path.join(dir, 'violations'), 'utf8'), '')
  assert.ok(kills > 0 && terminated > 0)
  for (const [place, { cutOff }] of threads.entries()) assert.ok(cutOff || (sections[place] ?? 0) > 0, `thread ${place} has never had its turn`)
  // Each section counts once: less would be two at a time, more only those cut off before they could report.
  assert.ok(counted >= reported, `${reported} sections reported, but only ${counted} counted`)
  assert.ok(counted <= reported + kills + terminated, `${counted} sections counted, but only ${reported} reported`)
})
