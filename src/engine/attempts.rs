//! The attempts at an operation that is more than one plain write: a backup, a restore, a
//! transaction.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::descriptors::{is_short, patience, will_close_some};
use crate::error::{Error, ErrorKind, Operation};
use crate::mutex::guard;
use crate::threads::task::{TakeAgain, TaskStep, nothing_to_take};
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

/// What an operation holds from its first attempt to its last, and what of it other processes may
/// have in the pauses.
pub(crate) trait HeldBetweenAttempts: Send {
    /// Gives it back to other processes. `false` when no further attempt can be made then.
    fn give_back(&self) -> bool {
        true
    }

    /// What takes it again.
    fn take_again(&self) -> TakeAgain {
        nothing_to_take()
    }

    /// Whether what the operation has found under its locks still holds.
    ///
    /// # Errors
    ///
    /// When that cannot be told. It can be asked again.
    fn is_unchanged(&self) -> Result<bool, ErrorKind> {
        Ok(true)
    }
}

/// For an operation that holds nothing.
impl HeldBetweenAttempts for () {}

/// Makes one attempt after another, with each call one or what comes between two. A failed one may
/// name the path of its error, which is otherwise `path`; `ended` is called once, with the outcome.
/// What is `held` is dropped with what this returns.
pub(crate) fn attempts<T, G>(
    operation: Operation,
    path: PathBuf,
    options: Options,
    caller: AttemptCaller<G>,
    held: impl HeldBetweenAttempts,
    attempt: impl Fn(&Control, Option<&dyn Observer>) -> Result<T, (Option<PathBuf>, AttemptError)>,
    ended: impl Fn(Result<(), &ErrorKind>),
) -> impl FnMut() -> TaskStep<Result<T, Error>> {
    let AttemptCaller { start, control, observer } = caller;
    let mut number = 1;
    let mut next = NextStep::Attempt;
    let mut short_since = None;
    move || {
        let give_up = |error: Error| {
            ended(Err(&error.kind));
            TaskStep::Done(Err(error))
        };
        let observer = observer.as_deref().map(|observer| observer as &dyn Observer);
        // An attempt that is not made, after the last one.
        let refused = |kind: ErrorKind, attempts: u32| Error {
            kind,
            operation,
            path: path.clone(),
            attempts,
            exhausted: false,
            committed: false,
        };
        match std::mem::replace(&mut next, NextStep::Attempt) {
            NextStep::TakeAgain(_) if control.is_cancelled() => {
                return give_up(refused(ErrorKind::Cancelled, number - 1));
            }
            NextStep::TakeAgain(last) => {
                let (take_again, taken) = (held.take_again(), Arc::default());
                next = NextStep::Taken(Arc::clone(&taken), last);
                return TaskStep::When(Box::new(move |go_on| {
                    take_again(Box::new(move |outcome| {
                        *guard(&taken) = Some(outcome);
                        go_on();
                    }))
                }));
            }
            NextStep::Taken(taken, last) => match guard(&taken).take() {
                Some(Ok(())) => match held.is_unchanged() {
                    Ok(true) => {}
                    Err(kind) if waits_for_files(&kind, &mut short_since) && held.give_back() => {
                        next = NextStep::TakeAgain(last);
                        return TaskStep::After(SHORTAGE_PAUSE);
                    }
                    Ok(false) | Err(_) => return give_up(last),
                },
                Some(Err(kind)) => return give_up(refused(kind, number - 1)),
                None => return give_up(refused(ErrorKind::Cancelled, number - 1)),
            },
            NextStep::Attempt => {}
        }
        let outcome = match start() {
            Some(_started) => attempt(&control, observer),
            None => Err((None, ErrorKind::Cancelled.into())),
        };
        let (failed_path, error) = match outcome {
            Ok(value) => {
                ended(Ok(()));
                return TaskStep::Done(Ok(value));
            }
            Err(failed) => failed,
        };
        if !error.committed && waits_for_files(&error.kind, &mut short_since) {
            // Without a file it cannot even look what it would have to compare afterwards. Then it
            // goes on holding what it holds, for this moment.
            if held.give_back() {
                next = NextStep::TakeAgain(refused(error.kind, number));
            }
            return TaskStep::After(SHORTAGE_PAUSE);
        }
        let path: &Path = failed_path.as_deref().unwrap_or(&path);
        let last = Error {
            kind: error.kind.duplicate(),
            operation,
            path: path.to_owned(),
            attempts: number,
            exhausted: true,
            committed: false,
        };
        match decide_retry(operation, path, &options, number, error, observer) {
            RetryDecision::GiveUp(error) => give_up(error),
            RetryDecision::Retry { .. } if !held.give_back() => give_up(last),
            RetryDecision::Retry { attempt, delay } => {
                number = attempt;
                next = NextStep::TakeAgain(last);
                TaskStep::After(delay)
            }
        }
    }
}

/// How long to wait after the system has refused to open another file.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(20);

/// Whether the attempt is made anew without being counted: the process has too many files open, of
/// which holdfast is going to close some.
fn waits_for_files(kind: &ErrorKind, short_since: &mut Option<Instant>) -> bool {
    is_short(kind)
        && will_close_some()
        && short_since.get_or_insert_with(Instant::now).elapsed() < patience(None)
}

/// What the next call is for.
enum NextStep {
    Attempt,
    /// The pause is over. The error of the last attempt is reported if no further one can be made.
    TakeAgain(Error),
    /// What was given back has been taken again, or this says why not.
    Taken(Arc<Mutex<Option<Result<(), ErrorKind>>>>, Error),
}
