//! Recovery on holdfast's threads.
//!
//! A directory is one job; of each file in it that has to change the lock is tried, and files
//! whose lock is held are left alone. A file that is named may take two calls: the first finds
//! out whether it has to change at all, and the second, under its lock and in its turn among the
//! writes to it, does that. So a look at a file that is as it should be takes no lock, and makes
//! no lock file.

use std::any::Any;
use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;

use super::{Act, Action, Request, is_dir, recover};
use crate::engine::engine;
use crate::error::ErrorKind;
use crate::fs::os::Os;
use crate::lock::{self, LockGuard};
use crate::threads::Pool;
use crate::threads::task::{self, TaskStep};
use crate::write::{Control, Options};

/// What came of a call.
#[derive(Debug)]
pub enum Outcome {
    /// It is done.
    Done(Vec<Action>),
    /// The file that is named has to change, and this is all that could be done so far.
    NeedsLock(Vec<Action>),
}

/// Does what can be done without the lock of a file that is named: everything in a directory, and
/// everything if `without_lock` says that no lock is wanted. `start` declares that it starts, which
/// lasts until what it gives is dropped; `None` when nobody is left to wait for it.
pub fn submit<G>(
    pool: &Pool,
    request: Request,
    without_lock: bool,
    control: Arc<Control>,
    start: impl FnOnce() -> Option<G> + Send + 'static,
    answer: impl FnOnce(Result<Outcome, ErrorKind>) + Send + 'static,
) {
    let work = move || {
        let _started = start().ok_or(ErrorKind::Cancelled)?;
        if without_lock {
            let no_lock =
                |_: &Path| -> Result<Option<Box<dyn Any>>, ErrorKind> { Ok(Some(Box::new(()))) };
            return recover(&Os, &request, &no_lock, &control).map(Outcome::Done);
        }
        if is_dir(&Os, &request.path) {
            let try_lock = |path: &Path| -> Result<Option<Box<dyn Any>>, ErrorKind> {
                let taken = lock::try_lock(path)?;
                Ok(taken.map(|lock| -> Box<dyn Any> { Box::new(lock) }))
            };
            return recover(&Os, &request, &try_lock, &control).map(Outcome::Done);
        }
        let needs_lock = Cell::new(false);
        let not_yet = |_: &Path| {
            needs_lock.set(true);
            Ok(None)
        };
        let actions = recover(&Os, &request, &not_yet, &control)?;
        if !needs_lock.get() {
            return Ok(Outcome::Done(actions));
        }
        // Whatever else there is to say is said again.
        let is_done = |action: &Action| !matches!(action.act, Act::Left | Act::Failed);
        let done = actions.into_iter().filter(is_done);
        Ok(Outcome::NeedsLock(done.collect()))
    };
    task::run(pool, work, answer);
}

/// The same for a file that is named and has to change, in its turn among the writes to it. Its
/// lock, if the caller does not hold it otherwise, is `hold`, and is given back before the
/// answer.
pub fn submit_in_turn<G: 'static>(
    pool: &Pool,
    request: Request,
    hold: Option<LockGuard>,
    control: Arc<Control>,
    start: impl FnOnce() -> Option<G> + Send + 'static,
    answer: impl FnOnce(Result<Outcome, ErrorKind>) + Send + 'static,
) {
    let (own_pool, answer) = (pool.clone(), task::OnceCallback::new(answer));
    engine().run_exclusively(request.path.clone(), Options::default(), move |lane| {
        let lane = match lane {
            Ok(lane) => lane,
            Err(kind) => {
                drop(hold);
                return answer.call(Err(kind));
            }
        };
        // Both are given back with the step, before anybody is told.
        let under = (hold, lane);
        let mut start = Some(start);
        let step = move || {
            let _ = &under;
            let Some(_started) = start.take().and_then(|start| start()) else {
                return TaskStep::Done(Err(ErrorKind::Cancelled));
            };
            let own = lock::key_of(&request.path);
            // A transaction may name other files, too.
            let held = |path: &Path| -> Result<Option<Box<dyn Any>>, ErrorKind> {
                if matches!((&own, lock::key_of(path)), (Ok(own), Ok(key)) if *own == key) {
                    return Ok(Some(Box::new(())));
                }
                let taken = lock::try_lock(path)?;
                Ok(taken.map(|lock| -> Box<dyn Any> { Box::new(lock) }))
            };
            TaskStep::Done(recover(&Os, &request, &held, &control))
        };
        let answer =
            task::OnceCallback::new(move |outcome: Result<Result<_, ErrorKind>, ErrorKind>| {
                answer.call(outcome.and_then(|done| done).map(Outcome::Done));
            });
        // It is one step.
        let listen = |_: task::Resume| ();
        task::run_steps_here(&own_pool, step, listen, answer);
    });
}
