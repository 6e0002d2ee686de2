/**
 * `holdfast/compat/write-file-atomic`: the package `write-file-atomic` 8, with its functions, options and errors.
 *
 * **Differs from the package.** A disk that is full is an error, and the file is as it was. All bytes of a typed array
 * are written. A symbolic link that leads to no file yet is followed. The options that are passed are not changed, and a
 * callback that throws is not called again. `mode: false` works. Access control lists are kept. The `cause` of an error
 * is the `SessionFileError` with its hint. The rest is in docs/migrate.md.
 *
 * @example
 * ```js
 * import writeFileAtomic from 'holdfast/compat/write-file-atomic'
 *
 * await writeFileAtomic('message.txt', 'Hello', { mode: 0o600 })
 * writeFileAtomic('message.txt', 'Hello again', (error) => {
 *   if (error) throw error
 * })
 * writeFileAtomic.sync('other.txt', 'Hello', { fsync: false })
 * ```
 */
declare function writeFile(filename: writeFile.Path, data: writeFile.Data, options?: writeFile.Options | string | null): Promise<void>
declare function writeFile(filename: writeFile.Path, data: writeFile.Data, callback: writeFile.Callback): Promise<void>
declare function writeFile(
  filename: writeFile.Path,
  data: writeFile.Data,
  options: writeFile.Options | string | null | undefined,
  callback: writeFile.Callback,
): Promise<void>

declare namespace writeFile {
  /** The package takes strings alone. */
  export type Path = string | URL | Uint8Array

  /** Views are written byte for byte, anything else as its text; `null` and `undefined` are an empty file. */
  export type Data = unknown

  /** An error of the system, with the fields that Node gives it. */
  export interface ErrnoError extends Error {
    code?: string
    errno?: number
    syscall?: string
    path?: string
    dest?: string
  }

  /** Is called once, with the error if there is one. */
  export type Callback = (error?: ErrnoError) => void

  export interface SyncOptions {
    /** @default 'utf8' */
    encoding?: string | null | undefined
    /** `false` is `durability: 'none'`; everything else is `'file'`. @default true */
    fsync?: boolean | undefined
    /**
     * Permission bits, a number or octal digits. `false`: those of a new file, 0o666 less the umask (with `sync` those
     * of the existing file).
     * @default those of the existing file, or 0o666 less the umask
     */
    mode?: number | string | false | null | undefined
    /** `false` leaves the file to the process (with `sync` to the owner of the existing file). @default those of the existing file */
    chown?: { uid: number; gid: number } | false | null | undefined
    /** Is called with the path of the temp file when it has been made. */
    tmpfileCreated?: ((tmpfile: string) => void) | undefined
  }

  export interface Options extends Omit<SyncOptions, 'tmpfileCreated'> {
    /** Is called with the path of the temp file when it has been made, and awaited. */
    tmpfileCreated?: ((tmpfile: string) => unknown) | undefined
  }

  /** The same on the calling thread. */
  export function sync(filename: Path, data: Data, options?: SyncOptions | string | null): void
}

export = writeFile
