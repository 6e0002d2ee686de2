'use strict'

// Calls every export once and looks at a result: whether an addon works on a system at all. Usage: node smoke.cjs [path of holdfast]
// It needs no more than holdfast, and runs on Node, Bun and Deno.

const assert = require('node:assert')
const { execFile } = require('node:child_process')
const { tracingChannel } = require('node:diagnostics_channel')
const fs = require('node:fs')
const { createRequire } = require('node:module')
const os = require('node:os')
const path = require('node:path')
const { Readable } = require('node:stream')
const { pipeline } = require('node:stream/promises')
const { pathToFileURL } = require('node:url')
const { Worker } = require('node:worker_threads')

/** From the directory that it is started in, as a program there would load it. */
const found = createRequire(path.join(process.cwd(), 'any.js')).resolve(process.argv[2] ?? 'holdfast')
const holdfast = require(found)
/** How another process is started: one argument a line, where an emulator runs this one. */
const NODE = process.env.SMOKE_NODE ? process.env.SMOKE_NODE.trim().split('\n') : [process.execPath]
/** Deno has its own words for its rights, and for code on the command line. */
const EVAL = 'Deno' in globalThis ? ['eval', '--ext=cjs'] : ['-e']

const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'smoke-'))
const at = (/** @type {string} */ name) => path.join(dir, name)
const read = (/** @type {string} */ name) => fs.readFileSync(at(name), 'utf8')

/** @type {[string, () => unknown][]} */
const checks = []
const called = new Set()
/** @param {string} name of the export, and perhaps of the case @param {() => unknown} run */
const check = (name, run) => checks.push([name, run])

check('atomicWrite', async () => {
  await holdfast.atomicWrite(at('a'), 'one')
  assert.equal(read('a'), 'one')
  await holdfast.atomicWrite(pathToFileURL(at('a')), new Uint8Array([65, 66]), { durability: 'none' })
  assert.equal(read('a'), 'AB')
  await holdfast.atomicWrite(at('a'), 'two', { lock: true, durability: 'file' })
  assert.equal(read('a'), 'two')
})
check('atomicWrite with a signal', () => assert.rejects(holdfast.atomicWrite(at('a'), 'x', { signal: AbortSignal.abort() }), { code: 'ABORT_ERR' }))
check('atomicWrite with a mode', async () => {
  await holdfast.atomicWrite(at('mode'), 'x', { mode: 0o600 })
  if (process.platform !== 'win32') assert.equal(fs.statSync(at('mode')).mode & 0o777, 0o600)
})
check('SessionFileError', () => assert.rejects(holdfast.atomicWrite(at('missing/x'), ''), (/** @type {any} */ error) => {
  assert.ok(error instanceof holdfast.SessionFileError)
  assert.deepEqual([error.code, error.committed], ['ENOENT', false])
  return true
}))
check('atomicWriteSync', () => {
  holdfast.atomicWriteSync(at('sync'), 'sync')
  assert.equal(read('sync'), 'sync')
})
check('atomicWriteJson', async () => {
  await holdfast.atomicWriteJson(at('json'), { n: 1 }, { indent: 2 })
  assert.deepEqual(JSON.parse(read('json')), { n: 1 })
})
check('createAtomicWriteStream', async () => {
  await pipeline(Readable.from(['a', 'b', 'c']), holdfast.createAtomicWriteStream(at('stream')))
  assert.equal(read('stream'), 'abc')
})
check('updateJsonFile', async () => {
  await Promise.all(Array.from({ length: 10 }, () => holdfast.updateJsonFile(at('json'), (/** @type {any} */ data) => void data.n++)))
  assert.equal(JSON.parse(read('json')).n, 11)
})
check('updateJsonFileSync', () => assert.equal(holdfast.updateJsonFileSync(at('json'), (/** @type {any} */ data) => void data.n++).n, 12))
check('readJsonFile', async () => assert.equal((await holdfast.readJsonFile(at('json'))).n, 12))
check('readJsonFileSync', () => assert.equal(holdfast.readJsonFileSync(at('json')).n, 12))
check('withLock', async () => assert.equal(await holdfast.withLock(at('json'), async () => {
  await holdfast.atomicWrite(at('json'), '{"n":5}')
  return 7
}), 7))
check('withLockSync', () => assert.equal(holdfast.withLockSync(at('json'), () => 7), 7))
check('acquireLock', async () => {
  const lock = await holdfast.acquireLock(at('json'))
  const { locked, holder } = await holdfast.isLocked(at('json'))
  // Also on musl, which tells a library nothing of the arguments of the process.
  assert.deepEqual([locked, holder?.pid, holder?.command], [true, process.pid, path.basename(process.argv[1] ?? '')])
  await lock.release()
})
check('tryAcquireLock', async () => {
  const lock = await holdfast.tryAcquireLock(at('json'))
  assert.equal(await holdfast.tryAcquireLock(at('json')), null)
  await lock.release()
})
check('isLocked', async () => assert.deepEqual(await holdfast.isLocked(at('json')), { locked: false }))
check('transaction', async () => {
  await holdfast.transaction([at('t1'), at('t2')], async (/** @type {any} */ tx) => {
    await tx.write(at('t1'), '1')
    await tx.write(at('t2'), '2')
  })
  assert.deepEqual([read('t1'), read('t2')], ['1', '2'])
})
check('createBackup', async () => assert.ok(await holdfast.createBackup(at('json'))))
check('listBackups', async () => assert.equal((await holdfast.listBackups(at('json'))).length, 1))
check('restoreBackup', async () => {
  await holdfast.atomicWrite(at('json'), 'broken')
  await holdfast.restoreBackup((await holdfast.listBackups(at('json')))[0].path, at('json'))
  assert.equal(JSON.parse(read('json')).n, 5)
})
check('cleanupBackups', async () => {
  await holdfast.createBackup(at('json'))
  // The newest one stays.
  assert.equal((await holdfast.cleanupBackups(dir, /^json/, 0)).length, 1)
})
check('createBackupSync', () => assert.ok(holdfast.createBackupSync(at('json'))))
check('restoreLatest', async () => {
  await holdfast.atomicWrite(at('json'), 'broken')
  await holdfast.restoreLatest(at('json'), { validate: 'json' })
  assert.equal(JSON.parse(read('json')).n, 5)
})
check('appendLines', async () => {
  await holdfast.appendLines(at('lines'), ['one', 'two'])
  assert.equal(read('lines'), 'one\ntwo\n')
})
check('appendJsonLines', async () => {
  await holdfast.appendJsonLines(at('jsonl'), [{ n: 1 }, { n: 2 }])
  assert.deepEqual(read('jsonl').trim().split('\n').map((line) => JSON.parse(line).n), [1, 2])
})
check('openJsonLines', async () => {
  const lines = await holdfast.openJsonLines(at('jsonl'))
  await lines.append({ n: 3 })
  const found = []
  for await (const { value } of lines.read()) found.push(value.n)
  await lines.close()
  assert.deepEqual(found, [1, 2, 3])
})
check('jsonFile', async () => assert.equal((await holdfast.jsonFile(at('json')).read()).n, 5))
check('removeFile', async () => {
  await holdfast.removeFile(at('t1'))
  assert.equal(fs.existsSync(at('t1')), false)
})
check('recoverFromCrash', async () => assert.deepEqual((await holdfast.recoverFromCrash(dir)).actions, []))
check('setDefaults', () => holdfast.setDefaults({ cleanup: 'onFirstWrite' }))
check('createHoldfast', async () => {
  await holdfast.createHoldfast({ durability: 'none' }).atomicWrite(at('own'), 'x')
  assert.equal(read('own'), 'x')
})
check('AtomicOperations', async () => {
  await holdfast.AtomicOperations.writeFile(at('vectra'), 'x')
  assert.equal(read('vectra'), 'x')
})
check('LockManager', async () => await (await new holdfast.LockManager().acquireWriteLock(dir)).release())
check('lockManager', async () => await (await holdfast.lockManager.acquireReadLock(dir)).release())
check('openWal', async () => {
  const log = await holdfast.openWal(at('log'))
  const numbers = await log.append('one', [{ id: 'a', op: 'insert', payload: 'x' }, { id: 'b', op: 'insert', payload: new Uint8Array([1]) }])
  assert.deepEqual(numbers.map(String), ['1', '2'])
  const replayed = []
  for await (const entry of log.replay('one')) replayed.push(entry.id)
  assert.deepEqual(replayed, ['a', 'b'])
  await log.checkpoint('one', numbers[0])
  await log.close()
  const reader = await holdfast.openWal(at('log'), { readOnly: true })
  assert.deepEqual(await reader.collections(), ['one'])
  await reader.close()
})
check('setLogger', async () => {
  /** @type {string[]} */
  const told = []
  holdfast.setLogger({ debug: (_, message) => told.push(message), warn() {}, error() {} })
  await holdfast.atomicWrite(at('a'), 'logged')
  holdfast.setLogger(null)
  assert.ok(told.length > 0)
})
check('metrics', () => assert.ok(holdfast.metrics().writes.acknowledged.full > 0))
check('resetMetrics', () => {
  holdfast.resetMetrics()
  assert.equal(holdfast.metrics().writes.acknowledged.full, 0)
})
check('(tracing)', async () => {
  const channel = tracingChannel('holdfast:write')
  let events = 0
  const subscribers = { start: () => void events++, end() {}, asyncStart() {}, asyncEnd: () => void events++, error() {} }
  channel.subscribe(subscribers)
  await holdfast.atomicWrite(at('a'), 'traced')
  channel.unsubscribe(subscribers)
  assert.equal(events, 2)
})
check('(another process)', async () => {
  const lock = await holdfast.acquireLock(at('shared'))
  const code = `require(${JSON.stringify(found)}).tryAcquireLock(${JSON.stringify(at('shared'))}).then((lock) => process.stdout.write(lock ? 'lock' : 'none'))`
  const [program = '', ...words] = NODE
  const told = await new Promise((resolve, reject) => void execFile(program, [...words, ...EVAL, code], { timeout: 60_000 }, (error, stdout, stderr) => (error ? reject(new Error(stderr || error.message)) : resolve(stdout))))
  await lock.release()
  assert.equal(told, 'none')
})
check('(worker threads)', async () => {
  const code = `
    const { updateJsonFile } = require(${JSON.stringify(found)})
    const run = async () => { for (let i = 0; i < 5; i++) await updateJsonFile(${JSON.stringify(at('counter'))}, (data) => void data.n++) }
    run().then(() => require('node:worker_threads').parentPort.postMessage('done'))`
  await holdfast.atomicWrite(at('counter'), '{"n":0}')
  await Promise.all([1, 2, 3].map(() => new Promise((resolve, reject) => {
    const worker = new Worker(code, { eval: true })
    worker.on('message', resolve)
    worker.on('error', reject)
  })))
  assert.equal(JSON.parse(read('counter')).n, 15)
})

/** What runs this, for the line that it ends with. */
function runtime() {
  const { bun, deno } = /** @type {Record<string, string | undefined>} */ (process.versions)
  const name = bun ? `bun ${bun}` : deno ? `deno ${deno}` : `node ${process.version}`
  return `${name} ${process.platform}-${process.arch}`
}

async function main() {
  let failures = 0
  for (const [name, run] of checks) {
    called.add(name.split(' ')[0])
    /** @type {NodeJS.Timeout | undefined} */
    let timer
    try {
      await Promise.race([run(), new Promise((_, reject) => (timer = setTimeout(() => reject(new Error('it took more than 60 s')), 60_000)))])
    } catch (error) {
      failures++
      console.log(`  FAILED ${name}: ${/** @type {Error} */ (error).stack}`)
    }
    clearTimeout(timer)
  }
  const forgotten = Object.keys(holdfast).filter((name) => !called.has(name))
  if (forgotten.length > 0) console.log(`  NOT CALLED ${forgotten.join(' ')}`)
  console.log(`${runtime()}: ${checks.length - failures} passed, ${failures + forgotten.length} failed`)
  fs.rmSync(dir, { recursive: true, force: true })
  process.exitCode = failures + forgotten.length > 0 ? 1 : 0
}

void main()
