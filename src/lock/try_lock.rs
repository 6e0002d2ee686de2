//! A lock that is only tried, on the calling thread, and held for a moment.
//!
//! It stands in no queue: to the calls of this process that wait for the same lock, it is as
//! if another process had it.

use std::path::Path;

use super::kernel::KernelLock;
use super::{LockKind, name};
use crate::error::Failure;
use crate::fs::DirUse;
use crate::fs::os::Os;
use crate::resolve;

/// A write lock that is held. Dropping it gives it back.
pub struct TriedLock(#[allow(dead_code, reason = "dropping it gives the lock back")] KernelLock);

/// Takes the write lock of a file if it is free. `None` when it is not.
pub fn try_lock(path: &Path) -> Result<Option<TriedLock>, Failure> {
    let target = resolve::target(&Os, path, true, DirUse::Names)?;
    let lock_name = name::of(&target.name);
    let taken =
        KernelLock::try_acquire(target.dir.handle(), &lock_name, LockKind::Write, None, &mut None);
    Ok(taken.map_err(|failure| failure.on(target.dir.shown(&lock_name)))?.map(TriedLock))
}
