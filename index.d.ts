/// <reference types="node" />

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
   * Receives this call's log entries; `null` for none.
   * @default the one given to {@link setLogger}
   */
  logger?: Logger | null | undefined
}

/** The options of {@link atomicWrite}. */
export interface AtomicWriteOptions extends WriteOptionsBase {
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
export interface AtomicWriteSyncOptions extends WriteOptionsBase {
  /**
   * How a string is encoded. Without a meaning for other data.
   * @default 'utf8'
   */
  encoding?: BufferEncoding | undefined
}

/** The options of {@link atomicWriteJson}. */
export interface AtomicWriteJsonOptions extends WriteOptionsBase {
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
 * **Does not promise.** Writes to one file at the same time take effect one after the other,
 * but in no particular order. Other hard links of the file keep the old content. Extended
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
  /** `'atomic write'`. */
  operation: string
  /** The errno name, as in Node's own errors: `'ENOSPC'`. */
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
  /** The last system error, in the form of Node's own errors. */
  cause?: unknown
}
