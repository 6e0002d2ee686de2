//! Which lock a path means, and where its lock file is: `.<basename>.lock`, beside the file.

use std::ffi::{OsStr, OsString};
use std::path::{Component, Path, PathBuf};

use super::kernel::{Patience, inspect as inspect_file};
use crate::error::{Failure, Holder};
use crate::fs::os::Os;
use crate::fs::{Dir, DirUse};
use crate::resolve::{self, Target};
use crate::short_name::fit;
use crate::vocabulary::{FileKey, LockKind};

const SUFFIX: &str = ".lock";

/// Who holds the lock of a file so that a call of this kind would have to wait; the outer `None`
/// when no process does. Only writers are known by name.
pub fn inspect(path: &Path, kind: LockKind) -> Result<Option<Option<Holder>>, Failure> {
    let found = LockPath::find(path)?;
    inspect_file(found.dir.handle(), &found.name, kind, Patience::ForNote)
        .map_err(|failure| failure.on(found.path()))
}

/// Which lock is that of a file.
pub fn key_of(path: &Path) -> Result<FileKey, Failure> {
    LockPath::find(path).map(|found| found.key)
}

/// Where a lock file is.
pub(super) struct LockPath {
    pub(super) dir: Dir<Os>,
    pub(super) key: FileKey,
    pub(super) name: OsString,
    /// Whether the path that was asked for is this name in this directory, and no link to it.
    pub(super) is_direct: bool,
}

impl LockPath {
    pub(super) fn find(path: &Path) -> Result<LockPath, Failure> {
        let target = target_of(path)?;
        let id = target.dir.metadata()?.id;
        let name = lock_file_name(&target);
        let is_direct =
            path.parent() == Some(target.dir.path()) && path.file_name() == Some(&target.name);
        Ok(LockPath { is_direct, key: (id, name.clone()), dir: target.dir, name })
    }

    /// The path of the lock file, for messages.
    pub(super) fn path(&self) -> PathBuf {
        self.dir.shown(&self.name)
    }
}

/// What a path to be locked means.
pub(super) fn target_of(path: &Path) -> Result<Target<Os>, Failure> {
    // A directory may be named with a separator at the end; it is locked as a whole, through a
    // file beside it like any other.
    let path = match path.components().next_back() {
        // Only the system knows what it is called.
        Some(Component::ParentDir) => {
            &std::fs::canonicalize(path).map_err(|error| Failure::at("realpath", path, error))?
        }
        _ => without_end(path),
    };
    resolve::target(&Os, path, true, DirUse::Names)
}

/// The path without separators at its end.
fn without_end(path: &Path) -> &Path {
    match (path.parent(), path.file_name()) {
        // `components` ignores separators, and `.`, at the end.
        (Some(_), Some(_)) => path.components().as_path(),
        _ => path,
    }
}

/// The name of the lock file of a file. Versions of holdfast exclude each other by this name, so
/// where 255 bytes fit it never changes. Where they do not, it is made within the limit that every
/// process finds in the same way.
pub(super) fn lock_file_name(target: &Target<Os>) -> OsString {
    let limit = target.dir.name_limit(|limit| name_within(&target.name, limit));
    name_within(&target.name, limit)
}

/// `.<basename>.lock`. Where the name would be longer than `limit` its basename part is shortened
/// and followed by a hash of all of it: `.<beginning>.<16 hex digits>.lock`.
fn name_within(basename: &OsStr, limit: usize) -> OsString {
    let mut name = OsString::from(".");
    name.push(fit(basename, limit.saturating_sub(1 + SUFFIX.len())));
    name.push(SUFFIX);
    name
}
