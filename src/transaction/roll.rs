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
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::fingerprint::Occupant;
use super::names::{self, RecordKind, TransactionId, TransactionName};
use super::open_files::OpenFiles;
use super::participant::{Participant, read_record, rename_removed};
use super::record::{Record, RecordDamage, RecordMember};
use super::record_lock::RecordLock;
use crate::error::Failure;
use crate::fs::{Dir, File, FileSystem};
use crate::short_name::ALWAYS_FITS;

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
struct Roll<'a, 'b, F: FileSystem> {
    fs: &'a F,
    id: TransactionId,
    options: RollOptions<'b>,
    report: &'a mut Vec<RolledFile>,
    /// Files that were replaced and have to stay open until that is on the disk
    /// ([`SyncRules::reuses_freed`](crate::fs::SyncRules::reuses_freed)).
    replaced: Vec<File<F>>,
}

impl<F: FileSystem> Roll<'_, '_, F> {
    fn say(&mut self, path: impl Into<PathBuf>, result: RollResult, reason: impl Into<String>) {
        self.report.push(RolledFile { path: path.into(), result, reason: reason.into(), to: None });
    }

    fn leave(
        &mut self,
        path: impl Into<PathBuf>,
        completion: Completion,
        reason: impl Into<String>,
    ) -> Completion {
        self.say(path, RollResult::Left, reason);
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
                return Ok(self.leave(path, Completion::InUse, "a process is at this transaction"));
            }
            RecordLock::Untrusted(path) => {
                let reason = "it is no file, or belongs to somebody who has no say in this folder";
                return Ok(self.leave(path, Completion::Blocked, reason));
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
        let Some(path) = record.dirs.first().filter(|_| follows > 0) else {
            let reason = "its record says that it belongs to another folder";
            return Ok(self.leave(own_path, Completion::Blocked, reason));
        };
        let home = match Participant::open(self.fs, path) {
            Ok(home) => home,
            Err(failure) => {
                let reason = format!("its first folder cannot be reached: {failure}");
                return Ok(self.leave(own_path, Completion::Blocked, reason));
            }
        };
        let has_record = |kind| Ok(home.dir.look(&names::record(self.id, kind))?.is_some());
        // In this order: it may get its other name meanwhile.
        if has_record(RecordKind::Prepared)? || has_record(RecordKind::Intent)? {
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
        if home.metadata.id.inode != record.home {
            let reason = format!(
                "'{}' is not the folder that it was; is its file system mounted?",
                path.display()
            );
            return Ok(self.leave(own_path, Completion::Blocked, reason));
        }
        if !self.options.dry_run {
            // That there is no record has to be true on the disk, too.
            home.sync()?;
        }
        self.sweep(&participant)
    }

    /// The temp files of it in a directory.
    fn temp_names(&self, dir: &Dir<F>) -> Result<Vec<OsString>, Failure> {
        let is_temp = |name: &OsString| matches!(names::parse(name), Some(TransactionName::Temp(id, _)) if id == self.id);
        Ok(dir.names()?.into_iter().filter(is_temp).collect())
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

    /// Removes what there is of it in a directory without a decision, the record last.
    fn sweep(&mut self, participant: &Participant<F>) -> Result<Completion, Failure> {
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
        for path in record.dirs.iter().skip(1) {
            // What cannot be reached now leads here later, and finds nothing.
            let Ok(mut participant) = Participant::open(self.fs, path) else { continue };
            if let RecordLock::Locked(locked) = participant.lock_record(self.id)?
                // A decision is only in a first directory, and is taken back from there alone.
                && locked.kind == RecordKind::Prepared
            {
                participant.record = Some(locked);
                self.sweep(&participant)?;
            }
        }
        self.sweep(home)
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
        let others = match self.open_others(record) {
            Ok(others) => others,
            Err(path) => {
                let reason = format!(
                    "'{}' cannot be reached, or is not the folder that it was; is its file system \
                     mounted?",
                    path.display()
                );
                return Ok(self.leave(own_path, Completion::Blocked, reason));
            }
        };
        // The record may have been moved with its directory.
        let all: Vec<&Participant<F>> = std::iter::once(home).chain(&others).collect();
        let dirs: Vec<&Dir<F>> = all.iter().map(|participant| &participant.dir).collect();
        let path_of = |member: &RecordMember| {
            dirs.get(member.dir).map_or_else(PathBuf::new, |dir| dir.shown(&member.name))
        };
        let paths: Vec<PathBuf> = record.members.iter().map(path_of).collect();
        // Until all is done.
        let held;
        if !self.options.dry_run {
            held = (self.options.try_lock)(&paths)?;
            if held.is_none() {
                let reason = "one of its files is locked";
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
            for dir in &dirs {
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

    /// The other directories of a decided transaction. Each has the record too, or is not the
    /// directory that is meant: then its path is the error.
    fn open_others<'r>(&self, record: &'r Record) -> Result<Vec<Participant<F>>, &'r Path> {
        let prepared = names::record(self.id, RecordKind::Prepared);
        let open = |path: &'r PathBuf| {
            let other = Participant::open(self.fs, path).map_err(|_| path.as_path())?;
            match other.dir.look(&prepared) {
                Ok(Some(found)) if other.trusts(&found) => Ok(other),
                _ => Err(path.as_path()),
            }
        };
        record.dirs.iter().skip(1).map(open).collect()
    }

    /// Completes the files, and says whether all are complete now.
    fn complete_members(
        &mut self,
        participants: &[&Participant<F>],
        record: &Record,
    ) -> Result<bool, Failure> {
        let open_files = OpenFiles::few(self.fs);
        let mut is_done = true;
        for (number, member) in record.members.iter().enumerate() {
            let Some(participant) = participants.get(member.dir) else { continue };
            if open_files.are_enough(self.replaced.len()) {
                participants.iter().try_for_each(|other| self.sync_names(other))?;
                self.replaced.clear();
            }
            is_done &= self.complete_member(&participant.dir, number, member)?;
        }
        Ok(is_done)
    }

    /// Waits until the names in a directory of a decided transaction are on the disk.
    fn sync_names(&self, participant: &Participant<F>) -> Result<(), Failure> {
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
            self.say(dir.shown(&temp_name), RollResult::Left, "what was staged is damaged");
            return Ok(false);
        }
        if is_as_before || target == after {
            self.say(path, RollResult::RolledForward, "the transaction was decided");
            self.rename_staged(dir, &temp_name, name, false)?;
        } else {
            let within = |limit| names::conflict_within(name, self.id, limit);
            let conflict = within(dir.name_limit(within));
            let (result, reason) = (RollResult::Conflict, CHANGED.to_owned());
            self.report.push(RolledFile { path, result, reason, to: Some(dir.shown(&conflict)) });
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
