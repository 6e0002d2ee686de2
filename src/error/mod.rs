//! The one error type: what failed, on which path, in which system call.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

mod errno;
mod holder;
mod wal;
#[cfg(windows)]
mod windows_codes;

pub use errno::Code;
pub use holder::{Holder, set_program};
pub use wal::{Damage, DamageKind, WalError};

/// The operation that the caller asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// `atomicWrite` and its variants.
    AtomicWrite,
    /// `updateJsonFile`.
    UpdateJson,
    /// `readJsonFile`, `readJsonFileSync`.
    ReadJson,
    /// `removeFile`.
    RemoveFile,
    /// `createBackup`.
    CreateBackup,
    /// `restoreBackup`.
    RestoreBackup,
    /// `listBackups`.
    ListBackups,
    /// `cleanupBackups`.
    CleanupBackups,
    /// `AtomicOperations.readFile`.
    ReadFile,
    /// `withLock`, `acquireLock`, `tryAcquireLock`, `isLocked`.
    Lock,
    /// `recoverFromCrash`.
    Recover,
    /// `transaction`.
    Transaction,
    /// `openWal`.
    WalOpen,
    /// `wal.append`, `wal.writeBatch`.
    WalAppend,
    /// `wal.get`, `wal.entries`, `wal.replay`.
    WalRead,
    /// `wal.flush`.
    WalFlush,
    /// `wal.checkpoint`.
    WalCheckpoint,
    /// `wal.close`.
    WalClose,
    /// `wal.backup`.
    WalBackup,
    /// `wal.consumer`, and what a consumer does.
    WalConsumer,
    /// `appendJsonLines`, `appendLines`, `openJsonLines`.
    AppendLines,
    /// `lines.read`.
    ReadLines,
}

impl Operation {
    /// The name that users see in `error.operation` and in the message.
    pub fn name(self) -> &'static str {
        match self {
            Operation::AtomicWrite => "atomic write",
            Operation::UpdateJson => "update JSON",
            Operation::ReadJson => "read JSON",
            Operation::RemoveFile => "remove file",
            Operation::CreateBackup => "create backup",
            Operation::RestoreBackup => "restore backup",
            Operation::ListBackups => "list backups",
            Operation::CleanupBackups => "clean up backups",
            Operation::ReadFile => "read file",
            Operation::Lock => "lock",
            Operation::Recover => "recover",
            Operation::Transaction => "transaction",
            Operation::WalOpen => "open wal",
            Operation::WalAppend => "wal append",
            Operation::WalRead => "wal read",
            Operation::WalFlush => "wal flush",
            Operation::WalCheckpoint => "wal checkpoint",
            Operation::WalClose => "wal close",
            Operation::WalBackup => "wal backup",
            Operation::WalConsumer => "wal consumer",
            Operation::AppendLines => "append lines",
            Operation::ReadLines => "read lines",
        }
    }
}

/// A system call that failed: the cause of most errors.
#[derive(Debug)]
pub struct Failure {
    /// The system's error, its number never lost.
    pub source: io::Error,
    /// The operation as Node names it: `open`, `write`, `fsync`, `rename`…
    pub syscall: &'static str,
    /// The path it was applied to, where it had one.
    pub path: Option<PathBuf>,
    /// The second path of a rename.
    pub dest: Option<PathBuf>,
    /// What the path names where a regular file is needed, if it is known.
    pub found: Option<&'static str>,
}

impl Failure {
    /// A failed call on an open file.
    pub fn new(syscall: &'static str, source: io::Error) -> Failure {
        Failure { source, syscall, path: None, dest: None, found: None }
    }

    /// A failed call on a path.
    pub fn at(syscall: &'static str, path: impl AsRef<Path>, source: io::Error) -> Failure {
        // Once, not in every caller: there are hundreds, and failures are rare.
        #[cold]
        #[inline(never)]
        fn at_path(syscall: &'static str, path: &Path, source: io::Error) -> Failure {
            Failure { path: Some(path.to_owned()), ..Failure::new(syscall, source) }
        }
        at_path(syscall, path.as_ref(), source)
    }

    /// A path that names a device, a pipe or a socket where a regular file is needed.
    #[cold]
    pub fn special(
        syscall: &'static str,
        path: impl AsRef<Path>,
        found: Option<&'static str>,
    ) -> Failure {
        Failure { found, ..Failure::at(syscall, path, Code::EINVAL.error()) }
    }

    /// A copy of the failure, for another caller that it happened to as well.
    #[cold]
    #[inline(never)]
    pub fn duplicate(&self) -> Failure {
        let source = match self.source.raw_os_error() {
            Some(number) => io::Error::from_raw_os_error(number),
            None => io::Error::new(self.source.kind(), self.source.to_string()),
        };
        let Failure { syscall, found, .. } = *self;
        Failure { source, syscall, path: self.path.clone(), dest: self.dest.clone(), found }
    }

    /// The same failure, on a path.
    pub fn on(self, path: impl AsRef<Path>) -> Failure {
        #[cold]
        #[inline(never)]
        fn on_path(failure: Failure, path: &Path) -> Failure {
            Failure { path: Some(path.to_owned()), ..failure }
        }
        on_path(self, path.as_ref())
    }

    /// Whether the system does not have the call, or a sandbox forbids it, so that nothing was tried:
    /// of calls for which these codes mean nothing else.
    pub(crate) fn is_refused_call(&self) -> bool {
        matches!(self.code(), Some(Code::ENOSYS | Code::EPERM))
    }

    /// The code of the system's error, if it has a name.
    pub fn code(&self) -> Option<Code> {
        Code::of(&self.source)
    }

    /// Whether there is nothing of that name.
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }

    /// The name of the error: `"ENOSPC"`; `"UNKNOWN"` (as in libuv) when it has none.
    pub fn code_name(&self) -> &'static str {
        self.code().map_or("UNKNOWN", Code::name)
    }
}

impl fmt::Display for Failure {
    /// Node's form: `EISDIR: illegal operation on a directory, rename 'a' -> 'b'`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code() {
            Some(code) => write!(f, "{}: {}", code.name(), code.text())?,
            None => write!(f, "UNKNOWN: {}", self.source)?,
        }
        write!(f, ", {}", self.syscall)?;
        if let Some(path) = &self.path {
            write!(f, " '{}'", path.display())?;
        }
        if let Some(dest) = &self.dest {
            write!(f, " -> '{}'", dest.display())?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// A lock that another caller or process holds.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the lock {} is held", path.display())]
pub struct Contention {
    /// The lock file.
    pub path: PathBuf,
    /// How long it was waited for; `None` when it was only tried.
    pub waited: Option<Duration>,
    /// The process that holds it, where that is known.
    pub holder: Option<Holder>,
    /// Whether it is held in this process.
    pub in_this_process: bool,
}

/// Why a caller would wait for itself.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Deadlock {
    /// It holds the lock that it asks for; this is the lock file.
    #[error("the lock {} is held by the caller itself, so waiting for it would never end", .0.display())]
    Held(PathBuf),
    /// It is part of an update of the file.
    #[error("the caller is in an update of this file, which would wait for itself")]
    InUpdate,
    /// Two of the files that it names are one, in a directory where names are alike that differ in case.
    #[error("another of the paths leads to the same file, whose name is only spelt differently")]
    OtherSpelling,
    /// Its lock is for reading, and does not become one for writing: two that wanted this would
    /// wait for each other.
    #[error("the caller holds the lock of this file for reading, and a write would wait for that")]
    ForReading,
}

/// A transaction that was not finished and cannot be.
#[derive(Clone, Debug, thiserror::Error)]
#[error("an unfinished transaction concerns the file and cannot be settled: {reason}, '{}'", path.display())]
pub struct Unsettled {
    /// Its record.
    pub path: PathBuf,
    /// Why it cannot be settled.
    pub reason: String,
}

/// A lock that this process held and has lost.
#[derive(Debug)]
pub struct LostLock {
    /// The lock directory.
    pub path: PathBuf,
    /// The system's error; `None` when another process has taken the lock.
    pub failure: Option<Failure>,
}

impl fmt::Display for LostLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the lock {} was lost: ", self.path.display())?;
        match &self.failure {
            Some(failure) => write!(f, "{failure}"),
            None => f.write_str("somebody else has taken it"),
        }
    }
}

/// Where a text stops being JSON.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} at line {line} column {column}")]
pub struct BadJson {
    /// What is wrong there.
    pub message: String,
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1, counted in bytes.
    pub column: usize,
}

impl From<&serde_json::Error> for BadJson {
    fn from(error: &serde_json::Error) -> BadJson {
        let (line, column) = (error.line(), error.column());
        let position = format!(" at line {line} column {column}");
        let message = error.to_string();
        let message = message.strip_suffix(&position).unwrap_or(&message).to_owned();
        // A line break that should not be there is counted to the line after it, at 0.
        BadJson { message, line, column: column.max(1) }
    }
}

/// Why an operation did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ErrorKind {
    /// The system refused.
    #[error("{0}")]
    System(#[from] Failure),
    /// The caller has cancelled the operation.
    #[error("the operation was aborted")]
    Cancelled,
    /// The lock was not free in time.
    #[error("{0}")]
    Locked(Box<Contention>),
    /// The caller would wait for itself.
    #[error("{0}")]
    Deadlock(#[from] Deadlock),
    /// The lock was held, and has been lost.
    #[error("{0}")]
    Lost(Box<LostLock>),
    /// The file has no content at all.
    #[error("the file is empty, which is not JSON")]
    EmptyJson,
    /// The file is not JSON.
    #[error("{0}")]
    BadJson(#[from] BadJson),
    /// An unfinished transaction has to be completed first, and cannot be.
    #[error("{0}")]
    Unsettled(#[from] Unsettled),
    /// A write-ahead log is not as it should be.
    #[error("{0}")]
    Wal(#[from] WalError),
    /// A defect in holdfast itself, caught before it could reach Node.
    #[error("internal error: {0}")]
    Internal(String),
}

impl ErrorKind {
    /// The value of `error.code`.
    pub fn code(&self) -> &'static str {
        match self {
            ErrorKind::System(failure) => failure.code_name(),
            ErrorKind::Cancelled => "ABORT_ERR",
            ErrorKind::Locked(_) => "ELOCKED",
            ErrorKind::Deadlock(_) => "EDEADLK",
            ErrorKind::Lost(_) => "ECOMPROMISED",
            ErrorKind::EmptyJson => "EEMPTYJSON",
            ErrorKind::BadJson(_) => "EBADJSON",
            ErrorKind::Unsettled(_) => "EUNSETTLED",
            ErrorKind::Wal(error) => error.code(),
            ErrorKind::Internal(_) => "EINTERNAL",
        }
    }
}

/// What a failed operation reports.
#[derive(Debug, thiserror::Error)]
#[error("Failed to {} at {}: {kind}", operation.name(), path.display())]
pub struct Error {
    /// Why.
    #[source]
    pub kind: ErrorKind,
    /// What was asked for.
    pub operation: Operation,
    /// The path as it was given.
    pub path: PathBuf,
    /// How many attempts were made.
    pub attempts: u32,
    /// Whether the error may be temporary, and no attempt was left.
    pub exhausted: bool,
    /// Whether the new content is in place all the same: it is visible, but may not survive a power
    /// cut.
    pub committed: bool,
}

impl Error {
    /// A copy of the error, for another call that it happened to as well.
    pub fn duplicate_for(&self, path: &Path) -> Error {
        Error { kind: self.kind.duplicate(), path: path.to_owned(), ..*self }
    }
}

impl ErrorKind {
    /// A copy, for another caller that it happened to as well.
    #[cold]
    #[inline(never)]
    pub fn duplicate(&self) -> ErrorKind {
        match self {
            ErrorKind::System(failure) => ErrorKind::System(failure.duplicate()),
            ErrorKind::Cancelled => ErrorKind::Cancelled,
            ErrorKind::Locked(contention) => ErrorKind::Locked(contention.clone()),
            ErrorKind::Deadlock(deadlock) => ErrorKind::Deadlock(deadlock.clone()),
            ErrorKind::Lost(lost) => ErrorKind::Lost(Box::new(lost.duplicate())),
            ErrorKind::EmptyJson => ErrorKind::EmptyJson,
            ErrorKind::BadJson(bad) => ErrorKind::BadJson(bad.clone()),
            ErrorKind::Unsettled(what) => ErrorKind::Unsettled(what.clone()),
            ErrorKind::Wal(error) => ErrorKind::Wal(error.clone()),
            ErrorKind::Internal(text) => ErrorKind::Internal(text.clone()),
        }
    }
}
