//! Which failures may pass, and how long to wait for that.

use std::time::Duration;

use crate::error::Code;
use crate::error::Failure;

/// Whether another attempt makes sense: a closed list of errors that come and go.
/// Everything else says that the same attempt would fail again.
pub fn is_retried(failure: &Failure) -> bool {
    let Some(code) = failure.code() else { return false };
    match code {
        Code::ENOSPC
        | Code::EDQUOT
        | Code::EAGAIN
        | Code::EBUSY
        | Code::EIO
        | Code::EMFILE
        | Code::ENFILE
        | Code::ENOMEM
        | Code::ETIMEDOUT
        | Code::ENETDOWN
        | Code::ENETUNREACH
        | Code::ESTALE => true,
        // Windows says 'access denied' for a rename onto a file that a virus scanner or
        // an indexer has open for the moment.
        Code::EPERM | Code::EACCES => cfg!(windows) && failure.syscall == "rename",
        _ => false,
    }
}

/// How long to wait before attempt `attempt` (2, 3, 4…): the base delay, then twice as
/// long each time.
pub fn delay_before(attempt: u32, base: Duration) -> Duration {
    let doublings = attempt.saturating_sub(2).min(31);
    base.saturating_mul(1 << doublings)
}
