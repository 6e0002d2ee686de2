//! The rename that makes the staged file the target, the sync before it and the one that makes
//! the rename last.

use std::ffi::{OsStr, OsString};
use std::io;

use super::AttemptError;
use super::durability::Syncs;
use super::stage::Temp;
use crate::error::Code;
use crate::error::Failure;
use crate::fs::{FileSystem, uninterrupted};
use crate::resolve::Target;
use crate::threads::blocking;

/// Does what has to be done for the staged file before its rename. None of these is done again
/// for this file after a failure: see [`FileSystem::sync_file`].
pub(crate) fn prepare<F: FileSystem>(
    fs: &F,
    temp: &Temp<F>,
    syncs: Syncs,
) -> Result<(), AttemptError> {
    let done = match syncs {
        Syncs::None => uninterrupted(|| fs.report_write_errors(&temp.file))
            .map_err(|error| Failure::new("close", error)),
        Syncs::FileBefore | Syncs::FileThenDir => {
            uninterrupted(|| blocking(|| fs.sync_file(&temp.file)))
                .map_err(|error| Failure::new("fsync", error))
        }
        Syncs::BytesThenFile => uninterrupted(|| blocking(|| fs.await_write_back(&temp.file)))
            .map_err(|error| Failure::new("sync_file_range", error)),
    };
    Ok(done?)
}

/// Renames the temp file over the target. Until this succeeds the target is untouched.
pub(crate) fn rename<F: FileSystem>(
    fs: &F,
    target: &Target<F>,
    temp: &Temp<F>,
) -> Result<(), AttemptError> {
    let renamed =
        uninterrupted(|| fs.rename(target.dir.handle(), &temp.file, &temp.name, &target.name));
    let Err(error) = renamed else { return Ok(()) };
    // A network file system may do the rename and then report an error, because the server's
    // answer was lost and the request was sent again. So it is looked at what is there.
    let committed = match look(fs, target, temp, &target.name) {
        Found::Ours => return Ok(()),
        Found::Nothing | Found::SomethingElse => false,
        // The target cannot be looked at. If the temp file's name is gone, the rename is what
        // took it; but this is not enough to call it a success.
        Found::CannotTell => look(fs, target, temp, &temp.name) == Found::Nothing,
    };
    let failure = Failure {
        dest: Some(target.path()),
        ..Failure::at("rename", target.dir.shown(&temp.name), error)
    };
    Err(AttemptError { kind: failure.into(), committed })
}

/// How many names are tried before it is given up to find a free one.
const NAMES: u64 = 10_000;

/// Renames the temp file to the first of some names that nothing has, and says which it is.
/// Nothing that is there is ever replaced.
pub(crate) fn rename_new<F: FileSystem>(
    fs: &F,
    target: &Target<F>,
    temp: &Temp<F>,
    names: &dyn Fn(u64) -> OsString,
) -> Result<u64, AttemptError> {
    let mut number = 0;
    loop {
        let name = names(number);
        let renamed =
            uninterrupted(|| fs.rename_new(target.dir.handle(), &temp.file, &temp.name, &name));
        let Err(error) = renamed else { return Ok(number) };
        let is_taken = Code::of(&error) == Some(Code::EEXIST);
        // As in `rename`: an error may be reported after the fact.
        let committed = match look(fs, target, temp, &name) {
            Found::Ours => return Ok(number),
            Found::Nothing | Found::SomethingElse if is_taken && number < NAMES => {
                number += 1;
                continue;
            }
            Found::Nothing | Found::SomethingElse => false,
            Found::CannotTell => look(fs, target, temp, &temp.name) == Found::Nothing,
        };
        let failure = Failure {
            dest: Some(target.dir.shown(&name)),
            ..Failure::at("rename", target.dir.shown(&temp.name), error)
        };
        return Err(AttemptError { kind: failure.into(), committed });
    }
}

#[derive(PartialEq, Eq)]
enum Found {
    /// The file that was staged.
    Ours,
    SomethingElse,
    Nothing,
    CannotTell,
}

/// What a name in the target's directory stands for.
fn look<F: FileSystem>(fs: &F, target: &Target<F>, temp: &Temp<F>, name: &OsStr) -> Found {
    match uninterrupted(|| fs.metadata(target.dir.handle(), name)) {
        Ok(named) if named.id == temp.metadata.id => Found::Ours,
        Ok(_) => Found::SomethingElse,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Found::Nothing,
        Err(_) => Found::CannotTell,
    }
}

/// Makes the rename as durable as was asked for. A failure comes after the fact: the new
/// content is in place, but a power cut may bring the old one back.
pub(crate) fn make_durable<F: FileSystem>(
    fs: &F,
    target: &Target<F>,
    temp: &Temp<F>,
    syncs: Syncs,
) -> Result<(), AttemptError> {
    let synced = match syncs {
        Syncs::None | Syncs::FileBefore => return Ok(()),
        Syncs::FileThenDir => sync_dir(fs, target, temp),
        Syncs::BytesThenFile => sync_target(fs, target, temp),
    };
    synced.map_err(|failure| AttemptError { kind: failure.into(), committed: true })
}

/// Makes the file that is now the target durable, its name included.
fn sync_target<F: FileSystem>(fs: &F, target: &Target<F>, temp: &Temp<F>) -> Result<(), Failure> {
    uninterrupted(|| blocking(|| fs.sync_file(&temp.file)))
        .map_err(|error| Failure::at("fsync", target.path(), error))?;
    if look(fs, target, temp, &target.name) == Found::Ours {
        return Ok(());
    }
    // Somebody else's file has taken its place already, and a file system may do nothing for a
    // file that has no name left (btrfs does not). Then what was there before might come back,
    // although this write was acknowledged. Whatever is there now has to stay, with its bytes.
    uninterrupted(|| blocking(|| fs.sync_file_system_of(&temp.file)))
        .map_err(|error| Failure::at("syncfs", target.path(), error))
}

/// Makes the names in the target's directory durable.
pub(crate) fn sync_dir<F: FileSystem>(
    fs: &F,
    target: &Target<F>,
    temp: &Temp<F>,
) -> Result<(), Failure> {
    uninterrupted(|| blocking(|| fs.sync_dir(target.dir.handle(), Some(&temp.file))))
        .map_err(|error| Failure::at("fsync", target.dir.path(), error))
}
