//! Removes the lock files that processes have left which were killed.
//!
//! It is no part of [`recover`](super::recover): a lock file has nothing to do with what is in the
//! file, and only the kernel knows whether it is used.

use std::path::{Path, PathBuf};

use super::request::RecoveryRequest;
use crate::error::Failure;
use crate::fs::os::Os;
use crate::fs::{Dir, DirUse, FileKind};
use crate::lock;
use crate::write::Control;

/// Removes those at the path of a request that no process uses. What cannot be looked at or removed
/// stays: it is of no consequence, and the recovery has said what is.
pub(super) fn remove_unused(request: &RecoveryRequest, control: &Control) {
    if request.options.dry_run {
        return;
    }
    let mut ahead = vec![request.path.clone()];
    if Dir::open(&Os, &request.path, DirUse::Names).is_err() {
        let _ = lock::remove_unused_lock(&request.path);
        return;
    }
    while let Some(path) = ahead.pop() {
        if control.check().is_err() {
            return;
        }
        if let Ok(below) = remove_in_dir(&path, request.options.recursive) {
            ahead.extend(below);
        }
    }
}

/// The directories in it, if they are wanted.
fn remove_in_dir(path: &Path, is_recursive: bool) -> Result<Vec<PathBuf>, Failure> {
    let dir = Dir::open(&Os, path, DirUse::Names)?;
    let names = dir.names()?;
    lock::remove_unused_locks(&dir, &names);
    let is_dir = |name: &&std::ffi::OsString| {
        is_recursive
            && dir.look(name).is_ok_and(|found| found.is_some_and(|it| it.kind == FileKind::Dir))
    };
    Ok(names.iter().filter(is_dir).map(|name| dir.shown(name)).collect())
}
