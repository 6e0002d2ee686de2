// @ts-ignore Types of Node are an optional peer: without `@types/node` a `Buffer` is a `Uint8Array`, and a stream is `any`.
/// <reference types="node" />
/// <reference lib="esnext.disposable" />

// @ts-ignore
import type { Writable } from 'node:stream'

// Contents:
//
// - Paths, data, durability
// - Writing files: atomicWrite, atomicWriteSync, createAtomicWriteStream, removeFile
// - JSON files: atomicWriteJson, readJsonFile, readJsonFileSync, updateJsonFile, updateJsonFileSync, jsonFile
// - JSON lines: appendJsonLines, appendLines, openJsonLines
// - Locks: withLock, withLockSync, acquireLock, tryAcquireLock, isLocked
// - Backups: createBackup, createBackupSync, restoreBackup, listBackups, restoreLatest, cleanupBackups
// - After a crash: recoverFromCrash
// - Several files at once: transaction
// - Write-ahead log: openWal
// - Defaults: setDefaults, createHoldfast
// - Errors: SessionFileError
// - Logger, metrics, traces: metrics, resetMetrics, setLogger
// - The names that Vectra has for them: AtomicOperations, LockManager, lockManager

// ── Paths, data, durability ─────────────────────────────────────────────────────────────────────────

// Contents:
//
// - Paths, data, durability
// - Writing files: atomicWrite, atomicWriteSync, createAtomicWriteStream, removeFile
// - JSON files: atomicWriteJson, readJsonFile, readJsonFileSync, updateJsonFile, updateJsonFileSync, jsonFile
// - JSON lines: appendJsonLines, appendLines, openJsonLines
// - Locks: withLock, withLockSync, acquireLock, tryAcquireLock, isLocked
// - Backups: createBackup, createBackupSync, restoreBackup, listBackups, restoreLatest, cleanupBackups
// - After a crash: recoverFromCrash
// - Several files at once: transaction
// - Write-ahead log: openWal
// - Defaults: setDefaults, createHoldfast
// - Errors: SessionFileError
// - Logger, metrics, traces: metrics, resetMetrics, setLogger
// - The names that Vectra has for them: AtomicOperations, LockManager, lockManager

// Contents:
//
// - Paths, data, durability
// - Writing files: atomicWrite, atomicWriteSync, createAtomicWriteStream, removeFile
// - JSON files: atomicWriteJson, readJsonFile, readJsonFileSync, updateJsonFile, updateJsonFileSync
// - JSON lines: appendJsonLines, appendLines, openJsonLines
// - Locks: withLock, withLockSync, acquireLock, tryAcquireLock, isLocked
// - Backups: createBackup, createBackupSync, restoreBackup, listBackups, restoreLatest, cleanupBackups
// - After a crash: recoverFromCrash
// - Several files at once: transaction
// - Write-ahead log: openWal
// - Defaults: setDefaults, createHoldfast
// - Errors: SessionFileError
// - Logger, metrics, traces: metrics, resetMetrics, setLogger
// - The names that Vectra has for them: AtomicOperations, LockManager, lockManager

/**
 * What of an acknowledged write survives a power cut or a kernel crash. Each level includes the ones before it.
 *
 * - `'none'`: nothing is synced. Readers see the old file or the new one, whole, also after a crash of a process; after a
 *   power cut it may be empty or torn.
 * - `'file'`: the bytes are on the disk before the rename is. After a power cut the file is the old one or the new one,
 *   whole; it may still be the old one.
 * - `'full'`: the rename is synced too. After a power cut an acknowledged write is there.
 */
export type Durability = 'none' | 'file' | 'full'

/** Node's `Buffer`. Without `@types/node`, a `Uint8Array`. */
export type NodeBuffer = typeof globalThis extends { Buffer: { isBuffer(value: any): value is infer B } } ? B : Uint8Array

/** The encodings of text that Node has (`BufferEncoding`). */
export type TextEncoding =
  | 'ascii' | 'base64' | 'base64url' | 'binary' | 'hex' | 'latin1' | 'ucs-2' | 'ucs2' | 'utf-16le' | 'utf-8' | 'utf16le' | 'utf8'

/**
 * A path. A `Buffer` is for names that are not UTF-8, which only Unix allows. Where such a name is part of what comes
 * back, in errors, entries for the log and reports, each byte that is not UTF-8 is a lone surrogate (U+DC80 to U+DCFF):
 * every function of holdfast takes such a string as a path again, and those of Node do not.
 */
export type PathLike = string | URL | Uint8Array

/**
 * The new content of a file, in the forms that `fs.writeFile` takes. What is not in memory is read piece by
 * piece, each a string or a view of bytes, and never held as a whole.
 */
export type WriteData =
  | string
  | ArrayBufferView
  | Blob
  | Iterable<string | ArrayBufferView>
  | AsyncIterable<string | ArrayBufferView>

// ── Writing files ───────────────────────────────────────────────────────────────────────────────────

/** The options of {@link atomicWriteSync}, and of every function that writes. */
export interface WriteOptionsBase {
  /**
   * What of the write survives a power cut.
   * @default 'full'
   */
  durability?: Durability | undefined
  /**
   * Permission bits of the file, an integer from 0 to 0o7777. They are set exactly, whatever the
   * umask. In a file with an access control list the bits of the group are the list's mask, as with
   * `chmod`. Where the file system keeps no bits of its own (FAT, exFAT, some network mounts), and the
   * file would allow more than was asked for, the call fails with `ENOTSUP` and nothing is written.
   * (On Windows only the write bits have a meaning.)
   * @default those of the existing file; for a new file those of `newFileMode`
   */
  mode?: number | undefined
  /**
   * Permission bits of a file that does not exist yet, an integer from 0 to 0o777, less the umask or
   * what the default access control list of its directory takes away, as with `fs.open`. An existing
   * file keeps its own. Pass 0o664 in a tree that a group shares. `mode`, which is exact and for all
   * files, comes before it.
   * @default 0o644
   */
  newFileMode?: number | undefined
  /**
   * Owner and group of the file: integers from 0 to 4294967294, or `false` to leave the file to the
   * process. It is not an error if the process is not allowed to change the owner.
   * @default those of the existing file
   */
  chown?: { uid: number; gid: number } | false | undefined
  /**
   * Attempts in total, the first included: an integer from 1 to 1000000. Only errors that may pass
   * are retried: ENOSPC, EDQUOT, EAGAIN, EBUSY, EIO, EMFILE, ENFILE, ENOMEM, ETIMEDOUT, ENETDOWN,
   * ENETUNREACH, ESTALE, and on Windows sharing violations, lock violations, and a rename that is
   * denied access. Each attempt starts over with a new temp file. In the pause between two attempts
   * other processes may have the file's lock, unless it is the lock of a {@link withLock} around the
   * call.
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
   * Make missing parent directories (mode 0o777 less the umask). Under `durability: 'full'` they are
   * durable when the write is. They stay when the write fails.
   * @default false
   */
  makeDirs?: boolean | undefined
  /**
   * Write to the file that a symbolic link at `path` leads to, and leave the link. With `false` the
   * file replaces the link. In a directory that is shared like `/tmp` (sticky and writable by all)
   * links of other users are refused with `EACCES`.
   * @default true
   */
  followSymlinks?: boolean | undefined
  /**
   * `'json'`: the bytes must be one JSON text in UTF-8, exactly what `JSON.parse` accepts (so no byte
   * order mark). Otherwise nothing is written and the call fails with `EBADJSON` (`line` and `column`
   * say where) or `EEMPTYJSON`. The bytes are read back from the temp file before it replaces the
   * file. Such calls are not merged with others.
   * @default no check
   */
  validate?: 'json' | undefined
  /**
   * Receives this call's log entries; `null` for none.
   * @default the one given to {@link setLogger}
   */
  logger?: Logger | null | undefined
}

/** The option of functions that may be asked to make a file and never to replace one. */
export interface CreateOnlyOption {
  /**
   * Make the file only if there is none, in one step: the finished file gets its name by a call that
   * cannot replace another. Otherwise the call fails with `EEXIST`, and nothing has changed and nothing
   * is left. Of several calls, in whatever processes, one succeeds. No lock is taken. Such calls are
   * not merged with others. A symbolic link is followed to the file that is to be made; with
   * `followSymlinks: false` a link at the path is `EEXIST`.
   * @default false
   */
  createOnly?: boolean | undefined
}

/** The option of functions that show the temp file before they write to it. */
export interface TempFileOption {
  /**
   * Called with the true path of each temp file (a `Buffer` if that is not UTF-8, see {@link PathLike}), when it has been made and is empty, and awaited: the moment to note
   * the path or to set attributes. If it throws or rejects nothing is written, nothing is left, and the call
   * fails with that very error. Each attempt makes a new temp file. Such calls are not merged with others, and
   * have their place in the order of the writes to the file when the function is done. An abort does not wait for it.
   * @default none
   */
  onTempFile?: ((tempPath: string) => unknown) | undefined
}

/** The same for functions that run on the calling thread. */
export interface TempFileSyncOption {
  /**
   * As {@link TempFileOption.onTempFile}, but it must not return a promise, and cannot make another synchronous write
   * (`EDEADLK`), which might wait for this one.
   * @default none
   */
  onTempFile?: ((tempPath: string) => void) | undefined
}

/** The option of functions that replace a file without having read it. */
export interface LockedWriteOption {
  /**
   * Hold the file's write lock (see {@link withLock}) during the write, and wait for it up to
   * 10 000 ms (`ELOCKED`). Inside {@link withLock} for the same file the held lock is used; inside an
   * update of the same file the call fails with `EDEADLK`. Without this option the write neither
   * takes nor respects locks.
   * @default false
   */
  lock?: boolean | undefined
}

/** The options of {@link atomicWrite}. */
export interface AtomicWriteOptions extends WriteOptionsBase, CreateOnlyOption, LockedWriteOption, TempFileOption {
  /**
   * How strings are encoded. It has no effect on other data.
   * @default 'utf8'
   */
  encoding?: TextEncoding | undefined
  /**
   * Cancels the write. Before the rename nothing has changed and the call rejects with an
   * `AbortError` (`code` `'ABORT_ERR'`, the signal's reason as `cause`); after it the write stands
   * and the call resolves. A wait for the next attempt ends at once.
   */
  signal?: AbortSignal | undefined
}

/** The options of {@link atomicWriteSync}. */
export interface AtomicWriteSyncOptions extends WriteOptionsBase, CreateOnlyOption, LockedWriteOption, TempFileSyncOption {
  /**
   * How strings are encoded. It has no effect on other data.
   * @default 'utf8'
   */
  encoding?: TextEncoding | undefined
}

/**
 * Replaces the content of a file, or creates the file, in one step.
 *
 * **Promises.** A reader sees the old content or the new one, whole. When the promise resolves the new content is in place,
 * as durable as `durability` says. When it rejects with `committed: false` the file is as it was. Mode, owner and
 * attributes stay. Writes to one file take effect in the order of the calls.
 *
 * **Does not promise.** Other hard links keep the old content. Nothing is locked: for read-modify-write use
 * {@link updateJsonFile} or {@link withLock}. More: docs/writing.md.
 *
 * @param data A view of bytes must not be changed meanwhile.
 * @param options An encoding stands for `{ encoding }`.
 * @throws {SessionFileError} Errno names; `EEXIST` with `createOnly`.
 * @example
 * ```js
 * import { atomicWrite } from 'holdfast'
 *
 * await atomicWrite('session.json', JSON.stringify({ turn: 1 }))
 * await atomicWrite('install-id', '7f1c', { createOnly: true }).catch((error) => {
 *   if (error.code !== 'EEXIST') throw error
 * })
 * await atomicWrite('cache.bin', new Uint8Array(64), { durability: 'none', mode: 0o600 })
 * ```
 */
export function atomicWrite(
  path: PathLike,
  data: WriteData,
  options?: AtomicWriteOptions | TextEncoding,
): Promise<void>

/**
 * {@link atomicWrite} on the calling thread, for exit handlers, where nothing asynchronous runs any
 * more. It blocks the event loop, including the waits between attempts.
 *
 * @example
 * ```js
 * import { atomicWriteSync } from 'holdfast'
 *
 * process.on('exit', (code) => atomicWriteSync('last-exit.json', JSON.stringify({ code })))
 * ```
 */
export function atomicWriteSync(
  path: PathLike,
  data: string | ArrayBufferView,
  options?: AtomicWriteSyncOptions | TextEncoding,
): void

/** The options of {@link createAtomicWriteStream}. */
export interface AtomicWriteStreamOptions
  extends Omit<WriteOptionsBase, 'retries' | 'retryDelay'>, CreateOnlyOption, LockedWriteOption, TempFileOption {
  /**
   * How strings are encoded that are written without an encoding of their own.
   * @default 'utf8'
   */
  encoding?: TextEncoding | undefined
  /**
   * How many bytes wait in memory before `write()` returns `false`, from 1 to 1073741824.
   * @default that of Node's streams
   */
  highWaterMark?: number | undefined
  /**
   * Destroys the stream with an `AbortError`; nothing is left. It has no effect once the file has
   * been replaced.
   */
  signal?: AbortSignal | undefined
}

/**
 * A stream that replaces the content of a file with its bytes, once all of them are there.
 *
 * **Promises.** After `end()`, and before `'finish'`, the bytes are synced and replace the file, as with
 * {@link atomicWrite}. A stream that is destroyed, aborted or fails before that leaves the file as it was and, once it
 * has emitted `'close'`, no temp file.
 *
 * **Does not promise.** Nothing is retried. A Buffer must not be changed until the stream has taken the chunk. More:
 * docs/writing.md.
 * @example
 * ```js
 * import { Readable } from 'node:stream'
 * import { pipeline } from 'node:stream/promises'
 * import { createAtomicWriteStream } from 'holdfast'
 *
 * await pipeline(Readable.from(['line 1\n', 'line 2\n']), createAtomicWriteStream('report.txt'))
 * ```
 */
export function createAtomicWriteStream(path: PathLike, options?: AtomicWriteStreamOptions | TextEncoding): Writable

/** The options of {@link removeFile}. */
export interface RemoveFileOptions {
  /**
   * With `'full'` an acknowledged removal stands through a power cut; otherwise one may bring the file back, whole.
   * @default 'full'
   */
  durability?: Durability | undefined
  /**
   * Remove the file that a symbolic link at `path` leads to, which is the one that all other functions read and
   * write, and leave the link. With `false` the link is removed.
   * @default true
   */
  followSymlinks?: boolean | undefined
  /**
   * Hold the file's write lock meanwhile.
   * @default true
   */
  lock?: boolean | undefined
  /**
   * Milliseconds to wait for the lock, from 0 to Infinity; 0 tries once.
   * @default 10000
   */
  timeout?: number | undefined
  /**
   * Make a backup before, under the same lock: `true`, or options of {@link createBackup}. The call resolves to its
   * path. If none can be made nothing is removed.
   * @default false
   */
  backup?: boolean | CreateBackupOptions | undefined
  /**
   * A file that is not there counts as removed. Without it that is `ENOENT`.
   * @default false
   */
  force?: boolean | undefined
  /** Cancels the call before the removal: it rejects with an `AbortError`, and the file is there. */
  signal?: AbortSignal | undefined
  /** Receives this call's log entries; `null` for none. */
  logger?: Logger | null | undefined
}

/**
 * Removes a file for good, after this process's earlier writes to it, with what belongs to it: temp files that a
 * killed process has left, and the lock file (as soon as nobody uses it). Its backups stay.
 *
 * **Promises.** After a crash at any moment the file is there, whole, or it is not. When the promise resolves the
 * removal is as durable as `durability` says. When it rejects with `committed: false` the file is there.
 *
 * @throws {SessionFileError} `ENOENT`, `EISDIR`, `ELOCKED`, `EDEADLK`, or errno names.
 * @example
 * ```js
 * import { atomicWrite, removeFile, restoreBackup } from 'holdfast'
 *
 * await atomicWrite('session.json', '{}')
 * const backup = await removeFile('session.json', { backup: true })
 * await restoreBackup(backup, 'session.json')
 * ```
 */
export function removeFile(path: PathLike, options: RemoveFileOptions & { backup: true | CreateBackupOptions }): Promise<string>
export function removeFile(path: PathLike, options?: RemoveFileOptions & { backup?: false | undefined }): Promise<void>
export function removeFile(path: PathLike, options?: RemoveFileOptions): Promise<string | undefined>

// ── JSON files ──────────────────────────────────────────────────────────────────────────────────────

/** How the text of a JSON file becomes a value: `JSON.parse`, or what a library has in its place. */
export interface ParseOptions {
  /** As the second argument of `JSON.parse`. What it throws is thrown unchanged. */
  reviver?: ((this: any, key: string, value: any) => any) | undefined
  /**
   * In place of `JSON.parse`, with its arguments: that of a library which keeps integers beyond 2^53 and
   * the digits of numbers, say. What it throws for a text that is JSON is thrown unchanged.
   * @default JSON.parse
   */
  parse?: ((text: string, reviver?: any) => any) | undefined
}

/** How a value becomes the text of a JSON file: `JSON.stringify`, or what a library has in its place. */
export interface StringifyOptions {
  /** As the second argument of `JSON.stringify`: a function, or the names of the properties to keep. */
  replacer?: ((this: any, key: string, value: any) => any) | (string | number)[] | undefined
  /**
   * In place of `JSON.stringify`, with its arguments. It must return a string.
   * @default JSON.stringify
   */
  stringify?: ((value: any, replacer?: any, space?: string | number) => string | undefined) | undefined
}

/** The options of {@link atomicWriteJson}. */
export interface AtomicWriteJsonOptions extends WriteOptionsBase, CreateOnlyOption, LockedWriteOption, StringifyOptions, TempFileOption {
  /**
   * As in `JSON.stringify`: a number of spaces from 0 to 10, or up to 10 characters of white space.
   * @default none: everything on one line
   */
  indent?: number | string | undefined
  /**
   * End the text with a line feed, as editors and formatters do.
   * @default false
   */
  finalNewline?: boolean | undefined
  /** Cancels the write, as in {@link AtomicWriteOptions.signal}. */
  signal?: AbortSignal | undefined
}

/**
 * {@link atomicWrite} of `JSON.stringify(value, null, indent)`. The text is made before the call
 * returns, so the value may change afterwards.
 *
 * @throws {TypeError} When the value has no JSON text (`undefined`, a function, a symbol), is
 *   circular, or contains a BigInt.
 * @example
 * ```js
 * import { atomicWriteJson } from 'holdfast'
 *
 * await atomicWriteJson('settings.json', { theme: 'dark' }, { indent: 2 })
 * ```
 */
export function atomicWriteJson(path: PathLike, value: unknown, options?: AtomicWriteJsonOptions): Promise<void>

/** A schema that follows Standard Schema, version 1: those of zod, valibot, arktype and others. */
export interface StandardSchema<Input = unknown, Output = Input> {
  readonly '~standard': {
    readonly version: 1
    readonly vendor: string
    readonly validate: (
      value: unknown,
      options?: any,
    ) => { readonly value: Output; readonly issues?: undefined } | { readonly issues: readonly SchemaIssue[] } | Promise<{ readonly value: Output; readonly issues?: undefined } | { readonly issues: readonly SchemaIssue[] }>
    readonly types?: { readonly input: Input; readonly output: Output } | undefined
  }
}

/** What a schema says is wrong with a value. */
export interface SchemaIssue {
  readonly message: string
  readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[] | undefined
}

/** The options of {@link readJsonFileSync}. */
export interface ReadJsonSyncOptions<T = unknown> extends ParseOptions {
  /**
   * What the call returns when the file does not exist: a copy of it for each call. Without it that is
   * `ENOENT`. It never stands for a file that is empty or corrupt.
   */
  defaultValue?: T | undefined
  /**
   * Read the file that a symbolic link at `path` leads to. With `false` a link is `ELOOP`.
   * @default true
   */
  followSymlinks?: boolean | undefined
}

/** The options of {@link readJsonFile}. */
export interface ReadJsonOptions<T = unknown> extends ReadJsonSyncOptions<T> {
  /** Cancels the read: the call rejects with an `AbortError`. */
  signal?: AbortSignal | undefined
}

/**
 * Reads a JSON file.
 *
 * **Promises.** One look at one file: beside writers that replace it, the value is that of the old file or
 * of the new one, whole. A byte order mark at its beginning is read past. No lock is taken.
 *
 * @throws {SessionFileError} `ENOENT` when there is no file and no `defaultValue`, `EEMPTYJSON` when it is
 *   empty, `EBADJSON` when it is not JSON in UTF-8 (`line` and `column` say where), or errno names.
 * @example
 * ```js
 * import { readJsonFile } from 'holdfast'
 *
 * const settings = await readJsonFile('settings.json', { defaultValue: { theme: 'dark' } })
 * console.log(settings.theme)
 * ```
 */
export function readJsonFile<T = unknown>(path: PathLike, options?: ReadJsonOptions<T>): Promise<T>

/**
 * The same on the calling thread: {@link readJsonFile}.
 *
 * @example
 * ```js
 * import { readJsonFileSync } from 'holdfast'
 *
 * const { theme } = readJsonFileSync('settings.json', { defaultValue: { theme: 'dark' } })
 * console.log(theme)
 * ```
 */
export function readJsonFileSync<T = unknown>(path: PathLike, options?: ReadJsonSyncOptions<T>): T

/**
 * In which form an update writes a file, and what it takes for a result. A change of nothing writes nothing: the
 * file keeps each byte, however it is formatted. See `docs/json.md`, also for numbers that JavaScript changes.
 */
export interface UpdateFormOptions extends ParseOptions, StringifyOptions {
  /**
   * `'keep'`: the indentation that the file has (that of its first indented line). Otherwise as in
   * `JSON.stringify`: a number of spaces from 0 to 10, or up to 10 characters of white space. Line ends
   * (LF or CR LF) always stay. A byte order mark, which JSON does not have, goes.
   * @default 'keep'; a new file has everything on one line
   */
  indent?: 'keep' | number | string | undefined
  /**
   * Whether the text ends with the end of a line; `'keep'`: as it does in the file.
   * @default 'keep'; a new file has none
   */
  finalNewline?: 'keep' | boolean | undefined
  /**
   * Let a string, number or boolean replace an object or an array. Without it that is a `TypeError` with
   * `code` `'ERR_INVALID_RETURN_VALUE'` and nothing is written: `(data) => data.turns.push('x')` returns
   * a number that nobody means to keep.
   * @default false
   */
  allowPrimitive?: boolean | undefined
}

/** The options of {@link updateJsonFileSync}. */
export interface UpdateJsonSyncOptions<T = any> extends WriteOptionsBase, UpdateFormOptions, TempFileSyncOption {
  /**
   * What `update` gets when the file does not exist: a copy of it for each call. Without it the call
   * rejects with `ENOENT`. It never replaces a file that is empty or corrupt.
   */
  defaultValue?: T | undefined
  /**
   * Hold the file's write lock from before the read until after the write. Without it another process
   * may change the file in between, and its change is lost.
   * @default true
   */
  lock?: boolean | undefined
  /**
   * Milliseconds until `update` begins at the latest, from 0 to Infinity; 0 tries once. The time behind other
   * calls of this process counts (then `ELOCKED` says behind what), a wait for descriptors does not (see
   * {@link withLock}). Each further attempt waits as long for the lock.
   * @default 10000
   */
  timeout?: number | undefined
  /**
   * Milliseconds after which the logger is told, once, that the update still runs, or its lock is held: `warn`, with `path` and
   * `heldFor`. Infinity switches that off.
   * @default 5000
   */
  warnAfter?: number | undefined
}

/** The options of {@link updateJsonFile}. */
export interface UpdateJsonOptions<T = any> extends Omit<UpdateJsonSyncOptions<T>, 'onTempFile'>, TempFileOption {
  /**
   * Cancels the call while it waits and while its `update` runs: it rejects with an `AbortError`, and
   * the changes that `update` has made so far are dropped. After that it has no effect.
   */
  signal?: AbortSignal | undefined
}

/**
 * Reads a JSON file, changes it, and writes it, while no other process can.
 *
 * **Promises.** When the promise resolves, the change is in the file, as durable as `durability` says. Calls that wait
 * together share one lock, one read and one write. When `update` throws, so does the call, and nothing is written. A
 * file that cannot be parsed is left as it is.
 *
 * **Does not promise.** Programs that do not take the lock are not kept out. More: docs/json.md.
 *
 * @param update Changes its argument in place, or returns the value to write. It may be called again.
 * @returns What was written.
 * @throws {SessionFileError} `ENOENT` (without `defaultValue`), `EEMPTYJSON`, `EBADJSON` (`line`, `column`), `ELOCKED`,
 *   `EDEADLK`, or errno names.
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
  path: PathLike,
  update: (data: T) => T | void | Promise<T | void>,
  options?: UpdateJsonOptions<T>,
): Promise<T>

/**
 * {@link updateJsonFile} on the calling thread, for exit handlers and short commands: nothing else runs
 * meanwhile, not even what would release a lock that this thread holds, so such a lock is waited for until
 * `timeout`. `update` must not return a promise. Updates of other calls are not merged with it.
 *
 * @example
 * ```js
 * import { updateJsonFileSync } from 'holdfast'
 *
 * process.on('exit', () => {
 *   updateJsonFileSync('history.json', (history) => void history.push('bye'), { defaultValue: [] })
 * })
 * ```
 */
export function updateJsonFileSync<T = any>(path: PathLike, update: (data: T) => T | void, options?: UpdateJsonSyncOptions<T>): T

/** The options of {@link jsonFile}: those of {@link updateJsonFile}, for all calls. */
export interface JsonFileOptions<Input = any, Output = Input> extends Omit<UpdateJsonOptions<Input>, 'signal' | 'onTempFile' | 'allowPrimitive'> {
  /**
   * What the content has to be: a schema of zod, valibot, arktype or any library that follows Standard Schema. The
   * file holds its input, and values that are read are its output.
   */
  schema?: StandardSchema<Input, Output> | undefined
  /**
   * Gets what is in the file, or a copy of `defaultValue`, before the schema does, and returns it in today's form: what
   * is in that form already as it is. A read leaves the file as it is; the next update writes the new form.
   */
  migrate?: ((stored: any) => unknown) | undefined
  /**
   * Make a backup before each update, unless the newest one has the same bytes.
   * @default false
   */
  backup?: boolean | CreateBackupOptions | undefined
}

/** One JSON file: see {@link jsonFile}. */
export interface JsonFile<Input = any, Output = Input> {
  /** Absolute. */
  readonly path: string
  /** As {@link readJsonFile}. */
  read(options?: { signal?: AbortSignal | undefined }): Promise<Output>
  /**
   * As {@link updateJsonFile}: `update` changes its argument in place, or returns what the file is to hold. That is checked
   * before it is written.
   * @returns What a `read` would return now.
   */
  update(update: (value: Output) => Input | void | Promise<Input | void>, options?: { signal?: AbortSignal | undefined }): Promise<Output>
  /** As {@link createBackup}. */
  backup(options?: CreateBackupOptions): Promise<string>
  /** As {@link restoreLatest}; a good backup passes `migrate` and the schema. */
  restoreLatest(options?: Omit<RestoreLatestOptions, 'schema' | 'validate'>): Promise<RestoredBackup>
  /** As {@link removeFile}. */
  remove(options?: RemoveFileOptions): Promise<string | undefined>
  /**
   * The value that the file has, and each one that it gets, whoever writes it. Changes within `debounce` milliseconds
   * come as one, and what changes nothing of the value does not come. While there is no file, and no `defaultValue`,
   * nothing comes. What is still no JSON, or does not pass the schema, after a second ends it with the error of `read`.
   * While a `next()` waits, it keeps the process alive.
   *
   * @example
   * ```js
   * import { jsonFile } from 'holdfast'
   *
   * for await (const { theme } of jsonFile('settings.json', { defaultValue: { theme: 'dark' } }).watch()) {
   *   console.log(theme)
   *   break
   * }
   * ```
   */
  watch(options?: WatchJsonOptions): AsyncIterableIterator<Output> & AsyncDisposable
}

/** The options of {@link JsonFile.watch}. */
export interface WatchJsonOptions {
  /** Ends it: a `next()` that waits, or the next one, rejects with an `AbortError`. */
  signal?: AbortSignal | undefined
  /**
   * Milliseconds, from 0 to 2147483647.
   * @default 50
   */
  debounce?: number | undefined
}

/**
 * A handle for a JSON file whose values are checked by a schema, when they are read and before they are written. More:
 * docs/json.md.
 *
 * @throws {SessionFileError} From its methods: `EINVALIDJSON` with the schema's `issues`, and nothing is written; otherwise
 *   as the functions that they are named after.
 * @example
 * ```js
 * import { jsonFile } from 'holdfast'
 *
 * const settings = jsonFile('settings.json', { defaultValue: { theme: 'dark', visits: 0 }, backup: { keep: 3 } })
 * await settings.update((value) => {
 *   value.visits += 1
 * })
 * console.log((await settings.read()).visits)
 * ```
 */
export function jsonFile<Input, Output>(path: PathLike, options: JsonFileOptions<Input, Output> & { schema: StandardSchema<Input, Output> }): JsonFile<Input, Output>
export function jsonFile<T = any>(path: PathLike, options?: JsonFileOptions<T, T>): JsonFile<T, T>

// ── JSON lines ──────────────────────────────────────────────────────────────────────────────────────

/** The options of {@link appendJsonLines} and {@link appendLines}. */
export interface AppendLinesOptions {
  /**
   * With `'full'` an acknowledged append survives a power cut; `'file'` means the same. With `'none'` nothing is synced.
   * @default 'full'
   */
  durability?: Durability | undefined
  /**
   * The permission bits of a new file, before the umask.
   * @default 0o644
   */
  newFileMode?: number | undefined
  /**
   * Make missing directories above the file.
   * @default false
   */
  makeDirs?: boolean | undefined
  /**
   * How long to wait for the lock of the file, in milliseconds; `Infinity` waits for ever.
   * @default 10000
   */
  timeout?: number | undefined
  /** Cancels an append that has not been started: it rejects with an `AbortError`, and nothing of it is there. */
  signal?: AbortSignal | undefined
  /** Is told of an end of the file that a crash has left, and that was moved; `null` for none. */
  logger?: Logger | null | undefined
}

/**
 * Appends values to a file of JSON lines, which other programs read while it grows.
 *
 * **Promises.** After a crash, a full disk or an error the lines of one call are there together or not at all, behind
 * what was there, and never among those of other processes or threads. Calls take effect in their order. A failed
 * write is taken back. What a crash has left at the end is moved to `<file>.torn-<ms>`; nothing else is changed.
 *
 * **Does not promise.** Order between processes. See [JSON lines](docs/json-lines.md).
 *
 * @throws {SessionFileError} `ELOCKED`, `EDEADLK`, or errno names. With `committed: true` the lines may be there.
 * @example
 * ```js
 * import { appendJsonLines } from 'holdfast'
 *
 * await appendJsonLines('session.jsonl', [{ role: 'user', text: 'hello' }])
 * ```
 */
export function appendJsonLines(path: PathLike, values: readonly unknown[], options?: AppendLinesOptions): Promise<void>

/**
 * Appends lines of text to a file, as {@link appendJsonLines} does. They have no line breaks in them and no NUL.
 *
 * **Does not promise.** A line of text that is cut short looks like any other, so a crash may leave the first lines of a
 * call, and the beginning of one. An error or a full disk leaves nothing of it.
 *
 * @throws {SessionFileError} As {@link appendJsonLines}.
 * @example
 * ```js
 * import { appendLines } from 'holdfast'
 *
 * await appendLines('audit.log', `${new Date().toISOString()} started`)
 * ```
 */
export function appendLines(path: PathLike, lines: string | readonly string[], options?: AppendLinesOptions): Promise<void>

/** The options of {@link openJsonLines}. */
export interface OpenJsonLinesOptions<T = any> extends Omit<AppendLinesOptions, 'signal'> {
  /**
   * With `durability: 'none'`: sync so many milliseconds after an append, from 1 to 60000. A sync that fails is told by
   * the next call.
   */
  syncInterval?: number | undefined
  /** Is called with each value before it is appended, and returns what is. What it throws is the error of the append. */
  validate?: ((value: unknown) => T) | undefined
}

/** The options of `follow` of a {@link JsonLines}. */
export interface FollowLinesOptions<T = any> {
  /** Where to begin: at a byte, which is where a line begins (`end` of the one before), or at a line, from 1. */
  from?: number | { offset: number } | { line: number } | undefined
  /**
   * What becomes of a bad line: it is given out with `error`, left out, or thrown.
   * @default 'report'
   */
  onBadLine?: 'report' | 'skip' | 'throw' | undefined
  /**
   * Give out the text of the lines, without parsing it.
   * @default false
   */
  raw?: boolean | undefined
  /** Is called with each value, and returns what is given out. What it throws ends the loop. */
  validate?: ((value: unknown) => T) | undefined
  signal?: AbortSignal | undefined
}

/** The options of `read` of a {@link JsonLines}. */
export interface ReadLinesOptions<T = any> extends FollowLinesOptions<T> {
  /** Only so many of the last lines, without reading the others. */
  last?: number | undefined
}

/** A line of a file. */
export interface JsonLine<T = any> {
  /** Its value, unless there is an `error`. */
  value?: T | undefined
  /** Why it has no value: `EBADJSON`. */
  error?: SessionFileError | undefined
  /** Its number, from 1; `undefined` where the reading did not begin at the beginning of the file. */
  line: number | undefined
  /** Where it begins, in bytes. */
  offset: number
  /** Where the next one begins. */
  end: number
}

/** What a {@link JsonLines} has done. */
export interface JsonLinesStats {
  /** Calls of `append`. */
  readonly appends: number
  readonly lines: number
  readonly bytes: number
  /** Writes: calls that wait together make one. */
  readonly groups: number
  readonly syncs: number
  /** How often the end of the file, which a crash had left, was moved. */
  readonly repaired: number
}

/** A file of JSON lines that is open for appending: {@link openJsonLines}. */
export interface JsonLines<T = any> {
  /** Appends a value, or the values of an array together, as {@link appendJsonLines} does. An array that is to be one line is `[array]`. */
  append(value: T | readonly T[], options?: { signal?: AbortSignal | undefined }): Promise<void>
  /** Waits for the appends so far and makes them durable. */
  flush(): Promise<void>
  /** A stream in object mode: each value is an append of its own. Text and Buffers are taken for whole lines of JSON, as loggers write them. */
  writable(): Writable
  /**
   * Reads the file as it is, beside those who append to it, in bounded memory. Comments and blank lines are left out. A
   * line that is no JSON, and an append that is not there as a whole, come as lines with `error` (`EBADJSON`).
   */
  read(options: ReadLinesOptions & { raw: true }): AsyncGenerator<JsonLine<string>, void, undefined>
  read(options?: ReadLinesOptions<T>): AsyncGenerator<JsonLine<T>, void, undefined>
  /**
   * The same, and then what is appended by any process, until the loop is left or `signal` is aborted: then the step
   * that waits rejects with an `AbortError`. When another file gets the name it goes on with that, from its beginning.
   * Without `from` it begins at the end.
   */
  follow(options: FollowLinesOptions & { raw: true }): AsyncGenerator<JsonLine<string>, void, undefined>
  follow(options?: FollowLinesOptions<T>): AsyncGenerator<JsonLine<T>, void, undefined>
  stats(): JsonLinesStats
  /** Waits for the appends so far; with `syncInterval` they are durable then. Later calls fail with `ECLOSED`. */
  close(): Promise<void>
  /** The same as `close`. */
  [Symbol.asyncDispose](): Promise<void>
}

/**
 * A file of JSON lines for many appends, with the promises of {@link appendJsonLines}: those that wait together share
 * a lock, a write and a sync. Any number of processes may have it open.
 *
 * @throws {TypeError} When an option has the wrong type or is not known.
 * @example
 * ```js
 * import { openJsonLines } from 'holdfast'
 *
 * const session = await openJsonLines('session.jsonl')
 * await session.append({ role: 'user', text: 'hello' })
 * await session.append([{ role: 'assistant', text: 'hi' }, { usage: 12 }])
 * for await (const { value } of session.read({ last: 2 })) console.log(value)
 * await session.close()
 * ```
 */
export function openJsonLines<T = any>(path: PathLike, options?: OpenJsonLinesOptions<T>): Promise<JsonLines<T>>

// ── Locks ───────────────────────────────────────────────────────────────────────────────────────────

/**
 * What a lock is for: `'write'` excludes every other holder; `'read'` admits other readers and
 * excludes writers. Every user who may read a file may lock it for reading; on Linux, and on a local file
 * system, also where there is no lock file and he can make none (a read-only mount, say).
 */
export type LockKind = 'read' | 'write'

/**
 * Who holds a lock for writing, as the holder has noted it: usually 2 milliseconds after taking it
 * at the latest. For people: nothing depends on it.
 */
export interface LockHolder {
  pid: number
  hostname: string
  since: Date
  /** The name of its script, or of its executable where it has none; never arguments. */
  command: string
}

/** A lock that is held. */
export interface Lock {
  readonly kind: LockKind
  /**
   * Aborted when the lock is lost while it is held, with a {@link SessionFileError} (`ECOMPROMISED`)
   * as its reason; see {@link LockProtocol}. The kernel does not lose locks, so the signal of a
   * kernel lock is never aborted. `release()` does not abort it either: a listener learns of a loss
   * and of nothing else.
   */
  readonly signal: AbortSignal
  /**
   * Releases the lock. It is free when the promise resolves. Further calls do nothing. Work that
   * `updateJsonFile` and similar functions have begun under the lock is finished first.
   *
   * @throws {SessionFileError} `ECOMPROMISED` when the lock had been lost, which is possible only
   *   with `protocol: 'proper-lockfile'`.
   */
  release(): Promise<void>
  /** The same, for `await using`. */
  [Symbol.asyncDispose](): Promise<void>
}

/**
 * How a lock is made known to other programs. **The two protocols do not exclude each other**: all programs that share a
 * file must use the same one.
 *
 * - `'kernel'`: holdfast's own, by locks of the operating system.
 * - `'proper-lockfile'`: that of the npm package of this name, to share files with programs that still use it: a
 *   directory `<file>.lock`, which its holder refreshes. It can be lost (`lock.signal`, `ECOMPROMISED`), and stays after a
 *   `SIGKILL` until it is `stale`. Every function with an option `lock` takes the kernel's lock: call it inside
 *   `withLock(file, …, { protocol: 'proper-lockfile' })`.
 *
 * More: docs/locks.md.
 */
export type LockProtocol = 'kernel' | 'proper-lockfile'

/** Which locks are meant. */
export interface ProtocolOptions {
  /**
   * Their protocol.
   * @default 'kernel'
   */
  protocol?: LockProtocol | undefined
  /**
   * With `protocol: 'proper-lockfile'`: the age in milliseconds, from 2000 to 2147483647, at which a
   * lock is abandoned. All programs that share a file should use the same value.
   * @default 10000
   */
  stale?: number | undefined
}

/** The options of {@link tryAcquireLock}. */
export interface TryLockOptions extends ProtocolOptions {
  /**
   * Fail with `ELOCKED` while another program holds the file by a lock of the package proper-lockfile (a fresh
   * directory `<file>.lock`), which a kernel lock does not exclude. Without it the logger is told, once for each
   * file.
   * @default false
   */
  strictProtocol?: boolean | undefined
  /**
   * With `protocol: 'proper-lockfile'`: milliseconds between two refreshes of a held lock, from 1000
   * to `stale / 2`.
   * @default stale / 2
   */
  update?: number | undefined
  /**
   * Alone, or beside other readers, which is possible only in the kernel's protocol.
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
  /**
   * Milliseconds after which the logger is told, once, that the lock is still held: `warn`, with `path` and
   * `heldFor`. Infinity switches that off.
   * @default 5000
   */
  warnAfter?: number | undefined
}

/**
 * Runs a function while this call, and no other in any process or thread, holds the lock of a file; with
 * `kind: 'read'`, beside other readers and no writer.
 *
 * **Promises.** When a process dies, the kernel frees its locks at once: there are no stale locks.
 * Waiting blocks neither the event loop nor Node's thread pool.
 *
 * **Does not promise.** A program that does not ask for the lock is not kept out. `.<name>.lock` beside the file goes
 * away by itself. More: docs/locks.md.
 *
 * @param path A file, which need not exist, or a directory.
 * @throws {SessionFileError} `ELOCKED` when the lock was not free in time (`holder`), `EDEADLK` when the calling code
 *   holds it already, or errno names.
 * @example
 * ```js
 * import { atomicWrite, withLock } from 'holdfast'
 * import { readFile } from 'node:fs/promises'
 *
 * await withLock('session.json', async () => {
 *   await atomicWrite('session.json', '{"turn":2}')
 *   await atomicWrite('session.log', 'turn 2')
 * })
 *
 * // Two files that belong together, as no writer has left them half done.
 * const [session, log] = await withLock(
 *   'session.json',
 *   () => Promise.all([readFile('session.json', 'utf8'), readFile('session.log', 'utf8')]),
 *   { kind: 'read' },
 * )
 * console.log(session, log)
 * ```
 */
export function withLock<T>(
  path: PathLike,
  fn: (lock: Lock) => T | Promise<T>,
  options?: LockOptions,
): Promise<T>

/** The options of {@link withLockSync}. */
export interface SyncLockOptions {
  /**
   * Who is excluded.
   * @default 'write'
   */
  kind?: LockKind | undefined
  /**
   * Milliseconds to wait for the lock, from 0 to Infinity; 0 tries once.
   * @default 10000
   */
  timeout?: number | undefined
  /**
   * As in {@link LockOptions.warnAfter}.
   * @default 5000
   */
  warnAfter?: number | undefined
}

/**
 * {@link withLock} on the calling thread: waits for the lock, calls `fn`, releases the lock, and returns what `fn`
 * returns, which must not be a promise. Nothing else runs on the thread meanwhile, so a lock that it holds itself is
 * waited for until `timeout` (`ELOCKED`); within `fn` or {@link withLock} of the same file it is `EDEADLK`.
 *
 * @example
 * ```js
 * import { updateJsonFileSync, withLockSync } from 'holdfast'
 *
 * withLockSync('queue.json', () => {
 *   updateJsonFileSync('queue.json', (queue) => void queue.push('job'), { defaultValue: [] })
 * })
 * ```
 */
export function withLockSync<T>(path: PathLike, fn: () => T extends PromiseLike<unknown> ? never : T, options?: SyncLockOptions): T

/**
 * Acquires the lock of a file until `release()` is called, the thread ends (and with it the writes
 * that holdfast has begun for it), or the process dies. {@link withLock} is easier to use correctly:
 * this function cannot tell that it would wait for itself.
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
 *
 * In TypeScript 5.2 and later, and Node 24 and later, it is released at the end of the block:
 *
 * ```ts
 * await using lock = await acquireLock('session.json', { kind: 'read' })
 * ```
 */
export function acquireLock(path: PathLike, options?: LockOptions): Promise<Lock>

/**
 * Acquires the lock of a file if it is free now; `null` when it is not.
 *
 * @example
 * ```js
 * import { tryAcquireLock } from 'holdfast'
 *
 * const lock = await tryAcquireLock('nightly-job')
 * if (lock === null) console.log('another process is at it')
 * else await lock.release()
 * ```
 */
export function tryAcquireLock(path: PathLike, options?: TryLockOptions): Promise<Lock | null>

/** The options of {@link isLocked}. */
export interface LookOptions extends ProtocolOptions {
  /**
   * Whom the lock would keep out: with `'write'` it is locked when any process holds it, with
   * `'read'` only when a writer does.
   * @default 'write'
   */
  kind?: LockKind | undefined
}

/**
 * Whether the lock of a file is held at this moment, and by whom: `holder` is there when it is a
 * writer, and is missing where its note could not be written (the call waits 20 milliseconds for
 * it). By the time you read the answer it may have changed: to act on it, use
 * {@link tryAcquireLock}.
 *
 * @example
 * ```js
 * import { isLocked } from 'holdfast'
 *
 * const { locked, holder } = await isLocked('session.json')
 * console.log(locked ? `held by ${holder?.pid}` : 'free')
 * ```
 */
export function isLocked(path: PathLike, options?: LookOptions): Promise<{ locked: boolean; holder?: LockHolder }>

// ── Backups ─────────────────────────────────────────────────────────────────────────────────────────

/**
 * Which backups of a file are kept; at least one count, each an integer from 1 to 1000000. A backup stays
 * if one of the counts keeps it. Hours, days and weeks (from Monday) are those of UTC, only those with a
 * backup count, and the newest backup of each stays.
 */
export interface Retention {
  /** So many of the newest. */
  last?: number | undefined
  /** One for each of so many hours. */
  hourly?: number | undefined
  /** One for each of so many days. */
  daily?: number | undefined
  /** One for each of so many weeks. */
  weekly?: number | undefined
}

/** The options of {@link createBackup}. */
export interface CreateBackupOptions
  extends Pick<WriteOptionsBase, 'durability' | 'retries' | 'retryDelay' | 'validate' | 'logger'> {
  /**
   * Which backups of this file stay, the new one included: so many of the newest (1 to 1000000), or by
   * {@link Retention}. The others are removed once the new one is fully durable, whatever `durability`
   * says. The new one, any newer one and the newest good one are never removed. A backup that cannot be
   * removed is not an error.
   * @default all
   */
  keep?: number | Retention | undefined
  /**
   * Make none if the newest good backup has the same bytes: the call then resolves to its path, and it
   * is as durable as `durability` asks. `keep` is applied all the same.
   * @default false
   */
  onlyIfChanged?: boolean | undefined
  /**
   * Make none if the newest good backup is younger than this, in milliseconds from 0 to Infinity: the
   * call then resolves to its path. One whose age cannot be told, because the clock was ahead, is not
   * young.
   * @default 0
   */
  minInterval?: number | undefined
  /** Cancels the call, as in {@link AtomicWriteOptions.signal}. */
  signal?: AbortSignal | undefined
}

/** The options of {@link restoreBackup}. */
export interface RestoreBackupOptions extends Omit<WriteOptionsBase, 'newFileMode'>, CreateOnlyOption {
  /**
   * Hold the target's write lock during the restore. Inside {@link withLock} for the target the
   * restore works under the held lock, in order with updates there.
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
  /** Its path. */
  path: string
  /** When it was made, according to its name: later than every backup that was there. */
  createdAt: Date
  /** Its size in bytes. */
  size: number
}

/**
 * Copies a file to `<path>.<milliseconds since 1970>.backup`.
 *
 * **Promises.** The backup appears whole, in one step, as durable as `durability` says, with the attributes that
 * {@link atomicWrite} keeps. It never replaces anything, and is the newest of {@link listBackups}. A file that is
 * replaced meanwhile by a rename is backed up as one whole version.
 *
 * **Does not promise.** A file that another program changes in place meanwhile may be caught half changed. No lock is
 * taken. More: docs/backups.md.
 *
 * @returns The path of the backup.
 * @throws {SessionFileError} `ENOENT` when there is no file, `EBADJSON` or `EEMPTYJSON` when it does not pass `validate`,
 *   or errno names.
 * @example
 * ```js
 * import { atomicWrite, createBackup } from 'holdfast'
 *
 * await atomicWrite('state.json', '{}')
 * console.log(await createBackup('state.json', { validate: 'json', keep: 5 }))
 * ```
 */
export function createBackup(path: PathLike, options?: CreateBackupOptions): Promise<string>

/**
 * {@link createBackup} on the calling thread, for command-line programs and exit handlers. It blocks the
 * event loop, including the waits between attempts.
 *
 * @example
 * ```js
 * import { atomicWriteSync, createBackupSync } from 'holdfast'
 *
 * atomicWriteSync('state.json', '{}')
 * createBackupSync('state.json', { onlyIfChanged: true, keep: { last: 3, daily: 7 } })
 * ```
 */
export function createBackupSync(path: PathLike, options?: Omit<CreateBackupOptions, 'signal'>): string

/**
 * Replaces a file with a backup of it, or with any other file.
 *
 * **Promises.** As {@link atomicWrite}, with the backup's bytes, under the target's write lock. The target keeps its
 * permission bits, owner, access control list and extended attributes; a target that does not exist gets those of the
 * backup. The backup stays.
 *
 * @throws {SessionFileError} `ENOENT` when there is no backup, `EBADJSON` or `EEMPTYJSON` when it does not pass
 *   `validate`, `ELOCKED` when the lock was not free in time, `EDEADLK` inside an update of the target, or errno names.
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
  backupPath: PathLike,
  targetPath: PathLike,
  options?: RestoreBackupOptions,
): Promise<void>

/**
 * The backups of a file that {@link createBackup} has made, the newest first. The file itself need
 * not exist any more; its directory must.
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
export function listBackups(path: PathLike): Promise<Backup[]>

/** The options of {@link restoreLatest}. */
export interface RestoreLatestOptions extends Omit<RestoreBackupOptions, 'createOnly'> {
  /**
   * A schema of any library that follows Standard Schema: a backup is good if it is JSON and passes. What
   * the schema makes of the value does not matter; the bytes of the backup are restored.
   */
  schema?: StandardSchema | undefined
}

/** A backup that {@link restoreLatest} has passed over. */
export interface SkippedBackup extends Backup {
  /** Why. For people: the wording is not part of the contract. */
  reason: string
}

/** What {@link restoreLatest} has done. */
export interface RestoredBackup {
  /** The backup that the file has been restored from. It stays. */
  backup: Backup
  /** The newer ones, which are not good, the newest first. */
  skipped: SkippedBackup[]
}

/**
 * Restores a file from its newest good backup, as {@link restoreBackup} does.
 *
 * **Promises.** A backup is good if it can be read, is not empty, and passes `validate` or `schema`. Without
 * these a file whose name ends in `.json` has to be JSON, JSON lines, or JSON with comments. Newer ones that
 * are not good are passed over and reported; they stay. If none is good, nothing has changed.
 *
 * @throws {SessionFileError} `ENOENT` when there is no good backup; otherwise as {@link restoreBackup}.
 * @example
 * ```js
 * import { atomicWrite, createBackup, restoreLatest } from 'holdfast'
 *
 * await atomicWrite('state.json', '{}')
 * await createBackup('state.json')
 * const { backup, skipped } = await restoreLatest('state.json', { validate: 'json' })
 * console.log(backup.path, skipped.length)
 * ```
 */
export function restoreLatest(path: PathLike, options?: RestoreLatestOptions): Promise<RestoredBackup>

/** The options of {@link cleanupBackups} for the backups of one file. */
export interface CleanupBackupsOptions {
  /**
   * Milliseconds, from 0 to Infinity: backups of at least this age are removed.
   * @default 604800000 (7 days), or 0 with `keep`
   */
  maxAge?: number | undefined
  /** Which stay whatever their age, as in {@link CreateBackupOptions.keep}. */
  keep?: number | Retention | undefined
  /**
   * How many of the newest good backups stay whatever the rest says, from 0 to 1000000. A backup is good
   * if it can be read, is not empty, and is JSON where the name of the file ends in `.json`. What cannot
   * be read stays until as many are found.
   * @default 1
   */
  keepNewest?: number | undefined
  /** `'json'`: a good backup has to be JSON, whatever the name of the file. */
  validate?: 'json' | undefined
}

/**
 * Removes old backups of a file, which need not exist any more.
 *
 * **Promises.** A backup goes only if it is old, `keep` does not keep it, and it is none of the `keepNewest`
 * newest good ones. Those are made durable before anything is removed. Ages are by the names; a name with a
 * time to come is as old as the last change of the file. Several processes may clean up at once.
 *
 * **Does not promise.** The removals are not synced.
 *
 * @returns The names of the files that were removed.
 * @throws {SessionFileError} With the first failure, after every file that could be removed has been.
 * @example
 * ```js
 * import { cleanupBackups } from 'holdfast'
 *
 * await cleanupBackups('state.json', { keep: { last: 5, daily: 7, weekly: 4 } })
 * ```
 */
export function cleanupBackups(path: PathLike, options?: CleanupBackupsOptions): Promise<string[]>

/**
 * Removes old backups from a directory: regular files that have the name of a backup and whose name `pattern` matches. The
 * newest good backup of each file stays. More: docs/backups.md.
 *
 * **Does not promise.** The removals are not synced.
 *
 * @param pattern Is tried on each name, from its beginning.
 * @param maxAge Milliseconds, from 0 to Infinity: files of at least this age are removed. By default 604800000 (7 days).
 * @param options With `anyName` the name need not be that of a backup, and the age is the time since the last change.
 * @returns The names of the files that were removed.
 * @throws {SessionFileError} With the first failure, after every file that could be removed has been.
 * @example
 * ```js
 * import { cleanupBackups } from 'holdfast'
 *
 * const removed = await cleanupBackups('.', /^state\.json\./, 24 * 60 * 60 * 1000)
 * console.log(removed.length)
 * ```
 */
export function cleanupBackups(
  dir: PathLike,
  pattern: RegExp,
  maxAge?: number,
  options?: { anyName?: boolean | undefined; keepNewest?: number | undefined },
): Promise<string[]>

// ── After a crash ───────────────────────────────────────────────────────────────────────────────────

/** The options of {@link recoverFromCrash}. */
export interface RecoverOptions {
  /**
   * In a directory: whether `<file>.tmp` and `<file>.bak`, as other programs leave them, are handled
   * as well. They may be a user's own files. For a file that is named they always are.
   * @default false
   */
  legacy?: boolean | undefined
  /**
   * Whether a temp file may become a file that does not exist. The newest one whose text is one whole
   * JSON object or array does; with `false` it is removed.
   * @default true for a file, false for a directory
   */
  promote?: boolean | undefined
  /**
   * Milliseconds, from 0 to Infinity, for which a temp file must not have been changed to count as an
   * orphan. Programs other than holdfast do not lock their temp files, and some network file systems
   * do not show the locks of other machines: there only the age tells. A temp file of holdfast on a
   * local file system (Linux, macOS) is an orphan as soon as its lock is free, whatever its age. A time
   * that is as far in the future counts as old.
   * @default 60000
   */
  minAge?: number | undefined
  /**
   * Handle all directories below a directory, too. Symbolic links are not followed.
   * @default false
   */
  recursive?: boolean | undefined
  /**
   * Only report what would be done. What an unfinished transaction would change is judged by the
   * present state of its files.
   * @default false
   */
  dryRun?: boolean | undefined
  /**
   * `'json'`: every file has to be JSON, and counts as corrupt if it is not. Without this option only
   * files whose names end in `.json` have to be, and they may also be JSON lines, or JSON with comments
   * and trailing commas. `false`: no file is looked into, and one that is there counts as good.
   */
  validate?: 'json' | false | undefined
  /**
   * Restore a corrupt file for which nothing else is good from its newest backup that is one whole JSON
   * object or array. The corrupt bytes are set aside as always, and the backup stays. A file that is missing
   * is not restored: it may have been removed on purpose.
   * @default false
   */
  backups?: boolean | undefined
  /**
   * Change a file only under its write lock. For a file that is named the call waits for the lock (or
   * uses the held one, inside {@link withLock} for that file); in a directory, files whose lock is
   * held are left alone. Removing an orphan needs no lock but the orphan's own.
   * @default true
   */
  lock?: boolean | undefined
  /**
   * Milliseconds to wait for the lock of a file that is named, from 0 to Infinity; 0 tries once.
   * @default 10000
   */
  timeout?: number | undefined
  /**
   * Stops between two files: the call rejects with an `AbortError`, and what has been done stays
   * done.
   */
  signal?: AbortSignal | undefined
  /**
   * Receives this call's log entries, one for each action; `null` for none.
   * @default the one given to {@link setLogger}
   */
  logger?: Logger | null | undefined
}

/** What {@link recoverFromCrash} has decided about a file. */
export interface RecoveryAction {
  /** The file, as an absolute path. */
  path: string
  /**
   * What was done:
   *
   * - `'removed'`: it was of no use.
   * - `'promoted'`: a temp file has become the file that it was written to be.
   * - `'restored'`: a `.bak`, a temp file, or with `backups` a copy of this backup, has replaced a file that was missing or corrupt.
   * - `'setAside'`: it was corrupt, and is called `<file>.corrupt-<ms since 1970>` now.
   * - `'completed'`: a {@link transaction} that was decided has replaced or removed it.
   * - `'conflict'`: such a transaction names it, but another program has changed it since. `to` has what it would have got.
   * - `'left'`: nothing was done: its writer may be alive, or there is nothing better.
   * - `'failed'`: `error` says why.
   */
  action: 'removed' | 'promoted' | 'restored' | 'setAside' | 'completed' | 'conflict' | 'left' | 'failed'
  /** Why. For people: the wording is not part of the contract. */
  reason: string
  /**
   * For `'promoted'`, `'restored'` and `'setAside'`: its present path. In a conflict: the path of the
   * content that the transaction had for the file, if it was to be written.
   */
  to?: string | undefined
  /**
   * For `'failed'`: why. With `committed: true` it has replaced the file nevertheless, but may not
   * survive a power cut.
   */
  error?: SessionFileError | undefined
}

/** What {@link recoverFromCrash} has done. */
export interface RecoveryReport {
  /** Every decision, in the order in which they were made. Empty if there was nothing to decide. */
  actions: RecoveryAction[]
  /**
   * Whether nothing is left to do: none of them failed, and of no {@link transaction} something is
   * undone that no process is at. What is undone is among the actions as `'left'`, and its `reason`
   * says what a person can do: where another folder of the transaction is missing, in a part of a
   * copied tree for example, bring it there, or remove the record.
   */
  complete: boolean
}

/**
 * Puts in order what a crash has left of writes and transactions: beside one file, or in a directory. Call it when a
 * program starts.
 *
 * **Promises.** What live processes are writing is left alone, so it may run beside writers, be cut off and run again.
 * Nothing is ever overwritten, and nothing good is removed before something as good is durable. A corrupt file is kept
 * as `<file>.corrupt-<ms>` when there is something better.
 *
 * **Does not promise.** A program that writes without locks and pauses for longer than `minAge` is taken for dead.
 * More: docs/recovery.md.
 *
 * @param pathOrDir A file, which need not exist, or a directory.
 * @throws {SessionFileError} `ENOENT`, `ELOCKED`, `EDEADLK`, or errno names.
 * @example
 * ```js
 * import { recoverFromCrash } from 'holdfast'
 *
 * const { actions } = await recoverFromCrash('session.json')
 * for (const { action, path, reason } of actions) console.log(action, path, reason)
 *
 * await recoverFromCrash('.', { dryRun: true })
 * ```
 */
export function recoverFromCrash(pathOrDir: PathLike, options?: RecoverOptions): Promise<RecoveryReport>

// ── Several files at once ───────────────────────────────────────────────────────────────────────────

/** The options of {@link transaction}. */
export interface TransactionOptions {
  /**
   * `'full'`: everything is on the disk when the promise resolves, and all or nothing holds through a
   * power cut. `'none'`: nothing is synced; all or nothing holds when the process is killed, but not
   * through a power cut. (There is no `'file'`: the decision has to be on the disk before the first
   * file changes, and then there is little left to omit.)
   * @default 'full'
   */
  durability?: 'none' | 'full' | undefined
  /** Permission bits of the files that are written, as in {@link WriteOptionsBase.mode}. */
  mode?: number | undefined
  /**
   * Permission bits of the files that are made, as in {@link WriteOptionsBase.newFileMode}.
   * @default 0o644
   */
  newFileMode?: number | undefined
  /** Owner and group of the files that are written, as in {@link WriteOptionsBase.chown}. */
  chown?: { uid: number; gid: number } | false | undefined
  /**
   * Attempts in total to bring the changes to the disk, as in {@link WriteOptionsBase.retries}. The
   * function is not called again: when another process has changed one of the files in a pause between
   * two attempts, no further one is made, and the call fails with the error of the last one.
   * @default 3
   */
  retries?: number | undefined
  /**
   * Milliseconds before the second attempt, as in {@link WriteOptionsBase.retryDelay}.
   * @default 100
   */
  retryDelay?: number | undefined
  /**
   * Make missing parent directories of all the files, as in {@link WriteOptionsBase.makeDirs}, before
   * the function is called. They stay when the transaction fails.
   * @default false
   */
  makeDirs?: boolean | undefined
  /**
   * `'json'`: everything that is written must be one valid JSON text, or no file changes
   * (`EBADJSON`, `EEMPTYJSON`).
   */
  validate?: 'json' | undefined
  /**
   * Milliseconds to wait for all the locks together, from 0 to Infinity; 0 tries once.
   * @default 10000
   */
  timeout?: number | undefined
  /**
   * Milliseconds after which the logger is told, once, that the transaction still runs: `warn`, with `path` and
   * `heldFor`. Infinity switches that off.
   * @default 5000
   */
  warnAfter?: number | undefined
  /**
   * Cancels the transaction: the promise rejects with an AbortError, and no file has changed. Once
   * the transaction is decided it stands, and the promise resolves.
   */
  signal?: AbortSignal | undefined
  /**
   * Receives a warning (`warn`) when an unfinished transaction was settled first; `null` for none.
   * @default the one given to {@link setLogger}
   */
  logger?: Logger | null | undefined
}

/** The options of {@link Transaction.updateJson}. */
export interface TransactionUpdateOptions<T = any> extends UpdateFormOptions {
  /** What to start from when there is no file. */
  defaultValue?: T | undefined
}

/**
 * What the function of a {@link transaction} works with. None of its methods touches a file before
 * the function has returned. Operations on one file take effect in the order of the calls. An
 * operation that has been started and not awaited when the function returns is still part of the
 * transaction, and if it fails the transaction fails. After the transaction every call rejects with
 * the code `ERR_INVALID_STATE`; a path that the transaction does not name is a `TypeError`.
 */
export interface Transaction {
  /**
   * The content of a file as the transaction has made it, or else as it is on the disk. Rejects with
   * `ENOENT` when there is none. With an encoding the content is a string.
   */
  read(path: PathLike, encoding: TextEncoding): Promise<string>
  read(path: PathLike): Promise<NodeBuffer>
  /** Gives the file this content. The data is copied, so the caller may reuse a buffer at once. */
  write(
    path: PathLike,
    data: string | ArrayBufferView,
    options?: {
      /**
       * For strings.
       * @default 'utf8'
       */
      encoding?: TextEncoding | undefined
      /**
       * The file is to be made: `EEXIST` at once if the transaction has made it, or it is on the disk
       * and the transaction has not removed it. If a program without a lock makes it meanwhile, its
       * file is never replaced.
       * @default false
       */
      createOnly?: boolean | undefined
    } | TextEncoding,
  ): Promise<void>
  /**
   * Read-modify-write of JSON, as {@link updateJsonFile}: `update` changes `data` in place or returns
   * another value, and missing, empty and corrupt files are `ENOENT`, `EEMPTYJSON` and `EBADJSON`.
   * What `update` throws is thrown unchanged. Resolves to a copy of its own for the caller. Any
   * operation on the same file within `update` rejects with `EDEADLK`.
   */
  updateJson<T = any>(
    path: PathLike,
    update: (data: T) => T | void | Promise<T | void>,
    options?: TransactionUpdateOptions<T>,
  ): Promise<T>
  /** Removes the file. It is not an error if there is none. */
  remove(path: PathLike): Promise<void>
  /** Whether there is the file, as the transaction would leave it. */
  exists(path: PathLike): Promise<boolean>
  /**
   * Gives the content of one file of the transaction to another one, and removes the first, with the rest of the
   * transaction. A file that is at `to` is replaced and keeps its permissions, as in {@link atomicWrite};
   * a new one gets those of `from`, its owner and its attributes. It is another file than `from` was
   * (its number is new). `ENOENT` if there is no file at `from`.
   */
  rename(from: PathLike, to: PathLike): Promise<void>
  /** The files of the transaction, as it would leave them: each once, in the order and spelling of `paths`. */
  list(): Promise<{ path: string; exists: boolean; isChanged: boolean }[]>
}

/**
 * Changes several files together: all of them or none, whatever happens, also a power cut.
 *
 * **Promises.** `fn` stages the changes; a throw in it rolls back. After a crash the next transaction on one of the
 * files, or {@link recoverFromCrash}, completes what was decided and removes everything else. The write locks of all
 * files are held throughout.
 *
 * **Does not promise.** A reader that takes no lock may see some files changed and others not yet, for a moment. More:
 * docs/transactions.md.
 *
 * @param paths Every file that the transaction may read or change.
 * @returns What `fn` has returned.
 * @throws {SessionFileError} `ELOCKED`, `EDEADLK`, `EUNSETTLED`, or errno names. With `committed: true` it stands, and a recovery completes it.
 * @example
 * ```js
 * import { atomicWriteJson, transaction } from 'holdfast'
 *
 * await atomicWriteJson('anna.json', { balance: 10 })
 * await atomicWriteJson('ben.json', { balance: 0 })
 * await transaction(['anna.json', 'ben.json', 'log.txt'], async (tx) => {
 *   await tx.updateJson('anna.json', (account) => {
 *     account.balance -= 5
 *   })
 *   await tx.updateJson('ben.json', (account) => {
 *     account.balance += 5
 *   })
 *   await tx.write('log.txt', 'anna gave ben 5')
 * })
 * ```
 */
export function transaction<T = void>(
  paths: readonly PathLike[],
  fn: (tx: Transaction) => T | Promise<T>,
  options?: TransactionOptions,
): Promise<T>

// ── Write-ahead log ─────────────────────────────────────────────────────────────────────────────────

/** What an entry of a write-ahead log does to its id. */
export type WalOp = 'insert' | 'update' | 'delete'

/** An entry as it is given to {@link Wal.append}. Other properties are ignored. */
export type WalEntryInput<Payload = Uint8Array | string> =
  | {
      /** The subject of the entry. Well-formed text. */
      id: string
      op: 'insert' | 'update'
      payload: Payload
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
      payload?: Payload | undefined
      timestamp?: number | undefined
    }

/** An entry as it comes out of a log. */
export interface WalEntry<Payload = Uint8Array | string> {
  collection: string
  /** Its number, from 1. Within a log later entries have higher numbers, across all collections. */
  sequence: bigint
  id: string
  op: WalOp
  /**
   * As it was given: text as a string, bytes as a Uint8Array. The bytes may share memory with other
   * entries: if you keep few of many, keep a copy, not the view. With `codec: 'json'` the value; a
   * deletion without a payload has `undefined`.
   */
  payload: Payload
  /** Milliseconds since 1970. */
  timestamp: number
}

/** A stretch of a log that cannot be used. */
export interface WalDamage {
  collection: string
  /** The name of the file in the directory of the collection. */
  file: string
  /**
   * What is wrong:
   *
   * - `'tornTail'`: the end, as a power cut or a killed writer leaves it. No entry that was
   *   acknowledged as synced is missing, unless the disk has damaged the very last appends.
   * - `'unreadable'`: something that had been on the disk, or may have been, cannot be read.
   * - `'missing'`: a segment is not there.
   * - `'misplaced'`: a segment, or a part of one, does not belong where it is, or comes twice.
   * - `'checkpoint'`: the note of the last checkpoint; the entries that it had released show again. With an empty
   *   `collection`: the note of what the log had when it was closed.
   * - `'consumer'`: the position of a consumer, so no checkpoint releases anything.
   */
  kind: 'tornTail' | 'unreadable' | 'missing' | 'misplaced' | 'checkpoint' | 'consumer'
  /** Where it starts, in bytes. */
  offset: number
  /** How many bytes are not used. */
  length: number
  /** What was found there. For people. */
  reason: string
  /** The last sequence number that was read before it; 0n if there is none. */
  after: bigint
  /** The next sequence number that was read behind it, if there is one. */
  before?: bigint
  /**
   * The name of the file beside it that the bytes were copied to, if they were. On a full disk there
   * may be no room for the copy of a torn tail: then the bytes stay where they are, at the end of the
   * segment, and the next append copies them before it writes anything.
   */
  copy?: string
}

/**
 * When a log is synced, and so which resolved appends survive a power cut or a kernel crash. All of
 * them survive a crash of the process alone.
 *
 * - `'always'`: each append has a sync of its own. An append that has resolved is there.
 * - `'perBatch'`: appends that wait together share one sync. An append that has resolved is there.
 * - `'periodic'`: there is a sync at the latest `syncInterval` after an append, in the background.
 *   Appends since the last one may be lost, from the end.
 * - `'never'`: the system writes when it chooses to. Appends that it has not written may be lost, from
 *   the end.
 */
export type WalSyncMode = 'always' | 'perBatch' | 'periodic' | 'never'

/**
 * What is done about damage.
 *
 * - `'strict'`: any damage is refused with `EWALDAMAGED`.
 * - `'tolerateTail'`: a torn tail is copied aside and cut off; all other damage is refused.
 * - `'skipCorrupt'`: the same, and other damage is skipped.
 *
 * Whatever is cut off or skipped is reported in {@link Wal.damage} or {@link WalReplay.damage}.
 *
 * A reader beside the writer that tolerates a tail (the default) takes the first apparent end of the
 * log for its end. With the other two it looks through the rest of the segment first, up to
 * `segmentSize` bytes each time, because a write there may show that the disk has lost another.
 */
export type WalRecovery = 'strict' | 'tolerateTail' | 'skipCorrupt'

/**
 * Takes over the memtable of a collection. Once it has returned, or its promise has resolved, the
 * entries up to `upTo` are released as by {@link Wal.checkpoint}: they have to be durable elsewhere
 * by then. If it fails nothing is released.
 *
 * `entries` has the newest entry of each id, deletions included, in the order of the numbers; it can
 * be iterated once or more while the function runs. An id that is changed meanwhile may be left out:
 * its newer entry comes with the next flush, so treat `'insert'` and `'update'` alike. After a crash
 * entries that were taken over may come again.
 */
export type WalFlush<Payload = Uint8Array | string> = (flush: { collection: string; entries: Iterable<WalEntry<Payload>>; upTo: bigint }) => void | Promise<void>

/** The options of {@link openWal} for reading beside the process that writes. */
export interface WalReaderOptions {
  /** Only read. */
  readOnly: true
  /**
   * What a replay does about damage. A reader changes nothing; for a reader the log ends with the last
   * whole batch.
   * @default 'tolerateTail'
   */
  recovery?: WalRecovery | undefined
  /**
   * `'json'`: payloads are values, as for {@link WalOptions.codec}.
   * @default payloads are bytes or text
   */
  codec?: 'json' | undefined
}

/** The options of {@link openWal}. */
export interface WalOptions<Payload = Uint8Array | string> {
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
   * Bytes after which a segment is sealed and the next one begun: an integer from 4096 to 4294967296.
   * A batch that is larger has a segment to itself.
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
   * Takes over the memtable of a collection when it has become larger than `flushThreshold`, in the
   * background, and when {@link Wal.flush} is called. Appends go on meanwhile. A failure in the
   * background is logged, or without a logger becomes a process warning, and the flush is retried
   * with a later append, after 100 ms at first and up to a minute.
   * @default nothing is released but by {@link Wal.checkpoint}
   */
  onFlush?: WalFlush<Payload> | undefined
  /**
   * With `onFlush`: the approximate size in bytes of a collection's memtable at which it is flushed,
   * an integer from 1.
   * @default 67108864
   */
  flushThreshold?: number | undefined
  /**
   * `'json'`: payloads are values. They are appended as the text that `JSON.stringify` makes of them, and
   * come as `JSON.parse` reads it, wherever entries come out. A payload that has no JSON text (undefined,
   * a function, a bigint, NaN, an object that contains itself) is a TypeError that names the entry; a
   * payload on the disk that is not JSON is an error with the code `'EBADJSON'`, when it is read. On the
   * disk nothing differs: a log may be opened with it or without.
   * @default payloads are bytes or text
   */
  codec?: 'json' | undefined
  /**
   * How many bytes of entries may wait to be appended, an integer from 1 to 1073741824; a batch that
   * is larger waits alone. Appends beyond that wait for room, in the order of the calls.
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
   * Receives entries about damage and about failed flushes; `null` for none.
   * @default the one given to {@link setLogger}
   */
  logger?: Logger | null | undefined
}

/** The option of {@link Wal.append} and {@link Wal.writeBatch}. */
export interface WalAppendOptions {
  /**
   * `true`: the batch, and everything before it in its collection, is synced before the promise
   * resolves, even with `syncMode` `'periodic'` or `'never'`. `false` is refused with the other modes.
   * @default as `syncMode` says
   */
  durable?: boolean | undefined
}

/** How far a consumer ({@link Wal.consumer}) has got. */
export interface WalConsumerStats {
  name: string
  /** The sequence number up to which it has acknowledged. */
  position: bigint
  /**
   * How many sequence numbers there are between its position and the last one of the collection. (Its
   * entries may be fewer: all collections share their numbers.)
   */
  lag: bigint
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
  /** The last sequence number that is known to be on the disk. */
  durable: bigint
  /** The sequence number up to which entries are released. */
  released: bigint
  /** How many ids the memtable has, deleted ones included. */
  memtableEntries: number
  /** How much memory it takes, approximately. */
  memtableBytes: number
  /**
   * Its consumers. The positions of those of other processes are as they were at the last checkpoint, or
   * right after the last call of `stats`, which has them looked at in the background.
   */
  consumers: WalConsumerStats[]
}

/**
 * What is known of a log, since it was opened. In `JSON.stringify` sequence numbers become strings of
 * their digits.
 */
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

/**
 * What a {@link WalReader} finds on the disk. In `JSON.stringify` sequence numbers become strings of
 * their digits.
 */
export interface WalReaderStats {
  /** By name. */
  collections: {
    name: string
    /** How many segments it has. */
    segments: number
    /** How many bytes their files have, unused space included. */
    bytes: number
    /** The last sequence number that is there or was released; 0n if there is none. */
    last: bigint
    /** The sequence number up to which entries are released. */
    released: bigint
    consumers: WalConsumerStats[]
  }[]
}

/** The entries of a replay, each once, in the order of their numbers. */
export interface WalReplay<Payload = Uint8Array | string> extends AsyncIterableIterator<WalEntry<Payload>> {
  /** With `recovery: 'skipCorrupt'`: what was skipped. Complete when the iteration has ended. */
  readonly damage: WalDamage[]
  /** Ends the iteration early, as `break` does, and frees everything that it held. */
  return(): Promise<IteratorResult<WalEntry<Payload>, undefined>>
  next(): Promise<IteratorResult<WalEntry<Payload>, undefined>>
  [Symbol.asyncIterator](): WalReplay<Payload>
  [Symbol.asyncDispose](): Promise<void>
}

/**
 * What is appended to a collection: each entry once, in the order of the numbers, by {@link Wal.follow} or
 * {@link WalReader.follow}. While a `next()` waits, it keeps the process alive.
 */
export interface WalFollow<Payload = Uint8Array | string> extends AsyncIterableIterator<WalEntry<Payload>> {
  /** With `recovery: 'skipCorrupt'`: what has been skipped so far. */
  readonly damage: WalDamage[]
  /** Ends it, as `break` does, and frees everything that it held; a `next()` that waits ends, too. */
  return(): Promise<IteratorResult<WalEntry<Payload>, undefined>>
  next(): Promise<IteratorResult<WalEntry<Payload>, undefined>>
  [Symbol.asyncIterator](): WalFollow<Payload>
  [Symbol.asyncDispose](): Promise<void>
}

/** The options of {@link Wal.follow} and {@link WalReader.follow}. */
export interface WalFollowOptions {
  /**
   * The number of the first entry that is wanted.
   * @default the first that is not released
   */
  from?: bigint | undefined
  /** Ends it: a `next()` that waits, or the next one, rejects with an `AbortError`. */
  signal?: AbortSignal | undefined
}

/**
 * A reader of a collection that has a name, and whose position is kept, by {@link Wal.consumer} or
 * {@link WalReader.consumer}.
 */
export interface WalConsumer<Payload = Uint8Array | string> {
  readonly name: string
  readonly collection: string
  /** The sequence number up to which it has acknowledged; 0n if it has not. */
  readonly position: bigint
  /**
   * What it has not acknowledged: first what is there, then what comes, as {@link Wal.follow} and
   * {@link WalReader.follow} give it.
   */
  follow(options?: { signal?: AbortSignal | undefined }): WalFollow<Payload>
  /**
   * Acknowledges an entry that it was given, and all before it. When the promise resolves this is durable:
   * whatever happens, the consumer goes on behind it. It never goes back. Calls that wait together share
   * one write, so they need not be awaited one by one. A number that it was not given is a RangeError.
   */
  ack(sequence: bigint): Promise<void>
  /** Ends its use, after the calls of `ack`: another process may be this consumer. Its position stays. */
  close(): Promise<void>
  /** Removes it: its position is forgotten, and holds nothing back any more. */
  remove(): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

/** The options of {@link Wal.consumer} and {@link WalReader.consumer}. */
export interface WalConsumerOptions {
  /**
   * For a consumer that is new: the number of the first entry that it wants. One that is not new goes on
   * where it was.
   * @default the first that is not released
   */
  from?: bigint | undefined
  /**
   * Milliseconds to wait until the process that is this consumer closes it or dies, from 0 to Infinity; 0
   * tries once.
   * @default 10000
   */
  timeout?: number | undefined
  /** Cancels the wait: the call rejects with an `AbortError`. */
  signal?: AbortSignal | undefined
}

/** A log that is open for reading. */
export interface WalReader<Payload = Uint8Array | string> {
  /** The names of the collections that are there now. `ENOENT` when the log has gone. */
  collections(): Promise<string[]>
  /**
   * As {@link Wal.replay}. Beside a process that writes it shows a prefix of the appends: whole
   * batches, none left out, up to some moment after the iteration began. A collection that is not
   * there has no entries.
   */
  replay(collection: string, options?: { from?: bigint | undefined }): WalReplay<Payload>
  /**
   * Goes on with what another process appends to a collection: first what is there, then what comes. The log may be
   * closed, its process may be killed, and another may open it meanwhile.
   *
   * **Promises.** Every entry that is acknowledged comes, once, in order, after it is on the disk. An entry may come before
   * its append has resolved. Fails with `EWALRELEASED` where a checkpoint has released what would come next, and with
   * `ENOENT` when the collection is removed. Ended by {@link WalReader.close}. More: docs/wal.md.
   * @example
   * ```js
   * import { openWal } from 'holdfast'
   *
   * const reader = await openWal('vectors.wal', { readOnly: true })
   * for await (const { sequence, op, id } of reader.follow('articles')) console.log(sequence, op, id)
   * ```
   */
  follow(collection: string, options?: WalFollowOptions): WalFollow<Payload>
  /** As {@link Wal.consumer}. It writes its position, so the process has to be allowed to write to the log's folder. */
  consumer(name: string, collection: string, options?: WalConsumerOptions): Promise<WalConsumer<Payload>>
  /** As {@link Wal.first}, from the disk. */
  first(collection: string): Promise<bigint>
  /** Figures of what is on the disk now. Reads the last segment of each collection. */
  stats(): Promise<WalReaderStats>
  /** After this, no replay can be started. */
  close(): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

/**
 * A log that is open for appending, by {@link openWal}. Besides errno names the `code` of its {@link SessionFileError}s is
 * `'EWALPOISONED'` (a write or a sync has failed), `'EWALMOVED'` (its files were removed or replaced; after both nothing is
 * appended until the log is opened again), `'EWALCLOSED'`, `'EWALDAMAGED'` (`damage`), `'EWALTOOLARGE'`,
 * `'EWALNOMEMTABLE'`, `'EWALRELEASED'` (`first`) or `'EDEADLK'` (`onFlush` would wait for itself). More: docs/wal.md.
 */
export interface Wal<Payload = Uint8Array | string> {
  /** What was found damaged when the log was opened, and cut off or skipped. */
  readonly damage: readonly WalDamage[]
  /**
   * Appends entries to a collection, as one batch.
   *
   * **Promises.** All of them or none, through any crash. When the promise resolves they are as durable as `syncMode` (or
   * `durable`) says. Batches of one collection are in the order of the calls. The entries are copied before the call
   * returns. When it rejects none of them shows; after `EWALPOISONED` or `EWALMOVED` they may be there once the log is opened
   * again. More: docs/wal.md.
   *
   * @param collection A plain name of at most 100 bytes.
   * @param entries Up to 67108863 bytes: ids and payloads, and 64 for each entry.
   * @returns Their sequence numbers.
   */
  append(collection: string, entries: readonly WalEntryInput<Payload>[], options?: WalAppendOptions): Promise<bigint[]>
  /**
   * Appends entries to several collections: those of each collection as one batch, in the order
   * given, all or none of them. Between collections there is no such promise: when the call rejects,
   * `error.sequences` has the numbers of the entries that were appended nevertheless, and `undefined`
   * for the others.
   *
   * @returns Their sequence numbers, in the order of the entries.
   */
  writeBatch(
    entries: readonly (WalEntryInput<Payload> & { collection: string })[],
    options?: WalAppendOptions,
  ): Promise<bigint[]>
  /** The newest entry of an id, from memory; `undefined` when there is none, it is a deletion, or it is released. */
  get(collection: string, id: string): WalEntry<Payload> | undefined
  /**
   * The newest entry of each id, from memory, in the order of the numbers; deletions only with
   * `deletions: true`. An entry that is appended during the iteration may or may not show, and an id
   * that is changed meanwhile may show twice, with the newer entry last.
   */
  entries(collection: string, options?: { deletions?: boolean | undefined }): IterableIterator<WalEntry<Payload>>
  /**
   * All entries of a collection, from the disk, as far as they have been appended when the iteration
   * starts: those from the number `from` on, or without it all that are not released. It takes a few
   * hundred KiB of memory (and that of the largest batch). Fails with `EWALRELEASED` when `from` is a
   * number that has been released; entries that are released later, before the iteration reaches
   * them, do not come. Fails with `EWALDAMAGED`, unless `recovery` is `'skipCorrupt'`.
   */
  replay(collection: string, options?: { from?: bigint | undefined }): WalReplay<Payload>
  /**
   * Goes on with what is appended to a collection through this log: first what is there, then what comes,
   * each entry once its append has resolved, and so as durable as `syncMode` says. It ends when the log
   * has been closed and everything was given out. Fails with `EWALRELEASED` where a checkpoint has
   * released what would come next. Otherwise as {@link WalReader.follow}; nothing is watched, because the
   * log itself tells of its appends.
   */
  follow(collection: string, options?: WalFollowOptions): WalFollow<Payload>
  /**
   * Opens the consumer of this name of a collection, or makes it: a reader whose position is kept in the log's folder.
   *
   * **Promises.** At least once: what it has not acknowledged is given to it again, after any crash. No checkpoint releases
   * what a consumer has not acknowledged. One process at a time is the consumer of a name; others wait.
   *
   * **Does not promise.** A consumer that is not used any more holds the log until it is removed: `stats()` shows its lag.
   * More: docs/wal.md.
   *
   * @param name 1 to 64 letters, digits, `_` or `-`.
   * @throws {SessionFileError} `ELOCKED`; `EWALRELEASED` when a new one is to begin with what is released; `EWALDAMAGED`.
   * @example
   * ```js
   * import { openWal } from 'holdfast'
   *
   * const reader = await openWal('vectors.wal', { readOnly: true })
   * const indexer = await reader.consumer('indexer', 'articles')
   * for await (const { sequence, id } of indexer.follow()) {
   *   console.log('indexing', id)
   *   await indexer.ack(sequence)
   * }
   * ```
   */
  consumer(name: string, collection: string, options?: WalConsumerOptions): Promise<WalConsumer<Payload>>
  /**
   * The lowest sequence number of a collection that has not been released: one behind the last
   * checkpoint, and `1n` before the first. A replay can start there. Its first entry may have a higher
   * number, because all collections of a log share their numbers.
   */
  first(collection: string): bigint
  /**
   * Makes everything durable that was appended to a collection, or to all, and has `onFlush`, if there
   * is one, take over their memtables, whatever their size. A throw of `onFlush` is passed on
   * unchanged.
   */
  flush(collection?: string): Promise<void>
  /**
   * Releases the entries of a collection up to a number, because they are durable elsewhere: they no
   * longer show, and sealed segments that have no others are removed (one is kept for its space).
   * Appends go on meanwhile. A number beyond the last entry is a RangeError.
   *
   * Consumers ({@link Wal.consumer}) hold it back: what one of them has not acknowledged stays on the disk,
   * and shows in `replay` and after a restart; `get` and `entries` no longer show it. A checkpoint that was
   * held back is not repeated by itself.
   *
   * @returns The number up to which entries are released now.
   */
  checkpoint(collection: string, upTo: bigint): Promise<bigint>
  /**
   * Copies the log to a new directory, while appends and checkpoints go on.
   *
   * **Promises.** The copy is a log that opens without damage: all collections as of one moment after the call, and the
   * positions of the consumers. When the promise resolves it is durable. If it rejects, or the process dies, there is
   * nothing at `dir`. More: docs/wal.md.
   *
   * @param dir There must be nothing, and the directory above must exist.
   * @throws {SessionFileError} `EEXIST`, `EWALCLOSED`, `EWALPOISONED`, or errno names.
   */
  backup(dir: PathLike): Promise<void>
  /** Figures, as of now. */
  stats(): WalStats
  /**
   * Waits for the appends and the flush that have begun, syncs everything, cuts unused space off, and
   * releases the log for the next process. The entries of the memtable stay in the log, and come
   * again. Further calls do nothing. A replay that has begun goes on.
   */
  close(): Promise<void>
  /** The same, for `await using`. */
  [Symbol.asyncDispose](): Promise<void>
}

/**
 * Opens a write-ahead log, or creates one: batches of entries in named collections, which are there again after any crash.
 *
 * **Promises.** One process at a time has a log open for appending; any number may read it with `readOnly: true`. What a
 * crash has left is repaired first, and what had to be cut off is reported in `damage`: nothing is lost silently.
 *
 * **Does not promise.** A log without `onFlush` or {@link Wal.checkpoint} grows for ever, on the disk and (with
 * `memtable`) in memory. More: docs/wal.md.
 *
 * @param dir It is made if there is none; its parent directory must exist.
 * @throws {SessionFileError} `ELOCKED` (`holder`), `EWALDAMAGED` (nothing was changed), or errno names.
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
export function openWal<Value = unknown>(
  dir: PathLike,
  options: WalReaderOptions & { codec: 'json' },
): Promise<WalReader<Value>>
export function openWal<Value = unknown>(
  dir: PathLike,
  options: WalOptions<Value> & { codec: 'json' },
): Promise<Wal<Value>>
export function openWal<Value = unknown>(
  dir: PathLike,
  options: (WalReaderOptions | WalOptions<Value>) & { codec: 'json' },
): Promise<WalReader<Value> | Wal<Value>>
export function openWal(dir: PathLike, options: WalReaderOptions): Promise<WalReader>
export function openWal(dir: PathLike, options?: WalOptions): Promise<Wal>
export function openWal(dir: PathLike, options: WalReaderOptions | WalOptions): Promise<WalReader | Wal>

// ── Defaults ────────────────────────────────────────────────────────────────────────────────────────

/** What {@link setDefaults} of the package sets. */
export interface ProcessDefaults extends Defaults {
  /**
   * `'onFirstWrite'`: when the process first writes to a file in a directory, orphaned temp files
   * (unlocked, and older than a minute unless they are holdfast's own) are removed from that directory, in the background. Only
   * orphans that {@link recoverFromCrash} has no use for are removed: those beside a file that is
   * there and not corrupt, and those that are no whole JSON object or array. The write neither waits
   * for the removal nor fails with it. A directory counts as written to once its writes begin, for
   * the rest of the process.
   * @default 'off'
   */
  cleanup?: 'off' | 'onFirstWrite' | undefined
}

/**
 * The values that options have in calls that do not give them; the
 * [table](docs/defaults.md) says what each means for which function.
 */
export interface Defaults {
  /** For writes, updates, backups, restores; `'file'` is `'full'` for transactions. @default 'full' */
  durability?: Durability | undefined
  /** Whether writes, streams, updates, restores and recoveries take the lock of the file. @default that of each function */
  lock?: boolean | undefined
  /** How long a call waits for a lock, in milliseconds; writes with `lock: true` included. @default 10_000 */
  timeout?: number | undefined
  /** For updates; also for `atomicWriteJson`, where `'keep'` means none. @default 'keep' */
  indent?: number | string | undefined
  /** Attempts of writes, updates, backups, restores and transactions. @default 3 */
  retries?: number | undefined
  /** As {@link setLogger} sets it. @default null */
  logger?: Logger | null | undefined
  /** Permission bits of new files. @default 0o644 */
  newFileMode?: number | undefined
}

/**
 * Sets the values of options for all later calls that do not give them. A name that is left out stays as it is;
 * `undefined` goes back to holdfast's own value (`cleanup` stays as it is). Each worker thread has
 * defaults of its own; `cleanup` holds for the whole process. `holdfast/compat/proper-lockfile` and `LockManager` take
 * none, `AtomicOperations` only `durability`, `newFileMode` and `logger`. A library uses
 * {@link createHoldfast} instead.
 *
 * @throws {TypeError} When a value has the wrong type or an option is not known.
 * @example
 * ```js
 * import { setDefaults } from 'holdfast'
 *
 * setDefaults({ cleanup: 'onFirstWrite', durability: 'file', timeout: 2000 })
 * ```
 */
export function setDefaults(defaults: ProcessDefaults): void

/** The functions of the package with defaults of their own, as {@link createHoldfast} makes them. */
export type Holdfast = Omit<typeof import('./index.js'), 'setDefaults'> & {
  /** Sets the defaults of these functions, as {@link setDefaults} does those of the thread. `cleanup` is refused. */
  setDefaults(defaults: Defaults): void
  /** Sets the logger of these functions. They never use that of the thread. */
  setLogger(logger: Logger | null): void
}

/**
 * Makes the same functions with defaults and a logger of their own, so that a library shares neither with
 * other users of holdfast in the process: it does not see what `setDefaults` and `setLogger` of the package set, and they
 * do not see its own. What is made with them (streams, transactions, logs) has these defaults too.
 * Queues, locks, metrics and `cleanup` are those of the process.
 *
 * @throws {TypeError} When a value has the wrong type or an option is not known.
 * @throws {RangeError} When a number is out of bounds.
 * @example
 * ```js
 * import { createHoldfast } from 'holdfast'
 *
 * const { atomicWrite, updateJsonFile } = createHoldfast({ durability: 'file', lock: true, timeout: 2000 })
 *
 * await atomicWrite('cache.bin', Buffer.alloc(64))
 * await updateJsonFile('state.json', (state) => { state.runs += 1 }, { defaultValue: { runs: 0 } })
 * ```
 */
export function createHoldfast(defaults?: Defaults): Holdfast

// ── Errors ──────────────────────────────────────────────────────────────────────────────────────────

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
   * `'atomic write'`, `'update JSON'`, `'lock'`, `'transaction'`, `'create backup'`,
   * `'restore backup'`, `'list backups'`, `'clean up backups'`, `'read file'`, `'recover'`,
   * `'open wal'`, `'wal append'`, `'wal read'`, `'wal flush'`, `'wal checkpoint'`, `'wal close'`,
   * `'wal backup'`, `'wal consumer'`, `'append lines'`, `'read lines'`.
   */
  operation: string
  /**
   * The errno name, as in Node's own errors (`'ENOSPC'`), or one of holdfast's: `'ELOCKED'`,
   * `'EDEADLK'`, `'ECOMPROMISED'`, `'EUNSETTLED'`, `'EBADJSON'`, `'EEMPTYJSON'`, `'ECLOSED'`, `'EINVALIDJSON'`; those of write-ahead
   * logs are listed with {@link Wal}.
   */
  code: ErrorCode | undefined
  /**
   * Whether the same call may succeed later, with no change to the program or to what the path names: the
   * lock is held (`'ELOCKED'`), the disk is full, too many files are open, and what else comes and goes.
   * Writes make `retries` attempts for such errors of the system before they reject.
   */
  transient: boolean
  /** The errno as a negative number, as in Node's own errors. */
  errno: number | undefined
  /** The system call that failed: `'open'`, `'write'`, `'fsync'`, `'rename'`… */
  syscall: string | undefined
  /** How many attempts were made. */
  attempts: number
  /** Whether the new content is in place nevertheless. It may not survive a power cut. */
  committed: boolean
  /** What can be done about it, where that is known. For people. */
  hint: string | undefined
  /** With `code` `'ELOCKED'`: who has the lock, where that is known. */
  holder: LockHolder | undefined
  /** With `code` `'EBADJSON'`: the line where the text stops being JSON, from 1. */
  line: number | undefined
  /** With `code` `'EBADJSON'`: the position in that line, from 1, in bytes. */
  column: number | undefined
  /** With `code` `'EINVALIDJSON'`: what the schema of {@link jsonFile} says is wrong. */
  issues: readonly SchemaIssue[] | undefined
  /** With `code` `'EWALDAMAGED'`: what is damaged, and where. */
  damage: WalDamage | undefined
  /** With `code` `'EWALRELEASED'`: the lowest sequence number that has not been released. */
  first: bigint | undefined
  /** For {@link Wal.writeBatch}: the numbers of the entries that were appended nevertheless. */
  sequences: (bigint | undefined)[] | undefined
  /** The last system error, in the form of Node's own errors. */
  cause?: unknown
  /** What `JSON.stringify` takes: `name`, `message` and the fields above but `cause`; sequence numbers as strings. */
  toJSON(): Record<string, unknown>
}

/**
 * What {@link SessionFileError.code} may be: holdfast's own codes, and the errno names of the system, of which the frequent
 * ones are listed so that editors offer them.
 */
export type ErrorCode =
  | 'ELOCKED' | 'EDEADLK' | 'ECOMPROMISED' | 'EUNSETTLED' | 'EBADJSON' | 'EEMPTYJSON' | 'EINVALIDJSON' | 'ECLOSED'
  | 'EWALDAMAGED' | 'EWALMOVED' | 'EWALPOISONED' | 'EWALRELEASED' | 'EWALTOOLARGE' | 'EWALCLOSED' | 'EWALCONSUMER' | 'EWALNOMEMTABLE'
  | 'EACCES' | 'EAGAIN' | 'EBUSY' | 'EDQUOT' | 'EEXIST' | 'EFBIG' | 'EINVAL' | 'EIO' | 'EISDIR' | 'ELOOP' | 'EMFILE' | 'ENAMETOOLONG'
  | 'ENFILE' | 'ENOENT' | 'ENOLCK' | 'ENOMEM' | 'ENOSPC' | 'ENOTDIR' | 'ENOTSUP' | 'EPERM' | 'EROFS' | 'ESTALE' | 'ETIMEDOUT' | 'EXDEV'
  // Others remain possible, and the list is offered all the same.
  | (string & {})

// ── Logger, metrics, traces ─────────────────────────────────────────────────────────────────────────

/**
 * Receives log entries. pino works, and so does any object with these three methods. A method that
 * throws does not disturb the write.
 */
export interface Logger {
  debug(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}

/**
 * Durations that have been counted, in milliseconds. All fields are 0 while there are none. `min`,
 * `max` and `mean` are exact. The quantiles are off by at most 1.6 % (1/64) of their value: durations
 * are counted in buckets, from single nanoseconds to 78 hours.
 */
export interface Histogram {
  readonly count: number
  /** All of them together, exactly; of those that are being counted it may be in the next reading. */
  readonly sum: number
  /**
   * For each bound `le`, how many durations were no longer, as Prometheus has it: from 0.01 ms to a
   * minute, in growing order. `count` is the bucket without a bound. A bound is off by at most 3.2 %
   * (1/32), as the quantiles are.
   */
  readonly buckets: readonly { readonly le: number; readonly count: number }[]
  readonly min: number
  readonly max: number
  readonly mean: number
  /** Half of the durations are no longer than this. */
  readonly p50: number
  /** Nine of ten are no longer than this. */
  readonly p90: number
  /** 99 of 100 are no longer than this. */
  readonly p99: number
  /** 999 of 1000 are no longer than this. */
  readonly p999: number
}

/** Calls for one path that did not get its lock at once. */
export interface LockContention {
  /** The file, absolute, as the calls spelt it. */
  readonly path: string
  /** How many calls there were. */
  readonly contended: number
  /**
   * How many of them may have been for other files. 0 until more than 64 files have been contended:
   * then the file with the fewest calls makes room for the next, which takes over its number. So
   * `contended` is never too small, and every file with more than one in 64 of all calls is in the
   * list.
   */
  readonly uncertainty: number
  /** How long they have waited in total: milliseconds, since the file is in the list. */
  readonly waited: number
}

/** What {@link metrics} returns: plain frozen objects and numbers, exact up to 2 ** 53. */
export interface Metrics {
  /**
   * Calls that write: {@link atomicWrite}, {@link atomicWriteSync}, {@link atomicWriteJson}, the
   * writes of {@link updateJsonFile}, and streams, from the end of their data on.
   */
  readonly writes: {
    /** Calls that succeeded, merged ones included, by durability. */
    readonly acknowledged: Readonly<Record<Durability, number>>
    /**
     * Calls that failed, by the code of their error; `'ABORT_ERR'` if they were cancelled. A call
     * that does not get its lock counts with the locks, not here.
     */
    readonly failed: Readonly<Record<string, number>>
    /** Calls for which a newer one was written. */
    readonly merged: number
    /** Attempts to replace a file, including those of backups and restores. */
    readonly attempts: number
    /** The attempts among them that were made because the one before had failed. */
    readonly retries: number
    /** Bytes of all files that these attempts put in place. */
    readonly bytes: number
    /** How often writes to different files shared a sync, and how many did. */
    readonly sharedSyncs: { readonly rounds: number; readonly writes: number }
    /** From the call to its answer, for calls that succeeded, by durability. */
    readonly latency: Readonly<Record<Durability, Histogram>>
  }
  /** All waits for the disk: how long each system call took, including failed ones. */
  readonly syncs: {
    /** `fsync` of a file. */
    readonly file: Histogram
    /** `fsync` of a directory. */
    readonly folder: Histogram
    /** `syncfs`. */
    readonly fileSystem: Histogram
    /** `sync_file_range`: until the bytes of a file are on the device. */
    readonly writeBack: Histogram
    /** How many of them failed. */
    readonly failed: number
  }
  /** {@link updateJsonFile}. A call that is cancelled while it waits is not counted. */
  readonly updates: {
    /** Calls that succeeded. */
    readonly calls: number
    /** Calls that failed. */
    readonly failed: number
    /** Batches: calls that wait together share one lock, one read and one write. */
    readonly batches: number
    /** The batches among them after which the text was as before, so that nothing was written. */
    readonly unchanged: number
  }
  /** {@link createBackup} and {@link restoreBackup}. */
  readonly backups: {
    readonly created: number
    readonly restored: number
    /** Calls that failed, by the code of their error. */
    readonly failed: Readonly<Record<string, number>>
  }
  /** {@link transaction}: those that had something to commit. */
  readonly transactions: {
    readonly committed: number
    /** The files that they changed. */
    readonly files: number
    /** Attempts that were made because the one before had failed. */
    readonly retries: number
    /** Commits that failed, by the code of their error. */
    readonly failed: Readonly<Record<string, number>>
  }
  /** All write-ahead logs ({@link openWal}) that are open in this process. */
  readonly wal: {
    /** Batches that were appended: the entries of one call for one collection are one batch. */
    readonly batches: number
    /** Their entries. */
    readonly entries: number
    /** The bytes of their entries, as they were given and framed. */
    readonly bytes: number
    /** Groups: batches that wait together are written, and synced, together. */
    readonly groups: number
    /** Batches that were not appended, by the code of the error. */
    readonly failed: Readonly<Record<string, number>>
    /** From the call until a batch was appended as its sync mode promises. */
    readonly latency: Histogram
  }
  /** All locks: updates, transactions and restores acquire theirs, too. */
  readonly locks: {
    /** Locks that were acquired, by kind. */
    readonly acquired: Readonly<Record<LockKind, number>>
    /** Calls that did not get their lock at once, whatever came of them. */
    readonly contended: number
    /** Calls that did not get it in time. */
    readonly timedOut: number
    /** Calls that tried once and did not get it: `timeout: 0`, {@link tryAcquireLock}. */
    readonly refused: number
    /** Calls that did not get it for other reasons, by the code of their error. */
    readonly failed: Readonly<Record<string, number>>
    /** From the call until the lock was acquired, by kind. */
    readonly wait: Readonly<Record<LockKind, Histogram>>
    /** How long the locks that have been released were held, by kind. */
    readonly hold: Readonly<Record<LockKind, Histogram>>
    /** The files that were most contended, at most 64, the one with the most calls first. */
    readonly contention: readonly LockContention[]
  }
}

/**
 * What holdfast has done in this process since it was loaded, or since {@link resetMetrics}: the
 * figures of all threads together.
 *
 * **Promises.** Each event is counted once, however many threads there are, and before the promise of
 * its call settles. Counting is always on; it costs a write about 0.1 µs.
 *
 * **Does not promise.** The figures are read one after another while work goes on, so they may differ
 * by what happens meanwhile.
 *
 * @example
 * ```js
 * import { atomicWrite, metrics } from 'holdfast'
 *
 * await atomicWrite('session.json', '{"turn":1}')
 * const { writes, syncs } = metrics()
 * console.log(writes.acknowledged.full, 'writes', writes.latency.full.p99, 'ms')
 * console.log(syncs.file.count, 'syncs', syncs.file.mean, 'ms')
 * ```
 */
export function metrics(): Metrics

/**
 * Sets all figures of {@link metrics} to zero, for all threads, and returns what they were.
 *
 * **Promises.** An event that happens meanwhile in another thread is either in the returned figures
 * or in those counted from then on, never in both and never lost: the sum of successive calls has
 * every event once.
 *
 * @example
 * ```js
 * import { atomicWrite, resetMetrics } from 'holdfast'
 *
 * // Report what has happened since the last report.
 * await atomicWrite('session.json', '{"turn":1}')
 * const { writes, locks } = resetMetrics()
 * console.log(writes.bytes, 'bytes', locks.contention[0]?.path ?? 'no call has waited')
 * ```
 */
export function resetMetrics(): Metrics

/**
 * What the subscribers of `tracingChannel('holdfast:write')` (`node:diagnostics_channel`) receive for
 * a call of {@link atomicWrite}, {@link atomicWriteJson} or {@link atomicWriteSync}: one object for
 * all its events. Wrong arguments are not reported. For a stream ({@link createAtomicWriteStream})
 * the trace ends when the file has been replaced or the stream has failed; a stream that is destroyed
 * before ends with an `AbortError`.
 */
export interface WriteTrace {
  readonly operation: 'atomic write'
  /** The file, as it was given to the call. */
  readonly path: string
  /** Bytes; for a stream those that it has written so far, so none at the `start`. */
  readonly size: number
  /** Within an update, in whose async context it is told: how many updates share the write. Each of them is told. */
  readonly updates?: number
  readonly durability: Durability
  /** What the call fails with, from the event `error` on. */
  readonly error?: unknown
}

/**
 * The same for `tracingChannel('holdfast:update')` and {@link updateJsonFile}. The content of the
 * file is not published.
 */
export interface UpdateTrace {
  readonly operation: 'update JSON'
  /** The file, as it was given to the call. */
  readonly path: string
  readonly durability: Durability
  /** What the call fails with, from the event `error` on. */
  readonly error?: unknown
}

/**
 * The same for `tracingChannel('holdfast:backup')`, {@link createBackup} and {@link restoreBackup}.
 */
export interface BackupTrace {
  readonly operation: 'create backup' | 'restore backup'
  /** The file that is copied or restored, as it was given to the call. */
  readonly path: string
  /** With `'restore backup'`: the backup, as it was given to the call. */
  readonly backup?: string
  readonly durability: Durability
  /** What the call fails with, from the event `error` on. */
  readonly error?: unknown
}

/**
 * The same for `tracingChannel('holdfast:transaction')` and {@link transaction}: from the wait for
 * the locks until they are released.
 */
export interface TransactionTrace {
  readonly operation: 'transaction'
  /** The files, as they were given to the call. */
  readonly paths: readonly string[]
  readonly durability: Durability
  /** What the call fails with, from the event `error` on; a throw of the function, too. */
  readonly error?: unknown
}

/**
 * The same for `tracingChannel('holdfast:wal')` and write-ahead logs: {@link openWal} (not
 * `readOnly`), `append` and `writeBatch`, the sync of `flush`, `checkpoint` and `close`; work that
 * `onFlush` has caused, too. Entries are not published.
 */
export interface WalTrace {
  readonly operation: 'open wal' | 'wal append' | 'wal backup' | 'wal flush' | 'wal checkpoint' | 'wal close'
  /** The directory of the log, as it was given to {@link openWal}. */
  readonly dir: string
  /** The collections that it concerns, where it does not concern all. */
  readonly collections?: readonly string[]
  /** With `'wal append'`: how many. */
  readonly entries?: number
  /** What the call fails with, from the event `error` on. */
  readonly error?: unknown
}

/**
 * The same for `tracingChannel('holdfast:lock')` and the wait of {@link withLock},
 * {@link acquireLock}, {@link tryAcquireLock} and a {@link LockManager} for their lock. A try that
 * does not get the lock is an error with `code` `'ELOCKED'` here. A read lock that a manager grants
 * under a write lock of its own is not published; a wait that ends this way fails here with an
 * `AbortError`. Within an update the wait of {@link updateJsonFile} and {@link updateJsonFileSync} is told,
 * the queue in this process included, in the update's async context.
 */
export interface LockTrace {
  readonly operation: 'lock'
  /** The file or directory, as it was given to the call. */
  readonly path: string
  readonly kind: LockKind
  /** What the call fails with, from the event `error` on. */
  readonly error?: unknown
}

/** What is published on `holdfast:lock:acquired` for the same calls. */
export interface LockAcquired {
  /** The file, as it was given to the call. */
  readonly path: string
  readonly kind: LockKind
  /** Milliseconds. */
  readonly waited: number
}

/**
 * What is published on `holdfast:lock:released`, for locks that were acquired after the first
 * subscription to it or to `holdfast:lock:acquired`.
 */
export interface LockReleased {
  /** The file, as it was given to the call. */
  readonly path: string
  readonly kind: LockKind
  /** Milliseconds. */
  readonly held: number
}

/**
 * What is published on `holdfast:write:step` for every write, including those of streams, updates and
 * backups, to subscribers that have subscribed before the call: the entries of the {@link Logger}
 * with names.
 */
export interface WriteStep {
  /** The file, as it was given to the call. */
  readonly path: string
  readonly step:
    | 'starting' | 'written' | 'renamed' | 'completed' | 'failed' | 'cleanedUp' | 'cleanupFailed' | 'merged' | 'retrying'
  readonly tempPath?: string
  /** Bytes. */
  readonly size?: number
  /** Milliseconds: how long the step took. */
  readonly duration?: number
  /** Milliseconds: before the next attempt, with `'retrying'`. */
  readonly delay?: number
  /** The number of the next attempt, with `'retrying'`. */
  readonly attempt?: number
  /** The code of an error. */
  readonly code?: string
  /** The message of an error. */
  readonly message?: string
}

/**
 * Sets the logger of all calls in this thread that have none of their own; `null` removes it. Without
 * a logger logging costs nothing. What a logger throws disturbs no call.
 *
 * What the caller is told by a rejection is `debug`; `warn` and `error` are what no caller hears of, or what concerns more
 * than one call. Entries about an error have it as `err`. All entries, with their levels and fields: `docs/logging.md`.
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

// ── The names that Vectra has for them ──────────────────────────────────────────────────────────────

/**
 * The same functions by the names that Vectra has for them, with its rules for retries: `retries`
 * attempts in total (by default 3), of which attempt n waits `retryDelay * 2 ** (n - 2)` milliseconds
 * (by default 100, 200…). When all of them have failed, the message says so: `…failed after 3
 * attempts: …`. Errors that do not pass (`EACCES`, `EISDIR`, `ENOTDIR`, `EINVAL`, corrupt JSON and
 * all others that are not listed at {@link WriteOptionsBase.retries}) fail at once.
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
    path: PathLike,
    options?: { retries?: number | undefined; retryDelay?: number | undefined },
  ): Promise<string>
  /**
   * {@link updateJsonFile}, but a throw of `updater` is retried as well, and the last one is the
   * `cause` of the error.
   */
  static updateJsonFile<T = any>(
    path: PathLike,
    updater: (data: T) => T | void | Promise<T | void>,
    options?: UpdateJsonOptions<T>,
  ): Promise<T>
  /** {@link createBackup}. */
  static createBackup: typeof createBackup
  /** {@link restoreBackup}. */
  static restoreBackup: typeof restoreBackup
  /** {@link cleanupBackups} of a directory; without `keepNewest` the newest backup goes like any other. */
  static cleanupBackups(
    dir: PathLike,
    pattern: RegExp,
    maxAge?: number,
    options?: { anyName?: boolean | undefined; keepNewest?: number | undefined },
  ): Promise<string[]>
}

/** The options of {@link LockManager}. */
export interface LockManagerOptions {
  /**
   * With the next two: how long to wait. The sum of `min(minTimeout * 2 ** i, maxTimeout)` for `i`
   * from 0 to `retries - 1`: 7500 ms by default. An integer from 0 to 1000000; 0 tries once. In the
   * kernel's protocol nothing is polled: the caller has the lock as soon as it is free.
   * @default 10
   */
  retries?: number | undefined
  /**
   * Milliseconds, from 0 to 2147483647.
   * @default 100
   */
  minTimeout?: number | undefined
  /**
   * Milliseconds, from 0 to 2147483647.
   * @default 1000
   */
  maxTimeout?: number | undefined
  /**
   * With `protocol: 'proper-lockfile'`: the age in milliseconds, from 2000 to 2147483647, at which a
   * lock is abandoned. The kernel's locks do not age, so it has no meaning there.
   * @default 30000
   */
  stale?: number | undefined
  /**
   * How the lock is made known to other programs. `'proper-lockfile'` is for sharing an index with
   * programs that still use that package; it has no read locks, so readers exclude each other too.
   * @default 'kernel'
   */
  protocol?: LockProtocol | undefined
}

/** A lock that a {@link LockManager} has handed out. */
export interface ManagedLock {
  readonly kind: LockKind
  /** Aborted when the lock is lost, which is possible only with `protocol: 'proper-lockfile'`. */
  readonly signal: AbortSignal
  /**
   * Releases the lock. Further calls do nothing.
   *
   * @throws {SessionFileError} `ECOMPROMISED` when the lock had been lost.
   */
  release(): Promise<void>
  /**
   * Keeps the lock from becoming stale for so many milliseconds, from 0 to 2147483647, even if the
   * process is stopped. Locks of the kernel do not become stale: there it does nothing.
   *
   * @throws {SessionFileError} `ECOMPROMISED` when the lock has been lost; errno names when the
   *   system refuses, and then the lock is held as before.
   */
  extend(milliseconds: number): Promise<void>
  /** `release`, for `await using`. */
  [Symbol.asyncDispose](): Promise<void>
}

/**
 * The class of this name of Vectra's fork: one reader-writer lock for each index directory, on the file `.vectra.lock` in
 * it, and on `.<name>.vectra.lock` beside it.
 *
 * **Promises.** As {@link withLock}. A manager that has the write lock of a directory gets read locks of it at once;
 * other processes are kept out until the last of these has been released. The holder of the write lock may delete the
 * directory and make it anew.
 *
 * **Does not promise.** A manager does not know which of its callers holds what: a caller that has a read lock and asks
 * for the write lock waits for itself, and gets `ELOCKED`.
 * @example
 * ```js
 * import { LockManager } from 'holdfast'
 *
 * const manager = new LockManager()
 * const lock = await manager.acquireWriteLock('my-index', { retries: 3 })
 * try {
 *   const reading = await manager.acquireReadLock('my-index')
 *   await reading.release()
 *   console.log(await manager.isWriteLocked('my-index'))
 * } finally {
 *   await lock.release()
 * }
 * ```
 */
export class LockManager {
  /**
   * Acquires the lock of a directory for writing. The directory is made if it is missing.
   *
   * @throws {SessionFileError} `ELOCKED` when it was not free in time (the message and `holder` say
   *   who has it), or errno names.
   */
  acquireWriteLock(dir: PathLike, options?: LockManagerOptions): Promise<ManagedLock>
  /**
   * Acquires the lock of a directory, which must exist, for reading.
   *
   * @throws {SessionFileError} As `acquireWriteLock`, and `ENOENT`.
   */
  acquireReadLock(dir: PathLike, options?: LockManagerOptions): Promise<ManagedLock>
  /** As `acquireWriteLock`, but `null` at once when the lock is held, for reading or writing. */
  tryAcquireWriteLock(dir: PathLike, options?: LockManagerOptions): Promise<ManagedLock | null>
  /** Whether a process, this one or another, has the lock of a directory for writing at this moment. */
  isWriteLocked(dir: PathLike, options?: ProtocolOptions): Promise<boolean>
  /** Releases every lock that this manager has handed out. */
  releaseAllLocks(): Promise<void>
}

/**
 * A shared {@link LockManager}. Each thread has its own.
 *
 * @example
 * ```js
 * import { lockManager } from 'holdfast'
 *
 * const lock = await lockManager.tryAcquireWriteLock('my-index')
 * if (lock) await lock.release()
 * ```
 */
export const lockManager: LockManager
