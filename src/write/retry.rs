//! Decides whether a failed attempt is made again, and when.

use std::path::Path;
use std::time::Duration;

use super::attempt::AttemptError;
use super::events::{Observer, WriteEvent};
use super::options::Options;
use crate::error::{Code, Error, ErrorKind, Failure, Operation};
use crate::metrics::METRICS;

/// What comes after a failed attempt.
#[derive(Debug)]
pub enum RetryDecision {
    /// Wait this long, then make the attempt with this number.
    Retry {
        /// The number of the next attempt, from 2 on.
        attempt: u32,
        /// How long to wait before it.
        delay: Duration,
    },
    /// No attempt is left, or none would help.
    GiveUp(Error),
}

/// Decides what comes after attempt `number` of an operation has failed.
pub(crate) fn decide_retry(
    operation: Operation,
    path: &Path,
    options: &Options,
    number: u32,
    error: AttemptError,
    observer: Option<&dyn Observer>,
) -> RetryDecision {
    let passing = match &error.kind {
        ErrorKind::System(failure) if !error.committed && is_retried(failure) => Some(failure),
        _ => None,
    };
    if let Some(failure) = passing
        && number < options.attempts
    {
        METRICS.retried(operation);
        let attempt = number + 1;
        let delay = delay_before(attempt, options.retry_delay);
        if let Some(observer) = observer {
            observer.event(WriteEvent::Retrying { attempt, delay, code: failure.code_name() });
        }
        return RetryDecision::Retry { attempt, delay };
    }
    RetryDecision::GiveUp(Error {
        exhausted: passing.is_some(),
        kind: error.kind,
        operation,
        path: path.to_owned(),
        attempts: number,
        committed: error.committed,
    })
}

/// Whether another attempt makes sense: a closed list of errors that come and go.
/// After any other error the same attempt would fail again.
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
        // Windows reports 'access denied' for a rename onto a file that a virus scanner or
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
