// What the types accept and refuse. `npm run types` checks it; it is never run.

import { AsyncLocalStorage } from 'node:async_hooks'
import { Buffer } from 'node:buffer'
import {
  SessionFileError, atomicWrite, atomicWriteJson, atomicWriteSync, setLogger,
  type AtomicWriteJsonOptions, type AtomicWriteOptions, type AtomicWriteSyncOptions, type Durability, type ErrorCode, type Logger, type WriteOptionsBase,
} from '../index.js'
import { tracingChannel, type TracingChannel } from 'node:diagnostics_channel'
import {
  metrics, resetMetrics,
  type Histogram, type LockAcquired, type LockContention, type LockKind, type LockReleased, type LockTrace, type Metrics, type UpdateTrace,
  type BackupTrace, type TransactionTrace, type WalTrace, type WriteStep, type WriteTrace,
} from '../index.js'
import { readJsonFile, readJsonFileSync, updateJsonFile, updateJsonFileSync } from '../index.js'
import * as everything from '../index.js'
import { channels } from '../diagnostics.js'

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false
/** Compiles only for `true`. */
declare function expect<T extends true>(): T

// @ts-expect-error there is no default export
everything.default

// Results.
expect<Equal<ReturnType<typeof atomicWrite>, Promise<void>>>()
expect<Equal<ReturnType<typeof atomicWriteJson>, Promise<void>>>()
expect<Equal<ReturnType<typeof atomicWriteSync>, void>>()
expect<Equal<ReturnType<typeof setLogger>, void>>()
expect<Equal<Parameters<typeof atomicWriteJson>[1], unknown>>()

// Paths.
atomicWrite('file', 'text')
atomicWrite(new URL('file:///file'), 'text')
atomicWriteSync(new URL('file:///file'), 'text')
atomicWriteJson(new URL('file:///file'), 'text')
atomicWrite(Buffer.from('file'), 'text')
// @ts-expect-error a path cannot be a list of bytes
atomicWrite([1], 'text')
// @ts-expect-error a descriptor is no path
atomicWriteSync(1, 'text')
// @ts-expect-error a path is needed
atomicWriteJson(undefined, 'text')
// @ts-expect-error a path is needed
atomicWrite()
// @ts-expect-error data is needed
atomicWrite('file')
// @ts-expect-error a value is needed
atomicWriteJson('file')

// Data.
declare const views: [
  Buffer, Uint8Array, Int8Array, Uint8ClampedArray, Uint16Array, Int16Array, Uint32Array, Int32Array, Float32Array, Float64Array, BigInt64Array,
  BigUint64Array, DataView, NodeJS.ArrayBufferView, NodeJS.TypedArray,
]
for (const view of views) {
  atomicWrite('file', view)
  atomicWriteSync('file', view)
}
atomicWrite('file', new Uint8Array(new SharedArrayBuffer(8)))
// @ts-expect-error wrap it in a view
atomicWrite('file', new ArrayBuffer(8))
// @ts-expect-error wrap it in a view
atomicWriteSync('file', new SharedArrayBuffer(8))
// @ts-expect-error numbers are no data
atomicWrite('file', 1)
// @ts-expect-error objects are for atomicWriteJson
atomicWrite('file', { a: 1 })
// @ts-expect-error null is no data
atomicWriteSync('file', null)
// @ts-expect-error an array of numbers is no data
atomicWrite('file', [1, 2])
atomicWriteJson('file', { a: [1, null, 'b'] })
atomicWriteJson('file', null)

// Every option, and undefined for each of them (also under exactOptionalPropertyTypes).
const base = {
  durability: 'full', mode: 0o600, newFileMode: 0o664, chown: { uid: 0, gid: 0 }, retries: 3, retryDelay: 100, makeDirs: true, followSymlinks: false, logger: null,
  validate: 'json',
} satisfies Required<WriteOptionsBase>
atomicWrite('file', 'text', { ...base, encoding: 'latin1', signal: new AbortController().signal })
atomicWriteSync('file', 'text', { ...base, encoding: 'base64url' })
atomicWriteJson('file', 'text', { ...base, indent: '\t', signal: AbortSignal.timeout(1) })
atomicWriteJson('file', 'text', { indent: 2 })
atomicWrite('file', 'text', {
  durability: undefined, mode: undefined, chown: undefined, retries: undefined, retryDelay: undefined, makeDirs: undefined, followSymlinks: undefined,
  logger: undefined, encoding: undefined, signal: undefined, validate: undefined, lock: undefined, newFileMode: undefined, createOnly: undefined,
})
atomicWriteSync('file', 'text', { encoding: undefined, createOnly: true })
atomicWriteJson('file', 'text', { indent: undefined, signal: undefined })
atomicWrite('file', 'text', undefined)
atomicWrite('file', 'text', { chown: false })
const readonly = { durability: 'none', chown: { uid: 1, gid: 2 } } as const
atomicWrite('file', 'text', readonly)
atomicWrite('file', 'text', Object.freeze({ mode: 0o600 }))

expect<Equal<Durability, 'none' | 'file' | 'full'>>()
expect<Equal<keyof typeof base, keyof WriteOptionsBase>>()
expect<Equal<Exclude<keyof AtomicWriteOptions, keyof WriteOptionsBase>, 'createOnly' | 'encoding' | 'lock' | 'onTempFile' | 'signal'>>()
expect<Equal<Exclude<keyof AtomicWriteSyncOptions, keyof WriteOptionsBase>, 'createOnly' | 'encoding' | 'lock' | 'onTempFile'>>()
expect<Equal<Exclude<keyof AtomicWriteJsonOptions, keyof WriteOptionsBase>, 'createOnly' | 'finalNewline' | 'indent' | 'lock' | 'onTempFile' | 'replacer' | 'signal' | 'stringify'>>()

// @ts-expect-error misspelt
atomicWrite('file', 'text', { durabilty: 'none' })
// @ts-expect-error no such level
atomicWrite('file', 'text', { durability: 'fsync' })
// @ts-expect-error a string is no mode
atomicWrite('file', 'text', { mode: '644' })
// @ts-expect-error both are needed
atomicWrite('file', 'text', { chown: { uid: 0 } })
// @ts-expect-error false only
atomicWrite('file', 'text', { chown: true })
// @ts-expect-error no such owner
atomicWriteSync('file', 'text', { chown: { uid: 0, gid: 0, name: 'root' } })
// @ts-expect-error no such encoding
atomicWrite('file', 'text', { encoding: 'utf-9' })
// @ts-expect-error a string is no number
atomicWrite('file', 'text', { retries: '3' })
// @ts-expect-error null is not undefined
atomicWrite('file', 'text', { retryDelay: null })
// @ts-expect-error 1 is not true
atomicWrite('file', 'text', { makeDirs: 1 })
// @ts-expect-error the signal, not its controller
atomicWrite('file', 'text', { signal: new AbortController() })
// @ts-expect-error nothing can cancel a synchronous call
atomicWriteSync('file', 'text', { signal: AbortSignal.abort() })
// @ts-expect-error JSON is UTF-8
atomicWriteJson('file', 'text', { encoding: 'latin1' })
// @ts-expect-error indent is for JSON
atomicWrite('file', 'text', { indent: 2 })
// @ts-expect-error indent is for JSON
atomicWriteSync('file', 'text', { indent: 2 })
// An encoding in the place of the options.
atomicWrite('file', 'text', 'utf8')
atomicWriteSync('file', 'text', 'latin1')
// @ts-expect-error no such encoding
atomicWrite('file', 'text', 'utf-9')
// @ts-expect-error JSON is UTF-8
atomicWriteJson('file', 'text', 'utf8')

// A function that sees the temp file.
atomicWrite('file', 'text', { onTempFile: async (tempPath: string) => void tempPath })
atomicWriteSync('file', 'text', { onTempFile(tempPath) { const at: string = tempPath; return void at } })
// @ts-expect-error it gets the path
atomicWrite('file', 'text', { onTempFile: (tempPath: number) => tempPath })

// Data in pieces.
{
  const pieces: everything.WriteData[] = [['a', new Uint8Array(1)], new Set(['a']), new Blob(['a']), (async function* () { yield 'a' })(), new ReadableStream<Uint8Array>()]
  for (const data of pieces) atomicWrite('file', data, { signal: AbortSignal.abort() })
  // @ts-expect-error numbers are no pieces
  atomicWrite('file', [1])
  // @ts-expect-error on the calling thread nothing is waited for
  atomicWriteSync('file', ['a'])
}

// Loggers.
setLogger(null)
setLogger(console)
setLogger({ debug() {}, warn() {}, error() {} })
setLogger({ debug: (fields, message) => console.log(fields, message.length), warn() {}, error() {}, trace() {} } as Logger & { trace(): void })
/** pino's shape, as its types have it. */
interface LogFn {
  <T extends object>(fields: T, message?: string, ...args: unknown[]): void
  (message: string, ...args: unknown[]): void
}
declare const pino: Record<'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal', LogFn> & { level: string }
setLogger(pino)
atomicWrite('file', 'text', { logger: pino })
atomicWriteSync('file', 'text', { logger: console })
// @ts-expect-error to take it away, say null
setLogger()
// @ts-expect-error to take it away, say null
setLogger(undefined)
// @ts-expect-error all three are needed
setLogger({ debug() {} })
// @ts-expect-error a function is no logger
setLogger(console.log)
// @ts-expect-error messages come second
setLogger({ debug(message: string, fields: object) {}, warn() {}, error() {} })

// Metrics.
const figures = metrics()
expect<Equal<ReturnType<typeof resetMetrics>, Metrics>>()
expect<Equal<typeof figures.writes.acknowledged, Readonly<Record<Durability, number>>>>()
expect<Equal<typeof figures.writes.latency.full, Histogram>>()
const fullDisks = figures.writes.failed.ENOSPC
expect<Equal<typeof fullDisks, number | undefined>>()
expect<Equal<typeof figures.writes.sharedSyncs.rounds, number>>()
expect<Equal<typeof figures.syncs.fileSystem.p999, number>>()
expect<Equal<typeof figures.updates.batches, number>>()
expect<Equal<typeof figures.backups.created, number>>()
expect<Equal<typeof figures.transactions.files, number>>()
expect<Equal<typeof figures.wal.latency, Histogram>>()
expect<Equal<typeof figures.locks.wait.read, Histogram>>()
expect<Equal<typeof figures.locks.contention, readonly LockContention[]>>()
// @ts-expect-error they are frozen
figures.writes.merged = 0
// @ts-expect-error they are frozen
figures.locks.contention.push(figures.locks.contention[0])
// @ts-expect-error it takes nothing
metrics({})
// @ts-expect-error it takes nothing
resetMetrics(true)

// What is published.
const writeTraces: TracingChannel<unknown, WriteTrace> = tracingChannel<unknown, WriteTrace>('holdfast:write')
writeTraces.subscribe({
  start({ path, size, durability }) {
    expect<Equal<typeof size, number>>()
    expect<Equal<typeof durability, Durability>>()
    path.length
  },
  end() {},
  asyncStart() {},
  asyncEnd() {},
  error({ error }) {
    expect<Equal<typeof error, unknown>>()
  },
})
const told: [WriteTrace, UpdateTrace, LockTrace, LockAcquired, LockReleased, WriteStep, BackupTrace, TransactionTrace, WalTrace] = null!
expect<Equal<(typeof told)[2]['kind'], LockKind>>()
expect<Equal<(typeof told)[3]['waited'], number>>()
expect<Equal<(typeof told)[4]['held'], number>>()
expect<Equal<(typeof told)[5]['delay'], number | undefined>>()

expect<Equal<Histogram['sum'], number>>()
expect<Equal<Histogram['buckets'], readonly { readonly le: number; readonly count: number }[]>>()
// @ts-expect-error metrics cannot be changed
metrics().wal.latency.buckets.push({ le: 1, count: 1 })

// Typed channels.
channels.write.subscribe({ start: ({ size }) => expect<Equal<typeof size, number>>(), error: ({ error }) => void error })
channels.update.subscribe({ asyncEnd: ({ path }) => path.length })
channels.wal.subscribe({ end: ({ dir }) => dir.length })
channels.lockAcquired.subscribe(({ waited }) => expect<Equal<typeof waited, number>>())
channels.write.start.bindStore(new AsyncLocalStorage<string>(), ({ path }) => path)
expect<Equal<Parameters<Parameters<typeof channels.lock.start.subscribe>[0]>[0], LockTrace>>()
// @ts-expect-error there is no such event
channels.write.subscribe({ asyncend() {} })
// @ts-expect-error a write has no such field
channels.write.subscribe({ start: ({ collections }) => collections })
// @ts-expect-error there is no such channel
channels.read

// Errors.
const error = new SessionFileError('file', 'lock', new Error('why'))
new SessionFileError('file', 'lock')
const isError: Error = error
isError.message
expect<Equal<typeof error.code, ErrorCode | undefined>>()
if (error.code === 'ELOCKED' || error.code === 'EWHATEVER') error.holder?.pid
expect<Equal<typeof error.transient, boolean>>()
error.toJSON().message
const isCode: ErrorCode = 'EOTHER'
isCode.length
// @ts-expect-error a number is no code
error.code = 1
expect<Equal<typeof error.errno, number | undefined>>()
expect<Equal<typeof error.syscall, string | undefined>>()
expect<Equal<typeof error.hint, string | undefined>>()
expect<Equal<typeof error.path, string>>()
expect<Equal<typeof error.operation, string>>()
expect<Equal<typeof error.attempts, number>>()
expect<Equal<typeof error.committed, boolean>>()
expect<Equal<typeof error.cause, unknown>>()
class Mine extends SessionFileError {
  extra = 1
}
new Mine('file', 'lock').extra
// @ts-expect-error it needs to know the operation
new SessionFileError('file')
// @ts-expect-error it is a class
SessionFileError('file', 'lock')
async function caught() {
  try {
    await atomicWrite('file', 'text')
  } catch (error: unknown) {
    if (error instanceof SessionFileError) {
      const code: string | undefined = error.code
      return code
    }
    // @ts-expect-error not known to be anything
    return error.code
  }
}
caught()

// Recovery.
{
  const { recoverFromCrash, setDefaults } = everything
  expect<Equal<ReturnType<typeof recoverFromCrash>, Promise<everything.RecoveryReport>>>()
  expect<Equal<ReturnType<typeof setDefaults>, void>>()
  recoverFromCrash(new URL('file:///file'), { minAge: 0, promote: false, legacy: true, recursive: true, dryRun: true, validate: 'json', lock: false, timeout: Infinity })
  recoverFromCrash('dir').then(({ actions, complete }) => {
    const all: boolean = complete
    const done: 'removed' | 'promoted' | 'restored' | 'setAside' | 'completed' | 'conflict' | 'left' | 'failed' | undefined = actions[0]?.action
    const why: string | undefined = actions[0]?.reason ?? actions[0]?.to ?? actions[0]?.error?.code
    return [all, done, why]
  })
  // @ts-expect-error milliseconds are a number
  recoverFromCrash('dir', { minAge: '1m' })
  // @ts-expect-error nothing is tried again
  recoverFromCrash('dir', { retries: 3 })
  setDefaults({ cleanup: 'onFirstWrite' })
  setDefaults({})
  // @ts-expect-error no such way
  setDefaults({ cleanup: true })
  // @ts-expect-error something has to be set
  setDefaults()
}

// Defaults.
{
  const { createHoldfast, setDefaults } = everything
  const defaults: everything.Defaults = { durability: 'file', lock: true, timeout: Infinity, indent: 'keep', retries: 1, logger: null, newFileMode: 0o600 }
  setDefaults({ ...defaults, cleanup: 'off' })
  setDefaults({ durability: undefined })
  const own = createHoldfast(defaults)
  expect<Equal<typeof own, everything.Holdfast>>()
  expect<Equal<typeof own.atomicWrite, typeof everything.atomicWrite>>()
  expect<Equal<typeof own.withLock, typeof everything.withLock>>()
  own.setDefaults({ timeout: 1 })
  own.setLogger(null)
  createHoldfast().createHoldfast({ indent: 2 })
  // @ts-expect-error one of the process
  createHoldfast({ cleanup: 'off' })
  // @ts-expect-error one of the process
  own.setDefaults({ cleanup: 'off' })
  // @ts-expect-error not an option that has a default
  setDefaults({ mode: 0o600 })
}

// Transactions.
{
  const { transaction } = everything
  expect<Equal<ReturnType<typeof transaction<number>>, Promise<number>>>()
  transaction(['a'], async (tx) => (await tx.list()).filter(({ exists, isChanged }) => exists || isChanged).map(({ path }) => path)).then((paths) => paths[0]?.length)
  transaction(['a'], () => {}).then((nothing: void) => nothing)
  const paths: readonly string[] = ['a', 'b']
  transaction([...paths, new URL('file:///c')], async (tx) => {
    const bytes: Buffer = await tx.read('a')
    const text: string = await tx.read('a', 'utf8')
    await tx.write('a', new Uint16Array(2))
    await tx.write('a', text, { encoding: 'hex' })
    const data = await tx.updateJson<{ n: number }>('b', (data) => ({ n: data.n + bytes.length }), { defaultValue: { n: 0 }, indent: 2 })
    expect<Equal<typeof data, { n: number }>>()
    await tx.updateJson('b', (data) => void data.anything)
    await tx.remove(new URL('file:///c'))
    // @ts-expect-error that is no JSON of this kind
    await tx.updateJson<{ n: number }>('b', () => ({ m: 1 }))
  }, { durability: 'none', mode: 0o600, chown: false, retries: 1, retryDelay: 0, timeout: Infinity, signal: new AbortController().signal, logger: null })
  transaction(paths, () => {})
  // @ts-expect-error there is nothing between all and nothing
  transaction(paths, () => {}, { durability: 'file' })
  // @ts-expect-error links are always followed
  transaction(paths, () => {}, { followSymlinks: false })
  // @ts-expect-error files are named in a list
  transaction('a', () => {})
}

// It stands in for what has the type of fs.promises.writeFile, as far as that goes.
const writer: (file: string, data: string | Uint8Array) => Promise<void> = atomicWrite
writer('file', 'text')

// Locks.
async function locks() {
  const lock: everything.Lock = await everything.acquireLock('file', { kind: 'read', timeout: Infinity, signal: new AbortController().signal })
  expect<Equal<typeof lock.kind, 'read' | 'write'>>()
  expect<Equal<typeof lock.signal, AbortSignal>>()
  expect<Equal<everything.LockKind, 'read' | 'write'>>()
  await using other = await everything.acquireLock('file', { kind: undefined })
  await using perhaps = await everything.tryAcquireLock(new URL('file:///file'), { kind: 'write' })
  expect<Equal<typeof perhaps, everything.Lock | null>>()
  const value: number = await everything.withLock('file', (held) => held.kind.length, { kind: 'read' })
  const { locked, holder } = await everything.isLocked('file', { kind: 'read' })
  expect<Equal<typeof locked, boolean>>()
  holder?.since.getTime()
  // @ts-expect-error there are two kinds
  everything.acquireLock('file', { kind: 'shared' })
  // @ts-expect-error it does not wait
  everything.tryAcquireLock('file', { timeout: 5 })
  // @ts-expect-error it does not wait
  everything.isLocked('file', { timeout: 5 })
  // The other protocol.
  await everything.withLock('file', () => {}, { protocol: 'proper-lockfile', stale: 5000, update: 1000, timeout: 5 })
  await everything.isLocked('file', { protocol: 'proper-lockfile', stale: 5000 })
  expect<Equal<everything.LockProtocol, 'kernel' | 'proper-lockfile'>>()
  // @ts-expect-error no such protocol
  everything.acquireLock('file', { protocol: 'flock' })
  // @ts-expect-error nothing is refreshed by looking
  everything.isLocked('file', { protocol: 'proper-lockfile', update: 1000 })

  // LockManager.
  const manager: everything.LockManager = everything.lockManager
  await using managed = await new everything.LockManager().acquireWriteLock(new URL('file:///dir'), { retries: 3, minTimeout: 1, maxTimeout: 2, stale: 2000, protocol: 'kernel' })
  expect<Equal<typeof managed, everything.ManagedLock>>()
  expect<Equal<typeof managed.kind, everything.LockKind>>()
  await managed.extend(1000)
  expect<Equal<Awaited<ReturnType<typeof manager.tryAcquireWriteLock>>, everything.ManagedLock | null>>()
  const isHeld: boolean = await manager.isWriteLocked('dir', { protocol: 'proper-lockfile' })
  await manager.releaseAllLocks()
  // @ts-expect-error no such option
  manager.acquireReadLock('dir', { timeout: 5 })
  isHeld
  // @ts-expect-error it is as it was taken
  lock.kind = 'write'
  return [value, other]
}
locks()
// Write-ahead logs.
async function logs() {
  const { openWal } = everything
  const wal = await openWal('log', { syncMode: 'periodic', syncInterval: 10, recovery: 'strict', onFlush: async ({ collection, entries, upTo }) => {
    expect<Equal<typeof collection, string>>()
    expect<Equal<typeof upTo, bigint>>()
    for (const entry of entries) expect<Equal<typeof entry, everything.WalEntry>>()
  } })
  expect<Equal<typeof wal, everything.Wal>>()
  const sequences = await wal.append('a', [{ id: '1', op: 'insert', payload: 'text' }, { id: '2', op: 'delete' }], { durable: true })
  expect<Equal<typeof sequences, bigint[]>>()
  await wal.writeBatch([{ collection: 'a', id: '1', op: 'update', payload: new Uint8Array(1), timestamp: 1 }])
  const frozen: readonly everything.WalEntryInput[] = []
  await wal.append('a', frozen)
  const entry = wal.get('a', '1')
  expect<Equal<typeof entry, everything.WalEntry | undefined>>()
  for (const { sequence, op } of wal.entries('a', { deletions: true })) {
    expect<Equal<typeof sequence, bigint>>()
    expect<Equal<typeof op, 'insert' | 'update' | 'delete'>>()
  }
  const replay = wal.replay('a', { from: 2n })
  for await (const { payload } of replay) expect<Equal<typeof payload, string | Uint8Array>>()
  expect<Equal<(typeof replay.damage)[number], everything.WalDamage>>()
  await wal.checkpoint('a', sequences[0] ?? 0n)
  await wal.flush()
  const { last } = wal.stats().collections[0]!
  expect<Equal<typeof last, bigint>>()
  await using other = await openWal(new URL('file:///log'))
  other.damage.length
  const reader = await openWal('log', { readOnly: true, recovery: 'skipCorrupt' })
  expect<Equal<typeof reader, everything.WalReader>>()
  expect<Equal<ReturnType<typeof reader.collections>, Promise<string[]>>>()
  for await (const { id } of reader.replay('a')) expect<Equal<typeof id, string>>()
  const { collections } = await reader.stats()
  expect<Equal<NonNullable<(typeof collections)[0]>['released'], bigint>>()
  expect<Equal<typeof wal.first, (collection: string) => bigint>>()
  for await (const { payload } of reader.follow('a', { from: 1n, signal: AbortSignal.timeout(1) })) expect<Equal<typeof payload, string | Uint8Array>>()
  const values = await openWal<{ title: string }>('log', { codec: 'json' })
  await values.append('a', [{ id: '1', op: 'insert', payload: { title: 'x' } }, { id: '2', op: 'delete' }])
  expect<Equal<NonNullable<ReturnType<typeof values.get>>['payload'], { title: string }>>()
  for await (const { payload } of values.follow('a')) expect<Equal<typeof payload, { title: string }>>()
  const readValues = await openWal<number>('log', { codec: 'json', readOnly: true })
  for await (const { payload } of readValues.replay('a')) expect<Equal<typeof payload, number>>()
  const consumer = await values.consumer('indexer', 'a', { from: 1n, timeout: 0 })
  for await (const { payload } of consumer.follow()) expect<Equal<typeof payload, { title: string }>>()
  expect<Equal<ReturnType<typeof consumer.ack>, Promise<void>>>()
  expect<Equal<ReturnType<typeof wal.checkpoint>, Promise<bigint>>>()
  const [figures] = wal.stats().collections[0]!.consumers
  expect<Equal<typeof figures, everything.WalConsumerStats | undefined>>()
  await wal.backup(new URL('file:///copy'))
  // @ts-expect-error a consumer has a collection
  wal.consumer('indexer')
  // @ts-expect-error the payload is another value
  values.append('a', [{ id: '1', op: 'insert', payload: 'text' }])
  // @ts-expect-error there is no such codec
  openWal('log', { codec: 'xml' })
  // @ts-expect-error a reader does not write
  reader.append('a', [])
  // @ts-expect-error an insertion needs a payload
  wal.append('a', [{ id: '1', op: 'insert' }])
  // @ts-expect-error sequence numbers are bigints
  wal.checkpoint('a', 1)
  // @ts-expect-error sequence numbers are bigints
  wal.replay('a', { from: 1 })
  // @ts-expect-error there is no such operation
  wal.append('a', [{ id: '1', op: 'upsert', payload: '' }])
  // @ts-expect-error there is no such option
  openWal('log', { sync: 'always' })
  // @ts-expect-error a reader does not sync
  openWal('log', { readOnly: true, syncMode: 'always' })
  // @ts-expect-error there is no such mode
  openWal('log', { syncMode: 'sometimes' })
}
logs()

// Updates and reads of JSON: what is known of the content is kept to.
interface Chat { turns: string[]; title?: string }
updateJsonFile<Chat>('chat.json', (chat) => { chat.turns.push('x') })
// @ts-expect-error the new length would replace the chat
updateJsonFile<Chat>('chat.json', (chat) => chat.turns.push('x'))
// @ts-expect-error
updateJsonFile<Chat>('chat.json', async (chat) => delete chat.title)
// @ts-expect-error inferred from the default
updateJsonFile('chat.json', (chat) => chat.turns.push('x'), { defaultValue: { turns: ['a'] } })
updateJsonFile<Chat | number>('chat.json', () => 5, { allowPrimitive: true, indent: 'keep', finalNewline: 'keep' })
// @ts-expect-error
updateJsonFileSync<Chat>('chat.json', async (chat) => chat)
// @ts-expect-error there is nothing to cancel
updateJsonFileSync<Chat>('chat.json', () => {}, { signal: new AbortController().signal })
updateJsonFileSync<Chat>('chat.json', (chat) => void chat.turns.push('x'), { parse: (text) => JSON.parse(text), stringify: JSON.stringify }).turns
readJsonFile<Chat>('chat.json').then(({ turns }) => turns.length)
readJsonFile('chat.json', { defaultValue: { theme: 'dark' } }).then(({ theme }) => theme.length)
// @ts-expect-error nothing is known of it
readJsonFile('chat.json').then(({ turns }) => turns)
expect<Equal<ReturnType<typeof readJsonFileSync<Chat>>, Chat>>()

// ── The history of a file ─────────────────────────────────────────────────────────────────
{
  const { cleanupBackups, createBackup, createBackupSync, recoverFromCrash, restoreLatest } = everything
  expect<Equal<ReturnType<typeof createBackupSync>, string>>()
  void createBackup('a', { keep: { last: 1, hourly: 2, daily: 3, weekly: 4 }, onlyIfChanged: true, minInterval: 1000 })
  void createBackup(Buffer.from('a'), { keep: 3 })
  // @ts-expect-error there are no months
  void createBackup('a', { keep: { monthly: 1 } })
  // @ts-expect-error nothing can be cancelled on the calling thread
  createBackupSync('a', { signal: new AbortController().signal })
  expect<Equal<ReturnType<typeof cleanupBackups>, Promise<string[]>>>()
  void cleanupBackups('a', { keep: 1, maxAge: 0, keepNewest: 2, validate: 'json' })
  void cleanupBackups('.', /a/, 0, { anyName: true, keepNewest: 0 })
  // @ts-expect-error a text is no pattern
  void cleanupBackups('.', 'a')
  const restoring = restoreLatest('a', { validate: 'json' })
  type Restored = Awaited<typeof restoring>
  expect<Equal<Restored['backup']['createdAt'], Date>>()
  expect<Equal<Restored['skipped'][number]['reason'], string>>()
  void recoverFromCrash('.', { backups: true })
}

// ── A file with a schema ──────────────────────────────────────────────────────────────────
{
  const { jsonFile } = everything
  type Dated = everything.StandardSchema<{ at: string }, { at: Date }>
  const schema: Dated = null!
  const file = jsonFile('a', { schema, defaultValue: { at: 'now' } })
  expect<Equal<ReturnType<typeof file.read>, Promise<{ at: Date }>>>()
  void file.update(({ at }) => ({ at: at.toISOString() }))
  // @ts-expect-error the file holds the input
  void file.update(() => ({ at: new Date() }))
  // @ts-expect-error so does the default
  jsonFile('a', { schema, defaultValue: { at: new Date() } })
  const plain = jsonFile('a', { defaultValue: { count: 0 } })
  expect<Equal<ReturnType<typeof plain.read>, Promise<{ count: number }>>>()
}
