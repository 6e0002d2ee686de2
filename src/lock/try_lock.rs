//! A lock that is only tried, on the calling thread, and held for a moment.
//!
//! It is in no queue: to the calls of this process that wait for the same lock, it is as if
//! another process held it.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::kernel::{KernelBackend, KernelLock};
use super::lock_name::LockName;
use super::lock_path::DIR_USE;
use super::unused;
use crate::descriptors;
use crate::error::Failure;
use crate::fs::os::Os;
use crate::resolve;
use crate::vocabulary::{FileKey, LockKind};

/// A write lock that is held. Dropping it releases the lock.
pub struct TriedLock {
    lock: Option<KernelLock>,
    /// Its lock file, if that may be removed.
    key: Option<FileKey>,
}

/// How many stay open on every system.
const ALWAYS_OPEN: usize = 2;

/// How many of them there are. A recovery holds one for each file of a transaction.
static HELD: AtomicUsize = AtomicUsize::new(0);

impl Drop for TriedLock {
    fn drop(&mut self) {
        drop(self.lock.take());
        HELD.fetch_sub(1, Ordering::Relaxed);
        if let Some(key) = &self.key {
            unused::unused(key);
        }
    }
}

/// Takes the write lock of a file if it is free. `None` when it is not.
pub fn try_lock(path: &Path) -> Result<Option<TriedLock>, Failure> {
    let target = resolve::target(&Os, path, true, DIR_USE)?;
    let name = LockName::of(&target);
    let (dir, path) = (target.dir.handle(), target.dir.shown(&name));
    let taken = KernelLock::try_acquire(dir, &name, LockKind::Write, None, true, &mut None);
    let Some(mut lock) = taken.map_err(|failure| failure.on(path.clone()))? else {
        return Ok(None);
    };
    let rules = dir.lock_rules();
    let others = HELD.fetch_add(1, Ordering::Relaxed);
    if others >= ALWAYS_OPEN && rules.stays_open_mapped && others >= descriptors::few() {
        lock.park(dir, &name);
    }
    let mut tried = TriedLock { lock: Some(lock), key: None };
    if rules.has_to_poll {
        dir.look_anew();
    }
    if rules.may_remove_files {
        let key = (target.dir.metadata()?.id, name.to_os_string());
        unused::used(&key, || path, KernelBackend::has_queue);
        tried.key = Some(key);
    }
    Ok(Some(tried))
}
