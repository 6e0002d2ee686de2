//! Makes a backup: a new file, or none where one that is there will do.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::history::{Thinning, thin};
use super::names::{LATEST, name_within, time_of, time_of_backup};
use super::retention::Retention;
use super::reuse::{Reuse, reusable};
use super::source::open;
use crate::error::{Code, Failure};
use crate::fs::{Dir, DirUse, FileSystem};
use crate::short_name::{ALWAYS_FITS, LONGEST_NAME};
use crate::vocabulary::Durability;
use crate::write::{
    AttemptError, ContentSource, Control, Destination, Observer, Options, WriteAttempt,
    make_attempt,
};

/// A backup to be made.
#[derive(Clone, Debug)]
pub struct BackupRequest {
    /// The file, absolute.
    pub path: PathBuf,
    /// The time for its name, in milliseconds since 1970, if the file has no later backup.
    pub time: u64,
    /// How durable it is to be, what it has to be, and how often to try.
    pub options: Options,
    /// When none is made, because one that is there will do.
    pub reuse: Reuse,
    /// Which backups of the file are left, beside this one; `None` for all.
    pub keep: Option<Retention>,
}

/// Makes one attempt at a backup, and returns its name, or that of the one that will do.
///
/// # Durability
///
/// With `keep` a backup is always made as durable as can be before an older one is removed.
pub fn create<F: FileSystem>(
    fs: &F,
    create: &BackupRequest,
    control: &Control,
    observer: Option<&dyn Observer>,
) -> Result<OsString, AttemptError> {
    let BackupRequest { path, time: now, options, reuse, keep } = create;
    let source = open(fs, path)?;
    let durability = match keep {
        Some(_) => Durability::Full,
        None => options.durability,
    };
    // Beside the path as it was given; where a link leads does not matter.
    let options = Options { durability, follow_symlinks: false, ..options.clone() };
    let name = match reusable(fs, path, &source, reuse, *now, &options, control)? {
        Some(name) => name,
        None => {
            let basename = path.file_name().unwrap_or_default();
            let time = &time_after_all(fs, path, *now)?;
            let limit = name_limit(fs, path, *time)?;
            let names = |number: u64| name_within(basename, time + number, limit);
            let attempt = WriteAttempt {
                path: &path.with_file_name(names(0)),
                options: &options,
                content: ContentSource::File(&source),
                destination: Destination::FreeName(&names),
                is_in_place: false,
                control,
                observer,
            };
            names(make_attempt(fs, &attempt)?)
        }
    };
    if let Some(keep) = keep {
        // The backup is there, and that is what was asked for. Older ones that cannot be
        // removed do no harm.
        let validate = options.validate;
        let oldest = time_of(&name).unwrap_or_default();
        let thinning = Thinning { keep, max_age: None, keep_newest: 1, now: *now, validate };
        let _ = thin(fs, path, &thinning, Some(oldest), control);
    }
    Ok(name)
}

/// The time for the name of a new backup: this one, or a millisecond after the newest backup that is
/// there, if the clock was ahead when that was made.
fn time_after_all<F: FileSystem>(fs: &F, path: &Path, time: u64) -> Result<u64, Failure> {
    let (Some(dir), Some(basename)) = (path.parent(), path.file_name()) else { return Ok(time) };
    let names = match Dir::open(fs, dir, DirUse::Names)?.names() {
        Ok(names) => names,
        // In a directory that may not be listed there is no list of backups either.
        Err(failure) if matches!(failure.code(), Some(Code::EACCES | Code::EPERM)) => {
            return Ok(time);
        }
        Err(failure) => return Err(failure),
    };
    let newest = names.iter().filter_map(|name| time_of_backup(name, basename)).max();
    // A name that no process has made by the clock leaves no room behind it.
    Ok(newest.filter(|newest| *newest < LATEST).map_or(time, |newest| time.max(newest + 1)))
}

/// How long the name of a backup of the file may be.
fn name_limit<F: FileSystem>(fs: &F, path: &Path, time: u64) -> Result<usize, Failure> {
    let basename = path.file_name().unwrap_or_default();
    let within = |limit| name_within(basename, time, limit);
    match path.parent() {
        Some(dir) if within(LONGEST_NAME).len() > ALWAYS_FITS => {
            Ok(Dir::open(fs, dir, DirUse::Names)?.name_limit(within))
        }
        _ => Ok(LONGEST_NAME),
    }
}
