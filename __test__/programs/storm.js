'use strict'

// Ten thousand writes at once to a hundred paths, of which not all can succeed, several times.
//
// argv[2]: {dir, full, rounds, writes}; `full` is a disk with little room, or null. Prints
// one line: what came of it, and what is wrong.

const fs = require('node:fs')
const path = require('node:path')
const { setImmediate, setTimeout } = require('node:timers/promises')
const { atomicWrite, atomicWriteSync } = require('../../index.js')
const { ioThreads, nameIn, signed, temps } = require('../system.js')

const { dir, full, rounds, writes } = JSON.parse(process.argv[2])

/** What a path leads to, and the one error that a write to it may end in. */
const kinds = {
  good: { count: 50, at: (i) => path.join(dir, `good-${i}`) },
  cancelled: { count: 15, at: (i) => path.join(dir, `cancelled-${i}`), code: 'ABORT_ERR' },
  missing: { count: 10, at: (i) => path.join(dir, `missing-${i}`, 'file'), code: 'ENOENT', never: true },
  dir: { count: 10, at: (i) => path.join(dir, `dir-${i}`), code: 'EISDIR', never: true },
  below: { count: 5, at: (i) => path.join(dir, 'file', `below-${i}`), code: 'ENOTDIR', never: true },
  full: { count: 10, at: (i) => path.join(full ?? dir, `full-${i}`), code: full ? 'ENOSPC' : undefined },
}
const places = Object.entries(kinds).flatMap(([name, { count, at, ...kind }]) =>
  Array.from({ length: count }, (_, i) => ({ name, ...kind, file: at(i), calls: [] })))

// The same in every run.
let state = 1
const random = (below) => (state = (state * 48271) % 0x7fffffff) % below

/** The same file by another path. */
function spelt(file, way) {
  const name = path.basename(file)
  if (way === 1) return `${dir}/./${name}`
  if (way === 2) return `${dir}/dir-0/../${name}`
  if (way === 3) return path.join(dir, 'link', name)
  return file
}

const wrong = []
const complain = (text) => wrong.length < 10 && wrong.push(text)

async function storm(round) {
  const counts = { resolved: 0, synchronous: 0 }
  const settled = new Uint8Array(writes)
  const pending = []
  for (let i = 0; i < writes; i++) {
    const place = places[random(places.length)]
    const name = `${round}.${i}`
    const bytes = signed(name, place.name === 'full' ? 1000 + random(60_000) : i % 400 === 0 ? 1_500_000 : 100 + random(12_000))
    const call = { name, outcome: undefined }
    place.calls.push(call)
    const options = { durability: ['none', 'file', 'full'][random(3)], retryDelay: 1 }
    if (place.name === 'good' && random(50) === 0) {
      // Nothing older lands after this one.
      atomicWriteSync(place.file, bytes, options)
      call.outcome = 'resolved'
      counts.synchronous++
      settled[i]++
      if (nameIn(fs.readFileSync(place.file)) !== name) complain(`${place.file} is not what was written synchronously`)
      continue
    }
    if (place.name === 'cancelled') options.signal = cancelledSoon()
    const promise = atomicWrite(place.name === 'good' ? spelt(place.file, random(12)) : place.file, bytes, options)
    promise.then(
      () => {
        call.outcome = 'resolved'
        counts.resolved++
        settled[i]++
        if (place.never) complain(`${name}: written to a ${place.name} place`)
      },
      (error) => {
        call.outcome = error.code
        counts[error.code] = (counts[error.code] ?? 0) + 1
        settled[i]++
        if (error.code !== place.code || error.committed) complain(`${name} (${place.name}): ${error}`)
      },
    )
    pending.push(promise)
    // Most come in one burst, some while others are under way.
    if (i % 1000 === 999) await setImmediate()
  }
  await Promise.allSettled(pending)
  await setImmediate()
  const unsettled = settled.findIndex((times) => times !== 1)
  if (unsettled >= 0) complain(`${round}.${unsettled} was settled ${settled[unsettled]} times`)
  return counts
}

function cancelledSoon() {
  const controller = new AbortController()
  const when = random(4)
  if (when === 0) controller.abort()
  if (when === 1) setImmediate().then(() => controller.abort())
  if (when === 2) setTimeout(random(100)).then(() => controller.abort())
  return controller.signal
}

/** Each file holds what the last call that was resolved has written to it. */
function checkFiles() {
  for (const { name, file, never, calls } of places) {
    if (never) continue
    const expected = calls.findLast(({ outcome }) => outcome === 'resolved')
    const found = fs.existsSync(file) ? nameIn(fs.readFileSync(file)) : undefined
    if (found !== expected?.name) {
      const asked = calls.find((call) => call.name === found)
      complain(`${name} ${file} holds ${found} (${asked?.outcome}), and not ${expected?.name}`)
    }
  }
  for (const name of [dir, ...(full ? [full] : [])]) {
    const left = temps(name)
    if (left.length > 0) complain(`${left.length} temp files left in ${name}: ${left[0]}`)
  }
}

async function main() {
  for (const { name, file } of places) if (name === 'dir') fs.mkdirSync(file)
  fs.writeFileSync(path.join(dir, 'file'), '')
  fs.symlinkSync('.', path.join(dir, 'link'))
  let threads = 0
  const isLinux = process.platform === 'linux'
  const watch = setInterval(() => (threads = Math.max(threads, isLinux ? ioThreads(process.pid).length : 0)), 20)
  const descriptors = []
  const memory = []
  let counts
  for (let round = 0; round < rounds; round++) {
    counts = await storm(round)
    checkFiles()
    globalThis.gc()
    await setImmediate()
    globalThis.gc()
    if (isLinux) descriptors.push(fs.readdirSync('/proc/self/fd').length)
    memory.push(Math.round(process.memoryUsage.rss() / 2 ** 20))
  }
  clearInterval(watch)
  console.log(JSON.stringify({ counts, threads, descriptors, memory, wrong }))
}

main()
