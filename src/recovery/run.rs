//! Recovery on holdfast's threads.
//!
//! A directory is one job; of each file in it that has to change the lock is tried, and files
//! whose lock is taken are left alone. A file that the caller names may take two calls: the first
//! finds out whether it has to change at all, and the second, under its lock and after the writes
//! to it that were requested before, changes it. So a look at a file that is as it should be takes
//! no lock, and makes no lock file.

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;

use super::action::{ActionKind, RecoveryAction};
use super::lock_files;
use super::recover::{is_dir, recover};
use super::request::{RecoveryLock, RecoveryRequest};
use crate::engine::engine;
use crate::error::ErrorKind;
use crate::fs::os::Os;
use crate::lock::{self, LockGuard};
use crate::threads::Pool;
use crate::threads::task::{self, TaskStep};
use crate::write::{Control, Options};

/// What came of a call.
#[derive(Debug)]
pub enum RecoveryOutcome {
    /// It is done.
    Done(Vec<RecoveryAction>),
    /// The file that the caller names has to change, and this is all that could be done so far.
    NeedsLock(Vec<RecoveryAction>),
}

/// Does what can be done without the lock of a file that the caller names: everything in a
/// directory, and everything if `without_lock` says that no locks are wanted. `start` declares
/// that it starts, which lasts until what it gives is dropped; `None` when the caller is gone.
pub fn run<G>(
    pool: &Pool,
    request: RecoveryRequest,
    without_lock: bool,
    control: Arc<Control>,
    start: impl FnOnce() -> Option<G> + Send + 'static,
    answer: impl FnOnce(Result<RecoveryOutcome, ErrorKind>) + Send + 'static,
) {
    let work = move || {
        let _started = start().ok_or(ErrorKind::Cancelled)?;
        if without_lock {
            let actions = recover(&Os, &request, &|_| Ok(Some(Box::new(()))), &control)?;
            lock_files::remove_unused(&request, &control);
            return Ok(RecoveryOutcome::Done(actions));
        }
        if is_dir(&Os, &request.path) {
            let actions = recover(&Os, &request, &try_lock, &control)?;
            lock_files::remove_unused(&request, &control);
            return Ok(RecoveryOutcome::Done(actions));
        }
        let needs_lock = Cell::new(false);
        let not_yet = |_: &Path| {
            needs_lock.set(true);
            Ok(None)
        };
        let mut actions = recover(&Os, &request, &not_yet, &control)?;
        if !needs_lock.get() {
            lock_files::remove_unused(&request, &control);
            return Ok(RecoveryOutcome::Done(actions));
        }
        // The call that has the lock says the rest again.
        actions.retain(|action| !matches!(action.kind, ActionKind::Left | ActionKind::Failed));
        Ok(RecoveryOutcome::NeedsLock(actions))
    };
    task::run(pool, work, answer);
}

fn try_lock(path: &Path) -> Result<Option<RecoveryLock>, ErrorKind> {
    Ok(lock::try_lock(path)?.map(|lock| -> RecoveryLock { Box::new(lock) }))
}

/// The same for a file that the caller names and that has to change, after the writes to it that
/// were requested before. `lock` is its lock, unless the caller holds it otherwise, and is released
/// before the answer.
pub fn run_exclusively<G: 'static>(
    pool: &Pool,
    request: RecoveryRequest,
    lock: Option<LockGuard>,
    control: Arc<Control>,
    start: impl FnOnce() -> Option<G> + Send + 'static,
    answer: impl FnOnce(Result<RecoveryOutcome, ErrorKind>) + Send + 'static,
) {
    let (own_pool, answer) = (pool.clone(), task::OnceCallback::new(answer));
    engine().run_exclusively(request.path.clone(), Options::default(), move |queue| {
        let queue = match queue {
            Ok(queue) => queue,
            Err(kind) => {
                drop(lock);
                return answer.call(Err(kind));
            }
        };
        // Both are released with the step, before the answer.
        let held = (lock, queue);
        let mut start = Some(start);
        let step = move || {
            let _ = &held;
            let Some(_started) = start.take().and_then(|start| start()) else {
                return TaskStep::Done(Err(ErrorKind::Cancelled));
            };
            let own = lock::key_of(&request.path);
            // A transaction may change other files, too.
            let try_lock = |path: &Path| -> Result<Option<RecoveryLock>, ErrorKind> {
                match (&own, lock::key_of(path)) {
                    (Ok(own), Ok(key)) if *own == key => Ok(Some(Box::new(()))),
                    _ => self::try_lock(path),
                }
            };
            TaskStep::Done(recover(&Os, &request, &try_lock, &control))
        };
        let answer =
            task::OnceCallback::new(move |outcome: Result<Result<_, ErrorKind>, ErrorKind>| {
                answer.call(outcome.and_then(|done| done).map(RecoveryOutcome::Done));
            });
        // It is one step, so there is no pause to end.
        let listen = |_: task::Resume| ();
        task::run_steps_here(&own_pool, step, listen, answer);
    });
}
