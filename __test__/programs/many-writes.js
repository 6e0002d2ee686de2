'use strict'

// Rounds of ten thousand concurrent writes to a hundred paths, some of which cannot succeed.
//
// argv[2]: {dir, full, rounds, writes}; `full` is a disk with little room, or null. Prints
// one line: the outcomes, and what is wrong.

const fs = require('node:fs')
const path = require('node:path')
const { setImmediate, setTimeout } = require('node:timers/promises')
const { atomicWrite, atomicWriteSync } = require('../../index.js')
const { ioThreads, nameIn, signed, temps } = require('../system.js')

const { dir, full, rounds, writes } = JSON.parse(process.argv[2])

/** The kinds of target, and the one error that a write to each may end in. */
const kinds = {
  good: { count: 50, at: (i) => path.join(dir, `good-${i}`) },
  cancelled: { count: 15, at: (i) => path.join(dir, `cancelled-${i}`), code: 'ABORT_ERR' },
  missing: { count: 10, at: (i) => path.join(dir, `missing-${i}`, 'file'), code: 'ENOENT', never: true },
  dir: { count: 10, at: (i) => path.join(dir, `dir-${i}`), code: 'EISDIR', never: true },
  below: { count: 5, at: (i) => path.join(dir, 'file', `below-${i}`), code: 'ENOTDIR', never: true },
  full: { count: 10, at: (i) => path.join(full ?? dir, `full-${i}`), code: full ? 'ENOSPC' : undefined },
}
const targets = Object.entries(kinds).flatMap(([name, { count, at, ...kind }]) =>
  Array.from({ length: count }, (_, i) => ({ name, ...kind, file: at(i), calls: [] })))

// The same in every run.
let state = 1
const random = (below) => (state = (state * 48271) % 0x7fffffff) % below

/** The same file by another path. */
function otherSpelling(file, way) {
  const name = path.basename(file)
  if (way === 1) return `${dir}/./${name}`
  if (way === 2) return `${dir}/dir-0/../${name}`
  if (way === 3) return path.join(dir, 'link', name)
  return file
}

const wrong = []
const report = (text) => wrong.length < 10 && wrong.push(text)

async function writeRound(round) {
  const counts = { resolved: 0, synchronous: 0 }
  const settled = new Uint8Array(writes)
  const pending = []
  for (let i = 0; i < writes; i++) {
    const target = targets[random(targets.length)]
    const name = `${round}.${i}`
    const bytes = signed(name, target.name === 'full' ? 1000 + random(60_000) : i % 400 === 0 ? 1_500_000 : 100 + random(12_000))
    const call = { name, outcome: undefined }
    target.calls.push(call)
    const options = { durability: ['none', 'file', 'full'][random(3)], retryDelay: 1 }
    if (target.name === 'good' && random(50) === 0) {
      // Nothing older lands after this one.
      atomicWriteSync(target.file, bytes, options)
      call.outcome = 'resolved'
      counts.synchronous++
      settled[i]++
      if (nameIn(fs.readFileSync(target.file)) !== name) report(`${target.file} is not what was written synchronously`)
      continue
    }
    if (target.name === 'cancelled') options.signal = cancelledSoon()
    const promise = atomicWrite(target.name === 'good' ? otherSpelling(target.file, random(12)) : target.file, bytes, options)
    promise.then(
      () => {
        call.outcome = 'resolved'
        counts.resolved++
        settled[i]++
        if (target.never) report(`${name}: written to a ${target.name} target`)
      },
      (error) => {
        call.outcome = error.code
        counts[error.code] = (counts[error.code] ?? 0) + 1
        settled[i]++
        if (error.code !== target.code || error.committed) report(`${name} (${target.name}): ${error}`)
      },
    )
    pending.push(promise)
    // Most start in one burst, some while others are pending.
    if (i % 1000 === 999) await setImmediate()
  }
  await Promise.allSettled(pending)
  await setImmediate()
  const unsettled = settled.findIndex((times) => times !== 1)
  if (unsettled >= 0) report(`${round}.${unsettled} was settled ${settled[unsettled]} times`)
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

/** Each file holds what the last resolved call has written to it. */
function checkFiles() {
  for (const { name, file, never, calls } of targets) {
    if (never) continue
    const expected = calls.findLast(({ outcome }) => outcome === 'resolved')
    const found = fs.existsSync(file) ? nameIn(fs.readFileSync(file)) : undefined
    if (found !== expected?.name) {
      const asked = calls.find((call) => call.name === found)
      report(`${name} ${file} holds ${found} (${asked?.outcome}), and not ${expected?.name}`)
    }
  }
  for (const name of [dir, ...(full ? [full] : [])]) {
    const left = temps(name)
    if (left.length > 0) report(`${left.length} temp files left in ${name}: ${left[0]}`)
  }
}

async function main() {
  for (const { name, file } of targets) if (name === 'dir') fs.mkdirSync(file)
  fs.writeFileSync(path.join(dir, 'file'), '')
  fs.symlinkSync('.', path.join(dir, 'link'))
  let threads = 0
  const isLinux = process.platform === 'linux'
  const watch = setInterval(() => (threads = Math.max(threads, isLinux ? ioThreads(process.pid).length : 0)), 20)
  const descriptors = []
  const memory = []
  let counts
  for (let round = 0; round < rounds; round++) {
    counts = await writeRound(round)
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
