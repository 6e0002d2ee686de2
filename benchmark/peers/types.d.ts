// The packages that come without types, or are not always installed.
declare module 'better-sqlite3'
declare module 'classic-level'
declare module 'fast-write-atomic'
declare module 'lmdb'
declare module 'proper-lockfile'
declare module 'write-file-atomic'
