//! What is an orphan: something that a write has left whose process is dead.

use std::ffi::{OsStr, OsString};
use std::time::{Duration, SystemTime};

use super::names::Origin;
use crate::error::{Code, Failure};
use crate::fs::{Dir, File, FileKind, FileSystem, Metadata};
use crate::temp_name;

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

/// Whether it was last changed long enough ago. A time as far ahead of the clock says that the clock
/// was wrong; one that is not so far ahead may be that of a file that was made a moment ago.
fn is_old(modified: SystemTime, min_age: Duration, now: SystemTime) -> bool {
    match now.duration_since(modified) {
        Ok(age) => age >= min_age,
        Err(ahead) => ahead.duration() >= min_age,
    }
}

/// Locks what a name stands for if it is an orphan. `set_aside` says when a corrupt version of
/// its file was set aside.
///
/// The age is looked at first, so that the file of a writer that does not lock it, or has not done
/// so yet, is not even opened. With holdfast's own files the lock decides, whatever their age: a
/// writer that has not locked its file yet has written nothing to it, and makes another. What was removed, renamed or replaced between the look and the lock is no
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
    let is_young = origin != Origin::Backup
        && !is_old(modified, min_age, now)
        && !was_interrupted(modified, set_aside);
    let young = || {
        let limit = min_age.as_millis();
        let reason = format!("it is younger than {limit} ms: its writer may be alive");
        Ok(OrphanLock::Left(reason))
    };
    // A writer of holdfast locks its temp file, so that its lock tells at once.
    let is_ours = origin == Origin::Temp
        && temp_name::parse(name).is_some_and(|temp_name| temp_name.is_checked);
    if is_young && !is_ours {
        return young();
    }
    let file = match dir.open_to_change(name) {
        // Something else has the name by now.
        Err(failure) if matches!(failure.code(), Some(Code::ELOOP | Code::EISDIR)) => {
            return Ok(OrphanLock::Gone);
        }
        opened => opened?,
    };
    if is_young && !file.sees_all_locks() {
        return young();
    }
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
