// @ts-ignore Types of Node are an optional peer.
import type { Readable } from 'node:stream'
import type { NodeBuffer, TextEncoding } from '../index.js'

/**
 * `holdfast/compat/atomically`: the package `atomically` 2, with its functions and options, for CommonJS too.
 *
 * **Differs from the package.** A disk that is full is an error, and the file is as it was; so is a stream that fails. All
 * bytes of a typed array are written. A symbolic link that leads to no file yet is followed. `tmpCreate` is not called, and
 * `tmpPurge` has no effect: `tmpCreated` is told the name of the temp file. The rest is in docs/migrate.md.
 *
 * @example
 * ```js
 * import { readFile, writeFile, writeFileSync } from 'holdfast/compat/atomically'
 *
 * await writeFile('made/if/missing.json', '{}', { mode: 0o600 })
 * writeFileSync('other.txt', 'Hello', { fsync: false })
 * console.log(await readFile('other.txt', 'utf8'))
 * ```
 */
export function writeFile(filePath: Path, data: Data | Readable, callback?: Callback): Promise<void>
export function writeFile(filePath: Path, data: Data | Readable, options?: TextEncoding | WriteOptions | null, callback?: Callback): Promise<void>

/** {@link writeFile} on the calling thread; `schedule` has no effect. */
export function writeFileSync(filePath: Path, data: Data, options?: TextEncoding | WriteOptions | null): void

/** Reads a file; again and again for a while when too many files are open. */
export function readFile(filePath: Path, options: TextEncoding | (ReadOptions & { encoding: TextEncoding })): Promise<string>
export function readFile(filePath: Path, options?: ReadOptions | null): Promise<NodeBuffer>

/** {@link readFile} on the calling thread. */
export function readFileSync(filePath: Path, options: TextEncoding | (ReadOptions & { encoding: TextEncoding })): string
export function readFileSync(filePath: Path, options?: ReadOptions | null): NodeBuffer

/** The package takes strings alone. */
export type Path = string | URL | NodeBuffer

/** `undefined` is an empty file. */
export type Data = string | ArrayBufferView | undefined

export type Callback = (error: ErrnoError | void) => void

/** An error of the system, with the fields that Node gives it. */
export interface ErrnoError extends Error {
  code?: string
  errno?: number
  syscall?: string
  path?: string
  dest?: string
}

export interface ReadOptions {
  encoding?: TextEncoding | null | undefined
  /** Milliseconds for which to try again. @default 7500, or 1000 for readFileSync */
  timeout?: number | undefined
  /** Has no effect, as in the package. */
  mode?: string | number | false | undefined
}

export interface WriteOptions {
  /** `false` leaves the file to the process. @default those of the existing file */
  chown?: { uid: number; gid: number } | false | undefined
  /** @default 'utf8' */
  encoding?: TextEncoding | null | undefined
  /** `false` is `durability: 'none'`; everything else is `'file'`. @default true */
  fsync?: boolean | undefined
  /** Has no effect: the sync is waited for. */
  fsyncWait?: boolean | undefined
  /** Permission bits, a number or octal digits; `false`: those of a new file. @default those of the existing file, or 0o666 less the umask */
  mode?: string | number | false | undefined
  /** Is awaited before the write; what it returns is called after it. */
  schedule?: ((filePath: any) => Promise<() => void>) | undefined
  /** Milliseconds that the pauses between attempts may take altogether; 0 for one attempt. @default 7500, or 1000 for writeFileSync */
  timeout?: number | undefined
  /** Is not called: temp files have names by which holdfast finds them after a crash. A warning says so once. */
  tmpCreate?: ((filePath: string) => string) | undefined
  /** Is called with the path of each temp file when it has been made. */
  tmpCreated?: ((tempPath: string) => void) | undefined
  /** Has no effect: a temp file does not stay. */
  tmpPurge?: boolean | undefined
}
