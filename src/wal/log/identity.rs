//! What a log was opened with, by which it tells whether it is still there.

use std::ffi::{OsStr, OsString};
use std::time::Instant;

use crate::error::{Code, ErrorKind, WalError};
use crate::fs::{Dir, DirUse, FileId, FileSystem};
use crate::resolve;

/// What the log was opened with.
pub(super) struct Identity<F: FileSystem> {
    /// The name of its lock file in its directory, and which file that was.
    pub(super) lock: Option<(OsString, FileId)>,
    pub(super) above: Option<Above<F>>,
}

/// Where the directory of a log is. A root directory is nowhere.
pub(super) struct Above<F: FileSystem> {
    /// The directory above it,
    pub(super) dir: Dir<F>,
    /// its name there,
    pub(super) name: OsString,
    /// and what that stands for.
    pub(super) own: FileId,
}

/// When the names of a log were last looked at.
#[derive(Clone, Copy, Default)]
pub(super) struct Looks {
    pub(super) near: Option<Instant>,
    pub(super) far: Option<Instant>,
    /// What the name of the collection stands for: its directory, or a link to it.
    pub(super) named: Option<FileId>,
}

impl<F: FileSystem> Identity<F> {
    /// That of the log in this directory, whose lock file, where it has one, has this name.
    pub(super) fn of(dir: &Dir<F>, lock: Option<&OsStr>) -> Result<Identity<F>, ErrorKind> {
        let lock = match lock {
            None => None,
            Some(name) => match dir.look(name)? {
                Some(found) => Some((name.to_owned(), found.id)),
                None => return Err(lock_file_is_gone(dir, name).into()),
            },
        };
        Ok(Identity { lock, above: Above::find(dir) })
    }
}

impl<F: FileSystem> Above<F> {
    /// `None` also where it cannot be told: then nothing is made of it.
    fn find(dir: &Dir<F>) -> Option<Above<F>> {
        let found = resolve::target(dir.fs(), dir.path(), true, DirUse::Names).ok()?;
        let own = dir.metadata().ok()?.id;
        let is_it = found.existing.is_some_and(|existing| existing.id == own);
        is_it.then_some(Above { dir: found.dir, name: found.name, own })
    }
}

/// The lock file is not there, or is another one.
pub(super) fn lock_file_is_gone<F: FileSystem>(dir: &Dir<F>, name: &OsStr) -> WalError {
    let path = dir.shown(name);
    WalError::Moved(format!("its lock file '{}' was removed or replaced", path.display()))
}

/// Whether a name in a directory stands for something else than the file with this number, or for
/// nothing. If numbers tell nothing there, only the second is so. What cannot be looked at is not so.
pub(super) fn is_other<F: FileSystem>(
    dir: &Dir<F>,
    name: &OsStr,
    (id, tells): (FileId, bool),
) -> bool {
    let look = || match dir.identity(name) {
        Ok(found) => Some(found),
        Err(failure) if failure.code() == Some(Code::ESTALE) => Some(None),
        Err(_) => None,
    };
    let is_right = |found: &Option<FileId>| *found == Some(id) || !tells && found.is_some();
    let Some(found) = look().filter(|found| !is_right(found)) else { return false };
    // Some file systems of programs and some servers number a file anew at each look.
    look() == Some(found)
}
