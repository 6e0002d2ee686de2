//! How several files change together.
//!
//! What holds at every moment:
//!
//! - Until the record in the first directory has the name of an intent, no file has changed. It
//!   gets that name after everything that it stands for is on the disk: the new contents and
//!   their names, the old contents, and the record itself in each directory.
//! - From the first rename on, the intent is on the disk. A process that finds it can do what is
//!   left to do, because a file that has not been changed yet has its new content beside it.
//! - The intent is dropped after all renames are on the disk, and what it needed is removed after
//!   that is on the disk, too.
//!
//! The records are locked as long as this runs: this tells a live transaction from a dead one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::change::{Change, FileChange};
use super::fingerprint::Fingerprint;
use super::names::{self, RecordKind, TransactionId};
use super::open_files::OpenFiles;
use super::participant::{LockedRecord, Participant};
use super::pending_change::{OldFile, PendingChange, Staged};
use super::record::{Record, RecordMember};
use super::tree::ways;
use crate::descriptors::is_short;
use crate::error::{Code, Failure};
use crate::fs::{Dir, DirUse, FileKind, FileSystem, SyncRules, TempAtExit};
use crate::payload::Payload;
use crate::resolve;
use crate::write::{AttemptError, Control, CopySource, Durability, Options, TempFile};

/// From this number of files on they are synced all at once, with everything else that is on the
/// same file system, where that is safe: each sync by itself waits for the disk.
const SYNCED_AT_ONCE: usize = 4;

/// Why a transaction failed, and at which file, if it was one.
#[derive(Debug)]
pub struct CommitError {
    /// Why. `committed` says that it is decided all the same: the next process that finds it
    /// does what is left to do.
    pub error: AttemptError,
    /// The path of the file.
    pub path: Option<PathBuf>,
}

impl CommitError {
    fn at(change: &FileChange, error: impl Into<AttemptError>) -> CommitError {
        CommitError { error: error.into(), path: Some(change.path.clone()) }
    }
}

impl From<AttemptError> for CommitError {
    fn from(error: AttemptError) -> CommitError {
        CommitError { error, path: None }
    }
}

impl From<Failure> for CommitError {
    fn from(failure: Failure) -> CommitError {
        AttemptError::from(failure).into()
    }
}

/// Makes one attempt to change these files together. `first` is the first path that the
/// transaction names, whether it is changed or not: its directory has the decision.
///
/// Of the options those count that say how a file is made. Under [`Durability::None`] nothing is
/// synced: then it is all or nothing if the process is killed, but not after a power cut.
///
/// # Errors
///
/// Without `committed` no file has changed, and nothing is left of the transaction, as far as
/// it could be removed.
pub fn commit<F: FileSystem>(
    fs: &F,
    first: &Path,
    changes: &[FileChange],
    options: &Options,
    control: &Control,
) -> Result<(), CommitError> {
    let committed = commit_as(fs, TransactionId::new(), first, changes, options, control);
    let keeps_all = || OpenFiles::for_changes(fs, changes.len()) == OpenFiles::All;
    match committed {
        // The rest of the program has many open.
        Err(CommitError { error, .. })
            if !error.committed && is_short(&error.kind) && keeps_all() =>
        {
            let few = OpenFiles::few(fs);
            commit_with(fs, TransactionId::new(), few, first, changes, options, control)
        }
        committed => committed,
    }
}

/// How many ids are tried: a sweeper may take a record for that of a dead process before it is
/// locked. Sweepers are rare, so in practice the second one does.
const IDS: usize = 16;

/// The same, under an id that no transaction has had.
pub fn commit_as<F: FileSystem>(
    fs: &F,
    id: TransactionId,
    first: &Path,
    changes: &[FileChange],
    options: &Options,
    control: &Control,
) -> Result<(), CommitError> {
    let open_files = OpenFiles::for_changes(fs, changes.len());
    commit_with(fs, id, open_files, first, changes, options, control)
}

fn commit_with<F: FileSystem>(
    fs: &F,
    id: TransactionId,
    open_files: OpenFiles,
    first: &Path,
    changes: &[FileChange],
    options: &Options,
    control: &Control,
) -> Result<(), CommitError> {
    let syncs = options.durability != Durability::None;
    let mut id = id;
    for _ in 0..IDS {
        let (participants, members) = (Vec::new(), Vec::new());
        let mut coordinator =
            Coordinator { fs, id, open_files, participants, members, options, syncs };
        match coordinator.prepare(first, changes, control) {
            Ok(true) => {}
            Ok(false) => {
                coordinator.roll_back();
                id = TransactionId::new();
                continue;
            }
            Err(error) => {
                coordinator.roll_back();
                return Err(error);
            }
        }
        if !coordinator.members.is_empty() {
            coordinator.decide(control)?;
            coordinator.apply()?;
            coordinator.finish();
        }
        return Ok(());
    }
    Err(Failure::at("open", first, Code::EBUSY.error()).into())
}

/// A transaction that is being committed.
struct Coordinator<'a, F: FileSystem> {
    fs: &'a F,
    id: TransactionId,
    open_files: OpenFiles,
    /// The directories, the one with the decision first.
    participants: Vec<Participant<F>>,
    members: Vec<PendingChange<'a, F>>,
    options: &'a Options,
    syncs: bool,
}

impl<'a, F: FileSystem> Coordinator<'a, F> {
    /// Prepares everything that the decision will stand for, and brings it to the disk. `false` when
    /// a sweeper has taken a record.
    fn prepare(
        &mut self,
        first: &Path,
        changes: &'a [FileChange],
        control: &Control,
    ) -> Result<bool, CommitError> {
        let home = resolve::target(self.fs, first, true, DirUse::NamesAndSync)?;
        self.participant_of(&home.dir)?;
        for change in changes {
            control.check().map_err(AttemptError::from)?;
            self.find(change).map_err(|failure| CommitError::at(change, failure))?;
        }
        if self.members.is_empty() {
            return Ok(true);
        }
        let mut record = self.record();
        for (here, participant) in self.participants.iter_mut().enumerate() {
            record.here = here;
            let bytes = record.encode();
            let bytes = bytes.ok_or_else(|| Failure::at("open", first, Code::EILSEQ.error()))?;
            if !participant.write_record(self.id, &bytes)? {
                return Ok(false);
            }
        }
        self.stage(control)?;
        if self.syncs {
            self.sync_all()?;
        }
        for member in &mut self.members {
            let keeps = |it: &Participant<F>| it.rules.reuses_freed;
            if !self.participants.get(member.participant).is_some_and(keeps) {
                // Where a file that is open cannot be replaced it must not be open here. Elsewhere
                // it may have to be, until its replacement is on the disk.
                member.before = None;
            }
        }
        control.check().map_err(AttemptError::from)?;
        Ok(true)
    }

    /// The number of the participant that is this directory.
    fn participant_of(&mut self, dir: &Dir<F>) -> Result<usize, Failure> {
        let id = dir.metadata()?.id;
        let mut participants = self.participants.iter();
        if let Some(known) = participants.position(|participant| participant.metadata.id == id) {
            return Ok(known);
        }
        let dir = Dir::open(self.fs, dir.path(), DirUse::NamesAndSync)?.shareable();
        let metadata = dir.metadata()?;
        if metadata.id != id && dir.metadata()?.id != metadata.id {
            // Its number is another one at each look.
            return Err(Failure::at("fstat", dir.path(), Code::ENOTSUP.error()));
        }
        if metadata.id != id {
            return Err(Failure::at("open", dir.path(), Code::ESTALE.error()));
        }
        let device = metadata.id.device;
        let known = self.participants.iter().find(|participant| participant.device() == device);
        let rules = match known {
            Some(known) => known.rules,
            None if self.syncs => dir.sync_rules(device),
            None => SyncRules::default(),
        };
        self.participants.push(Participant { dir, metadata, rules, record: None });
        Ok(self.participants.len() - 1)
    }

    /// Finds a file, and reads what it contains.
    fn find(&mut self, requested: &'a FileChange) -> Result<(), Failure> {
        let mut target = resolve::target(self.fs, &requested.path, true, DirUse::NamesAndSync)?;
        requested.only.as_ref().map_or(Ok(()), |only| target.must_be(only))?;
        let syscall = match requested.change {
            Change::Write(_) | Change::Move(..) | Change::Create(_) => "rename",
            Change::Remove => "unlink",
        };
        let refused = |code: Code| Err(Failure::at(syscall, target.path(), code.error()));
        match target.existing.map(|existing| existing.kind) {
            None if matches!(requested.change, Change::Remove) => return Ok(()),
            Some(_) if matches!(requested.change, Change::Create(_)) => {
                return Err(Failure::at("open", target.path(), Code::EEXIST.error()));
            }
            None | Some(FileKind::File) => {}
            Some(FileKind::Dir) => return refused(Code::EISDIR),
            Some(FileKind::Other(special)) => {
                return Err(Failure::special(syscall, target.path(), special.name()));
            }
            Some(FileKind::Link) => return refused(Code::EINVAL),
        }
        let mut before = None;
        if let Some(file) = target.open()? {
            // To the caller, looking at the size is a part of reading.
            let fingerprint = Fingerprint::of_file(&file)
                .map_err(|failure| Failure::at("read", target.path(), failure.source))?;
            let file = (self.open_files == OpenFiles::All).then_some(file);
            before = Some(OldFile { fingerprint, file });
        }
        let participant = self.participant_of(&target.dir)?;
        if let Some(Participant { dir, .. }) = self.participants.get(participant) {
            target.dir = target.dir.by_handle_of(dir);
        }
        let is_named_twice = self
            .members
            .iter()
            .any(|other| other.participant == participant && other.target.name == target.name);
        if is_named_twice {
            // The locks have told files apart that have several paths.
            return Err(Failure::at("open", target.path(), Code::EBUSY.error()));
        }
        let number = self.members.len();
        let within = |limit| names::temp_within(&target.name, self.id, number, limit);
        let temp_name = within(target.dir.name_limit(within));
        let member =
            PendingChange { requested, participant, target, before, temp_name, staged: None };
        self.members.push(member);
        Ok(())
    }

    fn record(&self) -> Record {
        let member = |member: &PendingChange<'_, F>| RecordMember {
            dir: member.participant,
            name: member.target.name.clone(),
            before: member.before.as_ref().map(|before| before.fingerprint),
            after: match &member.requested.change {
                Change::Write(Payload::Owned(bytes))
                | Change::Move(Payload::Owned(bytes), _)
                | Change::Create(Payload::Owned(bytes)) => Some(Fingerprint::of_bytes(bytes)),
                // Borrowed memory is only read by the kernel, so its hash is not known.
                Change::Write(Payload::Borrowed { length, .. })
                | Change::Move(Payload::Borrowed { length, .. }, _)
                | Change::Create(Payload::Borrowed { length, .. }) => {
                    Some(Fingerprint { size: *length as u64, hash: 0 })
                }
                Change::Remove => None,
            },
        };
        let dirs = self.participants.iter().map(|participant| participant.dir.path().to_owned());
        Record {
            id: self.id,
            home: self.participants.first().map_or(0, |home| home.metadata.id.inode),
            here: 0,
            dirs: dirs.collect(),
            ways: ways(&self.participants),
            members: self.members.iter().map(member).collect(),
        }
    }

    /// Makes the temp files that will replace other files. The system writes each back while the
    /// next ones are made.
    fn stage(&mut self, control: &Control) -> Result<(), CommitError> {
        let options = self.options;
        for member in &mut self.members {
            let (payload, model) = match &member.requested.change {
                Change::Write(payload) | Change::Create(payload) => (payload, None),
                Change::Move(payload, from) => (payload, Some(from)),
                Change::Remove => continue,
            };
            let name = member.temp_name.clone();
            let model = model
                .map(|from| open_model(member.target.dir.fs(), from))
                .transpose()
                .map_err(|failure| CommitError::at(member.requested, AttemptError::from(failure)))?
                .flatten();
            let staged =
                TempFile::stage_as(name, &member.target, payload, options, model.as_ref(), control)
                    .map_err(|error| CommitError::at(member.requested, error))?;
            let rules = self.participants.get(member.participant).map(|it| it.rules);
            let is_synced = self.syncs
                && self.open_files != OpenFiles::All
                // Otherwise the sync of the whole also reports what of it could not be written.
                && !rules.is_some_and(|rules| rules.syncs_whole);
            let begun = match (self.syncs, is_synced) {
                (true, true) => staged.file.sync(),
                (true, false) => staged.file.begin_write_back(),
                (false, _) => Ok(()),
            };
            member.staged = Some(match self.open_files {
                OpenFiles::All => Staged::Open(staged),
                OpenFiles::Few(_) => Staged::Closed(staged.close(), is_synced),
            });
            begun.map_err(|failure| CommitError::at(member.requested, failure))?;
        }
        Ok(())
    }

    /// Syncs everything that the decision stands for: the new files and the old ones (which may
    /// have been written without a sync, and would not be recognized after a power cut), the
    /// records, the names.
    fn sync_all(&self) -> Result<(), CommitError> {
        let devices: BTreeSet<u64> = self.participants.iter().map(Participant::device).collect();
        devices.into_iter().try_for_each(|device| self.sync_device(device))
    }

    /// Syncs what of it is on one device: each file and directory, or all at once.
    fn sync_device(&self, device: u64) -> Result<(), CommitError> {
        let participants = || self.participants.iter().filter(|it| it.device() == device);
        let members = || {
            self.members.iter().filter(|member| {
                self.participants.get(member.participant).is_some_and(|it| it.device() == device)
            })
        };
        let count = members().map(PendingChange::file_count).sum::<usize>();
        // The record was made before everything that is new here: by it the system knows which
        // failures to report.
        if (count >= SYNCED_AT_ONCE || self.open_files != OpenFiles::All)
            && let Some((Participant { dir, rules, .. }, LockedRecord { file, .. })) =
                participants().find_map(|it| Some((it, it.record.as_ref()?)))
            && rules.syncs_whole
        {
            match file.sync_file_system() {
                // A sandbox forbids it. Nothing has been tried.
                Err(failure) if failure.is_refused_call() => {}
                synced => return Ok(synced.map_err(|failure| failure.on(dir.path()))?),
            }
        }
        for member in members() {
            member.sync().map_err(|failure| CommitError::at(member.requested, failure))?;
        }
        for participant in participants() {
            if let Some(record) = &participant.record {
                let path = || participant.record_path(self.id, record.kind);
                record.file.sync().map_err(|failure| failure.on(path()))?;
            }
        }
        Ok(participants().try_for_each(Participant::sync)?)
    }

    /// From now on everything that the decision needs stays if a signal ends the process. Fails if
    /// something of it is gone already, because the process is about to end.
    fn keep_at_exit(&self) -> Result<(), Failure> {
        let staged = self.members.iter().filter_map(|member| member.staged.as_ref());
        let records =
            self.participants.iter().filter_map(|it| it.record.as_ref()?.at_exit.as_ref());
        // Each one, so that none is removed after this.
        let kept: Vec<bool> =
            staged.map(Staged::keep_at_exit).chain(records.map(TempAtExit::keep)).collect();
        match kept.into_iter().all(|is_kept| is_kept) {
            true => Ok(()),
            false => Err(Failure::new("rename", Code::EINTR.error())),
        }
    }

    /// Renames the record: from then on the transaction is done, whatever happens.
    fn decide(&mut self, control: &Control) -> Result<(), CommitError> {
        let Some(Participant { dir, record: Some(record), .. }) = self.participants.first() else {
            return Ok(());
        };
        let prepared = names::record(self.id, RecordKind::Prepared);
        let intent = names::record(self.id, RecordKind::Intent);
        let mut is_decided = false;
        let mut decide = || -> Result<(), Failure> {
            self.keep_at_exit()?;
            let renamed = dir.rename(&record.file, &prepared, &intent);
            dir.confirmed(renamed, &record.file, &intent).inspect_err(|_| {
                // If only the old name is known to be gone, the rename is what took it.
                is_decided = dir.look(&intent).is_err() && matches!(dir.look(&prepared), Ok(None));
            })?;
            is_decided = true;
            match self.syncs {
                true => dir.sync(Some(&record.file)),
                false => Ok(()),
            }
        };
        let decided = control.check().map_err(AttemptError::from).and_then(|()| Ok(decide()?));
        decided.map_err(|error| self.undecide(error, is_decided).into())
    }

    /// Takes the decision back, while no file has changed, and returns the error for the caller.
    /// `is_decided` says whether the intent is there, as far as can be told. What was made is
    /// removed once that is on the disk; where it cannot be brought there it stays, so that an
    /// intent that turns up after a power cut finds what it needs.
    fn undecide(&mut self, error: AttemptError, is_decided: bool) -> AttemptError {
        let Some(home) = self.participants.first() else { return error };
        if home.dir.remove_if_there(&names::record(self.id, RecordKind::Intent)).is_err() {
            // The next process that finds it, if it is there, will do what it says.
            return AttemptError { committed: is_decided, ..error };
        }
        if !self.syncs || home.sync().is_ok() {
            self.roll_back();
        }
        error
    }

    /// Removes everything that was made. The records go last: as long as they are there and
    /// locked no other process touches the rest.
    fn roll_back(&mut self) {
        for member in &mut self.members {
            if let Some(staged) = member.staged.take() {
                let _ = member.target.dir.remove(staged.name());
            }
        }
        let prepared = names::record(self.id, RecordKind::Prepared);
        for participant in self.participants.iter().rev().filter(|it| it.record.is_some()) {
            let _ = participant.dir.remove(&prepared);
        }
    }

    /// Changes the files. If not even the first one can be changed, none is; otherwise as many as
    /// can be, and the rest is left to the process that finds the intent.
    fn apply(&mut self) -> Result<(), CommitError> {
        let mut failed: Option<CommitError> = None;
        // What has to stay open until it is on the disk that it is replaced, and is not open yet.
        let mut replaced = Vec::new();
        for number in 0..self.members.len() {
            if self.open_files.are_enough(replaced.len()) {
                if let Err(failure) = self.participants.iter().try_for_each(Participant::sync) {
                    failed = failed.or(Some(failure.into()));
                    break;
                }
                replaced.clear();
            }
            let Some(member) = self.members.get_mut(number) else { continue };
            let rules = self.participants.get(member.participant).map(|it| it.rules);
            let is_kept =
                self.open_files != OpenFiles::All && rules.is_some_and(|rules| rules.reuses_freed);
            let applied = member.apply(self.options, self.syncs, is_kept.then_some(&mut replaced));
            let Err(failure) = applied else { continue };
            let error = CommitError::at(member.requested, failure);
            // What is not known to be undone cannot be taken back.
            if number == 0 && !member.may_be_applied() {
                let CommitError { error, path } = error;
                return Err(CommitError { error: self.undecide(error, true), path });
            }
            failed = failed.or(Some(error));
        }
        let synced = match self.syncs {
            true => self.participants.iter().try_for_each(Participant::sync),
            false => Ok(()),
        };
        match failed.or(synced.err().map(CommitError::from)) {
            None => Ok(()),
            Some(CommitError { error: AttemptError { kind, .. }, path }) => {
                Err(CommitError { error: AttemptError { kind, committed: true }, path })
            }
        }
    }

    /// Drops the record. All files have changed, and that is on the disk: what fails here does
    /// no harm, and is removed by recovery.
    fn finish(&self) {
        let Some(home) = self.participants.first() else { return };
        if home.dir.remove(&names::record(self.id, RecordKind::Intent)).is_err() {
            return;
        }
        // An intent that came back would ask for what it has lost.
        if self.syncs && home.sync().is_err() {
            return;
        }
        for member in self.members.iter().filter(|member| member.staged.is_none()) {
            let _ = member.target.dir.remove(&member.temp_name);
        }
        let prepared = names::record(self.id, RecordKind::Prepared);
        for participant in self.participants.iter().skip(1) {
            let _ = participant.dir.remove(&prepared);
        }
    }
}

/// The file that a new one is to be like; none if it is not there.
fn open_model<F: FileSystem>(fs: &F, path: &Path) -> Result<Option<CopySource<F>>, Failure> {
    let target = resolve::target(fs, path, true, DirUse::Names)?;
    let Some(file) = target.open()? else { return Ok(None) };
    let metadata = file.metadata().map_err(|failure| failure.on(target.path()))?;
    Ok(Some(CopySource { file, metadata }))
}
