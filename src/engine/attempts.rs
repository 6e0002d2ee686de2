//! The attempts at an operation that is more than one plain write: a backup, a restore, a
//! transaction.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Operation};
use crate::threads::task::TaskStep;
use crate::write::{AttemptError, Control, Observer, Options, RetryDecision, decide_retry};

/// The caller that waits for such an operation.
pub struct AttemptCaller<G> {
    /// Declares that an attempt starts, which lasts until the returned value is dropped. `None`
    /// when the caller is gone: then the attempt is not made.
    pub start: Box<dyn Fn() -> Option<G> + Send>,
    /// Cancels it.
    pub control: Arc<Control>,
    /// The observer that is told of the steps, if there is one.
    pub observer: Option<Box<dyn Observer + Send>>,
}

/// Makes one attempt with each call. A failed one may name the path of its error, which is
/// otherwise `path`; `ended` is called once, with the outcome.
pub(crate) fn attempts<T, G>(
    operation: Operation,
    path: PathBuf,
    options: Options,
    caller: AttemptCaller<G>,
    attempt: impl Fn(&Control, Option<&dyn Observer>) -> Result<T, (Option<PathBuf>, AttemptError)>,
    ended: impl Fn(Result<(), &ErrorKind>),
) -> impl FnMut() -> TaskStep<Result<T, Error>> {
    let AttemptCaller { start, control, observer } = caller;
    let mut number = 1;
    move || {
        let observer = observer.as_deref().map(|observer| observer as &dyn Observer);
        let cancelled = || (None, ErrorKind::Cancelled.into());
        let outcome = match number > 1 && control.is_cancelled() {
            // It was cancelled in the pause before this attempt, which is not made.
            true => {
                number -= 1;
                Err(cancelled())
            }
            false => match start() {
                Some(_started) => attempt(&control, observer),
                None => Err(cancelled()),
            },
        };
        let (failed_path, error) = match outcome {
            Ok(value) => {
                ended(Ok(()));
                return TaskStep::Done(Ok(value));
            }
            Err(failed) => failed,
        };
        let path: &Path = failed_path.as_deref().unwrap_or(&path);
        match decide_retry(operation, path, &options, number, error, observer) {
            RetryDecision::GiveUp(error) => {
                ended(Err(&error.kind));
                TaskStep::Done(Err(error))
            }
            RetryDecision::Retry { attempt, delay } => {
                number = attempt;
                TaskStep::After(delay)
            }
        }
    }
}
