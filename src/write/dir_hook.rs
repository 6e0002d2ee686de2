//! The hook that is called for each directory that is written to.

use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::fs::{Dir, FileId, FileSystem};

/// Is called with each directory that is about to be written to, for every attempt at a write, so
/// it must be quick.
pub type DirHook = fn(FileId, &Path);

static HOOK: OnceLock<DirHook> = OnceLock::new();
static IS_WATCHED: AtomicBool = AtomicBool::new(false);

/// Turns the reports of directories on or off. There is one hook; the first one stays.
pub fn set_dir_hook(is_watched: bool, hook: DirHook) {
    let _ = HOOK.set(hook);
    IS_WATCHED.store(is_watched, Ordering::SeqCst);
}

/// Reports a directory. While the reports are off this is one look at a flag.
pub(super) fn report<F: FileSystem>(dir: &Dir<F>) {
    if IS_WATCHED.load(Ordering::Relaxed)
        && let Some(hook) = HOOK.get()
        && let Ok(metadata) = dir.metadata()
    {
        hook(metadata.id, dir.path());
    }
}
