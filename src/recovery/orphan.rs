//! What is an orphan.

use std::ffi::OsStr;
use std::time::{Duration, SystemTime};

use super::Place;
use super::names::Origin;
use crate::error::Code;
use crate::error::Failure;
use crate::fs::{FileKind, FileSystem, Metadata, uninterrupted};

/// Something that was left, with its lock held: nobody else, and no writer, deals with it.
pub(super) struct Orphan<F: FileSystem> {
    pub(super) name: std::ffi::OsString,
    pub(super) origin: Origin,
    /// Whether it is certain which file it belongs to.
    pub(super) is_certain: bool,
    pub(super) file: F::FileHandle,
    pub(super) metadata: Metadata,
    pub(super) modified: SystemTime,
}

/// What came of looking at a name.
pub(super) enum Claim<F: FileSystem> {
    Orphan(Box<Orphan<F>>),
    /// It is not an orphan, or not yet.
    Left(String),
    /// There is nothing of that name any more, or nothing that a write leaves.
    Nothing,
    Failed(Failure),
}

/// Whether a recovery was cut off between moving the corrupt file aside and putting this one in
/// its place. Then the file is missing because of that, and this has been found to be an orphan.
pub(super) fn was_interrupted(modified: SystemTime, set_aside: Option<u64>) -> bool {
    let modified = modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    set_aside.is_some_and(|time| u128::from(time) >= modified.as_millis())
}

/// Takes what a name stands for if it is an orphan. `set_aside` says when a corrupt version of
/// its file was.
///
/// The age is looked at first, so that the file of a writer that has not locked it yet is not
/// even opened. What was removed, renamed or replaced between the look and the lock is no
/// longer what was looked at.
pub(super) fn claim<F: FileSystem>(
    fs: &F,
    place: &Place<F>,
    (name, origin, is_certain): (&OsStr, Origin, bool),
    set_aside: Option<u64>,
    min_age: Duration,
    now: SystemTime,
) -> Claim<F> {
    let shown = place.shown(name);
    let failed = |syscall, error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => Claim::Nothing,
        _ => Claim::Failed(Failure::at(syscall, &shown, error)),
    };
    match uninterrupted(|| fs.metadata(&place.dir, name)) {
        Ok(found) if found.kind == FileKind::File => {}
        Ok(_) => return Claim::Nothing,
        Err(error) => return failed("lstat", error),
    }
    let modified = match uninterrupted(|| fs.modified(&place.dir, name)) {
        Ok(modified) => modified,
        Err(error) => return failed("lstat", error),
    };
    // What is left under a `.bak` has the time at which the file was written, which says
    // nothing about when it was moved.
    let age = now.duration_since(modified).unwrap_or(Duration::ZERO);
    if origin != Origin::Backup && age < min_age && !was_interrupted(modified, set_aside) {
        let limit = min_age.as_millis();
        return Claim::Left(format!("it is younger than {limit} ms: its writer may be alive"));
    }
    let file = match uninterrupted(|| fs.open_to_change(&place.dir, name)) {
        Ok(file) => file,
        // Something else has the name by now.
        Err(error) if matches!(Code::of(&error), Some(Code::ELOOP | Code::EISDIR)) => {
            return Claim::Nothing;
        }
        Err(error) => return failed("open", error),
    };
    match uninterrupted(|| fs.try_lock(&file)) {
        Ok(true) => {}
        Ok(false) => return Claim::Left("its lock is held: its writer is alive".to_owned()),
        Err(error) => return failed("flock", error),
    }
    let metadata = match uninterrupted(|| fs.file_metadata(&file)) {
        Ok(metadata) => metadata,
        Err(error) => return failed("fstat", error),
    };
    match place.is_still(fs, name, metadata.id) {
        Ok(true) if metadata.kind == FileKind::File => {}
        Ok(_) => return Claim::Nothing,
        Err(failure) => return Claim::Failed(failure),
    }
    let name = name.to_owned();
    Claim::Orphan(Box::new(Orphan { name, origin, is_certain, file, metadata, modified }))
}
