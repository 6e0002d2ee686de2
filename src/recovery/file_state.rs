//! Looks at a file: whether it is there, and whether it is what its name, or the caller, says.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};

use super::context::RecoveryContext;
use super::names::{self, Remains};
use super::request::Options;
use crate::fs::{Dir, FileId, FileKind, FileSystem, Metadata, if_there};
use crate::json_check::{Dialect, JsonCheck, is_json_name};
use crate::write::AttemptError;

/// What the file is.
pub(super) enum FileState {
    Missing,
    /// As far as can be told.
    Good(FileId),
    /// It has no bytes, and need not be JSON.
    Empty(FileId),
    /// It should be JSON, and is not. Whether it may be something else that is like JSON, and
    /// worth more than what has fewer bytes.
    Corrupt(Metadata, String, bool),
    /// No regular file.
    Other,
}

impl FileState {
    pub(super) fn is_empty(&self) -> bool {
        match self {
            FileState::Empty(_) => true,
            FileState::Corrupt(found, _, _) => found.is_empty_file(),
            FileState::Missing | FileState::Good(_) | FileState::Other => false,
        }
    }

    /// Whether something good may take its place.
    pub(super) fn is_bad(&self) -> bool {
        matches!(self, FileState::Missing | FileState::Corrupt(..))
    }
}

impl<F: FileSystem> RecoveryContext<'_, F> {
    /// Reports the files in a directory that should be JSON, are not, and have nothing beside them.
    pub(super) fn report_corrupt(&mut self, dir: &Dir<F>, names: &[OsString], known: &[Remains]) {
        if self.only_sweeps {
            return;
        }
        let known: BTreeSet<&OsStr> =
            known.iter().map(|remains| remains.file.as_os_str()).collect();
        let is_asked_about = |name: &&OsString| {
            self.must_be_json(name) && !known.contains(name.as_os_str()) && !names::is_beside(name)
        };
        let asked_about: Vec<&OsString> = names.iter().filter(is_asked_about).collect();
        for name in asked_about {
            if self.control.check().is_err()
                || self.decided.iter().any(|transaction| transaction.changes(name))
            {
                continue;
            }
            match self.inspect(dir, name) {
                Ok(FileState::Corrupt(..)) if self.options.backups => {
                    self.recover_file(dir, &Remains::none_of(name), false);
                }
                Ok(FileState::Corrupt(_, why, _)) => self.nothing_good(dir, name, &why),
                Ok(_) => {}
                // Another user's, perhaps. Nothing was to be done with it.
                Err(error) => {
                    let reason = format!("it cannot be told whether it is JSON: {}", error.kind);
                    self.left(dir.shown(name), reason);
                }
            }
        }
    }

    /// Looks at the file.
    pub(super) fn inspect(&self, dir: &Dir<F>, name: &OsStr) -> Result<FileState, AttemptError> {
        let Some(found) = dir.look(name)? else { return Ok(FileState::Missing) };
        if found.kind != FileKind::File {
            return Ok(FileState::Other);
        }
        if !self.must_be_json(name) {
            return Ok(match found.size {
                0 => FileState::Empty(found.id),
                _ => FileState::Good(found.id),
            });
        }
        let Some(file) = if_there(dir.open_file(name))? else { return Ok(FileState::Missing) };
        let metadata = file.metadata().map_err(|failure| failure.on(dir.shown(name)))?;
        Ok(match JsonCheck::of(&file, self.control)? {
            JsonCheck::Whole | JsonCheck::Scalar => FileState::Good(metadata.id),
            JsonCheck::Empty => {
                FileState::Corrupt(metadata, "it is empty, which is not JSON".to_owned(), false)
            }
            JsonCheck::Bad(bad) => match Dialect::of(&file, self.control)? {
                // Its name promises JSON, and no more.
                Dialect::Whole if self.options.validate.is_none() => FileState::Good(metadata.id),
                dialect => {
                    let why = format!("it is not JSON: {bad}");
                    FileState::Corrupt(metadata, why, dialect != Dialect::None)
                }
            },
        })
    }

    pub(super) fn must_be_json(&self, name: &OsStr) -> bool {
        let Options { validate, checks_json, .. } = self.options;
        *checks_json && (validate.is_some() || is_json_name(name))
    }
}
