//! Which lock a path means, and where its file is.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use super::{FileKey, LockKind, kernel, name};
use crate::error::Failure;
use crate::error::Holder;
use crate::fs::DirUse;
use crate::fs::os::{DirHandle, Os};
use crate::resolve::{self, Target};

/// Who has the lock of a file so that somebody who asked for this kind would have to wait; the
/// outer `None` when nobody has. Only writers are known by name.
pub fn inspect(path: &Path, kind: LockKind) -> Result<Option<Option<Holder>>, Failure> {
    let place = Place::find(path)?;
    kernel::inspect(&place.dir, &place.name, kind, kernel::LOOKS)
        .map_err(|failure| failure.on(&place.path))
}

/// Which lock is that of a file.
pub fn key_of(path: &Path) -> Result<FileKey, Failure> {
    Place::find(path).map(|place| place.key)
}

/// Where a lock file is.
pub(super) struct Place {
    pub(super) dir: DirHandle,
    pub(super) key: FileKey,
    pub(super) name: OsString,
    pub(super) path: PathBuf,
    /// What was asked for is this name in this directory, and no link that leads there.
    pub(super) is_direct: bool,
}

impl Place {
    pub(super) fn find(path: &Path) -> Result<Place, Failure> {
        let target = target_of(path)?;
        let id = target.dir.metadata()?.id;
        let name = name::of(&target.name);
        let is_direct =
            path.parent() == Some(target.dir.path()) && path.file_name() == Some(&target.name);
        Ok(Place {
            is_direct,
            key: (id, name.clone()),
            path: target.dir.shown(&name),
            dir: target.dir.into_parts().0,
            name,
        })
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
