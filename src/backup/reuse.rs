//! When no new backup is made: one that is there has the same bytes, or is not old enough.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use super::history::{FileBackup, backups_in};
use super::list::milliseconds;
use super::quality::{Standard, flaw, has_same_bytes};
use crate::error::{Code, ErrorKind};
use crate::fs::{Dir, DirUse, File, FileSystem};
use crate::vocabulary::Durability;
use crate::write::{Control, CopySource, Options, record_failed_sync, sync_failed};

/// What a backup that is there has to be to stand for a new one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reuse {
    /// It may have the same bytes.
    pub only_if_changed: bool,
    /// It may be younger than this, in milliseconds.
    pub min_interval: Option<f64>,
}

/// The backup that stands for a new one, if there is one. It is as durable as was asked for.
///
/// The newest good one decides. Backups that are newer and no good count only if they have the same
/// bytes: another one of these would be no better.
pub(super) fn reusable<F: FileSystem>(
    fs: &F,
    path: &Path,
    source: &CopySource<F>,
    reuse: &Reuse,
    now: u64,
    options: &Options,
    control: &Control,
) -> Result<Option<OsString>, ErrorKind> {
    if *reuse == Reuse::default() {
        return Ok(None);
    }
    let (Some(parent), Some(basename)) = (path.parent(), path.file_name()) else { return Ok(None) };
    let dir = Dir::open(fs, parent, DirUse::NamesAndSync)?;
    let backups = match backups_in(&dir, basename) {
        // In a directory that may not be listed there is no list of backups either.
        Err(failure) if matches!(failure.code(), Some(Code::EACCES | Code::EPERM)) => {
            return Ok(None);
        }
        backups => backups?,
    };
    let standard = Standard::of(basename, options.validate);
    for backup in &backups {
        control.check()?;
        let is_same = reuse.only_if_changed
            && backup.size == source.metadata.size
            && match dir.open_file(&backup.name) {
                Ok(file) if is_trusted(&dir, &file) => {
                    has_same_bytes(&source.file, &file, control)?
                }
                // What cannot be read, or is another user's to change, does not stand for a copy.
                Ok(_) | Err(_) => false,
            };
        let is_good = || flaw(&dir, &backup.name, standard, control).map(|flaw| flaw.is_none());
        if !is_same && !is_good()? {
            continue;
        }
        let stands = is_same || is_young(&dir, backup, reuse, now)?;
        let name = &backup.name;
        return Ok((stands && sync(&dir, path, name, options.durability)).then(|| name.clone()));
    }
    Ok(None)
}

/// Whether a backup is younger than `min_interval`. One whose name and whose last change are both
/// yet to come was made when the clock was ahead: how old it is cannot be told, so it is not young.
fn is_young<F: FileSystem>(
    dir: &Dir<F>,
    backup: &FileBackup,
    reuse: &Reuse,
    now: u64,
) -> Result<bool, ErrorKind> {
    let Some(interval) = reuse.min_interval else { return Ok(false) };
    let made = match backup.time <= now {
        true => backup.time,
        false => dir.modified(&backup.name)?.map_or(now, milliseconds),
    };
    Ok(now.checked_sub(made).is_some_and(|age| (age as f64) < interval))
}

/// Makes a backup that is there as durable as was asked for. `false` if that cannot be done: then a
/// new one is made.
fn sync<F: FileSystem>(dir: &Dir<F>, path: &Path, name: &OsStr, durability: Durability) -> bool {
    if durability == Durability::None {
        return true;
    }
    if sync_failed(dir.fs(), &path.with_file_name(name), false) {
        return false;
    }
    let Ok(file) = dir.open_file(name) else { return false };
    let synced = file.sync().and_then(|()| match durability {
        Durability::Full => dir.sync(Some(&file)),
        Durability::None | Durability::File => Ok(()),
    });
    if synced.is_err() {
        record(&file);
    }
    synced.is_ok() && dir.is_named(name, &file)
}

fn is_trusted<F: FileSystem>(dir: &Dir<F>, file: &File<F>) -> bool {
    file.metadata().and_then(|metadata| dir.trusts(&metadata)).unwrap_or(false)
}

fn record<F: FileSystem>(file: &File<F>) {
    if let Ok(metadata) = file.metadata() {
        record_failed_sync(metadata.id);
    }
}
