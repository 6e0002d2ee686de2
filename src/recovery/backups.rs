//! Restores a corrupt file from its newest good backup, where nothing else that was left is good.

use std::ffi::OsStr;
use std::time::SystemTime;

use super::action::ActionKind;
use super::context::RecoveryContext;
use super::file_state::FileState;
use super::names::Origin;
use super::orphan::Orphan;
use super::promote::Promotion;
use super::recover_file::CHANGED;
use crate::backup::{Backup, Flaw, Newest, Standard, backups_in, newest_in};
use crate::error::{Code, Failure};
use crate::fs::{Dir, FileSystem, Metadata};
use crate::vocabulary::Durability;
use crate::write::{
    AttemptError, ContentSource, CopySource, Destination, Options, StagedWrite, WriteAttempt,
};

/// What is said of a corrupt file that stays.
const NOTHING_GOOD: &str = ", and there is nothing good to restore it from";

/// What is said of one that may be restored later.
const UNCLEAR: &str = ", and what writers have left may be newer than its backups";

impl<F: FileSystem> RecoveryContext<'_, F> {
    /// Says that a corrupt file stays as it is.
    pub(super) fn nothing_good(&mut self, dir: &Dir<F>, name: &OsStr, why: &str) {
        let count = backups_in(dir, name).map_or(0, |backups| backups.len());
        let more = match (count, self.options.backups) {
            (0, _) => String::new(),
            (1, true) => ": its backup is not good either".to_owned(),
            (count, true) => format!(": none of its {count} backups is good"),
            (1, false) => "; it has 1 backup, which `backups: true` tries".to_owned(),
            (count, false) => {
                format!("; it has {count} backups: `backups: true` takes the newest good one")
            }
        };
        self.left(dir.shown(name), format!("{why}{NOTHING_GOOD}{more}"));
    }

    /// Whether the file is to be restored from a backup. `false`, too, if that cannot be told: then
    /// it is said by [`Self::restore_backup`].
    pub(super) fn restores_backup(&self, dir: &Dir<F>, name: &OsStr, state: &FileState) -> bool {
        self.options.backups
            && matches!(state, FileState::Corrupt(..))
            && matches!(
                newest_in(dir, name, Standard::JsonObject, self.control),
                Ok(Newest { good: Some(_), .. })
            )
    }

    /// Restores a corrupt file from its newest good backup, if that is wanted, and otherwise says that it
    /// stays. `is_clear` says that all that writers have left is dealt with. Says whether it is restored.
    pub(super) fn restore_backup(
        &mut self,
        dir: &Dir<F>,
        name: &OsStr,
        state: &FileState,
        is_clear: bool,
    ) -> bool {
        let FileState::Corrupt(corrupt, why, _) = state else { return false };
        if self.only_sweeps {
            return false;
        }
        if !self.options.backups {
            self.nothing_good(dir, name, why);
            return false;
        }
        if !is_clear {
            self.left(dir.shown(name), format!("{why}{UNCLEAR}"));
            return false;
        }
        let backup = match newest_in(dir, name, Standard::JsonObject, self.control) {
            Ok(Newest { good, bad }) => {
                // It may be the newest good one, and the next recovery may be able to read it.
                let unread = bad.into_iter().find_map(|(backup, flaw)| match flaw {
                    Flaw::Unread(kind) => Some((backup.name, kind)),
                    Flaw::Found(_) => None,
                });
                if let Some((unread, kind)) = unread {
                    self.failed(dir.shown(&unread), kind);
                    return false;
                }
                let Some(good) = good else {
                    self.nothing_good(dir, name, why);
                    return false;
                };
                good
            }
            Err(error) => {
                self.failed(dir.shown(name), error);
                return false;
            }
        };
        let path = dir.shown(&backup.name);
        match self.put_copy_in_place(dir, &backup, name, corrupt) {
            Ok(Promotion { aside, is_in_place: true }) => {
                let file = dir.shown(name);
                if let Some(aside) = aside {
                    let aside = Some(dir.shown(&aside));
                    self.note(file.clone(), ActionKind::SetAside, aside, why.clone());
                }
                let reason = "it is the newest good backup, and the file was not good";
                self.note(path, ActionKind::Restored, Some(file), reason);
                true
            }
            Ok(_) => {
                self.left(path, CHANGED);
                false
            }
            Err(error) => {
                self.failed(path, error);
                false
            }
        }
    }

    /// Copies a backup to a temp file, and makes that the file as any other temp file: so a crash in
    /// the middle leaves what the next recovery goes on with.
    fn put_copy_in_place(
        &self,
        dir: &Dir<F>,
        backup: &Backup,
        name: &OsStr,
        corrupt: &Metadata,
    ) -> Result<Promotion, AttemptError> {
        if self.options.dry_run {
            return Ok(self.foreseen(dir, name, true));
        }
        let file = dir.open_file(&backup.name)?;
        let metadata = file.metadata().map_err(|failure| failure.on(dir.shown(&backup.name)))?;
        let source = CopySource { file, metadata };
        let (path, options) = (
            dir.shown(name),
            Options { durability: Durability::Full, follow_symlinks: false, ..Options::default() },
        );
        let attempt = WriteAttempt {
            path: &path,
            options: &options,
            content: ContentSource::File(&source),
            destination: Destination::Target,
            is_in_place: false,
            control: self.control,
            observer: None,
        };
        let staged = StagedWrite::stage(self.fs, &attempt, None)?;
        // Its name has to last before the corrupt file loses its own.
        let synced = staged.temp.file.sync().and_then(|()| dir.sync(Some(&staged.temp.file)));
        if let Err(failure) = synced {
            return Err(staged.abandoned(&attempt, failure.into()));
        }
        // From the moment at which the corrupt file is aside it is what the next recovery needs.
        if !staged.temp.keep_at_exit() {
            let ended = Failure::at("open", dir.shown(&staged.temp.name), Code::EINTR.error());
            return Err(staged.abandoned(&attempt, ended.into()));
        }
        let temp = staged.temp;
        let orphan = Orphan {
            name: temp.name,
            origin: Origin::Temp,
            is_certain: true,
            file: temp.file,
            metadata: temp.metadata,
            modified: SystemTime::UNIX_EPOCH,
        };
        let outcome = self.promote_written(dir, &orphan, name, Some(corrupt));
        let is_in_place = match &outcome {
            Ok(done) => done.is_in_place,
            Err(error) => error.committed,
        };
        if !is_in_place && dir.leads_to(name, corrupt.id).unwrap_or(false) {
            // The corrupt file is back. If the copy cannot be removed, it is an orphan.
            let _ = dir.remove(&orphan.name);
        }
        outcome
    }
}
