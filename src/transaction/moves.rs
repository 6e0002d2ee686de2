//! Looking at names, and moving files from one to another.

use std::ffi::OsStr;
use std::io;

use crate::fs::{FileSystem, uninterrupted};

/// What a look at a name says.
#[derive(PartialEq, Eq)]
pub(super) enum Seen {
    Something,
    Nothing,
    /// A network file system whose server cannot be asked any more, for example.
    Unknown,
}

pub(super) fn look<F: FileSystem>(fs: &F, dir: &F::DirHandle, name: &OsStr) -> Seen {
    match uninterrupted(|| fs.metadata(dir, name)) {
        Ok(_) => Seen::Something,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Seen::Nothing,
        Err(_) => Seen::Unknown,
    }
}

/// Whether a name stands for this open file.
pub(super) fn is_named<F: FileSystem>(
    fs: &F,
    dir: &F::DirHandle,
    file: &F::FileHandle,
    name: &OsStr,
) -> bool {
    let own = uninterrupted(|| fs.file_metadata(file));
    let named = uninterrupted(|| fs.metadata(dir, name));
    matches!((own, named), (Ok(own), Ok(named)) if own.id == named.id)
}

/// Gives a file that is to be removed another name, by which it is known that it was. That it
/// is gone already is as well.
pub(super) fn put_aside<F: FileSystem>(
    fs: &F,
    dir: &F::DirHandle,
    name: &OsStr,
    aside: &OsStr,
) -> io::Result<()> {
    let is_missing = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let file = match uninterrupted(|| fs.open_to_change(dir, name)) {
        Ok(file) => file,
        Err(error) if is_missing(&error) => return Ok(()),
        Err(error) => return Err(error),
    };
    match uninterrupted(|| fs.rename(dir, &file, name, aside)) {
        Err(error) if is_missing(&error) => Ok(()),
        Err(error) if !is_named(fs, dir, &file, aside) => Err(error),
        _ => Ok(()),
    }
}
