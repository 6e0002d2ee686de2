//! The rename that makes the staged file the target, and the sync that makes the rename
//! last.

use super::AttemptError;
use super::durability::Durability;
use super::stage::Temp;
use crate::error::Failure;
use crate::fs::{FileSystem, uninterrupted};
use crate::target::Target;

/// Renames the temp file over the target. Until this succeeds the target is untouched.
pub(super) fn rename<F: FileSystem>(
    fs: &F,
    target: &Target<F>,
    temp: &Temp<F>,
) -> Result<(), Failure> {
    let renamed = uninterrupted(|| fs.rename(&target.folder, &temp.file, &temp.name, &target.name));
    match renamed {
        Ok(()) => Ok(()),
        // A network file system may do the rename and then report an error, because the
        // server's answer was lost and the request was sent again.
        Err(_) if is_in_place(fs, target, temp) => Ok(()),
        Err(error) => Err(Failure {
            dest: Some(target.shown(&target.name)),
            ..Failure::at("rename", target.shown(&temp.name), error)
        }),
    }
}

fn is_in_place<F: FileSystem>(fs: &F, target: &Target<F>, temp: &Temp<F>) -> bool {
    uninterrupted(|| fs.metadata(&target.folder, &target.name))
        .is_ok_and(|named| named.id == temp.metadata.id)
}

/// Makes the rename as durable as was asked for. A failure comes after the fact: the new
/// content is in place, but a power cut may bring the old one back.
pub(super) fn make_durable<F: FileSystem>(
    fs: &F,
    target: &Target<F>,
    temp: &Temp<F>,
    durability: Durability,
) -> Result<(), AttemptError> {
    if !durability.syncs_folder() {
        return Ok(());
    }
    uninterrupted(|| fs.sync_folder(&target.folder, Some(&temp.file))).map_err(|error| {
        let failure = Failure::at("fsync", &target.folder_path, error);
        AttemptError { kind: failure.into(), committed: true }
    })
}
