/**
 * `holdfast/vectra`: the classes that the fork of Vectra has in `AtomicOperations.ts` and `LockManager.ts`, and a storage
 * for the package `vectra`.
 *
 * @example
 * ```js
 * import { AtomicOperations, lockManager } from 'holdfast/vectra'
 *
 * const lock = await lockManager.acquireWriteLock('my-index')
 * try {
 *   await AtomicOperations.writeFile('my-index/index.json', '{"items":[]}')
 * } finally {
 *   await lock.release()
 * }
 * ```
 */
export { AtomicOperations, LockManager, lockManager } from './index.js'
export type { LockManagerOptions, ManagedLock } from './index.js'
import type { Durability, NodeBuffer } from './index.js'

export interface AtomicFileStorageOptions {
  /** What of a write survives a power cut. @default 'full' */
  durability?: Durability | undefined
}

/** `FileDetails` of the package `vectra`. */
export interface StoredFileDetails {
  name: string
  path: string
  isFolder: boolean
  /** The extension, if the package knows it. */
  fileType?: string
}

/**
 * The `FileStorage` of the package `vectra` (0.15), in the place of its `LocalFileStorage`.
 *
 * **Promises.** A file is the old one or the new one, whole, through any crash, as durable as `durability` says. Of several
 * calls of `createFile` for one file, in whatever processes, one succeeds (`EEXIST`).
 *
 * **Does not promise.** Nothing is locked: processes that change one index take turns with `lockManager`, and open it anew in
 * each turn, for it remembers what it has read. The removal of a folder is not synced.
 *
 * @example
 * ```js
 * import { AtomicFileStorage } from 'holdfast/vectra'
 *
 * const storage = new AtomicFileStorage('my-index')
 * await storage.createFolder('')
 * await storage.upsertFile('index.json', '{"items":[]}')
 * // new LocalIndex('', undefined, storage)
 * ```
 */
export class AtomicFileStorage {
  /** @param rootFolder Paths are below it. @default paths are what they are */
  constructor(rootFolder?: string, options?: AtomicFileStorageOptions)
  /** Makes a file; `EEXIST` if there is one. */
  createFile(filePath: string, content: NodeBuffer | string): Promise<void>
  /** Makes or replaces a file. */
  upsertFile(filePath: string, content: NodeBuffer | string): Promise<void>
  readFile(filePath: string): Promise<NodeBuffer>
  /** A file that is not there counts as deleted. */
  deleteFile(filePath: string): Promise<void>
  /** Makes a folder, and those above it. */
  createFolder(folderPath: string): Promise<void>
  /** With all that is in it. A folder that is not there counts as deleted. */
  deleteFolder(folderPath: string): Promise<void>
  getDetails(fileOrFolderPath: string): Promise<StoredFileDetails>
  /** Without the temp files and lock files of holdfast. */
  listFiles(folderPath: string, filter?: 'files' | 'folders' | 'all'): Promise<StoredFileDetails[]>
  /** Rejects if it cannot be told, as without the right to look. */
  pathExists(fileOrFolderPath: string): Promise<boolean>
}
