//! One file of a transaction that is being committed: as it was, as it is to be, and the rename from
//! the one to the other.

use std::ffi::OsString;

use super::change::{Change, FileChange};
use super::fingerprint::Fingerprint;
use super::open_files::open_in_time;
use super::participant::rename_removed;
use crate::error::Failure;
use crate::fs::{File, FileSystem, if_there};
use crate::resolve::Target;
use crate::write::{ClosedTempFile, Options, TempFile};

/// A file that is to change.
pub(super) struct PendingChange<'a, F: FileSystem> {
    pub(super) requested: &'a FileChange,
    /// The number of its directory.
    pub(super) participant: usize,
    pub(super) target: Target<F>,
    /// The file as it is.
    pub(super) before: Option<OldFile<F>>,
    pub(super) temp_name: OsString,
    pub(super) staged: Option<Staged<F>>,
}

/// A file that a transaction replaces or removes.
pub(super) struct OldFile<F: FileSystem> {
    /// What it contains.
    pub(super) fingerprint: Fingerprint,
    /// The file itself, as long as it is kept open.
    pub(super) file: Option<File<F>>,
}

/// What is to replace a file.
pub(super) enum Staged<F: FileSystem> {
    Open(TempFile<F>),
    /// Closed, and perhaps on the disk.
    Closed(ClosedTempFile, IsSynced),
}

pub(super) type IsSynced = bool;

impl<F: FileSystem> Staged<F> {
    pub(super) fn name(&self) -> &OsString {
        match self {
            Staged::Open(temp) => &temp.name,
            Staged::Closed(temp, _) => &temp.name,
        }
    }

    /// As [`TempFile::keep_at_exit`].
    pub(super) fn keep_at_exit(&self) -> bool {
        match self {
            Staged::Open(temp) => temp.keep_at_exit(),
            Staged::Closed(temp, _) => temp.keep_at_exit(),
        }
    }
}

impl<F: FileSystem> PendingChange<'_, F> {
    /// How many files of it there are to sync.
    pub(super) fn file_count(&self) -> usize {
        usize::from(self.staged.is_some()) + usize::from(self.before.is_some())
    }

    pub(super) fn sync(&self) -> Result<(), Failure> {
        let Target { dir, name, .. } = &self.target;
        match &self.staged {
            Some(Staged::Open(temp)) => temp.file.sync()?,
            Some(Staged::Closed(temp, false)) => dir.open_to_change(&temp.name)?.sync()?,
            Some(Staged::Closed(_, true)) | None => {}
        }
        let Some(before) = &self.before else { return Ok(()) };
        let opened;
        let file = match &before.file {
            Some(file) => file,
            None => match if_there(dir.open_file(name))? {
                Some(file) => {
                    opened = file;
                    &opened
                }
                // Another program has removed it.
                None => return Ok(()),
            },
        };
        file.sync().map_err(|failure| failure.on(self.target.path()))
    }

    /// Renames the new file to the target, with the attributes that the target has now, or gives a
    /// file that is to be removed its temp name. What is replaced and has to stay open for a while
    /// goes to `replaced`.
    pub(super) fn apply(
        &mut self,
        options: &Options,
        syncs: bool,
        replaced: Option<&mut Vec<File<F>>>,
    ) -> Result<(), Failure> {
        let Target { dir, name, .. } = &self.target;
        let opened;
        let staged = match &mut self.staged {
            None => return open_in_time(|| rename_removed(dir, name, &self.temp_name)),
            Some(Staged::Open(temp)) => &*temp,
            Some(Staged::Closed(temp, _)) => {
                opened = open_in_time(|| temp.open(dir))?;
                &opened
            }
        };
        let file = &staged.file;
        let is_new = matches!(self.requested.change, Change::Create(_));
        if !is_new && staged.update_from_target(&self.target, options, None)? && syncs {
            file.sync().map_err(|failure| failure.on(self.target.path()))?;
        }
        if let Some(replaced) = replaced.filter(|_| !is_new) {
            replaced.extend(open_in_time(|| dir.open_to_keep(name))?);
        }
        let renamed = match is_new {
            true => dir.rename_new(file, &self.temp_name, name),
            false => dir.rename(file, &self.temp_name, name),
        };
        dir.confirmed(renamed, file, name)
    }

    /// Whether that may have been done although it has failed: the new name cannot be looked at,
    /// and the old one is not known to be there.
    pub(super) fn may_be_applied(&self) -> bool {
        let Target { dir, name, .. } = &self.target;
        let (from, to) = match self.staged {
            Some(_) => (&self.temp_name, name),
            None => (name, &self.temp_name),
        };
        dir.look(to).is_err() && !matches!(dir.look(from), Ok(Some(_)))
    }
}
