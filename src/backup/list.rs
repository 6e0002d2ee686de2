//! The backups that are there, and how old they are.

use std::cmp::Reverse;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::time::SystemTime;

use super::names::{file_part, is_backup, time_of, time_of_backup};
use crate::error::Failure;
use crate::fs::{Dir, DirUse, FileSystem};
use crate::resolve;
use crate::temp_name;

/// A backup that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// What it is called.
    pub name: OsString,
    /// When it was made, by its name: milliseconds since 1970.
    pub time: u64,
    /// Its size in bytes.
    pub size: u64,
}

/// The backups of a file, which need not exist any more, the newest first.
pub fn list<F: FileSystem>(fs: &F, path: &Path) -> Result<Vec<Backup>, Failure> {
    // Nothing but the directory and the name is wanted of it.
    let target = resolve::target(fs, path, false, DirUse::Names)?;
    let mut backups = Vec::new();
    let names = target.dir.names()?;
    for name in &names {
        let Some(time) = time_of_backup(name, &target.name) else { continue };
        match target.dir.look(name)? {
            Some(found) if is_backup(name, &found, &names) => {
                backups.push(Backup { name: name.clone(), time, size: found.size });
            }
            // Not a backup, or removed since it was listed.
            _ => {}
        }
    }
    backups.sort_unstable_by_key(|backup| Reverse(backup.time));
    Ok(backups)
}

/// The names in a directory that a caller may ask to remove: those of backups, or any, each with
/// the time at which a backup was made. Names that are no text are left out.
///
/// That is the time in its name, unless it is later than `now`: then the clock was ahead when this
/// backup, or an earlier one of the file, was made.
pub fn candidates<F: FileSystem>(
    fs: &F,
    dir: &Path,
    any_name: bool,
    now: u64,
) -> Result<Vec<(String, Option<u64>)>, Failure> {
    let dir = Dir::open(fs, dir, DirUse::Names)?;
    let names = dir.names()?;
    if any_name {
        let wanted = names.into_iter().filter(|name| !is_own_file(name));
        return Ok(wanted.filter_map(|name| Some((name.into_string().ok()?, None))).collect());
    }
    let mut timed: Vec<(OsString, u64)> =
        names.into_iter().filter_map(|name| time_of(&name).map(|time| (name, time))).collect();
    correct_times(&dir, &mut timed, now)?;
    Ok(timed
        .into_iter()
        .filter_map(|(name, time)| Some((name.into_string().ok()?, Some(time))))
        .collect())
}

/// Corrects the times of backups whose names say that they are yet to be made. They are in the order of
/// their names all the same ([`create`]), so each was made before the later ones of its file were last
/// changed, and before it was last changed itself. Where all of that is yet to come, the time
/// is `now`: how old such a backup is cannot be told.
pub(super) fn correct_times<F: FileSystem>(
    dir: &Dir<F>,
    timed: &mut [(OsString, u64)],
    now: u64,
) -> Result<(), Failure> {
    let mut ahead: Vec<(Vec<u8>, &mut (OsString, u64))> = timed
        .iter_mut()
        .filter(|(_, time)| *time > now)
        .map(|backup| (file_part(&backup.0).to_vec(), backup))
        .collect();
    // The last one of each file first.
    ahead.sort_unstable_by(|(file, (_, time)), (other, (_, later))| {
        (file, later).cmp(&(other, time))
    });
    let mut latest: Option<(Vec<u8>, u64)> = None;
    for (file, (name, time)) in ahead {
        let modified = dir.modified(name)?.map_or(now, milliseconds);
        let before =
            latest.take().filter(|(other, _)| *other == file).map_or(now, |(_, time)| time);
        *time = modified.min(before);
        latest = Some((file, *time));
    }
    Ok(())
}

/// A time in milliseconds since 1970.
pub(super) fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Whether a file is one of holdfast's own. Lock files are never removed, because a process may
/// hold the lock. What happens to temp files is for recovery to decide.
fn is_own_file(name: &OsStr) -> bool {
    let bytes = name.as_encoded_bytes();
    bytes.starts_with(b".") && bytes.ends_with(b".lock") || temp_name::is_temp_name(name)
}
