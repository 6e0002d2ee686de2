'use strict'

// Makes many calls of a kind at once, and says what came of them: for open-files.test.js, which runs
// it with few descriptors.

const { spawnSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const holdfast = require('../..')

const [, , dir, kind, calls, others] = process.argv
const count = Number(calls)
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))
const at = (name, number = '') => path.join(dir, `${name}${number}`)
const all = (call) => Array.from({ length: count }, (_, number) => call(number))
/** What the descriptors of this process stand for. */
const descriptors = () => fs.readdirSync('/proc/self/fd').flatMap((number) => {
  try {
    return [fs.readlinkSync(`/proc/self/fd/${number}`)]
  } catch {
    return [] // that of the directory itself, or closed since
  }
}).sort()

const { acquireLock, atomicWrite, createAtomicWriteStream, createBackup, recoverFromCrash, restoreBackup, transaction, tryAcquireLock, updateJsonFile, withLock } = holdfast
const source = () => {
  if (!fs.existsSync(at('source'))) fs.writeFileSync(at('source'), 'content')
  return at('source')
}
const increment = (data) => void (data.count = (data.count ?? 0) + 1)

async function stream(number, options, wait = 0) {
  const opened = createAtomicWriteStream(at('stream', number), options)
  const closed = new Promise((resolve, reject) => opened.on('close', resolve).on('error', reject))
  opened.write('one')
  if (wait) await sleep(wait)
  opened.end('two')
  await closed
}

const kinds = {
  'updateJsonFile': () => all((number) => updateJsonFile(at('update', number), increment, { defaultValue: {} })),
  'withLock': () => all((number) => withLock(at('short', number), () => {})),
  'withLock for a while': () => all((number) => withLock(at('while', number), () => sleep(5))),
  'acquireLock': () => all(async (number) => {
    const lock = await acquireLock(at('acquired', number))
    await sleep(2)
    await lock.release()
  }),
  'tryAcquireLock': () => all(async (number) => {
    const lock = await tryAcquireLock(at('tried', number))
    if (!lock) throw Object.assign(new Error('no lock'), { code: 'NULL' })
    await lock.release()
  }),
  'atomicWrite with lock': () => all((number) => atomicWrite(at('locked', number), 'content', { lock: true })),
  'atomicWrite': () => all((number) => atomicWrite(at('plain', number), 'content')),
  'streams': () => all((number) => stream(number)),
  'streams that are filled later': () => all((number) => stream(number, {}, 5)),
  'streams with lock': () => all((number) => stream(number, { lock: true })),
  'createBackup': () => {
    const file = source()
    return all(() => createBackup(file))
  },
  'restoreBackup': () => {
    const file = source()
    return all((number) => restoreBackup(file, at('restored', number)))
  },
  'transactions': () => all((number) => transaction([at('one', number), at('two', number), at('three', number)], async (tx) => {
    await tx.write(at('one', number), 'content')
    await tx.write(at('two', number), 'content')
  })),
  'withLock in withLock in withLock': () => all((number) => withLock(at('a', number), () => withLock(at('b', number), () => withLock(at('c', number), () => updateJsonFile(at('d', number), increment, { defaultValue: {} }))))),
  'acquireLock in withLock': () => all((number) => withLock(at('outside', number), async () => {
    const lock = await (number % 2 ? acquireLock : tryAcquireLock)(at('inside', number))
    await lock?.release()
  })),
  'a common lock inside and outside': () => all((number) => (number % 2
    ? withLock(at('outer', number), () => withLock(at('inner', number), () => withLock(at('common'), () => {})))
    : withLock(at('common'), () => withLock(at('other', number), () => {})))),
  'all together': () => {
    const names = ['updateJsonFile', 'withLock for a while', 'atomicWrite with lock', 'atomicWrite', 'streams with lock', 'restoreBackup', 'transactions', 'withLock in withLock in withLock']
    return names.flatMap((name) => kinds[name]())
  },
}

let within
let theirs

const single = {
  'one transaction': async () => {
    const files = all((number) => at('part', number))
    await transaction(files, async (tx) => {
      within = descriptors().length
      theirs = [files[0], files[count - 1]].map(tryElsewhere)
      for (const file of files) await tx.write(file, 'new')
    })
  },
  'recoverFromCrash': () => recoverFromCrash(dir),
  'the next transaction': () => transaction([at('part', 0)], () => {}),
}

/** Whether another process gets a lock. @param {string} file */
function tryElsewhere(file) {
  const source = `require(${JSON.stringify(path.join(__dirname, '../..'))}).tryAcquireLock(${JSON.stringify(file)}).then((lock) => console.log(JSON.stringify(lock)))`
  return JSON.parse(spawnSync(process.execPath, ['-e', source], { encoding: 'utf8' }).stdout)
}

async function hold() {
  const held = []
  try {
    for (let number = 0; number < count; number++) held.push(await acquireLock(at('held', number), { timeout: 2000 }))
  } catch ({ code, message, hint }) {
    const number = held.length
    for (const lock of held) await lock.release()
    await withLock(at('held', number), () => {})
    return { held: number, error: { code, message, hint }, after: 'free again' }
  }
  return { held: held.length }
}

async function main() {
  // What the first calls load and open is there before the count.
  await updateJsonFile(at('first'), increment, { defaultValue: {} })
  await stream('first', { lock: true })
  await transaction([at('first')], () => {})
  await createBackup(source())
  await sleep(300)
  source()
  const opened = Array.from({ length: Number(others) }, () => fs.openSync('/dev/null'))
  const before = descriptors()
  if (kind === 'held') return hold()
  const outcomes = await Promise.allSettled(single[kind] ? [single[kind]()] : kinds[kind]())
  const codes = {}
  for (const { reason } of outcomes) {
    if (!reason) continue
    const said = `${reason.code ?? reason}: ${reason.message} ${reason.hint ?? ''}`
    codes[said] = (codes[said] ?? 0) + 1
  }
  let after = descriptors()
  for (let tries = 0; tries < 500 && after.length !== before.length; tries++) {
    await sleep(20)
    after = descriptors()
  }
  for (const descriptor of opened) fs.closeSync(descriptor)
  return { done: outcomes.filter(({ status }) => status === 'fulfilled').length, codes, before, after, within, others: theirs }
}

main().then((outcome) => process.stdout.write(JSON.stringify(outcome)))
