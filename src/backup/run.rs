//! Backups and restores on holdfast's threads.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use super::create::{BackupRequest, create};
use super::restore::{RestoreRequest, restore};
use crate::engine::{AttemptCaller, FileQueueGuard, HeldBetweenAttempts, attempts, engine};
use crate::error::{Error, ErrorKind, Operation};
use crate::fs::os::Os;
use crate::lock::{self, LockGuard, Waiter};
use crate::metrics::METRICS;
use crate::threads::Pool;
use crate::threads::task::{self, TakeAgain, TaskStep, nothing_to_take};
use crate::write::{
    AttemptError, Control, Observer, Options, RetryDecision, decide_retry, make_parents,
};

/// What a restore holds until it has ended: the lock of its target, and its position among the
/// writes of this process.
struct HeldByRestore {
    lock: Option<LockGuard>,
    _queue: FileQueueGuard<Os>,
}

impl HeldBetweenAttempts for HeldByRestore {
    fn give_back(&self) -> bool {
        self.lock.iter().for_each(LockGuard::give_back);
        true
    }

    fn take_again(&self) -> TakeAgain {
        self.lock.as_ref().map_or_else(nothing_to_take, LockGuard::take_again)
    }
}

fn backup_attempts<T, G>(
    operation: Operation,
    path: PathBuf,
    options: Options,
    caller: AttemptCaller<G>,
    held: impl HeldBetweenAttempts,
    attempt: impl Fn(&Control, Option<&dyn Observer>) -> Result<T, AttemptError>,
) -> impl FnMut() -> TaskStep<Result<T, Error>> {
    let attempt = move |control: &Control, observer: Option<&dyn Observer>| {
        attempt(control, observer).map_err(|error| (None, error))
    };
    let ended = move |outcome: Result<(), &ErrorKind>| METRICS.backups.ended(operation, outcome);
    attempts(operation, path, options, caller, held, attempt, ended)
}

/// Makes a backup on `pool`; `answer` gets its name.
pub fn submit_create<G: 'static>(
    pool: &Pool,
    request: BackupRequest,
    caller: AttemptCaller<G>,
    answer: impl FnOnce(Result<Result<OsString, Error>, ErrorKind>) + Send + 'static,
) {
    let (path, options) = (request.path.clone(), request.options.clone());
    let listen = caller.control.listener();
    let step = backup_attempts(
        Operation::CreateBackup,
        path,
        options,
        caller,
        (),
        move |control, observer| create(&Os, &request, control, observer),
    );
    task::run_steps(pool, step, listen, answer);
}

/// Brings a backup back, on `pool`: under a lock, if there is one to take first, and after the
/// earlier writes to the target. The returned waiter can be cancelled.
pub fn submit_restore<G: 'static>(
    pool: &Pool,
    request: RestoreRequest,
    lock: Option<lock::LockRequest>,
    caller: AttemptCaller<G>,
    answer: impl FnOnce(Result<Result<(), Error>, ErrorKind>) + Send + 'static,
) -> Option<Arc<Waiter>> {
    let RestoreRequest { target, options, .. } = request.clone();
    let dirs = options.make_dirs.then(|| (target.clone(), options.durability));
    let answer = task::OnceCallback::new(answer);
    let own_pool = pool.clone();
    let begin = move |lock: Option<LockGuard>, answer: task::OnceCallback<_, _>| {
        engine().run_exclusively(target.clone(), options.clone(), move |granted| {
            let queue_guard = match granted {
                Ok(queue_guard) => queue_guard,
                Err(kind) => {
                    // A caller that has its answer finds the lock free.
                    drop(lock);
                    return answer.call(Err(kind));
                }
            };
            let mut request = request;
            request.options.only = lock.as_ref().map(|lock| Box::new(lock.guarded()));
            let attempt = move |control: &Control, observer: Option<&dyn Observer>| {
                restore(&Os, &request, control, observer)
            };
            let listen = caller.control.listener();
            // Both are released with the step, before the caller is told.
            let held = HeldByRestore { lock, _queue: queue_guard };
            let operation = Operation::RestoreBackup;
            let step = backup_attempts(operation, target, options, caller, held, attempt);
            task::run_steps_here(&own_pool, step, listen, answer);
        });
    };
    let Some(wanted) = lock else {
        begin(None, answer);
        return None;
    };
    let before = dirs.map(|(target, durability)| -> lock::Before {
        Box::new(move || make_parents(&Os, &target, durability))
    });
    let reply = move |granted: Result<LockGuard, ErrorKind>| match granted {
        Ok(lock) => begin(Some(lock), answer),
        Err(kind) => answer.call(Err(kind)),
    };
    Some(lock::acquire(pool, lock::LockRequest { before, ..wanted }, Box::new(reply)))
}

/// Makes a backup on the calling thread, which sleeps between two attempts.
pub fn create_now(
    request: &BackupRequest,
    observer: Option<&dyn Observer>,
) -> Result<OsString, Error> {
    let BackupRequest { path, options, .. } = request;
    let (operation, control) = (Operation::CreateBackup, Control::default());
    let mut number = 1;
    loop {
        let error = match create(&Os, request, &control, observer) {
            Ok(name) => {
                METRICS.backups.ended(operation, Ok(()));
                return Ok(name);
            }
            Err(error) => error,
        };
        match decide_retry(operation, path, options, number, error, observer) {
            RetryDecision::GiveUp(error) => {
                METRICS.backups.ended(operation, Err(&error.kind));
                return Err(error);
            }
            RetryDecision::Retry { attempt, delay } => {
                number = attempt;
                std::thread::sleep(delay);
            }
        }
    }
}
