// The packages that come without types.
declare module 'fast-write-atomic'
declare module 'proper-lockfile'
declare module 'write-file-atomic'
