//! Transactions on holdfast's threads, in their turn among the writes to their files.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::commit::{CommitError, Part};
use crate::engine::FileQueueGuard;
use crate::engine::engine;
use crate::error::{Error, ErrorKind, Operation};
use crate::fs::os::Os;
use crate::lock::LockGuard;
use crate::metrics::METRICS;
use crate::mutex::guard;
use crate::threads::Pool;
use crate::threads::task::{self, TaskStep};
use crate::write::{AttemptError, Control, Options, RetryDecision, decide_retry};

/// A transaction that is to be committed.
pub struct Commit {
    /// The first path that it names.
    pub first: PathBuf,
    /// What changes; nothing, if it only gives its locks back.
    pub parts: Vec<Part>,
    /// How the files are made.
    pub options: Options,
    /// The locks that it gives back when it is done.
    pub holds: Vec<LockGuard>,
    /// Cancels it.
    pub control: Arc<Control>,
}

/// Commits on `pool`. `start` declares that an attempt starts, which lasts until what it gives
/// is dropped; `None` when nobody is left to wait for it.
pub fn submit<G: 'static>(
    pool: &Pool,
    commit: Commit,
    start: impl Fn() -> Option<G> + Send + 'static,
    answer: impl FnOnce(Result<Result<(), Error>, ErrorKind>) + Send + 'static,
) {
    let own_pool = pool.clone();
    let paths: Vec<PathBuf> = commit.parts.iter().map(|part| part.path.clone()).collect();
    let options = commit.options.clone();
    let answer = task::OnceCallback::new(answer);
    in_turns(pool, paths, &options, move |lanes| {
        let Commit { first, parts, options, holds, control } = commit;
        let lanes = match lanes {
            Ok(lanes) => lanes,
            Err(kind) => {
                drop(holds);
                return answer.call(Err(kind));
            }
        };
        // Both are given back with the step, before anybody is told.
        let under = (lanes, holds);
        let listen = control.listener();
        let mut number = 1;
        let step = move || {
            let _ = &under;
            let cancelled = || CommitError::from(AttemptError::from(ErrorKind::Cancelled));
            let outcome = match number > 1 && control.is_cancelled() {
                // In the pause before this attempt, which is not made.
                true => {
                    number -= 1;
                    Err(cancelled())
                }
                false => match start() {
                    Some(_started) => super::commit(&Os, &first, &parts, &options, &control),
                    None => Err(cancelled()),
                },
            };
            let Err(CommitError { error, path }) = outcome else {
                METRICS.transactions.ended(parts.len(), Ok(()));
                return TaskStep::Done(Ok(()));
            };
            let path = path.as_deref().unwrap_or(&first);
            match decide_retry(Operation::Transaction, path, &options, number, error, None) {
                RetryDecision::GiveUp(error) => {
                    METRICS.transactions.ended(parts.len(), Err(&error.kind));
                    TaskStep::Done(Err(error))
                }
                RetryDecision::Retry { attempt, delay } => {
                    number = attempt;
                    TaskStep::After(delay)
                }
            }
        };
        task::run_steps_here(&own_pool, step, listen, answer);
    });
}

/// Calls `go` when all that was asked for before, for any of these files, is done; or tells it
/// why that cannot be known.
///
/// Two that want the same files cannot wait for each other here: they hold the files' locks.
fn in_turns(
    pool: &Pool,
    paths: Vec<PathBuf>,
    options: &Options,
    go: impl FnOnce(Result<Vec<FileQueueGuard<Os>>, ErrorKind>) + Send + 'static,
) {
    // Where names that differ in case share a lane, nobody may wait for it twice.
    let is_caseless = cfg!(any(windows, target_os = "macos", target_os = "ios"));
    let mut known = HashSet::new();
    let paths: Vec<PathBuf> = paths
        .into_iter()
        .filter(|path| !is_caseless || known.insert(path.to_string_lossy().to_lowercase()))
        .collect();
    if paths.is_empty() {
        let _ = pool.submit(Box::new(move || go(Ok(Vec::new()))));
        return;
    }
    let missing = paths.len();
    let gathered = Arc::new(Mutex::new(Gathered { lanes: Vec::new(), missing, go: Some(go) }));
    for path in paths {
        let gathered = Arc::clone(&gathered);
        engine().run_exclusively(path, options.clone(), move |lane| {
            let mut all = guard(&gathered);
            let refused = match lane {
                Ok(lane) => {
                    all.lanes.push(lane);
                    None
                }
                Err(kind) => Some(kind),
            };
            all.missing -= 1;
            if all.missing > 0 && refused.is_none() && all.go.is_some() {
                return;
            }
            let (lanes, go) = (std::mem::take(&mut all.lanes), all.go.take());
            // Not under the lock: a lane that is left leads to whoever comes next there.
            drop(all);
            if let Some(go) = go {
                go(match refused {
                    Some(kind) => Err(kind),
                    None => Ok(lanes),
                });
            }
        });
    }
}

/// Those whose turn has come, until it has for all.
struct Gathered<G> {
    lanes: Vec<FileQueueGuard<Os>>,
    missing: usize,
    go: Option<G>,
}
