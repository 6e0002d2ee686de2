//! Whoever wants to know which folders are written to.

use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::fs::{FileId, FileSystem, uninterrupted};
use crate::target::Target;

/// Takes a folder that is about to be written to. It is called for every attempt at a write, so
/// it must be quick.
pub type Hook = fn(FileId, &Path);

static HOOK: OnceLock<Hook> = OnceLock::new();
static IS_WATCHED: AtomicBool = AtomicBool::new(false);

/// Has every folder reported that is written to from now on, or no more. There is one hook; the
/// first one stays.
pub fn watch_folders(is_watched: bool, hook: Hook) {
    let _ = HOOK.set(hook);
    IS_WATCHED.store(is_watched, Ordering::SeqCst);
}

/// Reports the folder of a target. While nobody watches this is one look at a flag.
pub(super) fn folder<F: FileSystem>(fs: &F, target: &Target<F>) {
    if IS_WATCHED.load(Ordering::Relaxed)
        && let Some(hook) = HOOK.get()
        && let Ok(folder) = uninterrupted(|| fs.folder_metadata(&target.folder))
    {
        hook(folder.id, &target.folder_path);
    }
}
