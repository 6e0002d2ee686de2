//! The one error type: what failed, on which path, in which system call.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::errno::Code;

/// What the caller had asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// `atomicWrite` and its variants.
    AtomicWrite,
}

impl Operation {
    /// The name that users see in `error.operation` and in the message.
    pub fn name(self) -> &'static str {
        match self {
            Operation::AtomicWrite => "atomic write",
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
}

impl Failure {
    /// A failed call on an open file.
    pub fn new(syscall: &'static str, source: io::Error) -> Failure {
        Failure { source, syscall, path: None, dest: None }
    }

    /// The same, on a path.
    pub fn at(syscall: &'static str, path: impl AsRef<Path>, source: io::Error) -> Failure {
        Failure { path: Some(path.as_ref().to_owned()), ..Failure::new(syscall, source) }
    }

    /// The code of the system's error, if it has a name.
    pub fn code(&self) -> Option<Code> {
        Code::of(&self.source)
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

/// Why an operation did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ErrorKind {
    /// The system refused.
    #[error("{0}")]
    System(#[from] Failure),
    /// The caller cancelled.
    #[error("the operation was aborted")]
    Cancelled,
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
    /// Whether the error is one that may pass, and no attempt was left.
    pub exhausted: bool,
    /// Whether the new content is in place all the same: it is visible, but may not
    /// survive a power cut.
    pub committed: bool,
}
