//! Removes a file for good.
//!
//! The removal of a name is one step: after a crash the file is there, whole, or it is not. With
//! [`Durability::Full`] the directory is synced after it, so that an acknowledged removal stands. What
//! is removed stays open until then where its blocks would be used again at once
//! ([`SyncRules::reuses_freed`](crate::fs::SyncRules::reuses_freed)): a power cut that brings the name
//! back would bring it back with the bytes of another file.

use std::path::Path;

use super::attempt::AttemptError;
use crate::error::{Code, Failure};
use crate::fs::{DirUse, FileKind, FileSystem, Removals};
use crate::resolve;
use crate::vocabulary::Durability;
use crate::vocabulary::GuardedFile;

/// Removes the file that a path leads to; `only` is the one that it may be, if its lock is held.
///
/// # Errors
///
/// `ENOENT` when there is none, and what the system refuses. The error says whether the file is gone
/// nevertheless, and only not for good.
pub fn remove_file<F: FileSystem>(
    fs: &F,
    path: &Path,
    follow_symlinks: bool,
    durability: Durability,
    only: Option<&GuardedFile>,
) -> Result<(), AttemptError> {
    let target = resolve::target(fs, path, follow_symlinks, DirUse::NamesAndSync)?;
    only.map_or(Ok(()), |only| target.must_be(only))?;
    let refused = |code: Code| Failure::at("unlink", target.path(), code.error());
    match target.existing.map(|existing| existing.kind) {
        None => return Err(refused(Code::ENOENT).into()),
        Some(FileKind::Dir) => return Err(refused(Code::EISDIR).into()),
        Some(FileKind::Other(special)) => {
            return Err(Failure::special("unlink", target.path(), special.name()).into());
        }
        Some(FileKind::File | FileKind::Link) => {}
    }
    let committed = |failure| AttemptError { committed: true, ..AttemptError::from(failure) };
    let mut removals = Removals::new(&target.dir);
    removals.remove(&target.name).map_err(|failure| {
        // A server may have done what it could not answer for.
        let is_gone = matches!(target.dir.look(&target.name), Ok(None));
        AttemptError { committed: is_gone, ..AttemptError::from(failure) }
    })?;
    removals.finish().map_err(committed)?;
    match durability {
        Durability::Full => target.dir.sync(None).map_err(committed),
        Durability::None | Durability::File => Ok(()),
    }
}
