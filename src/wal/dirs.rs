//! The directories of a log and of its collections.

use std::ffi::OsStr;
use std::path::Path;

use super::segments::{CURRENT, check_name, is_part};
use crate::error::{Code, ErrorKind, Failure};
use crate::fs::{Dir, DirUse, FileKind, FileSystem, Metadata, SharedWith};

/// The names of the collections of the log in this directory, which another process may have open.
///
/// # Errors
///
/// There is no such directory, or the system refuses.
pub fn collections<F: FileSystem>(fs: &F, path: &Path) -> Result<Vec<String>, ErrorKind> {
    Ok(collections_in(&Dir::open(fs, path, DirUse::Names)?)?)
}

/// The names of the collections of the log in this directory, in their order.
pub(super) fn collections_in<F: FileSystem>(dir: &Dir<F>) -> Result<Vec<String>, Failure> {
    let mut names = dir.names()?;
    names.sort_unstable();
    let mut collections = Vec::new();
    for name in names.iter().filter_map(|name| name.to_str()) {
        if is_collection(dir, name)? {
            collections.push(name.to_owned());
        }
    }
    Ok(collections)
}

/// Directories that the system makes, where a log may be the root of a volume or on a share. Only
/// those that are collections are looked at closer.
const SYSTEM_DIRS: &[&str] = &[
    "lost+found",
    "System Volume Information",
    "$RECYCLE.BIN",
    "#recycle",
    "#snapshot",
    "@Recycle",
    "@Recently-Snapshot",
    "@eaDir",
    "@tmp",
];

/// Whether a name in the directory of a log is that of a collection: a directory, or a symbolic
/// link to one, that has something of a collection. Others may be there for reasons of their own.
fn is_collection<F: FileSystem>(dir: &Dir<F>, name: &str) -> Result<bool, Failure> {
    if check_name(name).is_err() {
        return Ok(false);
    }
    match stat(dir, name)?.map(|known| known.kind) {
        None => Ok(false),
        Some(FileKind::Link | FileKind::Dir) => match has_parts(dir, name) {
            Err(failure) if matches!(failure.code(), Some(Code::ENOENT | Code::ENOTDIR)) => {
                Ok(false)
            }
            Err(failure)
                if SYSTEM_DIRS.contains(&name)
                    && matches!(failure.code(), Some(Code::EACCES | Code::EPERM)) =>
            {
                Ok(false)
            }
            found => found,
        },
        Some(_) => Ok(false),
    }
}

/// Whether there is something of a collection in a directory.
fn has_parts<F: FileSystem>(log: &Dir<F>, name: &str) -> Result<bool, Failure> {
    let dir = log.open_dir(name.as_ref(), DirUse::Names)?;
    // By far most have this.
    if dir.look(CURRENT.as_ref())?.is_some() {
        return Ok(true);
    }
    Ok(dir.names()?.iter().any(|name| name.to_str().is_some_and(is_part)))
}

/// What a name stands for, `None` for nothing. A log's messages have always called this `stat`.
fn stat<F: FileSystem>(dir: &Dir<F>, name: &str) -> Result<Option<Metadata>, Failure> {
    dir.look(name.as_ref()).map_err(|failure| Failure { syscall: "stat", ..failure })
}

/// The same of a name that has been listed, and so should be there.
pub(super) fn stat_listed<F: FileSystem>(dir: &Dir<F>, name: &str) -> Result<Metadata, Failure> {
    stat(dir, name)?.ok_or_else(|| Failure::at("stat", name, Code::ENOENT.error()))
}

/// Whether a name that has been listed is that of a regular file.
pub(super) fn is_file<F: FileSystem>(dir: &Dir<F>, name: &str) -> Result<bool, Failure> {
    Ok(stat_listed(dir, name)?.kind == FileKind::File)
}

/// How the files of a log are made: every user who may write to its directory may write the log.
pub(super) const SHARED: SharedWith<'static> = SharedWith::WritersOfDir { mode: 0o666 };

/// Makes the directory of a log, if there is none, and makes its name durable. Its parent has to be
/// there.
///
/// # Errors
///
/// What the system says.
pub fn make_dir<F: FileSystem>(fs: &F, path: &Path) -> Result<(), Failure> {
    let is_new = is_made(Dir::make(fs, path))?;
    let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) else {
        return Ok(());
    };
    let synced = Dir::open(fs, parent, DirUse::NamesAndSync).and_then(|parent| sync_names(&parent));
    match &synced {
        Err(_) if is_new => {
            // Another sync would say nothing about it. It has to be made anew.
            let _ = Dir::remove_empty(fs, path);
        }
        // Nothing has been made there since it was mounted so.
        Err(failure) if failure.code() == Some(Code::EROFS) => return Ok(()),
        _ => {}
    }
    synced
}

/// Makes the directory of a collection in that of its log, which whoever may write to that of the
/// log may write to, and makes its name durable.
pub(super) fn make_collection_dir<F: FileSystem>(
    log: &Dir<F>,
    name: &OsStr,
) -> Result<(), Failure> {
    let is_new = is_made(log.make_shared_dir(name))?;
    let synced = sync_names(log);
    if synced.is_err() && is_new {
        let _ = log.remove_empty_dir(name);
    }
    synced
}

/// Whether a directory was made just now. One that was there may be so in memory only, if the
/// process that made it died before its sync.
fn is_made(made: Result<(), Failure>) -> Result<bool, Failure> {
    match made {
        Err(failure) if failure.code() == Some(Code::EEXIST) => Ok(false),
        made => made.map(|()| true),
    }
}

/// Makes the names in a directory durable, unless the process may not list it: then the process
/// that made them has synced them.
pub(super) fn sync_names<F: FileSystem>(dir: &Dir<F>) -> Result<(), Failure> {
    match dir.sync(None) {
        Err(failure) if failure.code() == Some(Code::EACCES) => Ok(()),
        synced => synced,
    }
}
