//! Commits transactions on holdfast's threads, after the writes to their files that were requested
//! before.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::change::FileChange;
use super::commit::{CommitError, commit};
use super::held_files::HeldFiles;
use crate::engine::{AttemptCaller, FileQueueGuard, attempts, engine};
use crate::error::{Error, ErrorKind, Operation};
use crate::fs::os::Os;
use crate::lock::LockGuard;
use crate::metrics::METRICS;
use crate::mutex::guard;
use crate::threads::Pool;
use crate::threads::task;
use crate::write::{Control, Observer, Options};

/// A transaction that is to be committed.
pub struct CommitRequest {
    /// The paths that it names; the directory of the first one has the decision.
    pub paths: Vec<PathBuf>,
    /// What changes; nothing, if it only releases its locks.
    pub changes: Vec<FileChange>,
    /// How the files are made.
    pub options: Options,
    /// The locks that it releases when it is done, in the order in which they are taken.
    pub locks: Vec<LockGuard>,
    /// Cancels it.
    pub control: Arc<Control>,
}

/// Commits on `pool`. `start` declares that an attempt starts, which lasts until what it gives
/// is dropped; `None` when the caller is gone.
pub fn run<G: 'static>(
    pool: &Pool,
    request: CommitRequest,
    start: impl Fn() -> Option<G> + Send + 'static,
    answer: impl FnOnce(Result<Result<(), Error>, ErrorKind>) + Send + 'static,
) {
    let own_pool = pool.clone();
    let paths: Vec<PathBuf> = request.changes.iter().map(|change| change.path.clone()).collect();
    let options = request.options.clone();
    let answer = task::OnceCallback::new(answer);
    with_file_queues(pool, paths, &options, move |queues| {
        let CommitRequest { paths, changes, options, locks, control } = request;
        let queues = match queues {
            Ok(queues) => queues,
            Err(kind) => {
                drop(locks);
                return answer.call(Err(kind));
            }
        };
        let first = paths.first().cloned().unwrap_or_default();
        // Both are released with the step, before the answer.
        let held = HeldFiles { paths, _queues: queues, locks, seen: Mutex::default() };
        let listen = control.listener();
        let caller = AttemptCaller { start: Box::new(start), control, observer: None };
        let (path, own_options, count) = (first.clone(), options.clone(), changes.len());
        let attempt = move |control: &Control, _: Option<&dyn Observer>| {
            let committed = commit(&Os, &first, &changes, &own_options, control);
            committed.map_err(|CommitError { error, path }| (path, error))
        };
        let ended =
            move |outcome: Result<(), &ErrorKind>| METRICS.transactions.ended(count, outcome);
        let operation = Operation::Transaction;
        let step = attempts(operation, path, options, caller, held, attempt, ended);
        task::run_steps_here(&own_pool, step, listen, answer);
    });
}

/// Calls `go` with the queues of all these files when every operation on them that was requested
/// before is done; or with the reason why a path leads to no queue.
///
/// Two transactions that want the same files cannot wait for each other here: they hold the files'
/// locks.
fn with_file_queues(
    pool: &Pool,
    paths: Vec<PathBuf>,
    options: &Options,
    go: impl FnOnce(Result<Vec<FileQueueGuard<Os>>, ErrorKind>) + Send + 'static,
) {
    // Where names that differ only in case share a queue, a caller that waits for it twice would
    // wait for ever.
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
    let pending = PendingQueues { held: Vec::new(), missing, go: Some(go) };
    let pending = Arc::new(Mutex::new(pending));
    for path in paths {
        let pending = Arc::clone(&pending);
        engine().run_exclusively(path, options.clone(), move |queue| {
            let mut all = guard(&pending);
            all.missing -= 1;
            let refused = queue.map(|queue| all.held.push(queue)).err();
            if all.missing > 0 && refused.is_none() && all.go.is_some() {
                return;
            }
            let (held, go) = (std::mem::take(&mut all.held), all.go.take());
            // Not under the mutex: the next operation of a queue that is released may start here.
            drop(all);
            if let Some(go) = go {
                go(refused.map_or(Ok(held), Err));
            }
        });
    }
}

/// The queues that have been reached, until all have.
struct PendingQueues<G> {
    held: Vec<FileQueueGuard<Os>>,
    missing: usize,
    go: Option<G>,
}
