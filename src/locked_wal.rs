//! A write-ahead log under its lock: one process writes it, any number read.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::error::ErrorKind;
use crate::fs::os::Os;
use crate::lock::{self, LockGuard, LockKind, Waiter};
use crate::threads::{Pool, task};
use crate::wal::{AppendQueue, Log, LogOptions};

/// How long [`open`] waits for the lock where the caller says nothing.
pub const DEFAULT_LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// Takes the lock of the log in the directory at `path`, which is absolute, opens and repairs it.
/// `timeout` limits the wait for the lock; `None` waits for ever. The lock is that of the
/// directory, and is kept until the log is closed, or dropped and no longer written to.
pub fn open(
    pool: &Pool,
    path: PathBuf,
    options: LogOptions,
    timeout: Option<Duration>,
    on_opened: impl FnOnce(Result<AppendQueue<Os>, ErrorKind>) + Send + 'static,
) -> Arc<Waiter> {
    let lock = lock::LockRequest {
        path: path.clone(),
        kind: LockKind::Write,
        timeout,
        held: lock::HeldLocks::default(),
        before: None,
    };
    let own_pool = pool.clone();
    let on_locked = move |guard: Result<LockGuard, ErrorKind>| {
        let queue_pool = own_pool.clone();
        let work = move || {
            let guard = guard?;
            let log = Log::open(Os, &path, options)?;
            Ok(AppendQueue::new(log, queue_pool, Box::new(guard)))
        };
        task::run(&own_pool, work, on_opened);
    };
    lock::acquire(pool, lock, Box::new(on_locked))
}
