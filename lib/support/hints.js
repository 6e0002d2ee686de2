'use strict'

// Advice on what to do about an error, and whether another try may be enough.

/** @type {Record<string, string>} */
const HINTS = {
  EACCES: 'The process needs write and search permission on the folder that holds the file.',
  EDQUOT: 'The disk quota is used up. The file has its old content; free some space and write again.',
  EEXIST: 'There is such a file already. `createOnly` replaces none.',
  EFBIG: 'The file is larger than the process or the file system allows (see `ulimit -f`), or than a string can be.',
  EINVAL: 'The path may name a device, a pipe or a socket. Only a regular file can be replaced.',
  EIO: 'The disk or the network reported an error. Look into the system log before you trust the disk again.',
  EISDIR: 'The path names a folder. Give the path of a file.',
  ELOOP: 'Symbolic links lead in a circle, or through more than 40 of them.',
  EMFILE: 'The process has too many files open (see `ulimit -n`). Each lock that is held, open stream and file of a transaction keeps one or two open until it ends: release some, or raise the limit.',
  ENAMETOOLONG: 'The name of the file, or of a folder above it, is too long for the file system.',
  ENFILE: 'The system has too many files open.',
  ENOENT: 'A folder in the path does not exist. Create it, or pass `makeDirs: true`.',
  ENOSPC: 'The disk is full. The file has its old content; free some space and write again.',
  ENOTDIR: 'Something in the path that should be a folder is a file.',
  EPERM: 'The system does not allow this here, even though permission bits may look right (an immutable file, a sticky folder, or on Windows a file that another program has open).',
  EROFS: 'The file system is mounted read-only.',
  EUNSETTLED: 'A transaction that died in the middle names this file. Mount the folder that the message names and try again; if it is gone for good, look at what the files hold and remove the record.',
  EXDEV: 'The file and its folder are on different file systems.',
}

/** For `ENOENT`, by the operation. @type {Record<string, string>} */
const MISSING_HINTS = {
  'clean up backups': 'There is no such folder.',
  'create backup': 'There is no such file.',
  'list backups': 'The folder that holds the file does not exist.',
  'read file': 'There is no such file.',
  'read JSON': 'There is no such file: pass `defaultValue` to begin with.',
  'remove file': 'There is no such file. `force: true` takes that for done.',
  'restore backup': 'There is no such backup, or no folder for the target: `makeDirs: true` makes that.',
  'update JSON': 'There is no such file: pass `defaultValue` to begin with. A folder that does not exist is made with `makeDirs: true`.',
}

/** What differs where a file is only read. @type {Record<string, string>} */
const READ_HINTS = {
  EACCES: 'The process needs read permission on the file, and search permission on the folders above it.',
  EINVAL: 'The path names a device, a pipe or a socket. Only a regular file can be read.',
  EPERM: 'The system does not allow the process to read the file.',
}

/** What differs for write-ahead logs. @type {Record<string, string>} */
const LOG_HINTS = {
  EACCES: 'The process needs read, write and search permission on the folder of the log and those of its collections, and on their files: a log belongs to all who may write to its folder.',
  EIO: 'The disk or the network reported an error. Look into the system log before you trust the disk again, and then open the log again.',
  ENOENT: 'The folder of the log, or the one above it, does not exist.',
  ENOSPC: 'The disk is full. The batch is not in the log; free some space and append it again.',
  EWALDAMAGED: "`damage` says what and where. Restore the log from a copy, or open it with `recovery: 'skipCorrupt'` and see in `damage` what was lost.",
  EWALMOVED: 'Another program has removed, renamed or replaced the lock file, a folder or a segment of the log while it was open, and another process may have it by now. Keep cleaners and restores away from the folder while it is open. What was acknowledged before that was written to the files that were there then. Close the log, open it again, and append what was refused.',
  EWALPOISONED: 'Close the log and open it again: everything that was acknowledged as synced is there, and the batches that failed are there whole or not at all.',
  EWALRELEASED: 'A checkpoint has released these entries: what they said has to be taken from where it was made durable before the checkpoint. Go on from `first`. A consumer (`wal.consumer`) keeps checkpoints from overtaking it.',
  EWALTOOLARGE: 'Append it as several batches.',
}

/** What differs for some of their operations. @type {Record<string, Record<string, string>>} */
const LOG_OPERATION_HINTS = {
  'wal backup': {
    EEXIST: 'There is something at the path of the backup already: a backup takes the place of nothing.',
    EINVAL: 'A backup in the folder of the log would be one of its collections. Make it elsewhere.',
    ENOENT: 'The folder in which the backup is to be made does not exist.',
    ENOSPC: 'The disk is full. Nothing is left of the backup; free some space and make it again.',
  },
  'wal consumer': {
    ENOSPC: 'The disk is full. The position of the consumer is the one before; free some space and acknowledge again.',
    EROFS: 'The file system is mounted read-only, and the position of a consumer is kept in the log. Use `follow`, and keep the position elsewhere.',
  },
}

/** The codes with which a file system without locks refuses them. */
const NO_LOCKS = ['EINVAL', 'ENOLCK', 'ENOSYS', 'ENOTSUP', 'EOPNOTSUPP']

/** The record of a transaction, by its name. */
const RECORD = /(^|[/\\])\.holdfast\.[0-9a-f]{16}\.(prepared|intent)$/

/** A lock file, by its name. */
const LOCK_FILE = /(^|[/\\])\.[^/\\]+\.lock$/

/** For a lock file that cannot be opened. @type {Record<string, string>} */
const LOCK_FILE_HINTS = {
  EACCES: 'If the lock file is there, its owner lets others not use it: he, or the superuser, opens it to all who may use the locked file by taking the lock once, or may remove it while no program runs that uses it. If it is not there, the process needs write permission on the folder to make it.',
  EEXIST: 'Something that is no lock file of this package has its name. It has been left as it is: move it elsewhere.',
  ELOOP: 'A symbolic link has the name of the lock file. It has been left as it is: move it elsewhere.',
}

/** For JSON that is none, by the operation; others read a file that is to be changed or read. @type {Record<string, Record<string, string>>} */
const JSON_HINTS = {
  EBADJSON: {
    'atomic write': 'What was to be written is not JSON: `line` and `column` say where. The file has been left as it was.',
    'create backup': 'The file is not JSON: `line` and `column` say where. No backup was made, so that none takes the place of a good one. Mend the file, or restore an earlier backup.',
    'restore backup': 'The backup is not JSON: `line` and `column` say where. The file has been left as it was. Choose an earlier one from `listBackups`.',
    '': '`line` and `column` say where the text stops being JSON. The file has been left as it was: mend it there, or restore a backup (`listBackups`, `restoreBackup`).',
  },
  EINVALIDJSON: {
    'update JSON': 'Nothing was written: `issues` says what the schema has against the content, before the update or after it. Mend the update or the file, or bring an older form to that of today with `migrate`.',
    '': '`issues` says what the schema has against the content. The file has been left as it was: mend it, bring an older form to that of today with `migrate`, or restore a backup (`restoreLatest`).',
  },
  EEMPTYJSON: {
    'atomic write': 'What was to be written is empty, which is not JSON. The file has been left as it was.',
    'create backup': 'The file is empty, so no backup was made. Restore an earlier one.',
    'restore backup': 'The backup is empty. The file has been left as it was. Choose an earlier one from `listBackups`.',
    '': 'The file is there, but empty, as a program that does not write atomically leaves it when it is killed. It has been left as it was: restore a backup (`listBackups`, `restoreBackup`), or remove the file, and `defaultValue` is used.',
  },
}

/** Why a call would wait for itself, by what its message says, and what to do then. @type {[RegExp, string][]} */
const DEADLOCK_HINTS = [
  [/in an update/, 'Make the change by what the function that runs gets: the value of the update, or `tx`. Or make this call when the update or the transaction has settled.'],
  [/for reading/, "Take the lock with `kind: 'write'` from the beginning, or release it before the write."],
  [/spelt/, 'Name the file once, always in the same spelling.'],
  [/flush/, 'Return from `onFlush` first: what it was called for is settled by its return.'],
  [/onTempFile/, 'Return from `onTempFile` first, or make both writes with the asynchronous functions.'],
  [/held by the caller/, 'The function already runs under this lock: do the work without asking for it again. `updateJsonFile`, `restoreBackup` and `transaction` use the lock that is held.'],
]

const LOG_OPERATION = /\bwal\b/

const READ_OPERATION = /^read (file|JSON)$/

/** What comes and goes: the same call may succeed a little later. Those of the system are what writes are tried again for. */
const TRANSIENT = new Set([
  'EAGAIN', 'EBUSY', 'EDQUOT', 'EIO', 'ELOCKED', 'EMFILE', 'ENETDOWN', 'ENETUNREACH', 'ENFILE', 'ENOMEM', 'ENOSPC', 'ESTALE', 'ETIMEDOUT',
])

/**
 * Whether the same call may succeed later, without a change of the program or of what the path names.
 *
 * @param {string | undefined} code
 * @param {string | undefined} syscall
 * @param {string} operation
 */
function isTransient(code, syscall, operation) {
  if (code === undefined) return false
  // The log is poisoned by then: it has to be opened again.
  if (code === 'EIO' && LOG_OPERATION.test(operation)) return operation === 'open wal'
  // So Windows says that a virus scanner or an indexer has the file open for the moment.
  if (process.platform === 'win32' && syscall === 'rename' && (code === 'EPERM' || code === 'EACCES')) return true
  return TRANSIENT.has(code)
}

/**
 * What to do about a lock that was not had.
 *
 * @param {Failure} error
 * @param {string} operation
 */
function lockedHint({ behind, inThisProcess, isForeign, holder, waited }, operation) {
  if (isForeign) return "Another program locks this file with the package proper-lockfile. Use `protocol: 'proper-lockfile'`, too, or kernel locks in all programs. If that program has been killed, its lock counts for 10 s more."
  if (operation === 'open wal') return 'A log has one writer at a time. Close it where it is open, or open it with `readOnly: true` to read it meanwhile.'
  const longer = waited === undefined ? 'Try again later' : 'Wait longer (`timeout`)'
  if (behind !== undefined || inThisProcess || holder?.isThisProcess) {
    return `This process has the lock itself. Make sure that each lock of \`acquireLock\` is released, and that what runs under a lock is short and does not wait for this call. ${longer} if it is only slow.`
  }
  if (holder) {
    return `${longer}, or see what process ${holder.pid} on ${holder.hostname} is doing (\`holder\`). Its lock is released when it ends, whatever way: do not remove the lock file.`
  }
  return `${longer}. Which process has the lock is not known: it may have it for reading, run on another machine, or be about to say who it is. Its lock is released when it ends: do not remove the lock file.`
}

/** What something in the file system is that is no file. @type {Record<string, string>} */
const SPECIAL = { FIFO: 'a FIFO (a named pipe)', socket: 'a socket', 'character device': 'a character device, as a terminal or /dev/null is', 'block device': 'a block device, as a disk is' }

/** What can be done with regular files only, by the operation; others replace them. @type {Record<string, string>} */
const ONLY = { 'create backup': 'backed up', lock: 'locked', 'read file': 'read', 'read JSON': 'read', recover: 'recovered', 'remove file': 'removed', 'restore backup': 'restored, or replaced by a backup', transaction: 'part of a transaction', 'update JSON': 'updated' }

/** @typedef {import('../native/errors.js').Failure} Failure */

/**
 * @param {Failure} error
 * @param {string} operation
 * @returns {string | undefined}
 */
function hintFor(error, operation) {
  const lockHint = error.syscall === 'open' && LOCK_FILE.test(error.path ?? '') ? LOCK_FILE_HINTS[error.code] : undefined
  if (lockHint !== undefined) return lockHint
  if (error.kind === 'locked') return lockedHint(error, operation)
  if (error.kind === 'deadlock' && error.instead !== undefined) {
    return `The function of a transaction changes its files by ${error.instead} and the other methods of \`tx\` alone, so that all of it is taken back if it fails. Or make this call when the transaction has settled.`
  }
  if (error.kind === 'deadlock') return DEADLOCK_HINTS.find(([said]) => said.test(error.message))?.[1]
  if (error.kind === 'json') return JSON_HINTS[error.code]?.[operation] ?? JSON_HINTS[error.code]?.['']
  if (error.found !== undefined && LOG_OPERATION.test(operation)) return `The path names ${SPECIAL[error.found]}. A log is a folder.`
  if (error.found !== undefined) return `The path names ${SPECIAL[error.found]}. Only a regular file can be ${ONLY[operation] ?? 'replaced'}.`
  const own = Object.hasOwn(LOG_OPERATION_HINTS, operation) ? LOG_OPERATION_HINTS[operation]?.[error.code] : undefined
  if (own !== undefined) return own
  if (LOG_OPERATION.test(operation) && Object.hasOwn(LOG_HINTS, error.code)) return LOG_HINTS[error.code]
  if (READ_OPERATION.test(operation) && Object.hasOwn(READ_HINTS, error.code)) return READ_HINTS[error.code]
  if (error.committed) {
    return 'The new content is in place, but could not be made durable: a power cut may bring the old content back.'
  }
  if ((error.syscall === 'fcntl' || error.syscall === 'LockFileEx') && NO_LOCKS.includes(error.code)) {
    return "The file system has no locks, as some network file systems, or is out of them. Use withLock with protocol: 'proper-lockfile', which needs none, in all programs that share the file, and lock: false inside it."
  }
  if (error.syscall === 'flock' && (error.code === 'EPERM' || error.code === 'EACCES')) {
    return 'The system, or a sandbox, does not let the program lock files (`flock`), so another process could take its temp file for one that a crash has left. Allow that call.'
  }
  if (error.syscall === 'fchmod' && ['EPERM', 'EACCES', 'ENOSYS', 'EOPNOTSUPP', 'EINVAL'].includes(error.code)) {
    return 'The file system, or a sandbox, does not let the permission bits of a file be changed, and a new file would not have those that it is to have: the umask takes some, or they run a program as its owner. Run the program with a umask that leaves them, or leave `mode` out.'
  }
  if (error.code === 'ENOTSUP' && error.syscall === 'fchmod') {
    return 'The file system keeps no permission bits (as FAT, exFAT and some network mounts), so users could use the file to whom `mode` forbids it. Leave `mode` out, or set the bits of all files when it is mounted (`fmask`, `umask`, `file_mode`).'
  }
  if (error.code === 'EINVAL' && (error.syscall === 'open' || error.syscall === 'rename')) {
    return /\/fd\/\d+$/.test(error.path ?? '')
      ? 'The path leads to what a process has open (/dev/stdout, /dev/fd, /proc/self/fd). Nothing can take the place of that: write to the stream or the descriptor, or give the path of the file.'
      : 'The path names a device, a pipe or a socket. Only a regular file can be replaced.'
  }
  if (error.code === 'ENOTSUP' && (error.syscall === 'fstat' || error.syscall === 'lstat')) {
    return 'The file system gives a file another number (st_ino) each time it is looked at, so files cannot be told apart. Mount it so that numbers last (`noforget` or `use_ino` with FUSE, `serverino` with CIFS), or keep the file elsewhere.'
  }
  if (error.code === 'ESTALE' && error.syscall === 'open') {
    return 'The path leads to another file than when its lock was taken: a link in it has been changed. Nothing was written; call again.'
  }
  if (error.code === 'EBUSY' && error.syscall === 'open' && !LOCK_FILE.test(error.path ?? '')) {
    return 'The file is mounted by itself (a single-file bind mount, as in containers): a lock beside it would exclude none of those who have it elsewhere, and nothing can take its place. Mount its folder instead, and lock the file there.'
  }
  if (error.code === 'EBUSY' && error.syscall === 'rename') {
    return 'The file is a mount point of its own (a single-file bind mount, as in containers), so nothing can take its place: mount its folder instead. Or, on a network share, a program has it open: try again when it is closed.'
  }
  if (error.code === 'EISDIR' && error.syscall === 'open' && error.path?.endsWith('.lock')) {
    return "There is a lock of the package proper-lockfile. Pass protocol: 'proper-lockfile', or remove the folder if no program uses that package any more."
  }
  if (error.code === 'EACCES' && error.syscall === 'open' && RECORD.test(error.path ?? '')) {
    return "A transaction of another user has left this record, which others may not read. He, or the superuser, settles it by recoverFromCrash on its folder."
  }
  if (error.code === 'ENOTDIR' && error.path?.endsWith('.lock')) {
    return "There is a lock file of protocol: 'kernel'. Use that protocol, or remove the file if no program uses it any more."
  }
  if (error.code === 'ENOENT' && Object.hasOwn(MISSING_HINTS, operation)) return MISSING_HINTS[operation]
  return HINTS[error.code]
}

module.exports = { hintFor, isTransient }
