//! Whoever wants to know which directories are written to.

use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::fs::{FileId, FileSystem, uninterrupted};
use crate::resolve::Target;

/// Takes a directory that is about to be written to. It is called for every attempt at a write, so
/// it must be quick.
pub type DirHook = fn(FileId, &Path);

static HOOK: OnceLock<DirHook> = OnceLock::new();
static IS_WATCHED: AtomicBool = AtomicBool::new(false);

/// Has every directory reported that is written to from now on, or no more. There is one hook; the
/// first one stays.
pub fn set_dir_hook(is_watched: bool, hook: DirHook) {
    let _ = HOOK.set(hook);
    IS_WATCHED.store(is_watched, Ordering::SeqCst);
}

/// Reports the directory of a target. While nobody watches this is one look at a flag.
pub(super) fn dir<F: FileSystem>(fs: &F, target: &Target<F>) {
    if IS_WATCHED.load(Ordering::Relaxed)
        && let Some(hook) = HOOK.get()
        && let Ok(dir) = uninterrupted(|| fs.dir_metadata(target.dir.handle()))
    {
        hook(dir.id, target.dir.path());
    }
}
