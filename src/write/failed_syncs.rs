//! Files that are in their places, but may not be there after a power cut: the last sync of
//! their write has failed. To sync them again would say nothing, because the system may have
//! dropped what it could not write. Only writing them anew helps.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{LazyLock, Mutex, MutexGuard};

use crate::fs::{DirUse, FileId, FileSystem};
use crate::mutex::guard;
use crate::resolve;

static FAILED: LazyLock<Mutex<HashSet<FileId>>> = LazyLock::new(Mutex::default);

fn doubtful() -> MutexGuard<'static, HashSet<FileId>> {
    guard(&FAILED)
}

/// Notes that this process could not make a file durable.
pub(super) fn note(id: FileId) {
    doubtful().insert(id);
}

/// Whether this process could not make the file at `path` durable, so that it has to be written
/// anew if it is to be.
pub fn sync_failed<F: FileSystem>(fs: &F, path: &Path, follow_symlinks: bool) -> bool {
    if doubtful().is_empty() {
        return false;
    }
    let target = resolve::target(fs, path, follow_symlinks, DirUse::Names);
    let existing = target.ok().and_then(|target| target.existing);
    existing.is_some_and(|existing| doubtful().contains(&existing.id))
}
