/**
 * `holdfast/compat/proper-lockfile`: the package `proper-lockfile` 4, with its functions, arguments,
 * codes and messages. It excludes programs that run the package, and they exclude it: the lock of
 * `file` is the directory `file.lock`.
 *
 * **Differs from the package.** A thread without JavaScript refreshes the lock, so a blocked event
 * loop does not lose it. A waiter has the lock as soon as it is free. A stale lock is never taken over
 * by two processes at once. A lock that another program has taken is not removed when it is released:
 * `release()` rejects with `ECOMPROMISED`. `fs` must be `node:fs` or `graceful-fs`. The rest is in
 * docs/migrate.md.
 *
 * @example
 * ```js
 * import fs from 'node:fs'
 * import lockfile from 'holdfast/compat/proper-lockfile'
 *
 * fs.writeFileSync('some-file', '')
 * const release = await lockfile.lock('some-file', { retries: 5 })
 * console.log(await lockfile.check('some-file'))
 * await release()
 * ```
 */
declare function lock(file: string, options?: lock.LockOptions): Promise<() => Promise<void>>

declare namespace lock {
  export { lock }

  /** How often, and at what intervals, an attempt is made: `factor` 2, `minTimeout` 1000, `maxTimeout` Infinity. */
  export interface RetryOptions {
    /** @default 10 */
    retries?: number | undefined
    /** @default 2 */
    factor?: number | undefined
    /** Milliseconds. @default 1000 */
    minTimeout?: number | undefined
    /** Milliseconds. @default Infinity */
    maxTimeout?: number | undefined
    /** Milliseconds in total. @default Infinity */
    maxRetryTime?: number | undefined
    /** Makes each pause up to twice as long. @default false */
    randomize?: boolean | undefined
    /** @default false */
    forever?: boolean | undefined
    /** Whether the process may end while it waits between attempts. @default false */
    unref?: boolean | undefined
  }

  /** What {@link unlock} and {@link check} need to find a lock. */
  export interface FindOptions {
    /** Whether `file` means the file that symbolic links lead to, which must then exist. @default true */
    realpath?: boolean | number | null | undefined
    /** The path of the lock directory. @default `${file}.lock` */
    lockfilePath?: string | false | null | undefined
    /** `node:fs` or `graceful-fs`; anything else is refused. */
    // @ts-ignore Without `@types/node`, `any`.
    fs?: typeof import('node:fs') | undefined
  }

  /** The options of {@link check}. */
  export interface CheckOptions extends FindOptions {
    /** Milliseconds after which a lock is abandoned, at least 2000, which `false` and `null` stand for. @default 10000 */
    stale?: number | `${number}` | false | null | undefined
  }

  /** The options of {@link lockSync}. */
  export interface LockSyncOptions extends CheckOptions {
    /** Milliseconds between two refreshes, from 1000, which `false` stands for, to `stale / 2`. @default stale / 2 */
    update?: number | `${number}` | false | null | undefined
    /** Is called when the lock is lost. @default throws, which ends the process */
    onCompromised?: ((error: Error) => void) | null | undefined
  }

  /** The options of {@link lock}. */
  export interface LockOptions extends LockSyncOptions {
    /** How often to retry, and when; or the pauses between attempts, in milliseconds. @default 0 */
    retries?: number | readonly number[] | RetryOptions | undefined
  }

  /**
   * Releases a lock of this thread, whichever caller has acquired it.
   *
   * @throws `ENOTACQUIRED`.
   */
  export function unlock(file: string, options?: FindOptions): Promise<void>

  /** Whether a file is locked and the lock is not stale. */
  export function check(file: string, options?: CheckOptions): Promise<boolean>

  /** {@link lock} on the calling thread, without retries (`ESYNC`). */
  export function lockSync(file: string, options?: LockSyncOptions): () => void

  /** {@link unlock} on the calling thread. */
  export function unlockSync(file: string, options?: FindOptions): void

  /** {@link check} on the calling thread. */
  export function checkSync(file: string, options?: CheckOptions): boolean
}

export = lock
