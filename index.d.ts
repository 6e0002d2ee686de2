/// <reference types="node" />
/// <reference lib="esnext.disposable" />

import type { Writable } from 'node:stream'

/**
 * What of an acknowledged write survives a power cut or a kernel crash. Each level also
 * gives what the ones before it give.
 *
 * - `'none'`: nothing is synced. Readers, and whatever comes after a crash of the process
 *   alone, see the old file or the new one, whole. After a power cut the file may be
 *   either, or empty or torn.
 * - `'file'`: the bytes are synced before the rename. After a power cut the file is the
 *   old one or the new one, whole, but it may still be the old one.
 * - `'full'`: the rename is synced too. After a power cut an acknowledged write is there.
 */
export type Durability = 'none' | 'file' | 'full'

/**
 * Receives log entries. pino, and any object with these three methods, will do. A method
 * that throws does not disturb the write.
 */
export interface Logger {
  debug(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}

/** The options of {@link atomicWriteSync}, and of all that writes. */
export interface WriteOptionsBase {
  /**
   * What of the write survives a power cut.
   * @default 'full'
   */
  durability?: Durability | undefined
  /**
   * Permission bits of the file, an integer from 0 to 0o7777. They are set exactly, whatever
   * the umask. (On Windows only the write bits have a meaning.)
   * @default those of the existing file, else 0o644 less the umask
   */
  mode?: number | undefined
  /**
   * Owner and group of the file: integers from 0 to 4294967294, or `false` to leave the file
   * to the process. That the process may not give files away is not an error.
   * @default those of the existing file
   */
  chown?: { uid: number; gid: number } | false | undefined
  /**
   * Attempts in all, the first included: an integer from 1 to 1000000. Only errors that may
   * pass are tried again: ENOSPC, EDQUOT, EAGAIN, EBUSY, EIO, EMFILE, ENFILE, ENOMEM,
   * ETIMEDOUT, ENETDOWN, ENETUNREACH, ESTALE, and on Windows sharing and lock violations and
   * access denied to a rename. Each attempt starts over with a new temp file.
   * @default 3
   */
  retries?: number | undefined
  /**
   * Milliseconds before the second attempt, from 0 to 2147483647; attempt n waits
   * `retryDelay * 2 ** (n - 2)`.
   * @default 100
   */
  retryDelay?: number | undefined
  /**
   * Make missing parent folders (mode 0o777 less the umask). Under `durability: 'full'` they
   * are durable too when the write is. They stay when the write fails.
   * @default false
   */
  makeDirs?: boolean | undefined
  /**
   * Write to the file that a symbolic link at `path` leads to, and leave the link. With
   * `false` the file takes the place of the link. In a folder that is shared like `/tmp`
   * (sticky and writable by all) links of other users are refused with `EACCES`.
   * @default true
   */
  followSymlinks?: boolean | undefined
  /**
   * `'json'`: the bytes must be one JSON text in UTF-8, just what `JSON.parse` takes (so no byte
   * order mark), or nothing is written and the call fails with `EBADJSON` (`line` and `column`
   * say where) or `EEMPTYJSON`. They are read back from the temp file before it takes the place
   * of the file. Such calls are not merged with others.
   * @default no check
   */
  validate?: 'json' | undefined
  /**
   * Receives this call's log entries; `null` for none.
   * @default the one given to {@link setLogger}
   */
  logger?: Logger | null | undefined
}

/** The option of what replaces a file without having read it. */
export interface LockedWriteOption {
  /**
   * Hold the file's write lock (see {@link withLock}) meanwhile, and wait for it up to 10 000 ms
   * (`ELOCKED`). Inside {@link withLock} for the same file the lock that is held is used; inside
   * an update of the same file the call fails with `EDEADLK`. Without it locks are neither taken
   * nor heeded.
   * @default false
   */
  lock?: boolean | undefined
}

/** The options of {@link atomicWrite}. */
export interface AtomicWriteOptions extends WriteOptionsBase, LockedWriteOption {
  /**
   * How a string is encoded. Without a meaning for other data.
   * @default 'utf8'
   */
  encoding?: BufferEncoding | undefined
  /**
   * Cancels the write. Before the rename nothing has changed and the call rejects with an
   * `AbortError` (`code` `'ABORT_ERR'`, the signal's reason as `cause`); after it the write
   * stands and the call resolves.
   */
  signal?: AbortSignal | undefined
}

/** The options of {@link atomicWriteSync}. */
export interface AtomicWriteSyncOptions extends WriteOptionsBase, LockedWriteOption {
  /**
   * How a string is encoded. Without a meaning for other data.
   * @default 'utf8'
   */
  encoding?: BufferEncoding | undefined
}

/** The options of {@link atomicWriteJson}. */
export interface AtomicWriteJsonOptions extends WriteOptionsBase, LockedWriteOption {
  /**
   * As in `JSON.stringify`: a number of spaces from 0 to 10, or up to 10 characters of white
   * space.
   * @default none: everything on one line
   */
  indent?: number | string | undefined
  /** Cancels the write, as in {@link AtomicWriteOptions.signal}. */
  signal?: AbortSignal | undefined
}

/**
 * Replaces the content of a file, or makes the file, in one step.
 *
 * **Promises.** Whoever reads the file, at any moment, sees the old content or the new one,
 * whole. When the promise resolves the new content is in place, as durable as `durability`
 * says. When it rejects with `committed: false` the file is as it was, byte for byte, and no
 * temp file is left (if it cannot be removed a warning is logged). When it rejects with
 * `committed: true` the new content is in place but may not survive a power cut. Permission
 * bits and owner stay. A process that is killed leaves at most one temp file,
 * `.<name>.<16 hex digits>.tmp`, for each write that was running.
 *
 * Writes to one file take effect in the order of the calls, also those of other worker threads.
 * Of those that wait behind another only the newest is written, if their options are equal and
 * none has a `signal` or `validate`; all are answered when it is as durable as they asked, and a
 * failure is that of all.
 *
 * **Does not promise.** Other hard links of the file keep the old content. Extended
 * attributes, ACLs and the time of creation are those of a new file. Nothing is locked: for
 * read-modify-write this is not enough. Disks and network file systems that report a sync as
 * done before it is done cannot be helped.
 *
 * @param path The file. Relative paths are resolved when the call is made. `file:` URLs must
 *   be URL objects.
 * @param data The new content. The memory of a Buffer, TypedArray or DataView must not be
 *   changed, transferred or resized until the promise settles: the bytes written may be wrong,
 *   or the write may fail.
 * @throws {SessionFileError} When the system refuses. `code` is the errno name (`ENOSPC`,
 *   `EACCES`, `EISDIR`, `ENOENT`…).
 * @throws {TypeError} When an argument is of the wrong type or an option is not known.
 * @throws {RangeError} When a number is out of range.
 * @example
 * ```js
 * import { atomicWrite } from 'holdfast'
 *
 * await atomicWrite('session.json', JSON.stringify({ turn: 1 }))
 * await atomicWrite('cache.bin', new Uint8Array(64), { durability: 'none', mode: 0o600 })
 * ```
 */
export function atomicWrite(
  path: string | URL,
  data: string | NodeJS.ArrayBufferView,
  options?: AtomicWriteOptions,
): Promise<void>

/**
 * {@link atomicWrite} on the calling thread: for exit handlers, where nothing asynchronous
 * runs any more. It blocks the event loop, the waits between attempts included.
 *
 * @example
 * ```js
 * import { atomicWriteSync } from 'holdfast'
 *
 * process.on('exit', (code) => atomicWriteSync('last-exit.json', JSON.stringify({ code })))
 * ```
 */
export function atomicWriteSync(
  path: string | URL,
  data: string | NodeJS.ArrayBufferView,
  options?: AtomicWriteSyncOptions,
): void

/**
 * {@link atomicWrite} of `JSON.stringify(value, null, indent)`. The text is made before the
 * call returns, so the value may change afterwards.
 *
 * @throws {TypeError} When the value has no JSON text (`undefined`, a function, a symbol), is
 *   circular, or holds a BigInt.
 * @example
 * ```js
 * import { atomicWriteJson } from 'holdfast'
 *
 * await atomicWriteJson('settings.json', { theme: 'dark' }, { indent: 2 })
 * ```
 */
export function atomicWriteJson(path: string | URL, value: unknown, options?: AtomicWriteJsonOptions): Promise<void>

/** The options of {@link createAtomicWriteStream}. */
export interface AtomicWriteStreamOptions extends Omit<WriteOptionsBase, 'retries' | 'retryDelay'>, LockedWriteOption {
  /**
   * How strings are encoded that are written without an encoding of their own.
   * @default 'utf8'
   */
  encoding?: BufferEncoding | undefined
  /**
   * How many bytes wait in memory before `write()` returns `false`, from 1 to 1073741824.
   * @default that of Node's streams
   */
  highWaterMark?: number | undefined
  /**
   * Destroys the stream with an `AbortError`; nothing is left. Once the file has been replaced
   * it has no effect.
   */
  signal?: AbortSignal | undefined
}

/**
 * A stream whose bytes replace the content of a file, once they are all there.
 *
 * **Promises.** The bytes go to a temp file beside the file as they come, with back-pressure.
 * After `end()`, and before `'finish'`, they are synced and take the place of the file, as
 * {@link atomicWrite} does it. A stream that is destroyed, aborted or fails before that leaves
 * the file as it was and, once it has emitted `'close'`, no temp file; so does one that is open
 * when the process ends normally or its worker thread ends. With `lock: true` the lock is held from the beginning to the end.
 *
 * **Does not promise.** Nothing is tried again. A process that is killed leaves the temp file.
 * Buffers must not be changed until their chunk has been taken. The errors with which the stream
 * is destroyed are those of {@link atomicWrite}.
 *
 * @throws {TypeError} When an argument is of the wrong type or an option is not known.
 * @throws {RangeError} When a number is out of range.
 * @example
 * ```js
 * import { Readable } from 'node:stream'
 * import { pipeline } from 'node:stream/promises'
 * import { createAtomicWriteStream } from 'holdfast'
 *
 * await pipeline(Readable.from(['line 1\n', 'line 2\n']), createAtomicWriteStream('report.txt'))
 * ```
 */
export function createAtomicWriteStream(path: string | URL, options?: AtomicWriteStreamOptions): Writable

/** The options of {@link createBackup}. */
export interface CreateBackupOptions
  extends Pick<WriteOptionsBase, 'durability' | 'retries' | 'retryDelay' | 'validate' | 'logger'> {
  /**
   * How many backups of this file to leave, the new one included: an integer from 1 to 1000000.
   * Older ones are removed after the new one is fully durable, whatever `durability` says; none
   * that is newer is, and so never the newest that passes `validate`. That one cannot be removed
   * is no error.
   * @default all
   */
  keep?: number | undefined
  /** Cancels the call, as in {@link AtomicWriteOptions.signal}. */
  signal?: AbortSignal | undefined
}

/** The options of {@link restoreBackup}. */
export interface RestoreBackupOptions extends WriteOptionsBase {
  /**
   * Hold the target's write lock meanwhile. Inside {@link withLock} for the target the restore
   * works under the lock that is held, in turn with updates there.
   * @default true
   */
  lock?: boolean | undefined
  /**
   * Milliseconds to wait for the lock, from 0 to Infinity; 0 tries once.
   * @default 10000
   */
  timeout?: number | undefined
  /** Cancels the call, as in {@link AtomicWriteOptions.signal}. */
  signal?: AbortSignal | undefined
}

/** A backup of a file. */
export interface Backup {
  /** Where it is. */
  path: string
  /** When it was made, by its name. */
  createdAt: Date
  /** Its size in bytes. */
  size: number
}

/**
 * Copies a file aside, to `<path>.<milliseconds since 1970>.backup`.
 *
 * **Promises.** The backup appears whole, in one step, as durable as `durability` says, with the
 * permission bits and (as far as the process may) the owner of the file. It never takes the
 * place of anything: if the name is taken it moves on by a millisecond. A file that is replaced
 * meanwhile by a rename, as everything here does it, is backed up as one version in full. With
 * `validate: 'json'` a corrupt file is not backed up. Where the file system can share the bytes
 * of two files, they are shared.
 *
 * **Does not promise.** A file that somebody changes in place meanwhile may be caught half
 * changed. No lock is taken. Extended attributes and ACLs are not copied, and holes in the file
 * may be filled.
 *
 * @param path The file. A symbolic link is followed to what is copied, and the backup is made
 *   beside the link.
 * @returns The path of the backup.
 * @throws {SessionFileError} `ENOENT` when there is no file, `EBADJSON` or `EEMPTYJSON` when it
 *   does not pass `validate`, or errno names as for {@link atomicWrite}.
 * @example
 * ```js
 * import { atomicWrite, createBackup } from 'holdfast'
 *
 * await atomicWrite('state.json', '{}')
 * console.log(await createBackup('state.json', { validate: 'json', keep: 5 }))
 * ```
 */
export function createBackup(path: string | URL, options?: CreateBackupOptions): Promise<string>

/**
 * Replaces a file by a backup of it, or by any other file.
 *
 * **Promises.** As {@link atomicWrite}, with the backup's bytes, under the target's write lock:
 * whoever reads the target, at any moment and after any crash, finds what was there or the
 * backup, whole. The target keeps its permission bits and owner; a target that does not exist
 * gets those of the backup. The backup stays.
 *
 * **Does not promise.** What {@link createBackup} does not.
 *
 * @throws {SessionFileError} `ENOENT` when there is no backup, `EBADJSON` or `EEMPTYJSON` when it
 *   does not pass `validate`, `ELOCKED` when the lock was not free in time, `EDEADLK` inside an
 *   update of the target, or errno names as for {@link atomicWrite}.
 * @example
 * ```js
 * import { atomicWrite, createBackup, restoreBackup } from 'holdfast'
 *
 * await atomicWrite('state.json', '{"level":1}')
 * const backup = await createBackup('state.json')
 * await atomicWrite('state.json', '{"level":2}')
 * await restoreBackup(backup, 'state.json')
 * ```
 */
export function restoreBackup(
  backupPath: string | URL,
  targetPath: string | URL,
  options?: RestoreBackupOptions,
): Promise<void>

/**
 * The backups of a file that {@link createBackup} has made, the newest first. The file itself
 * need not exist any more; its folder must.
 *
 * @example
 * ```js
 * import { atomicWrite, createBackup, listBackups, restoreBackup } from 'holdfast'
 *
 * await atomicWrite('state.json', '{}')
 * await createBackup('state.json')
 * const [newest] = await listBackups('state.json')
 * if (newest) await restoreBackup(newest.path, 'state.json')
 * ```
 */
export function listBackups(path: string | URL): Promise<Backup[]>

/**
 * Removes old backups from a folder: regular files that have the name of a backup
 * (`….<digits>.backup`), which `pattern` matches. Their age is that which the name says.
 *
 * **Does not promise.** The removals are not synced: after a power cut some may be there again.
 *
 * @param dir The folder. What is in folders below it is left alone.
 * @param pattern Is tried on each name, from its beginning.
 * @param maxAge Milliseconds, from 0 to Infinity: what is at least as old is removed. By default 7
 *   days (604800000).
 * @param options With `anyName` the name need not be that of a backup, and the age is the time
 *   since the file was last changed. Lock files and temp files of holdfast are not removed.
 * @returns The names of the files that were removed.
 * @throws {SessionFileError} With the first thing that went wrong, after everything that could be
 *   removed has been.
 * @example
 * ```js
 * import { cleanupBackups } from 'holdfast'
 *
 * const removed = await cleanupBackups('.', /^state\.json\./, 24 * 60 * 60 * 1000)
 * console.log(removed.length)
 * ```
 */
export function cleanupBackups(
  dir: string | URL,
  pattern: RegExp,
  maxAge?: number,
  options?: { anyName?: boolean | undefined },
): Promise<string[]>

/**
 * The same functions by the names that Vectra has for them, with its rules for trying again:
 * `retries` attempts in all (by default 3), of which attempt n waits
 * `retryDelay * 2 ** (n - 2)` milliseconds (by default 100, 200…). When they have all failed,
 * the message says so: `…failed after 3 attempts: …`. Errors that do not pass (`EACCES`,
 * `EISDIR`, `ENOTDIR`, `EINVAL`, corrupt JSON and all others that are not listed at
 * {@link WriteOptionsBase.retries}) fail at once.
 *
 * @example
 * ```js
 * import { AtomicOperations } from 'holdfast'
 *
 * await AtomicOperations.writeFile('index.json', '{"count":0}', { retries: 5, retryDelay: 200 })
 * await AtomicOperations.updateJsonFile('index.json', (data) => {
 *   data.count++
 *   return data
 * })
 * const backup = await AtomicOperations.createBackup('index.json')
 * await AtomicOperations.restoreBackup(backup, 'index.json')
 * console.log(await AtomicOperations.readFile('index.json'))
 * ```
 */
export class AtomicOperations {
  /** {@link atomicWrite}. */
  static writeFile: typeof atomicWrite
  /**
   * The content of a file as text in UTF-8; other bytes become U+FFFD, as in `fs.readFile`.
   *
   * @throws {SessionFileError} With the errno name: `ENOENT`, `EACCES`, `EISDIR`…
   */
  static readFile(
    path: string | URL,
    options?: { retries?: number | undefined; retryDelay?: number | undefined },
  ): Promise<string>
  /**
   * {@link updateJsonFile}, but what `updater` throws is retried as well, and the last of it is
   * the `cause` of the error.
   */
  static updateJsonFile<T = any>(
    path: string | URL,
    updater: (data: T) => T | void | Promise<T | void>,
    options?: UpdateJsonOptions<T>,
  ): Promise<T>
  /** {@link createBackup}. */
  static createBackup: typeof createBackup
  /** {@link restoreBackup}. */
  static restoreBackup: typeof restoreBackup
  /** {@link cleanupBackups}. */
  static cleanupBackups: typeof cleanupBackups
}

/** The options of {@link updateJsonFile}. */
export interface UpdateJsonOptions<T = any> extends WriteOptionsBase {
  /**
   * What `update` gets when the file does not exist: a copy of it for each call. Without it
   * the call rejects with `ENOENT`. A file that is empty or corrupt is never replaced by it.
   */
  defaultValue?: T | undefined
  /**
   * As in `JSON.stringify`: a number of spaces from 0 to 10, or up to 10 characters of white
   * space.
   * @default none: everything on one line
   */
  indent?: number | string | undefined
  /**
   * Hold the file's write lock from before the read until after the write. Without it another
   * process may change the file in between, and its change is lost.
   * @default true
   */
  lock?: boolean | undefined
  /**
   * Milliseconds to wait for the lock, from 0 to Infinity; 0 tries once. The time in the queue
   * behind other calls of this process does not count.
   * @default 10000
   */
  timeout?: number | undefined
  /**
   * Cancels the call while it waits and while its `update` runs: it rejects with an
   * `AbortError`, and what `update` has changed so far is dropped. After that it has no effect.
   */
  signal?: AbortSignal | undefined
}

/**
 * Reads a JSON file, changes it, and writes it, while no other process can.
 *
 * **Promises.** Under the file's write lock: read, parse, `update`, {@link atomicWrite}. When
 * the promise resolves, the change is in the file, as durable as `durability` says. Calls for
 * one file in one thread run in the order in which they were made; those that wait together
 * share one lock, one read and one write, and each still sees the file as the one before it
 * left it. When `update` throws or rejects, so does the call, with the same error, and nothing
 * of its change is kept. A file that cannot be parsed is left as it is, byte for byte. Inside
 * {@link withLock} for the same file the update works under the lock that is held.
 *
 * **Does not promise.** Programs that do not take the lock are not kept out. If the text does
 * not change, the file is not written again (but it is synced as asked).
 *
 * @param update Gets the parsed content, of its own for each call. Returns what is to be
 *   written, or a promise of it; `undefined` means that the argument was changed in place. It
 *   runs in the async context of the call (`AsyncLocalStorage`).
 * @returns What was written: a copy of its own for each call.
 * @throws {SessionFileError} `ENOENT` when the file does not exist and there is no
 *   `defaultValue`, `EEMPTYJSON` when it is empty, `EBADJSON` when it is not JSON in UTF-8
 *   (`line` and `column` say where), `ELOCKED` when the lock was not free in time, `EDEADLK`
 *   when called from an update of the same file, or errno names as for {@link atomicWrite}.
 * @example
 * ```js
 * import { updateJsonFile } from 'holdfast'
 *
 * const session = await updateJsonFile(
 *   'counter.json',
 *   (data) => {
 *     data.turns += 1
 *   },
 *   { defaultValue: { turns: 0 } },
 * )
 * console.log(session.turns)
 * ```
 */
export function updateJsonFile<T = any>(
  path: string | URL,
  update: (data: T) => T | void | Promise<T | void>,
  options?: UpdateJsonOptions<T>,
): Promise<T>

/** What a lock is for. */
export type LockKind = 'write'

/** Who holds a lock, as the holder has noted it. For people: nothing depends on it. */
export interface LockHolder {
  pid: number
  hostname: string
  since: Date
  /** The beginning of the command line. */
  command: string
}

/** A lock that is held. */
export interface Lock {
  readonly kind: LockKind
  /** Would be aborted if the lock were lost. The kernel does not lose locks. */
  readonly signal: AbortSignal
  /** Gives the lock back. Calling it again does nothing more. */
  release(): Promise<void>
  /** The same, for `await using`. */
  [Symbol.asyncDispose](): Promise<void>
}

/** The options of {@link tryAcquireLock}. */
export interface TryLockOptions {
  /**
   * Alone.
   * @default 'write'
   */
  kind?: LockKind | undefined
  /** Cancels the call: it rejects with an `AbortError`. */
  signal?: AbortSignal | undefined
}

/** The options of {@link withLock} and {@link acquireLock}. */
export interface LockOptions extends TryLockOptions {
  /**
   * Milliseconds to wait, from 0 to Infinity; 0 tries once.
   * @default 10000
   */
  timeout?: number | undefined
}

/**
 * Runs a function while this call, and no other in any process or thread, holds the lock of a
 * file. The lock is given back when the function returns, throws, or its promise settles.
 *
 * **Promises.** Mutual exclusion among all that use holdfast's locks: calls, worker threads,
 * processes. When a process dies, however it dies, the kernel frees its locks at once: there
 * are no stale locks, and nothing to break. Calls of one process that spell the path alike are
 * served in their order. Waiting holds up neither the event loop nor Node's thread pool.
 *
 * **Does not promise.** The lock is advisory: whoever does not ask for it is not kept out. It
 * is a lock on the file `.<name>.lock` beside the file, which stays there and must not be
 * deleted while processes are using it. The file itself need not exist; its folder must. Some
 * network file systems have no locks (an error says so) or none between machines.
 *
 * @param path The file or folder. Symbolic links lead to the lock of the file behind them.
 * @throws {SessionFileError} `ELOCKED` when the lock was not free in time (the message and
 *   `holder` say who has it), `EDEADLK` when the calling code already holds it by `withLock`,
 *   or errno names when the lock file cannot be used.
 * @example
 * ```js
 * import { atomicWrite, withLock } from 'holdfast'
 *
 * await withLock('session.json', async () => {
 *   await atomicWrite('session.json', '{"turn":2}')
 *   await atomicWrite('session.log', 'turn 2')
 * })
 * ```
 */
export function withLock<T>(
  path: string | URL,
  fn: (lock: Lock) => T | Promise<T>,
  options?: LockOptions,
): Promise<T>

/**
 * Takes the lock of a file until `release()` is called, the thread ends, or the process dies.
 * {@link withLock} is easier to use rightly: this one cannot tell that it would wait for itself.
 *
 * @throws {SessionFileError} As {@link withLock}, but never `EDEADLK`.
 * @example
 * ```js
 * import { acquireLock } from 'holdfast'
 *
 * const lock = await acquireLock('session.json', { timeout: 500 })
 * try {
 *   console.log('mine')
 * } finally {
 *   await lock.release()
 * }
 * ```
 */
export function acquireLock(path: string | URL, options?: LockOptions): Promise<Lock>

/**
 * Takes the lock of a file if it is free now; `null` when it is not.
 *
 * @example
 * ```js
 * import { tryAcquireLock } from 'holdfast'
 *
 * const lock = await tryAcquireLock('nightly-job')
 * if (lock === null) console.log('somebody else is at it')
 * else await lock.release()
 * ```
 */
export function tryAcquireLock(path: string | URL, options?: TryLockOptions): Promise<Lock | null>

/**
 * Whether somebody holds the lock of a file at this moment, and who. By the time you read the
 * answer it may have changed: to do something about it, use {@link tryAcquireLock}.
 *
 * @example
 * ```js
 * import { isLocked } from 'holdfast'
 *
 * const { locked, holder } = await isLocked('session.json')
 * console.log(locked ? `held by ${holder?.pid}` : 'free')
 * ```
 */
export function isLocked(path: string | URL, options?: {}): Promise<{ locked: boolean; holder?: LockHolder }>

/** What an entry of a write-ahead log does to its id. */
export type WalOp = 'insert' | 'update' | 'delete'

/** An entry as it is given to {@link Wal.append}. Other properties are not looked at. */
export type WalEntryInput =
  | {
      /** What the entry is about. Well-formed text. */
      id: string
      op: 'insert' | 'update'
      payload: Uint8Array | string
      /**
       * Milliseconds since 1970, a safe integer.
       * @default the time of the call
       */
      timestamp?: number | undefined
    }
  | {
      id: string
      op: 'delete'
      /** @default no bytes */
      payload?: Uint8Array | string | undefined
      timestamp?: number | undefined
    }

/** An entry as it comes out of a log. */
export interface WalEntry {
  collection: string
  /** Its number, from 1. Within a log later entries have higher ones, in all collections together. */
  sequence: bigint
  id: string
  op: WalOp
  /** As it was given: text as a string, bytes as a Uint8Array. It may share its memory with its neighbours: keep a copy, not the view, if you keep few of many. */
  payload: Uint8Array | string
  /** Milliseconds since 1970. */
  timestamp: number
}

/** A stretch of a log that cannot be used. */
export interface WalDamage {
  collection: string
  /** The name of the file in the folder of the collection. */
  file: string
  /**
   * - `'tornTail'`: the end of what was written last, as a power cut or a killed writer leaves it.
   *   Nothing that was acknowledged as synced is missing, as far as can be told.
   * - `'unreadable'`: something that had been on the disk, or may have been, cannot be read.
   * - `'missing'`: a segment is not there.
   * - `'misplaced'`: a segment, or a part of one, is not what its place says, or comes twice.
   * - `'checkpoint'`: the note of the last checkpoint cannot be read; what it had released shows again.
   */
  kind: 'tornTail' | 'unreadable' | 'missing' | 'misplaced' | 'checkpoint'
  /** Where it starts, in bytes. */
  offset: number
  /** How many bytes are not used. */
  length: number
  /** What was found there. For people. */
  reason: string
  /** The last sequence number that was read before it; 0n if there is none. */
  after: bigint
  /** The next one that was read behind it, if there is one. */
  before?: bigint
  /** The name of the file beside it that the bytes were copied to, if they were. */
  copy?: string
}

/**
 * When a log is synced, and so what of an append that has resolved survives a power cut or a
 * kernel crash. All survive a crash of the process alone.
 *
 * - `'always'`: each append has a sync of its own. What has resolved is there.
 * - `'perBatch'`: appends that wait together share one sync. What has resolved is there.
 * - `'periodic'`: there is a sync at the latest `syncInterval` after an append, in the background.
 *   What was appended since the last one may be lost, from the end.
 * - `'never'`: the system writes when it gets to it. What it has not may be lost, from the end.
 */
export type WalSyncMode = 'always' | 'perBatch' | 'periodic' | 'never'

/**
 * What is done about damage.
 *
 * - `'strict'`: any is refused with `EWALDAMAGED`.
 * - `'tolerateTail'`: a torn tail is copied aside and cut off; all other damage is refused.
 * - `'skipCorrupt'`: the same, and other damage is skipped.
 *
 * What is cut off or skipped is reported in {@link Wal.damage} or {@link WalReplay.damage}.
 */
export type WalRecovery = 'strict' | 'tolerateTail' | 'skipCorrupt'

/**
 * Takes over what is in the memtable of a collection. Once it has returned, or its promise has
 * resolved, the entries up to `upTo` are released as by {@link Wal.checkpoint}: they have to be
 * durable elsewhere by then. If it fails nothing is released.
 *
 * `entries` has the newest entry of each id, deletions included, in the order of the numbers; it
 * can be gone through once or more while the function runs. An id that is changed meanwhile may
 * be left out: its newer entry comes with the next flush, so take `'insert'` and `'update'` alike.
 * After a crash entries that were taken over may come again.
 */
export type WalFlush = (flush: { collection: string; entries: Iterable<WalEntry>; upTo: bigint }) => void | Promise<void>

/** The options of {@link openWal} for reading beside the process that writes. */
export interface WalReaderOptions {
  /** Only read. */
  readOnly: true
  /**
   * What a replay does about damage. A reader changes nothing; what is behind the last whole
   * batch is not there yet for it.
   * @default 'tolerateTail'
   */
  recovery?: WalRecovery | undefined
}

/** The options of {@link openWal}. */
export interface WalOptions {
  /**
   * `true` opens a {@link WalReader}.
   * @default false
   */
  readOnly?: false | undefined
  /**
   * When entries are synced.
   * @default 'perBatch'
   */
  syncMode?: WalSyncMode | undefined
  /**
   * With `syncMode: 'periodic'`: milliseconds, an integer from 1 to 2147483647.
   * @default 100
   */
  syncInterval?: number | undefined
  /**
   * What is done about damage.
   * @default 'tolerateTail'
   */
  recovery?: WalRecovery | undefined
  /**
   * Bytes after which a segment is sealed and the next one begun: an integer from 4096 to
   * 4294967296. A batch that is larger has a segment to itself.
   * @default 16777216
   */
  segmentSize?: number | undefined
  /**
   * Milliseconds after which an append begins a new segment: an integer from 1 to 9007199254740991.
   * @default segments do not age
   */
  segmentAge?: number | undefined
  /**
   * Keep the newest entry of each id in memory, until it is released, for {@link Wal.get} and
   * {@link Wal.entries}. Without it these fail with `EWALNOMEMTABLE`.
   * @default true
   */
  memtable?: boolean | undefined
  /**
   * Takes over the memtable of a collection when it has become larger than `flushThreshold`, in
   * the background, and when {@link Wal.flush} is called. Appends go on meanwhile. A failure in the
   * background is logged, or without a logger becomes a process warning, and it is tried again
   * with a later append, after 100 ms at first and up to a minute.
   * @default nothing is released but by {@link Wal.checkpoint}
   */
  onFlush?: WalFlush | undefined
  /**
   * With `onFlush`: about how many bytes the memtable of a collection has, an integer from 1.
   * @default 67108864
   */
  flushThreshold?: number | undefined
  /**
   * How many bytes of entries may wait to be appended, an integer from 1 to 1073741824; a batch
   * that is larger waits alone. Appends beyond that wait for room, in the order of the calls.
   * @default 16777216
   */
  highWaterMark?: number | undefined
  /**
   * Milliseconds to wait until the process that has the log open closes it or dies, from 0 to
   * Infinity; 0 tries once.
   * @default 10000
   */
  timeout?: number | undefined
  /** Cancels the wait for the log: the call rejects with an `AbortError`. */
  signal?: AbortSignal | undefined
  /**
   * Receives what is said of damage and of flushes that fail; `null` for none.
   * @default the one given to {@link setLogger}
   */
  logger?: Logger | null | undefined
}

/** The option of {@link Wal.append} and {@link Wal.writeBatch}. */
export interface WalAppendOptions {
  /**
   * `true`: the batch, and everything before it in its collection, is synced before the promise
   * resolves, also with `syncMode` `'periodic'` or `'never'`. `false` is refused with the others.
   * @default as `syncMode` says
   */
  durable?: boolean | undefined
}

/** What is known of one collection of a log. */
export interface WalCollectionStats {
  name: string
  /** How many segments it has. */
  segments: number
  /** How many bytes their files have, unused space included. */
  bytes: number
  /** The last sequence number whose append has resolved; 0n if there is none. */
  last: bigint
  /** The last one that is surely on the disk. */
  durable: bigint
  /** Up to where entries are released. */
  released: bigint
  /** How many ids the memtable has, deleted ones included. */
  memtableEntries: number
  /** How much memory it takes, about. */
  memtableBytes: number
}

/** What is known of a log, since it was opened. */
export interface WalStats {
  /** Batches appended. */
  batches: number
  /** Entries in them. */
  entries: number
  /** Their bytes, as they were given and framed. */
  bytes: number
  /** Writes: batches that were written together are one. */
  groups: number
  /** Syncs of groups, and those in the background. */
  syncs: number
  /** Bytes that wait in the queue or are being written. */
  queueBytes: number
  /** Appends that wait for room in the queue. */
  waiting: number
  /** Why the log is poisoned, if it is. */
  poisoned?: string
  /** By name. */
  collections: WalCollectionStats[]
}

/** The entries of a replay, each once, in the order of their numbers. */
export interface WalReplay extends AsyncIterableIterator<WalEntry> {
  /** With `recovery: 'skipCorrupt'`: what was skipped. Complete when the iteration has ended. */
  readonly damage: WalDamage[]
  /** Ends the iteration before its end, as `break` does; everything it held is freed. */
  return(): Promise<IteratorResult<WalEntry, undefined>>
  next(): Promise<IteratorResult<WalEntry, undefined>>
  [Symbol.asyncIterator](): WalReplay
  [Symbol.asyncDispose](): Promise<void>
}

/** A log that is open for reading. */
export interface WalReader {
  /** The names of the collections that are there now. `ENOENT` when the log has gone. */
  collections(): Promise<string[]>
  /**
   * As {@link Wal.replay}. Beside a process that writes it shows a prefix of what is appended: whole
   * batches, none left out, up to some moment after the iteration began. A collection that is not
   * there has no entries.
   */
  replay(collection: string, options?: { from?: bigint | undefined }): WalReplay
  /** Nothing can be started any more. */
  close(): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

/**
 * A log that is open for appending, by {@link openWal}. The errors are {@link SessionFileError}s;
 * beside errno names their `code` is
 *
 * - `'EWALPOISONED'`: a write or a sync has failed, so nobody knows what is on the disk: nothing is
 *   appended until the log is closed and opened again;
 * - `'EWALCLOSED'`: the log was closed;
 * - `'EWALDAMAGED'`: what is on the disk is not what was written (`damage` says what and where);
 * - `'EWALTOOLARGE'`: the entries of a batch take more than 67108863 bytes;
 * - `'EWALNOMEMTABLE'`: the log was opened with `memtable: false`;
 * - `'EDEADLK'`: `onFlush` has asked for what would wait for itself.
 */
export interface Wal {
  /** What was found damaged when the log was opened, and cut off or skipped. */
  readonly damage: readonly WalDamage[]
  /**
   * Appends entries to a collection, as one batch.
   *
   * **Promises.** All of them or none, through any crash. When the promise resolves they are as durable as
   * `syncMode` (or `durable`) says, `get` and `entries` show them, and they come again after a
   * restart. Batches of one collection are there in the order of the calls. The entries are copied
   * before the call returns. When it rejects none of them shows; after `EWALPOISONED`, or the failure
   * that poisons (`EIO`, say), they may be there once the log is opened again. A full disk (`ENOSPC`)
   * does not poison while space is made for the next entries: the log goes on when there is room.
   *
   * @param collection A plain name: at most 100 bytes, nothing that any system takes for a
   *   separator, a device or a hidden file. A collection comes into being with its first batch.
   * @param entries Up to 64 MiB less 1 byte. An empty list resolves to an empty list.
   * @returns Their sequence numbers.
   */
  append(collection: string, entries: readonly WalEntryInput[], options?: WalAppendOptions): Promise<bigint[]>
  /**
   * Appends entries to several collections: those of each collection as one batch, in the order
   * given, all or none of them. Between collections there is no such promise: when the call
   * rejects, `error.sequences` has the numbers of those entries that were appended all the same,
   * and `undefined` for the others.
   *
   * @returns Their sequence numbers, in the order of the entries.
   */
  writeBatch(
    entries: readonly (WalEntryInput & { collection: string })[],
    options?: WalAppendOptions,
  ): Promise<bigint[]>
  /** The newest entry of an id, from memory; `undefined` when there is none, it is a deletion, or it is released. */
  get(collection: string, id: string): WalEntry | undefined
  /**
   * The newest entry of each id, from memory, in the order of the numbers; deletions only with
   * `deletions: true`. What is appended during the iteration may or may not show, and an id that is
   * changed meanwhile may show twice, with the newer entry last.
   */
  entries(collection: string, options?: { deletions?: boolean | undefined }): IterableIterator<WalEntry>
  /**
   * All entries of a collection from a number on (default `1n`), from the disk, as far as they
   * have been appended when the iteration starts. It takes a few hundred KiB of memory (and that of the largest
   * batch). Entries that are released before they are reached do not come. Fails with
   * `EWALDAMAGED`, unless `recovery` is `'skipCorrupt'`.
   */
  replay(collection: string, options?: { from?: bigint | undefined }): WalReplay
  /**
   * Makes everything durable that was appended to a collection, or to all, and has `onFlush`, if there
   * is one, take over their memtables, whatever they hold. What `onFlush` throws is rejected as it is.
   */
  flush(collection?: string): Promise<void>
  /**
   * Releases the entries of a collection up to a number, because they are durable elsewhere: they
   * no longer show, and sealed segments that have no others are removed (one is kept for its
   * space). Appends go on meanwhile. A number beyond the last entry is a RangeError.
   */
  checkpoint(collection: string, upTo: bigint): Promise<void>
  /** Figures, as of now. */
  stats(): WalStats
  /**
   * Waits for the appends and the flush that have begun, syncs everything, cuts unused space off,
   * and lets the next process have the log. What is in the memtable stays in the log, and comes
   * again. Calling it again does nothing more. A replay that has begun goes on.
   */
  close(): Promise<void>
  /** The same, for `await using`. */
  [Symbol.asyncDispose](): Promise<void>
}

/**
 * Opens a write-ahead log, or makes one: batches of entries in named collections, which are on the
 * disk, to the degree that `syncMode` says, when their append resolves, and are there again after
 * any crash.
 *
 * **Promises.** One process at a time has a log open for appending, in one place; any number may
 * read it with `readOnly: true`. What a crash has left is repaired first, and what had to be cut off
 * or skipped is reported in `damage` and to the logger: nothing is lost silently, no entry comes twice, and no
 * batch in part. On the disk each collection is a folder of Avro object container files, which
 * any Avro reader opens.
 *
 * **Does not promise.** An open log does not keep the process alive. One that is not closed when the process ends is
 * like one after a crash: nothing is lost of what was acknowledged, and the next opening repairs it.
 * The memtable holds all that is not released: a log without `onFlush` or
 * {@link Wal.checkpoint} grows for ever, on the disk and (with `memtable`) in memory. Disks that report a sync
 * as done before it is done cannot be helped.
 *
 * @param dir The folder of the log. It is made if there is none; the folder above it must be there.
 * @throws {SessionFileError} `ELOCKED` when another has the log open (`holder` says who), `EWALDAMAGED`
 *   when there is damage that `recovery` refuses (nothing of it has been changed then), or errno names:
 *   `ENOENT` when the folder above it is not there, or with `readOnly` the log itself.
 * @throws {TypeError} When an argument is of the wrong type or an option is not known.
 * @throws {RangeError} When a number is out of range.
 * @example
 * ```js
 * import { openWal } from 'holdfast'
 *
 * const wal = await openWal('vectors.wal')
 * const [sequence] = await wal.append('articles', [
 *   { id: 'a-1', op: 'insert', payload: new Uint8Array(new Float32Array([0.1, 0.9]).buffer) },
 *   { id: 'a-2', op: 'insert', payload: JSON.stringify({ title: 'On logs' }) },
 * ])
 * console.log(wal.get('articles', 'a-2')?.payload)
 * for await (const entry of wal.replay('articles', { from: sequence })) console.log(entry.sequence, entry.op, entry.id)
 * await wal.checkpoint('articles', sequence) // once it is safe elsewhere
 * await wal.close()
 * ```
 */
export function openWal(dir: string | URL, options: WalReaderOptions): Promise<WalReader>
export function openWal(dir: string | URL, options?: WalOptions): Promise<Wal>

/**
 * Sets the logger of all calls in this thread that have none of their own; `null` takes it
 * away. Without a logger logging costs nothing.
 *
 * @example
 * ```js
 * import { setLogger } from 'holdfast'
 *
 * setLogger({
 *   debug() {},
 *   warn: (fields, message) => console.warn(message, fields),
 *   error: (fields, message) => console.error(message, fields),
 * })
 * ```
 */
export function setLogger(logger: Logger | null): void

/**
 * Why an operation on a file failed. The message is for people, and not part of the contract;
 * programs look at `code`.
 *
 * @example
 * ```js
 * import { atomicWrite, SessionFileError } from 'holdfast'
 *
 * try {
 *   await atomicWrite('no/such/folder/session.json', '{}')
 * } catch (error) {
 *   if (error instanceof SessionFileError && error.code === 'ENOENT') console.error(error.hint)
 *   else throw error
 * }
 * ```
 */
export class SessionFileError extends Error {
  /**
   * @param path The file, as it was given to the call.
   * @param operation What was being done, as in `operation` below.
   * @param cause The error behind it; `code`, `errno` and `syscall` are taken from it.
   */
  constructor(path: string, operation: string, cause?: unknown)
  /** `'SessionFileError'`. */
  name: string
  /** The file, as it was given to the call. */
  path: string
  /**
   * `'atomic write'`, `'update JSON'`, `'lock'`, `'create backup'`, `'restore backup'`,
   * `'list backups'`, `'clean up backups'`, `'read file'`, `'open wal'`, `'wal append'`, `'wal read'`,
   * `'wal flush'`, `'wal checkpoint'`, `'wal close'`.
   */
  operation: string
  /**
   * The errno name, as in Node's own errors (`'ENOSPC'`), or one of holdfast's: `'ELOCKED'`,
   * `'EBADJSON'`, `'EEMPTYJSON'`; those of write-ahead logs are listed with {@link Wal}.
   */
  code: string | undefined
  /** The errno as a negative number, as in Node's own errors. */
  errno: number | undefined
  /** The system call that failed: `'open'`, `'write'`, `'fsync'`, `'rename'`… */
  syscall: string | undefined
  /** How many attempts were made. */
  attempts: number
  /** Whether the new content is in place all the same. It may not survive a power cut. */
  committed: boolean
  /** What can be done about it, where that is known. For people. */
  hint: string | undefined
  /** With `code` `'ELOCKED'`: who has the lock, where that is known. */
  holder: LockHolder | undefined
  /** With `code` `'EBADJSON'`: where the text stops being JSON, from 1. */
  line: number | undefined
  /** With `code` `'EBADJSON'`: where in the line, from 1, in bytes. */
  column: number | undefined
  /** With `code` `'EWALDAMAGED'`: what is damaged, and where. */
  damage: WalDamage | undefined
  /** Of {@link Wal.writeBatch}: the numbers of the entries that were appended all the same. */
  sequences: (bigint | undefined)[] | undefined
  /** The last system error, in the form of Node's own errors. */
  cause?: unknown
}
