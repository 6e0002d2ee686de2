import writeFile from './write-file-atomic.js'

export default writeFile
export type Callback = writeFile.Callback
export type Data = writeFile.Data
export type ErrnoError = writeFile.ErrnoError
export type Options = writeFile.Options
export type Path = writeFile.Path
export type SyncOptions = writeFile.SyncOptions
export const sync: typeof writeFile.sync
