//! What is an orphan: something that a write has left whose process is dead.

use std::ffi::{OsStr, OsString};
use std::time::{Duration, SystemTime};

use super::names::Origin;
use crate::error::{Code, Failure};
use crate::fs::{Dir, File, FileKind, FileSystem, Metadata};

/// Something that was left, with its lock held: no other process, and no writer, deals with it.
pub(super) struct Orphan<F: FileSystem> {
    pub(super) name: OsString,
    pub(super) origin: Origin,
    /// Whether it is certain which file it belongs to.
    pub(super) is_certain: bool,
    pub(super) file: File<F>,
    pub(super) metadata: Metadata,
    pub(super) modified: SystemTime,
}

/// What came of locking what a name stands for.
pub(super) enum OrphanLock<F: FileSystem> {
    Locked(Box<Orphan<F>>),
    /// It is not an orphan, or not yet.
    Left(String),
    /// There is nothing of that name any more, or nothing that a write leaves.
    Gone,
}

/// Whether a recovery was cut off between moving the corrupt file aside and putting this one in
/// its place. Then the file is missing because of that, and this has been found to be an orphan.
pub(super) fn was_interrupted(modified: SystemTime, set_aside: Option<u64>) -> bool {
    let modified = modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    set_aside.is_some_and(|time| u128::from(time) >= modified.as_millis())
}

/// Locks what a name stands for if it is an orphan. `set_aside` says when a corrupt version of
/// its file was set aside.
///
/// The age is looked at first, so that the file of a writer that has not locked it yet is not
/// even opened. What was removed, renamed or replaced between the look and the lock is no
/// longer what was looked at.
pub(super) fn lock_orphan<F: FileSystem>(
    dir: &Dir<F>,
    (name, origin, is_certain): (&OsStr, Origin, bool),
    set_aside: Option<u64>,
    min_age: Duration,
    now: SystemTime,
) -> Result<OrphanLock<F>, Failure> {
    if dir.look(name)?.is_none_or(|found| found.kind != FileKind::File) {
        return Ok(OrphanLock::Gone);
    }
    let Some(modified) = dir.modified(name)? else { return Ok(OrphanLock::Gone) };
    // What is left under a `.bak` has the time at which the file was written, which says
    // nothing about when it was moved.
    let age = now.duration_since(modified).unwrap_or(Duration::ZERO);
    if origin != Origin::Backup && age < min_age && !was_interrupted(modified, set_aside) {
        let limit = min_age.as_millis();
        let reason = format!("it is younger than {limit} ms: its writer may be alive");
        return Ok(OrphanLock::Left(reason));
    }
    let file = match dir.open_to_change(name) {
        // Something else has the name by now.
        Err(failure) if matches!(failure.code(), Some(Code::ELOOP | Code::EISDIR)) => {
            return Ok(OrphanLock::Gone);
        }
        opened => opened?,
    };
    let shown = |failure: Failure| failure.on(dir.shown(name));
    if !file.try_lock().map_err(shown)? {
        return Ok(OrphanLock::Left("its lock is held: its writer is alive".to_owned()));
    }
    let metadata = file.metadata().map_err(shown)?;
    if !dir.leads_to(name, metadata.id)? || metadata.kind != FileKind::File {
        return Ok(OrphanLock::Gone);
    }
    let name = name.to_owned();
    let orphan = Orphan { name, origin, is_certain, file, metadata, modified };
    Ok(OrphanLock::Locked(Box::new(orphan)))
}
