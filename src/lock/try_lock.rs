//! A lock that is only tried, on the calling thread, and held for a moment.
//!
//! It is in no queue: to the calls of this process that wait for the same lock, it is as if
//! another process held it.

use std::path::Path;

use super::kernel::KernelLock;
use super::lock_name::LockName;
use super::lock_path::DIR_USE;
use crate::error::Failure;
use crate::fs::os::Os;
use crate::resolve;
use crate::vocabulary::LockKind;

/// A write lock that is held. Dropping it releases the lock.
pub struct TriedLock(#[allow(dead_code, reason = "dropping it releases the lock")] KernelLock);

/// Takes the write lock of a file if it is free. `None` when it is not.
pub fn try_lock(path: &Path) -> Result<Option<TriedLock>, Failure> {
    let target = resolve::target(&Os, path, true, DIR_USE)?;
    let name = LockName::of(&target);
    let dir = target.dir.handle();
    let taken = KernelLock::try_acquire(dir, &name, LockKind::Write, None, &mut None);
    Ok(taken.map_err(|failure| failure.on(target.dir.shown(&name)))?.map(TriedLock))
}
