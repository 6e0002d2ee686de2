//! The rename that makes the temp file the target.

use std::ffi::{OsStr, OsString};

use super::attempt::AttemptError;
use super::temp_file::TempFile;
use crate::error::{Code, Failure};
use crate::fs::{FileSystem, NamedFile};
use crate::resolve::Target;

/// Renames the temp file over the target. Until this succeeds the target is untouched.
pub(super) fn rename<F: FileSystem>(
    target: &Target<F>,
    temp: &TempFile<F>,
) -> Result<(), AttemptError> {
    let Err(failure) = target.dir.rename(&temp.file, &temp.name, &target.name) else {
        return Ok(());
    };
    match look(target, temp, &target.name) {
        PublishedAs::Ours => Ok(()),
        found => Err(not_renamed(target, temp, &found, failure)),
    }
}

/// Renames the temp file to the target, if nothing has that name: `EEXIST` otherwise, as when a file
/// is opened to be made.
pub(super) fn create<F: FileSystem>(
    target: &Target<F>,
    temp: &TempFile<F>,
) -> Result<(), AttemptError> {
    let Err(failure) = target.dir.publish_new(&temp.file, &temp.name, &target.name) else {
        return Ok(());
    };
    let is_taken = failure.code() == Some(Code::EEXIST);
    match look(target, temp, &target.name) {
        PublishedAs::Ours => Ok(()),
        PublishedAs::Nothing | PublishedAs::Other | PublishedAs::Untold if is_taken => {
            Err(exists(target).into())
        }
        found => Err(not_renamed(target, temp, &found, failure)),
    }
}

/// There is such a file already.
pub(crate) fn exists<F: FileSystem>(target: &Target<F>) -> Failure {
    Failure::at("open", target.path(), Code::EEXIST.error())
}

/// How many names are tried for a file that may not replace anything.
const MOST_NAMES: u64 = 10_000;

/// Renames the temp file to the first of some names that nothing has, and returns which one that
/// is. No file that is there is ever replaced.
pub(super) fn rename_new<F: FileSystem>(
    target: &Target<F>,
    temp: &TempFile<F>,
    names: &dyn Fn(u64) -> OsString,
) -> Result<u64, AttemptError> {
    let mut number = 0;
    loop {
        let name = names(number);
        let Err(failure) = target.dir.publish_new(&temp.file, &temp.name, &name) else {
            return Ok(number);
        };
        let is_taken = failure.code() == Some(Code::EEXIST);
        match look(target, temp, &name) {
            PublishedAs::Ours => return Ok(number),
            PublishedAs::Nothing | PublishedAs::Other | PublishedAs::Untold
                if is_taken && number < MOST_NAMES =>
            {
                number += 1;
            }
            found => return Err(not_renamed(target, temp, &found, failure)),
        }
    }
}

/// The error of a rename after which this was `found` under the new name.
///
/// A network file system may do the rename and then report an error, because the server's answer
/// was lost and the request was sent again. That is why the name is looked at.
fn not_renamed<F: FileSystem>(
    target: &Target<F>,
    temp: &TempFile<F>,
    found: &PublishedAs,
    failure: Failure,
) -> AttemptError {
    // Where the new name cannot be looked at and the old name is gone, the rename is what took
    // it; but that is not enough to call it a success.
    let committed = matches!(found, PublishedAs::Unknown | PublishedAs::Untold)
        && look(target, temp, &temp.name) == PublishedAs::Nothing;
    AttemptError { kind: failure.into(), committed }
}

/// What a name in the target's directory stands for.
#[derive(PartialEq, Eq)]
pub(super) enum PublishedAs {
    /// The file that was staged.
    Ours,
    /// Another file.
    Other,
    Nothing,
    /// Something, and the file system cannot tell files apart.
    Untold,
    /// The directory cannot be looked at.
    Unknown,
}

pub(super) fn look<F: FileSystem>(
    target: &Target<F>,
    temp: &TempFile<F>,
    name: &OsStr,
) -> PublishedAs {
    match target.dir.look(name) {
        Ok(Some(named)) if named.id == temp.metadata.id => PublishedAs::Ours,
        Ok(Some(_)) => match target.dir.compare(name, &temp.file) {
            Ok(NamedFile::Same) => PublishedAs::Ours,
            Ok(NamedFile::Other) => PublishedAs::Other,
            Ok(NamedFile::Nothing) => PublishedAs::Nothing,
            Ok(NamedFile::Untold) => PublishedAs::Untold,
            Err(_) => PublishedAs::Unknown,
        },
        Ok(None) => PublishedAs::Nothing,
        Err(_) => PublishedAs::Unknown,
    }
}
