//! Why a change of a log did not happen.

use crate::error::{Code, Failure};

/// Why something was not appended to a log, or not noted in it.
#[derive(Debug)]
pub(super) enum AppendError {
    /// Nothing has happened to the log, and the next attempt may succeed: there is no room for
    /// more space, say.
    NotWritten(Failure),
    /// What is on the disk is not known any more.
    Unknown(Failure),
}

/// A failed sync says that something is lost; any other failure while space is allocated says
/// that there is none.
impl From<Failure> for AppendError {
    fn from(failure: Failure) -> AppendError {
        match failure.syscall {
            "fsync" | "fdatasync" | "sync_file_range" => AppendError::Unknown(failure),
            _ => AppendError::NotWritten(failure),
        }
    }
}

/// Whether there is no room: on the disk, in a quota, or in a file that has its largest size.
pub(super) fn is_full(failure: &Failure) -> bool {
    matches!(failure.code(), Some(Code::ENOSPC | Code::EDQUOT | Code::EFBIG))
}

impl AppendError {
    /// Whether nothing has happened because there is no room.
    pub(super) fn is_full(&self) -> bool {
        matches!(self, AppendError::NotWritten(failure) if is_full(failure))
    }

    /// What the system said.
    pub(super) fn into_failure(self) -> Failure {
        match self {
            AppendError::NotWritten(failure) | AppendError::Unknown(failure) => failure,
        }
    }
}
