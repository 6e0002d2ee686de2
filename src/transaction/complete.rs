//! Completes the files of a transaction that was decided.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use super::fingerprint::Occupant;
use super::names::{self, RecordKind, TransactionId, TransactionName};
use super::open_files::OpenFiles;
use super::participant::{Participant, rename_removed};
use super::record::{Record, RecordMember};
use super::roll::{Completion, Roll, RollResult, RolledFile};
use crate::error::Failure;
use crate::fs::{Dir, File, FileSystem};
use crate::short_name::ALWAYS_FITS;

/// How far a transaction has come in a directory.
#[derive(Default)]
pub(super) struct Progress {
    /// A file has been changed: it was decided.
    pub(super) has_begun: bool,
    /// A file is still to be written.
    pub(super) to_write: bool,
    /// A file is there that is to be removed. It may have been made anew since it was.
    pub(super) to_remove: bool,
}

/// The numbers of the members of which something is staged, or put aside, in a directory.
pub(super) fn staged_numbers<F: FileSystem>(
    dir: &Dir<F>,
    id: TransactionId,
) -> Result<HashSet<usize>, Failure> {
    let number = |name: OsString| match names::parse(&name) {
        Some(TransactionName::Temp(own, number)) if own == id => usize::try_from(number).ok(),
        _ => None,
    };
    Ok(dir.names()?.into_iter().filter_map(number).collect())
}

impl<F: FileSystem> Roll<'_, '_, F> {
    /// The files of a transaction, as far as their directories (by number) are there.
    pub(super) fn paths_of(
        participants: &[Option<&Participant<F>>],
        record: &Record,
    ) -> Vec<PathBuf> {
        let path_of = |member: &RecordMember| {
            let participant = participants.get(member.dir).copied().flatten()?;
            Some(participant.dir.shown(&member.name))
        };
        record.members.iter().filter_map(path_of).collect()
    }

    /// What can be done in the directory that the record is in, while others are missing or cannot
    /// prove that they belong to it: nothing, unless some of its own files have been changed. Then
    /// the transaction was decided, and the others are changed, too, so that this directory by
    /// itself has all of it. The record stays, for the others.
    pub(super) fn finish_here(
        &mut self,
        participant: &Participant<F>,
        record: &Record,
        reason: &str,
    ) -> Result<Completion, Failure> {
        let kind = participant.record.as_ref().map_or(RecordKind::Prepared, |record| record.kind);
        let own_path = participant.record_path(self.id, kind);
        let Progress { has_begun, to_write, to_remove } =
            self.progress(&participant.dir, record)?;
        if has_begun && (to_write || to_remove) {
            let mut dirs = vec![None; record.dirs.len()];
            if let Some(own) = dirs.get_mut(record.here) {
                *own = Some(participant);
            }
            // Until all is done.
            let held;
            if !self.options.dry_run {
                held = (self.options.try_lock)(&Self::paths_of(&dirs, record))?;
                if held.is_none() {
                    let reason = "one of its files is locked: try again when its lock is free";
                    return Ok(self.leave(own_path, Completion::InUse, reason));
                }
                // What says that it was decided comes first on the disk, too.
                participant.sync()?;
            }
            let completed = self.complete_members(&dirs, record);
            if !self.options.dry_run {
                participant.sync()?;
            }
            completed?;
        }
        Ok(self.leave(own_path, Completion::Blocked, reason))
    }

    /// How far the files in the directory of the record have been changed.
    pub(super) fn progress(&self, dir: &Dir<F>, record: &Record) -> Result<Progress, Failure> {
        let mut progress = Progress::default();
        let staged = staged_numbers(dir, self.id)?;
        for (number, member) in record.members_in(record.here) {
            let has_temp = staged.contains(&number);
            let target = || Occupant::of(dir, &member.name);
            let before = member.before.map_or(Occupant::None, Occupant::File);
            match member.after.map(Occupant::File) {
                Some(_) if has_temp => progress.to_write = true,
                Some(after) => progress.has_begun |= after != before && target()? == after,
                None if has_temp => progress.has_begun = true,
                None => progress.to_remove |= target()? == before,
            }
        }
        Ok(progress)
    }

    /// Completes the files whose directories (by number) are there, and says whether all of these are
    /// complete now.
    pub(super) fn complete_members(
        &mut self,
        participants: &[Option<&Participant<F>>],
        record: &Record,
    ) -> Result<bool, Failure> {
        let open_files = OpenFiles::few(self.fs);
        let mut is_done = true;
        for (number, member) in record.members.iter().enumerate() {
            let Some(Some(participant)) = participants.get(member.dir) else { continue };
            if open_files.are_enough(self.replaced.len()) {
                participants.iter().flatten().try_for_each(|other| self.sync_names(other))?;
                self.replaced.clear();
            }
            is_done &= self.complete_member(&participant.dir, number, member)?;
        }
        Ok(is_done)
    }

    /// Waits until the names in a directory of a decided transaction are on the disk.
    pub(super) fn sync_names(&self, participant: &Participant<F>) -> Result<(), Failure> {
        if participant.record.is_some() {
            return participant.sync();
        }
        // Any file of the directory serves where it cannot be listed.
        let record = participant.dir.open_file(&names::record(self.id, RecordKind::Prepared));
        participant.dir.sync(record.ok().as_ref())
    }

    /// Completes one file, and says whether it is complete now.
    fn complete_member(
        &mut self,
        dir: &Dir<F>,
        number: usize,
        member: &RecordMember,
    ) -> Result<bool, Failure> {
        let (name, path) = (&member.name, dir.shown(&member.name));
        let temp_name = self.temp_name(dir, name, number)?;
        let look = |name: &OsStr| {
            // To the caller, reading a file is a part of opening it.
            Occupant::of(dir, name)
                .map_err(|failure| Failure::at("open", dir.shown(name), failure.source))
        };
        let temp = look(&temp_name)?;
        let target = look(name)?;
        let is_as_before = target == member.before.map_or(Occupant::None, Occupant::File);
        let Some(after) = member.after.map(Occupant::File) else {
            // With a temp file it has been removed; what has its name now is a newer file.
            if temp == Occupant::None && target != Occupant::None {
                self.remove(dir, name, &temp_name, is_as_before)?;
            }
            return Ok(true);
        };
        if temp == Occupant::None {
            // It has been replaced.
            if target == after && !self.options.dry_run {
                dir.open_file(name)?.sync().map_err(|failure| failure.on(path))?;
            }
            return Ok(true);
        }
        if temp != after {
            let reason = "what was staged is damaged: look at what the files hold, and remove it";
            self.leave(dir.shown(&temp_name), Completion::Blocked, reason);
            return Ok(false);
        }
        if is_as_before || target == after {
            self.say(path, RollResult::RolledForward, "the transaction was decided");
            self.rename_staged(dir, &temp_name, name, false)?;
        } else {
            let within = |limit| names::conflict_within(name, self.id, limit);
            let conflict = within(dir.name_limit(within));
            let (result, reason) = (RollResult::Conflict, CHANGED.to_owned());
            let to = Some(dir.shown(&conflict));
            self.report.push(RolledFile { path, result, reason, to, is_undone: false });
            self.rename_staged(dir, &temp_name, &conflict, true)?;
        }
        Ok(true)
    }

    /// Removes a file that the transaction removes, unless it has been changed.
    fn remove(
        &mut self,
        dir: &Dir<F>,
        name: &OsStr,
        temp_name: &OsStr,
        is_as_before: bool,
    ) -> Result<(), Failure> {
        let path = dir.shown(name);
        if !is_as_before {
            self.say(path, RollResult::Conflict, CHANGED);
            return Ok(());
        }
        self.say(path, RollResult::RolledForward, "it was to be removed");
        if self.options.dry_run {
            return Ok(());
        }
        // The temp name would tell users nothing.
        rename_removed(dir, name, temp_name).map_err(|failure| Failure { dest: None, ..failure })
    }

    /// Syncs a staged file and gives it the name `to`: with `is_new` only if nothing has that name.
    fn rename_staged(
        &mut self,
        dir: &Dir<F>,
        from: &OsStr,
        to: &OsStr,
        is_new: bool,
    ) -> Result<(), Failure> {
        if self.options.dry_run {
            return Ok(());
        }
        let file = dir.open_to_change(from)?;
        if !is_new {
            narrow(dir, &file, to).map_err(|failure| failure.on(dir.shown(from)))?;
        }
        // A transaction without syncs has left this to the process that completes it, and the
        // record may go only after it.
        file.sync().map_err(|failure| failure.on(dir.shown(from)))?;
        let renamed = match is_new {
            true => dir.rename_new(&file, from, to).or_else(|failure| match dir.look(to)? {
                // No other transaction has this id: it is the placeholder of an earlier attempt.
                Some(found) if found.is_empty_file() => dir.rename(&file, from, to),
                _ => Err(failure),
            }),
            false => {
                let own = file.metadata().map_err(|failure| failure.on(dir.shown(from)))?;
                if dir.sync_rules(own.id.device).reuses_freed {
                    self.replaced.extend(dir.open_to_keep(to)?);
                }
                dir.rename(&file, from, to)
            }
        };
        dir.confirmed(renamed, &file, to)
    }

    /// The temp file of a member. A long name has been shortened for the file system that it was
    /// made on, and the directory may be a copy of that one: the id and the number count.
    fn temp_name(
        &self,
        dir: &Dir<F>,
        basename: &OsStr,
        number: usize,
    ) -> Result<OsString, Failure> {
        let full = names::temp(basename, self.id, number);
        if full.len() <= ALWAYS_FITS {
            return Ok(full);
        }
        let is_it = |name: &OsString| match names::parse(name) {
            Some(TransactionName::Temp(_, own)) => usize::try_from(own) == Ok(number),
            _ => false,
        };
        Ok(self.temp_names(dir)?.into_iter().find(is_it).unwrap_or_else(|| {
            let within = |limit| names::temp_within(basename, self.id, number, limit);
            within(dir.name_limit(within))
        }))
    }
}

/// Takes from a staged file the permissions that the file which it replaces has lost since. What
/// the file has got since is not told from what the transaction did not want to give.
fn narrow<F: FileSystem>(dir: &Dir<F>, staged: &File<F>, name: &OsStr) -> Result<(), Failure> {
    let own = staged.metadata()?;
    let Some(replaced) = dir.look(name)?.filter(|found| found.changed > own.changed) else {
        return Ok(());
    };
    match own.mode & (replaced.mode | !0o777) {
        mode if mode == own.mode => Ok(()),
        mode => staged.set_mode(mode),
    }
}

const CHANGED: &str = "somebody else has changed it since";
