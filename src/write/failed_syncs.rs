//! Files whose last sync failed: they are in their places, but may not be there after a power cut.
//! A second sync that succeeds would say nothing, because the system may have dropped what it
//! could not write. Only writing the files anew helps.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{LazyLock, Mutex, MutexGuard};

use crate::fs::{DirUse, FileId, FileSystem};
use crate::mutex::guard;
use crate::resolve;

static FAILED: LazyLock<Mutex<HashSet<FileId>>> = LazyLock::new(Mutex::default);

fn failed() -> MutexGuard<'static, HashSet<FileId>> {
    guard(&FAILED)
}

/// Records that this process could not make a file durable.
pub fn record_failed_sync(id: FileId) {
    failed().insert(id);
}

/// Whether this process could not make this file durable.
pub fn has_failed_sync(id: FileId) -> bool {
    failed().contains(&id)
}

/// Forgets what is known of a file: this one is new.
pub fn forget_failed_sync(id: FileId) {
    failed().remove(&id);
}

/// Whether this process could not make the file at `path` durable, so that only writing it anew
/// can.
pub fn sync_failed<F: FileSystem>(fs: &F, path: &Path, follow_symlinks: bool) -> bool {
    if failed().is_empty() {
        return false;
    }
    let target = resolve::target(fs, path, follow_symlinks, DirUse::Names);
    let existing = target.ok().and_then(|target| target.existing);
    existing.is_some_and(|existing| failed().contains(&existing.id))
}
