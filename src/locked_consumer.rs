//! A consumer of a write-ahead log under its lock: one process at a time is the consumer of a name.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::error::ErrorKind;
use crate::fs::os::Os;
use crate::lock::{self, HeldLocks, LockGuard, LockKind, LockRequest, Waiter};
use crate::threads::{Pool, task};
use crate::wal::{
    Consumer, check_consumer_name, check_name, consumers_dir, make_consumers_dir, position_file,
};

/// Which consumer is meant.
pub struct ConsumerRequest {
    /// The directory of the log, absolute.
    pub log: PathBuf,
    /// The collection.
    pub collection: String,
    /// The consumer's name.
    pub name: String,
    /// Where a new one begins; `None` for the first number that is not released.
    pub from: Option<u64>,
    /// How long to wait for the process that is this consumer; `None` waits for ever.
    pub timeout: Option<Duration>,
}

/// A consumer, and its lock.
pub struct LockedConsumer {
    /// The consumer.
    pub consumer: Consumer<Os>,
    /// Released when the consumer is used no more.
    pub guard: LockGuard,
}

/// Takes the lock of a consumer, which is that of the file of its position, and opens it.
///
/// # Errors
///
/// A name cannot be one. Everything else is told by `on_opened`.
pub fn open(
    pool: &Pool,
    request: ConsumerRequest,
    on_opened: impl FnOnce(Result<LockedConsumer, ErrorKind>) + Send + 'static,
) -> Result<Arc<Waiter>, ErrorKind> {
    let ConsumerRequest { log, collection, name, from, timeout } = request;
    check_name(&collection)?;
    check_consumer_name(&name)?;
    let made = log.clone();
    let lock = LockRequest {
        path: consumers_dir(&log).join(position_file(&collection, &name)),
        kind: LockKind::Write,
        timeout,
        held: HeldLocks::default(),
        before: Some(Box::new(move || make_consumers_dir(&Os, &made))),
    };
    let own_pool = pool.clone();
    let on_locked = move |guard: Result<LockGuard, ErrorKind>| {
        let work = move || {
            let guard = guard?;
            let consumer = Consumer::open(&Os, &log, &collection, &name, from)?;
            Ok(LockedConsumer { consumer, guard })
        };
        task::run(&own_pool, work, on_opened);
    };
    Ok(lock::acquire(pool, lock, Box::new(on_locked)))
}
