//! Lock files that this process has used, and that it removes again: when no call has wanted the lock
//! for a while, or at the end of the process.
//!
//! A lock that is used again and again keeps its file, which is not made anew each time. Which process
//! removes it does not matter: the last one that used it finds that no other does. What a process
//! leaves that is killed is removed by the next one that uses the lock.
//!
//! Only where that is safe: [`LockRules::may_remove_files`](crate::fs::LockRules::may_remove_files).

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

use super::kernel::{Removed, remove_unused};
use super::lock_path::{LockPath, LockedPath};
use crate::error::{Code, Failure};
use crate::fs::os::Os;
#[cfg(unix)]
use crate::fs::os::RemoveAtExit;
use crate::fs::{Dir, DirUse};
use crate::mutex::guard;
use crate::threads::{blocking, pool};
use crate::vocabulary::FileKey;

/// How long a lock file stays that no call uses.
const COOL_DOWN: Duration = Duration::from_millis(250);

/// Says whether calls of this process may use a lock file.
type IsInUse = fn(&FileKey) -> bool;

/// A lock file that this process has used.
struct UsedFile {
    path: PathBuf,
    is_in_use: IsInUse,
    /// Since when no call has used it; `None` while one does.
    unused_since: Option<Instant>,
    #[cfg(unix)]
    _at_exit: Option<RemoveAtExit>,
}

#[derive(Default)]
struct UsedFiles {
    files: HashMap<FileKey, UsedFile>,
    /// A thread will look which of them are to be removed.
    is_sweep_due: bool,
}

static FILES: LazyLock<Mutex<UsedFiles>> = LazyLock::new(Mutex::default);

/// Calls are about to use this lock file, which may be removed when they do not any more: to be called
/// before they have a queue.
pub(super) fn used(key: &FileKey, path: impl FnOnce() -> PathBuf, is_in_use: IsInUse) {
    let mut files = guard(&FILES);
    if let Some(known) = files.files.get_mut(key) {
        known.unused_since = None;
        return;
    }
    let is_first = files.files.is_empty();
    let file = UsedFile::new(path(), is_in_use, is_first);
    files.files.insert(key.clone(), file);
}

impl UsedFile {
    fn new(path: PathBuf, is_in_use: IsInUse, is_first: bool) -> UsedFile {
        #[cfg(not(unix))]
        let _ = is_first;
        UsedFile {
            #[cfg(unix)]
            _at_exit: RemoveAtExit::file(&path, super::kernel::remove_unused_at_exit, is_first),
            path,
            is_in_use,
            unused_since: None,
        }
    }
}

/// No call of this process uses this lock file any more.
pub(super) fn unused(key: &FileKey) {
    let mut files = guard(&FILES);
    let Some(known) = files.files.get_mut(key) else { return };
    known.unused_since = Some(Instant::now());
    let is_sweep_due = std::mem::replace(&mut files.is_sweep_due, true);
    drop(files);
    if !is_sweep_due {
        sweep_later();
    }
}

fn sweep_later() {
    // Not under the mutex: a job that cannot be run is dropped, and may have something to say.
    if pool().submit_after(COOL_DOWN, Box::new(sweep)).is_err() {
        // The next file that is not used any more, or the end of the process, sees to it.
        guard(&FILES).is_sweep_due = false;
    }
}

/// Removes the lock files that no call has used for a while.
fn sweep() {
    remove_all(|unused_since| unused_since.elapsed() >= COOL_DOWN);
    let mut files = guard(&FILES);
    files.is_sweep_due = files.files.values().any(|file| file.unused_since.is_some());
    let is_sweep_due = files.is_sweep_due;
    drop(files);
    if is_sweep_due {
        sweep_later();
    }
}

/// Removes all lock files that no call uses, at the end of the process.
#[cfg(not(unix))]
pub fn remove_unused_files() {
    remove_all(|_| true);
}

fn remove_all(is_due: impl Fn(Instant) -> bool) {
    let mut files = guard(&FILES);
    let due: Vec<_> =
        files.files.extract_if(|_, file| file.unused_since.is_some_and(&is_due)).collect();
    drop(files);
    for (key, file) in due {
        let is_in_use = file.is_in_use;
        if is_in_use(&key) {
            // A call has come meanwhile, and says when it is over; perhaps it has just done so.
            used(&key, || file.path, is_in_use);
            if !is_in_use(&key) {
                unused(&key);
            }
            continue;
        }
        let has_to_try_again = match blocking(|| remove(&file.path, &key)) {
            Ok(removed) => removed == Removed::Contended,
            // What cannot be removed stays, for the next process that uses it.
            Err(failure) => matches!(failure.code(), Some(Code::EMFILE | Code::ENFILE)),
        };
        if has_to_try_again {
            used(&key, || file.path, is_in_use);
            unused(&key);
        }
    }
}

/// Removes a lock file, if it is where it was and no process uses it.
fn remove(path: &Path, key: &FileKey) -> Result<Removed, Failure> {
    let Some(parent) = path.parent() else { return Ok(Removed::Stays) };
    let dir = Dir::open(&Os, parent, DirUse::Names)?;
    match dir.metadata()?.id == key.0 {
        true => remove_unused(dir.handle(), &key.1),
        false => Ok(Removed::Stays),
    }
}

/// Removes the lock file that is meant by a path, as its last user does, where that is safe. Whether
/// there is none any more.
pub fn remove_unused_lock(path: &Path) -> Result<bool, Failure> {
    let found = LockPath::find(&LockedPath::own(path))?;
    if !found.dir.handle().lock_rules().may_remove_files {
        return Ok(false);
    }
    let removed = remove_unused(found.dir.handle(), &found.name);
    Ok(removed.map_err(|failure| failure.on(found.path()))? == Removed::Gone)
}

/// The same for all lock files among these names in a directory.
pub fn remove_unused_locks(dir: &Dir<Os>, names: &[OsString]) {
    let is_lock_file = |name: &&OsString| {
        let name = name.as_encoded_bytes();
        name.starts_with(b".") && name.ends_with(b".lock")
    };
    let mut lock_files = names.iter().filter(is_lock_file).peekable();
    if lock_files.peek().is_some() && dir.handle().lock_rules().may_remove_files {
        // What cannot be removed stays: it is of no consequence.
        lock_files.for_each(|name| drop(blocking(|| remove_unused(dir.handle(), name))));
    }
}
