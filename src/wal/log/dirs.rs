//! The directories of a log and of its collections.

use std::ffi::OsStr;
use std::path::Path;

use crate::error::Code;
use crate::error::{ErrorKind, Failure};
use crate::fs::{DirUse, FileKind, FileSystem, uninterrupted};
use crate::wal::check_name;

/// The names of the collections of the log in this directory, which another process may have open.
///
/// # Errors
///
/// There is no such directory, or the system refuses.
pub fn collections<F: FileSystem>(fs: &F, path: &Path) -> Result<Vec<String>, ErrorKind> {
    let dir = uninterrupted(|| fs.open_dir(path, DirUse::Names));
    let dir = dir.map_err(|error| Failure::at("open", path, error))?;
    let names = uninterrupted(|| fs.names(&dir));
    let names = names.map_err(|error| Failure::at("scandir", path, error))?;
    let mut found = Vec::new();
    for name in names.iter().filter_map(|name| name.to_str()) {
        if is_collection(fs, &dir, path, name)? {
            found.push(name.to_owned());
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Whether a name in the directory of a log is that of a collection: a directory, or a symbolic link
/// to one.
pub(super) fn is_collection<F: FileSystem>(
    fs: &F,
    dir: &F::DirHandle,
    path: &Path,
    name: &str,
) -> Result<bool, Failure> {
    if check_name(name).is_err() {
        return Ok(false);
    }
    let is_absent = |error: &std::io::Error| Code::of(error) == Some(Code::ENOENT);
    let kind = match uninterrupted(|| fs.metadata(dir, OsStr::new(name))) {
        Err(error) if is_absent(&error) => return Ok(false),
        known => known.map_err(|error| Failure::at("stat", path.join(name), error))?.kind,
    };
    if kind != FileKind::Link {
        return Ok(kind == FileKind::Dir);
    }
    let path = path.join(name);
    match uninterrupted(|| fs.open_dir(&path, DirUse::Names)) {
        Ok(_) => Ok(true),
        Err(error) if is_absent(&error) || Code::of(&error) == Some(Code::ENOTDIR) => Ok(false),
        Err(error) => Err(Failure::at("open", path, error)),
    }
}

/// Makes a directory, and makes its name durable.
pub(super) fn make_dir<F: FileSystem>(fs: &F, path: &Path) -> Result<(), Failure> {
    let is_new = match uninterrupted(|| fs.make_dir(path)) {
        // It may be there in memory only, if whoever made it died before its sync.
        Err(error) if Code::of(&error) == Some(Code::EEXIST) => false,
        outcome => {
            outcome.map_err(|error| Failure::at("mkdir", path, error))?;
            true
        }
    };
    let Some(above) = path.parent().filter(|above| !above.as_os_str().is_empty()) else {
        return Ok(());
    };
    let synced = match uninterrupted(|| fs.open_dir(above, DirUse::NamesAndSync)) {
        Ok(dir) => sync_names(fs, &dir, above),
        Err(error) => Err(Failure::at("open", above, error)),
    };
    if synced.is_err() && is_new {
        // Another sync would say nothing about it. It has to be made anew.
        let _ = fs.remove_dir(path);
    }
    synced
}

/// Makes the names in a directory durable, unless the process may not list it: then whoever made
/// them has seen to it.
pub(super) fn sync_names<F: FileSystem>(
    fs: &F,
    dir: &F::DirHandle,
    path: &Path,
) -> Result<(), Failure> {
    match uninterrupted(|| fs.sync_dir(dir, None)) {
        Err(error) if Code::of(&error) == Some(Code::EACCES) => Ok(()),
        outcome => outcome.map_err(|error| Failure::at("fsync", path, error)),
    }
}
