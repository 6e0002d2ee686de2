//! Runs the attempts of a write on the calling thread.

use super::attempt::{AttemptError, WriteAttempt};
use super::control::Control;
use super::events::Observer;
use super::options::WriteRequest;
use super::retry::{RetryDecision, decide_retry};
use super::staged_write::StagedWrite;
use crate::error::{Error, Operation};
use crate::fs::FileSystem;

/// Makes attempts until one succeeds or none is left, waiting on the calling thread.
pub fn run<F: FileSystem>(
    fs: &F,
    request: &WriteRequest,
    control: &Control,
    observer: Option<&dyn Observer>,
) -> Result<(), Error> {
    let attempt = WriteAttempt::new(request, control, observer);
    run_on(fs, &attempt, make_attempt(fs, &attempt).map(drop))
}

/// Goes on after the first attempt.
pub(crate) fn run_on<F: FileSystem>(
    fs: &F,
    attempt: &WriteAttempt<'_, F>,
    mut outcome: Result<(), AttemptError>,
) -> Result<(), Error> {
    let (operation, mut number) = (Operation::AtomicWrite, 1);
    let WriteAttempt { path, options, control, observer, .. } = attempt;
    loop {
        let Err(error) = outcome else { return Ok(()) };
        match decide_retry(operation, path, options, number, error, *observer) {
            RetryDecision::Retry { attempt: next, delay } => {
                control.give_back();
                std::thread::sleep(delay);
                if let Err(kind) = control.take_again_here() {
                    return Err(Error {
                        kind,
                        operation,
                        path: path.to_path_buf(),
                        attempts: number,
                        exhausted: false,
                        committed: false,
                    });
                }
                number = next;
                outcome = make_attempt(fs, attempt).map(drop);
            }
            RetryDecision::GiveUp(error) => return Err(error),
        }
    }
}

/// Makes one attempt. Either the target has the new content, as durable as it was asked for, or
/// the error says what went wrong and whether the content is in place. Returns which of the free
/// names the file took, if it was to take one.
pub(crate) fn make_attempt<F: FileSystem>(
    fs: &F,
    attempt: &WriteAttempt<'_, F>,
) -> Result<u64, AttemptError> {
    StagedWrite::stage(fs, attempt, None)?.commit(attempt)
}
