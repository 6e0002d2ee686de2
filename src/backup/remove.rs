//! Removes files of a directory that the caller has chosen by their names.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::history::without_newest_good;
use super::names::{file_part, is_backup, time_of};
use super::quality::Standard;
use crate::error::{ErrorKind, Failure};
use crate::fs::{Dir, DirUse, FileKind, FileSystem, Removals};
use crate::short_name::os_str;
use crate::write::Control;

/// Removes the regular files among these names in a directory, and returns which they were. With
/// `modified_until` only those whose content has not been changed since that millisecond. Of the
/// backups of each file the `keep_newest` newest good ones stay.
///
/// # Errors
///
/// The first failure, after all have been tried. A file that is gone already is no failure.
pub fn remove<F: FileSystem>(
    fs: &F,
    dir: &Path,
    names: Vec<String>,
    modified_until: Option<SystemTime>,
    keep_newest: usize,
) -> Result<Vec<String>, ErrorKind> {
    let dir = Dir::open(fs, dir, DirUse::NamesAndSync)?;
    let protected = protected(&dir, &names, keep_newest)?;
    let mut removals = Removals::new(&dir);
    let mut removed = Vec::new();
    let mut first = None;
    for name in names {
        if protected.iter().any(|protected| **protected == *name) {
            continue;
        }
        match remove_one(&dir, &mut removals, name.as_ref(), modified_until) {
            Ok(true) => removed.push(name),
            Ok(false) => {}
            Err(failure) if failure.is_not_found() => {}
            Err(failure) => first = first.or(Some(failure)),
        }
    }
    match first.or(removals.finish().err()) {
        Some(failure) => Err(failure.into()),
        None => Ok(removed),
    }
}

/// Which of these names are among the newest good backups of their files.
fn protected<F: FileSystem>(
    dir: &Dir<F>,
    chosen: &[String],
    keep_newest: usize,
) -> Result<Vec<OsString>, ErrorKind> {
    if keep_newest == 0 || chosen.iter().all(|name| time_of(OsStr::new(name)).is_none()) {
        return Ok(Vec::new());
    }
    let names = dir.names()?;
    let mut backups: Vec<(&[u8], u64, &OsStr)> = Vec::new();
    for name in &names {
        let Some(time) = time_of(name) else { continue };
        if dir.look(name)?.is_some_and(|found| is_backup(name, &found, &names)) {
            backups.push((file_part(name), time, name));
        }
    }
    // The newest of each file first.
    backups.sort_unstable_by(|one, other| (one.0, other.1, other.2).cmp(&(other.0, one.1, one.2)));
    let mut protected = Vec::new();
    for of_file in backups.chunk_by(|one, other| one.0 == other.0) {
        let is_chosen = |name: &OsStr| chosen.iter().any(|chosen| **chosen == *name);
        let candidates: Vec<(&OsStr, bool)> =
            of_file.iter().map(|(_, _, name)| (*name, is_chosen(name))).collect();
        let basename = of_file.first().and_then(|(file, _, _)| os_str(file)).unwrap_or_default();
        let standard = Standard::of(basename, None);
        let control = Control::default();
        let removable =
            without_newest_good(dir, &candidates, keep_newest, standard, &|_| false, &control)?;
        protected.extend(
            candidates
                .into_iter()
                .filter(|(name, is_chosen)| {
                    *is_chosen && !removable.iter().any(|other| other == name)
                })
                .map(|(name, _)| name.to_owned()),
        );
    }
    Ok(protected)
}

fn remove_one<F: FileSystem>(
    dir: &Dir<F>,
    removals: &mut Removals<'_, F>,
    name: &OsStr,
    modified_until: Option<SystemTime>,
) -> Result<bool, Failure> {
    if dir.look(name)?.is_none_or(|found| found.kind != FileKind::File) {
        return Ok(false);
    }
    // Clocks of callers count milliseconds: a file that was changed in this one is not newer.
    if let Some(end) = modified_until.and_then(|until| until.checked_add(Duration::from_millis(1)))
        && dir.modified(name)?.is_none_or(|modified| modified >= end)
    {
        return Ok(false);
    }
    removals.remove(name).map(|()| true)
}
