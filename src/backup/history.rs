//! The history of a file in its backups: which is the newest good one, and which are removed.

use std::cmp::Reverse;
use std::ffi::{OsStr, OsString};
use std::path::Path;

use super::list::{Backup, correct_times};
use super::names::{is_backup, time_of_backup};
use super::quality::{Flaw, Standard, flaw};
use super::retention::Retention;
use crate::error::{ErrorKind, Failure};
use crate::fs::{Dir, DirUse, FileSystem, Removals};
use crate::resolve;
use crate::write::{Control, Format};

/// A backup in the directory of its file.
pub(crate) struct FileBackup {
    pub(crate) name: OsString,
    /// By its name.
    pub(crate) time: u64,
    pub(crate) size: u64,
}

/// The backups of the file called `basename`, the newest first.
pub(crate) fn backups_in<F: FileSystem>(
    dir: &Dir<F>,
    basename: &OsStr,
) -> Result<Vec<FileBackup>, Failure> {
    let names = dir.names()?;
    let mut backups = Vec::new();
    for name in &names {
        let Some(time) = time_of_backup(name, basename) else { continue };
        match dir.look(name)? {
            Some(found) if is_backup(name, &found, &names) => {
                backups.push(FileBackup { name: name.clone(), time, size: found.size });
            }
            // Not a backup, or removed since it was listed.
            _ => {}
        }
    }
    backups.sort_unstable_by(|one, other| (other.time, &other.name).cmp(&(one.time, &one.name)));
    Ok(backups)
}

/// The newest good backup of a file, and those that are newer and no good, with what is wrong.
pub struct Newest {
    /// The good one, if there is one.
    pub good: Option<Backup>,
    /// The others, the newest first.
    pub bad: Vec<(Backup, Flaw)>,
}

/// Finds the newest good backup of the file at a path, which need not exist any more. With `before`
/// only older ones than that time count.
pub fn newest_good<F: FileSystem>(
    fs: &F,
    path: &Path,
    validate: Option<Format>,
    before: Option<u64>,
    control: &Control,
) -> Result<Newest, ErrorKind> {
    let target = resolve::target(fs, path, false, DirUse::Names)?;
    let (dir, basename) = (&target.dir, &target.name);
    let mut backups = backups_in(dir, basename)?;
    backups.retain(|backup| before.is_none_or(|before| backup.time < before));
    newest_of(backups, dir, Standard::of(basename, validate), control)
}

/// The same in a directory that is open.
pub(crate) fn newest_in<F: FileSystem>(
    dir: &Dir<F>,
    basename: &OsStr,
    standard: Standard,
    control: &Control,
) -> Result<Newest, ErrorKind> {
    newest_of(backups_in(dir, basename)?, dir, standard, control)
}

fn newest_of<F: FileSystem>(
    backups: Vec<FileBackup>,
    dir: &Dir<F>,
    standard: Standard,
    control: &Control,
) -> Result<Newest, ErrorKind> {
    let mut bad = Vec::new();
    for FileBackup { name, time, size } in backups {
        control.check()?;
        let flaw = flaw(dir, &name, standard, control)?;
        let backup = Backup { name, time, size };
        match flaw {
            None => return Ok(Newest { good: Some(backup), bad }),
            Some(flaw) => bad.push((backup, flaw)),
        }
    }
    Ok(Newest { good: None, bad })
}

/// Which backups of a file are to be removed. One stays if either `keep` or `max_age` keeps it.
pub struct Thinning<'a> {
    /// How many are kept.
    pub keep: &'a Retention,
    /// How old one has to be to be removed, in milliseconds; `None` if its age does not matter.
    pub max_age: Option<f64>,
    /// How many of the newest good ones stay, whatever the rest says.
    pub keep_newest: usize,
    /// The time that ages are counted from, in milliseconds since 1970.
    pub now: u64,
    /// What a good one has to be.
    pub validate: Option<Format>,
}

/// Removes backups of a file, and returns which. With `new_at` the one with that time has just been
/// made durable: it and what is newer stays.
///
/// # Errors
///
/// The first failure, after all have been tried. A file that is gone already is no failure.
pub fn thin<F: FileSystem>(
    fs: &F,
    path: &Path,
    thinning: &Thinning<'_>,
    new_at: Option<u64>,
    control: &Control,
) -> Result<Vec<OsString>, ErrorKind> {
    let target = resolve::target(fs, path, false, DirUse::NamesAndSync)?;
    let (dir, basename) = (&target.dir, &target.name);
    let backups = backups_in(dir, basename)?;
    let ages = times_made(dir, &backups, thinning.now)?;
    let kept = thinning.keep.kept(&ages);
    let is_old = |made: u64| {
        thinning.max_age.is_none_or(|max_age| thinning.now.saturating_sub(made) as f64 >= max_age)
    };
    let is_removable: Vec<bool> = backups
        .iter()
        .zip(kept.iter().zip(&ages))
        .map(|(backup, (is_kept, made))| {
            !is_kept && is_old(*made) && new_at.is_none_or(|time| backup.time < time)
        })
        .collect();
    let candidates: Vec<(&OsStr, bool)> = backups
        .iter()
        .zip(&is_removable)
        .map(|(backup, is_removable)| (backup.name.as_os_str(), *is_removable))
        .collect();
    let standard = Standard::of(basename, thinning.validate);
    let is_new = |name: &OsStr| new_at.is_some() && time_of_backup(name, basename) == new_at;
    let wanted =
        without_newest_good(dir, &candidates, thinning.keep_newest, standard, &is_new, control)?;
    remove_all(dir, wanted)
}

/// Removes these names in a directory, and returns which were there.
fn remove_all<F: FileSystem>(
    dir: &Dir<F>,
    names: Vec<OsString>,
) -> Result<Vec<OsString>, ErrorKind> {
    let mut removals = Removals::new(dir);
    let mut removed = Vec::new();
    let mut first = None;
    for name in names {
        match removals.remove(&name) {
            Ok(()) => removed.push(name),
            // Another process has removed it.
            Err(failure) if failure.is_not_found() => {}
            Err(failure) => first = first.or(Some(failure)),
        }
    }
    match first.or(removals.finish().err()) {
        Some(failure) => Err(failure.into()),
        None => Ok(removed),
    }
}

/// Of the backups of one file, the newest first, those that may be removed of those that are to be:
/// all but the newest `count` that are good, and what cannot be read before that many are found. Where anything is removed, these are durable first: what
/// a power cut would take with it is not what stays.
///
/// `is_new` says which has been made a moment ago, from bytes that nothing is said to be wrong with, and
/// made durable.
pub(super) fn without_newest_good<F: FileSystem>(
    dir: &Dir<F>,
    backups: &[(&OsStr, bool)],
    count: usize,
    standard: Standard,
    is_new: &dyn Fn(&OsStr) -> bool,
    control: &Control,
) -> Result<Vec<OsString>, ErrorKind> {
    let mut wanted = Vec::new();
    let mut good: Vec<&OsStr> = Vec::new();
    if !backups.iter().any(|(_, is_removable)| *is_removable) {
        return Ok(wanted);
    }
    for (name, is_removable) in backups {
        control.check()?;
        let is_wanted = good.len() < count;
        let is_known = standard == Standard::Bytes && is_new(name);
        let flaw = match is_wanted && !is_known {
            true => flaw(dir, name, standard, control)?,
            false => None,
        };
        match flaw {
            None if is_wanted => good.push(name),
            // It may be the good one.
            Some(Flaw::Unread(_)) => {}
            None | Some(_) if *is_removable => wanted.push((*name).to_owned()),
            None | Some(_) => {}
        }
    }
    if !wanted.is_empty() {
        let unsynced: Vec<&OsStr> = good.into_iter().filter(|name| !is_new(name)).collect();
        for name in &unsynced {
            dir.open_file(name)?.sync().map_err(|failure| failure.on(dir.shown(name)))?;
        }
        if !unsynced.is_empty() {
            dir.sync(None)?;
        }
    }
    Ok(wanted)
}

/// When the backups of a file were made, the newest first, as far as that can be told.
fn times_made<F: FileSystem>(
    dir: &Dir<F>,
    backups: &[FileBackup],
    now: u64,
) -> Result<Vec<u64>, Failure> {
    let mut timed: Vec<(OsString, u64)> =
        backups.iter().map(|backup| (backup.name.clone(), backup.time)).collect();
    correct_times(dir, &mut timed, now)?;
    // None is younger than one that was made after it.
    timed.sort_by_key(|(_, time)| Reverse(*time));
    Ok(timed.into_iter().map(|(_, time)| time).collect())
}
