//! A write-ahead log under its lock: one process writes it, any number read.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::error::ErrorKind;
use crate::fs::os::Os;
use crate::lock::{self, LockKind, Waiter};
use crate::threads::{Pool, task};
use crate::wal::{Log, Options, Queue};

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// The directory of the log, absolute.
    pub path: PathBuf,
    /// How the log is kept.
    pub options: Options,
    /// How many bytes may wait to be appended.
    pub queue_bytes: usize,
    /// How long to wait for the lock; `None` for ever.
    pub timeout: Option<Duration>,
}

/// Takes the lock of a log, opens and repairs it. The lock is that of the directory, and is kept
/// until the log is closed, or dropped and no longer written to.
pub fn open(
    pool: &Pool,
    request: Request,
    reply: impl FnOnce(Result<Queue<Os>, ErrorKind>) + Send + 'static,
) -> Arc<Waiter> {
    let Request { path, options, queue_bytes, timeout } = request;
    let lock = lock::LockRequest {
        path: path.clone(),
        kind: LockKind::Write,
        timeout,
        held: lock::HeldLocks::default(),
        before: None,
    };
    let own_pool = pool.clone();
    let locked = move |hold: Result<lock::LockGuard, ErrorKind>| {
        let queue_pool = own_pool.clone();
        let work = move || {
            let hold = hold?;
            let log = Log::open(Os, &path, options)?;
            Ok(Queue::new(log, queue_pool, queue_bytes, Box::new(hold)))
        };
        task::run(&own_pool, work, reply);
    };
    lock::acquire(pool, lock, Box::new(locked))
}
