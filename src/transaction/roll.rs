//! Completes a transaction whose process has died: rolls it forward if its intent is there, and
//! back if not.
//!
//! What has been done already is told by names alone, never by contents: a file that has been
//! replaced has no staged file beside it any more, and one that has been removed has its old
//! content there. Contents only tell whether another program has changed a file that is still to
//! be changed.
//!
//! Each step can be repeated, and the records go last, so this may be interrupted at any point and
//! begun again by any process.

use std::any::Any;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::names::{self, RecordKind, TransactionId, TransactionName};
use super::participant::{Participant, read_record};
use super::record::{Record, RecordDamage};
use super::record_lock::RecordLock;
use super::tree::{First, Missing, Torn, Tree};
use crate::error::Failure;
use crate::fs::{Dir, File, FileSystem};

/// The write locks of files, held while the files are changed, so that no reader sees half of a
/// transaction.
pub type RollLocks = Box<dyn Any>;

/// Takes the write locks of these files, without waiting. `None` when one of them is taken.
pub type TryLockAll<'a> = &'a dyn Fn(&[PathBuf]) -> Result<Option<RollLocks>, Failure>;

/// How to roll.
#[derive(Clone, Copy)]
pub struct RollOptions<'a> {
    /// Only say what would be done.
    pub dry_run: bool,
    /// Takes the locks of the files.
    pub try_lock: TryLockAll<'a>,
}

/// What has become of a file, or of a whole transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RollResult {
    /// The file has got the content that the transaction had for it, or is removed by it.
    RolledForward,
    /// What the transaction had for the file is thrown away; it never took effect.
    RolledBack,
    /// Another program has changed the file, so it was left as it is. What the transaction had
    /// for it, if it was to be replaced, is beside it under a name that ends in `.conflict-` and
    /// the transaction's id.
    Conflict,
    /// Nothing was done: another process is working on it, or it cannot be told what is to be
    /// done.
    Left,
}

impl RollResult {
    /// What users see.
    pub fn name(self) -> &'static str {
        match self {
            RollResult::RolledForward => "rolledForward",
            RollResult::RolledBack => "rolledBack",
            RollResult::Conflict => "conflict",
            RollResult::Left => "left",
        }
    }
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolledFile {
    /// The file; or the record, for a transaction as a whole.
    pub path: PathBuf,
    /// What has become of it.
    pub result: RollResult,
    /// Why, in a few words.
    pub reason: String,
    /// In a conflict: where the content is that the transaction had for the file.
    pub to: Option<PathBuf>,
    /// Whether something is left to do, and no process is known to be at it.
    pub is_undone: bool,
}

/// What came of one transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    /// It is gone, or would be.
    Complete,
    /// Another process is working on it, or holds the lock of one of its files.
    InUse,
    /// It cannot be told what is to be done, or it could not be done.
    Blocked,
}

/// Completes everything that transactions have left in a directory.
///
/// # Errors
///
/// The first failure of the system, after all have been tried. What could not be done stays for
/// the next process that tries.
pub fn roll_dir<F: FileSystem>(
    fs: &F,
    dir: &Path,
    options: RollOptions<'_>,
    report: &mut Vec<RolledFile>,
) -> Result<(), Failure> {
    let id_of = |name: &OsString| match names::parse(name)? {
        TransactionName::Temp(id, _) | TransactionName::Record(id, _) => Some(id),
    };
    let names = Participant::open(fs, dir)?.dir.names()?;
    let ids: BTreeSet<TransactionId> = names.iter().filter_map(id_of).collect();
    let mut first = None;
    for id in ids {
        if let Err(failure) = roll(fs, dir, id, options, report) {
            first = first.or(Some(failure));
        }
    }
    first.map_or(Ok(()), Err)
}

/// Completes one transaction, of which something was found in this directory.
pub fn roll<F: FileSystem>(
    fs: &F,
    dir: &Path,
    id: TransactionId,
    options: RollOptions<'_>,
    report: &mut Vec<RolledFile>,
) -> Result<Completion, Failure> {
    let participant = Participant::open(fs, dir)?;
    Roll { fs, id, options, report, replaced: Vec::new() }.in_dir(participant, 2)
}

/// One transaction that is being completed.
pub(super) struct Roll<'a, 'b, F: FileSystem> {
    pub(super) fs: &'a F,
    pub(super) id: TransactionId,
    pub(super) options: RollOptions<'b>,
    pub(super) report: &'a mut Vec<RolledFile>,
    /// Files that were replaced and have to stay open until that is on the disk
    /// ([`SyncRules::reuses_freed`](crate::fs::SyncRules::reuses_freed)).
    pub(super) replaced: Vec<File<F>>,
}

impl<F: FileSystem> Roll<'_, '_, F> {
    pub(super) fn say(
        &mut self,
        path: impl Into<PathBuf>,
        result: RollResult,
        reason: impl Into<String>,
    ) {
        let (path, reason) = (path.into(), reason.into());
        self.report.push(RolledFile { path, result, reason, to: None, is_undone: false });
    }

    /// Says that something is left to do.
    pub(super) fn leave(
        &mut self,
        path: impl Into<PathBuf>,
        completion: Completion,
        reason: impl Into<String>,
    ) -> Completion {
        self.say(path, RollResult::Left, reason);
        if let Some(said) = self.report.last_mut() {
            said.is_undone = true;
        }
        completion
    }

    /// Completes it from one of its directories. `follows` says how often the first directory may
    /// still be asked.
    fn in_dir(
        &mut self,
        mut participant: Participant<F>,
        follows: u8,
    ) -> Result<Completion, Failure> {
        let locked = match participant.lock_record(self.id)? {
            RecordLock::Locked(locked) => locked,
            RecordLock::NoRecord => {
                self.sweep(&participant)?;
                return Ok(Completion::Complete);
            }
            RecordLock::InUse(path) => {
                self.say(path, RollResult::Left, "a process is at this transaction");
                return Ok(Completion::InUse);
            }
            RecordLock::Untrusted(path) => {
                // Any user may put that into a directory that all share.
                let reason = "it is no file, or belongs to somebody who has no say in this folder";
                self.say(path, RollResult::Left, reason);
                return Ok(Completion::Blocked);
            }
        };
        let (kind, path) = (locked.kind, participant.record_path(self.id, locked.kind));
        let record = read_record(&locked.file, self.id)
            // To the caller, looking at the size is a part of reading.
            .map_err(|failure| Failure::at("read", &path, failure.source))?;
        participant.record = Some(locked);
        match (kind, record) {
            (RecordKind::Intent, Ok(record)) => self.roll_forward(&participant, &record),
            (RecordKind::Prepared, Ok(record)) if record.here == 0 => {
                self.roll_back(&participant, &record)
            }
            (RecordKind::Prepared, Ok(record)) => self.by_first_dir(participant, &record, follows),
            // It was not on the disk yet, so nothing has been decided.
            (RecordKind::Prepared, Err(RecordDamage::Torn)) => self.sweep(&participant),
            (_, Err(damage)) => Ok(self.leave(path, Completion::Blocked, damage.to_string())),
        }
    }

    /// Completes it from a directory that does not decide: the first directory does.
    fn by_first_dir(
        &mut self,
        mut participant: Participant<F>,
        record: &Record,
        follows: u8,
    ) -> Result<Completion, Failure> {
        let own_path = participant.record_path(self.id, RecordKind::Prepared);
        if follows == 0 {
            let reason = "its record says that it belongs to another folder";
            return Ok(self.leave(own_path, Completion::Blocked, reason));
        }
        let tree = Tree::new(self.fs, self.id, record);
        let First { participant: home, has_record } = match tree.first(&participant) {
            Ok(first) => first,
            Err(missing) => return self.finish_here(&participant, record, &missing.reason()),
        };
        if has_record {
            // Completing it from there takes the lock of the record here.
            participant.record = None;
            let completion = self.in_dir(home, 0)?;
            // A record that is torn there does not lead back here.
            return match completion {
                Completion::Complete if !self.options.dry_run => {
                    self.in_dir(participant, follows - 1)
                }
                completion => Ok(completion),
            };
        }
        // Numbers of directories that are gone are used again, for those of a copy, too. But where the
        // first one really has no record either all or none of the files here have been changed.
        let progress = self.progress(&participant.dir, record)?;
        let is_halfway = progress.has_begun && progress.to_write;
        if is_halfway || !tree.is_the_original(&participant, &home) {
            return self.by_contents(&participant, &home, record);
        }
        if !self.options.dry_run {
            // That there is no record has to be true on the disk, too.
            home.sync()?;
        }
        self.sweep(&participant)
    }

    /// The temp files of it in a directory.
    pub(super) fn temp_names(&self, dir: &Dir<F>) -> Result<Vec<OsString>, Failure> {
        let is_temp = |name: &OsString| matches!(names::parse(name), Some(TransactionName::Temp(id, _)) if id == self.id);
        Ok(dir.names()?.into_iter().filter(is_temp).collect())
    }

    /// Removes what there is of it in a directory without a decision, the record last.
    pub(super) fn sweep(&mut self, participant: &Participant<F>) -> Result<Completion, Failure> {
        let dir = &participant.dir;
        let temps = self.temp_names(dir)?;
        let record = participant.record.as_ref().map(|record| names::record(self.id, record.kind));
        if temps.is_empty() && record.is_none() {
            return Ok(Completion::Complete);
        }
        let reason = "the transaction was not decided, or is finished";
        for name in temps.iter().chain(&record) {
            self.say(dir.shown(name), RollResult::RolledBack, reason);
        }
        if self.options.dry_run {
            return Ok(Completion::Complete);
        }
        if record.is_none() {
            // The process that dropped the record may have died before that was on the disk.
            participant.sync()?;
        }
        temps.iter().chain(&record).try_for_each(|name| dir.remove_if_there(name))?;
        Ok(Completion::Complete)
    }

    /// Removes all of a transaction that was not decided.
    fn roll_back(&mut self, home: &Participant<F>, record: &Record) -> Result<Completion, Failure> {
        let tree = Tree::new(self.fs, self.id, record);
        for number in 1..record.dirs.len() {
            // What is not found now leads here later, and finds nothing.
            let Ok(other) = tree.other(home, number, Torn::Counts) else { continue };
            self.sweep_other(other)?;
        }
        self.sweep(home)
    }

    /// Removes what there is of it in a directory that does not decide, unless another process is
    /// at it. Says whether that was so.
    pub(super) fn sweep_other(&mut self, mut other: Participant<F>) -> Result<bool, Failure> {
        match other.lock_record(self.id)? {
            // A decision is only in a first directory, and is taken back from there alone.
            RecordLock::Locked(locked) if locked.kind == RecordKind::Prepared => {
                other.record = Some(locked);
                self.sweep(&other).map(|_| true)
            }
            RecordLock::NoRecord => Ok(true),
            _ => Ok(false),
        }
    }

    /// Does what is left to do.
    fn roll_forward(
        &mut self,
        home: &Participant<F>,
        record: &Record,
    ) -> Result<Completion, Failure> {
        let own_path = home.record_path(self.id, RecordKind::Intent);
        if record.here != 0 {
            let reason = RecordDamage::Nonsense.to_string();
            return Ok(self.leave(own_path, Completion::Blocked, reason));
        }
        let tree = Tree::new(self.fs, self.id, record);
        let found = (1..record.dirs.len()).map(|number| tree.other(home, number, Torn::IsNone));
        let others: Vec<Participant<F>> = match found.collect() {
            Ok(others) => others,
            Err(missing) => return self.finish_here(home, record, &Missing::reason(&missing)),
        };
        let all: Vec<Option<&Participant<F>>> =
            std::iter::once(home).chain(&others).map(Some).collect();
        let paths = Self::paths_of(&all, record);
        // Until all is done.
        let held;
        if !self.options.dry_run {
            held = (self.options.try_lock)(&paths)?;
            if held.is_none() {
                let reason = "one of its files is locked: try again when its lock is free";
                return Ok(self.leave(own_path, Completion::InUse, reason));
            }
            // A process that dies right after its decision leaves it in memory only. No file may
            // change before it is on the disk.
            home.sync()?;
        }
        let is_done = self.complete_members(&all, record);
        if !matches!(is_done, Ok(true)) && !self.replaced.is_empty() {
            // When this ends, the blocks of what was replaced are free. What keeps it from being
            // completed is the failure to report.
            for Participant { dir, .. } in all.iter().flatten() {
                let _ = dir.sync(None);
            }
        }
        if !is_done? {
            return Ok(Completion::Blocked);
        }
        if !self.options.dry_run {
            self.drop_record(home, &others)?;
        }
        Ok(Completion::Complete)
    }

    /// Drops the record once everything is on the disk, and then what was needed until then.
    fn drop_record(&self, home: &Participant<F>, others: &[Participant<F>]) -> Result<(), Failure> {
        let intent = names::record(self.id, RecordKind::Intent);
        let prepared = names::record(self.id, RecordKind::Prepared);
        home.sync()?;
        others.iter().try_for_each(|other| self.sync_names(other))?;
        home.dir.remove_if_there(&intent)?;
        home.sync()?;
        for Participant { dir, .. } in std::iter::once(home).chain(others) {
            let temps = self.temp_names(dir)?;
            temps.iter().try_for_each(|name| dir.remove_if_there(name))?;
        }
        others.iter().try_for_each(|other| other.dir.remove_if_there(&prepared))
    }
}
