//! Appends under the lock of the file, which is that of `withLock`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::append::{AppendError, LineOptions, append};
use super::repair::Repaired;
use crate::error::ErrorKind;
use crate::fs::os::Os;
use crate::lock::{self, LockGuard, LockRequest, Waiter};
use crate::threads::{Pool, task};
use crate::vocabulary::Durability;
use crate::write::make_parents;

/// A call that appends.
pub struct AppendRequest {
    /// The file, absolute.
    pub path: PathBuf,
    /// Whole lines.
    pub bytes: Vec<u8>,
    /// How.
    pub options: LineOptions,
    /// Whether to make missing parent directories.
    pub make_dirs: bool,
    /// The lock.
    pub lock: LockRequest,
}

/// Takes the lock, appends, releases the lock, and waits for the disk if that is asked for. The returned
/// waiter can be cancelled.
pub fn begin(
    pool: &Pool,
    request: AppendRequest,
    answer: impl FnOnce(Result<Option<Repaired>, AppendError>) + Send + 'static,
) -> Arc<Waiter> {
    let AppendRequest { path, bytes, options, make_dirs, lock } = request;
    let durability = if options.is_durable { Durability::Full } else { Durability::None };
    let before = make_dirs.then(|| {
        let path = path.clone();
        Box::new(move || make_parents(&Os, &path, durability)) as lock::Before
    });
    let own_pool = pool.clone();
    let locked = move |taken: Result<LockGuard, ErrorKind>| {
        let lock = match taken {
            Ok(lock) => lock,
            Err(kind) => return answer(Err(kind.into())),
        };
        let work = move || Ok(append_locked(&path, &bytes, options, lock));
        // This thread may be one that only waits for locks.
        task::run(&own_pool, work, |outcome: Result<_, ErrorKind>| match outcome {
            Ok(outcome) => answer(outcome),
            Err(kind) => answer(Err(AppendError { kind, committed: true })),
        });
    };
    lock::acquire(pool, LockRequest { before, ..lock }, Box::new(locked))
}

fn append_locked(
    path: &Path,
    bytes: &[u8],
    options: LineOptions,
    lock: LockGuard,
) -> Result<Option<Repaired>, AppendError> {
    let appended = append(&Os, path, Some(&lock.guarded()), bytes, options)?;
    drop(lock);
    appended.sync()?;
    Ok(appended.repaired)
}
