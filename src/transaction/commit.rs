//! How several files change together.
//!
//! What holds at every moment:
//!
//! - Until the record in the first directory has the name of an intent, no file has changed. It
//!   gets that name after everything that it stands for is on the disk: the new contents and
//!   their names, the old contents, and the record itself in each directory.
//! - From the first rename on, the intent is on the disk. Whoever finds it can do what is left
//!   to do, because a file that has not been changed yet has its new content beside it.
//! - The intent is dropped after all renames are on the disk, and what it needed after that is
//!   on the disk, too.
//!
//! The records are locked as long as this runs: by that the living are told from the dead.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use super::fingerprint;
use super::moves::{Seen, is_named, look, put_aside};
use super::names::{self, Id, RecordKind};
use super::participant::Participant;
use super::record::{Action, Content, Member, Record};
use crate::error::Code;
use crate::error::Failure;
use crate::fs::{DirUse, File, FileKind, FileSystem, uninterrupted};
use crate::payload::Payload;
use crate::resolve::{self, Target};
use crate::threads::blocking;
use crate::write::{AttemptError, Control, Durability, Options, TempFile};

/// From so many files on they are synced all at once, with everything else that is on the same
/// file system, where that is safe: each sync by itself waits for the disk.
const MANY: usize = 4;

/// What is to become of a file.
#[derive(Debug)]
pub enum Change {
    /// It gets these bytes, which are memory of our own.
    Write(Payload),
    /// It is removed. That it is not there is no error.
    Remove,
}

/// One file of a transaction.
#[derive(Debug)]
pub struct Part {
    /// The file, absolute.
    pub path: PathBuf,
    /// What is to become of it.
    pub change: Change,
}

/// Why a transaction failed, and at which file, if it was one.
#[derive(Debug)]
pub struct CommitError {
    /// Why. `committed` says that it is decided all the same: what is left to do will be done
    /// by whoever comes next.
    pub error: AttemptError,
    /// The path of the part.
    pub path: Option<PathBuf>,
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
    parts: &[Part],
    options: &Options,
    control: &Control,
) -> Result<(), CommitError> {
    commit_as(fs, Id::new(), first, parts, options, control)
}

/// The same, under an id that nobody has had.
pub fn commit_as<F: FileSystem>(
    fs: &F,
    id: Id,
    first: &Path,
    parts: &[Part],
    options: &Options,
    control: &Control,
) -> Result<(), CommitError> {
    let mut draft = Draft {
        fs,
        id,
        places: Vec::new(),
        members: Vec::new(),
        syncs: options.durability != Durability::None,
    };
    let prepared = draft.prepare(first, parts, options, control);
    if let Err(error) = prepared {
        draft.roll_back();
        return Err(error);
    }
    if draft.members.is_empty() {
        return Ok(());
    }
    draft.decide(control)?;
    draft.apply()?;
    draft.finish();
    Ok(())
}

/// A transaction that is being made.
struct Draft<'a, F: FileSystem> {
    fs: &'a F,
    id: Id,
    /// The directories, the one with the decision first.
    places: Vec<Participant<F>>,
    members: Vec<Draftee<'a, F>>,
    syncs: bool,
}

/// A file that is to change.
struct Draftee<'a, F: FileSystem> {
    part: &'a Part,
    place: usize,
    target: Target<F>,
    /// The file as it is, and its content.
    before: Option<(File<F>, Content)>,
    temp_name: OsString,
    staged: Option<TempFile<F>>,
}

impl<'a, F: FileSystem> Draft<'a, F> {
    /// Gets everything ready, and on the disk, that the decision will stand for.
    fn prepare(
        &mut self,
        first: &Path,
        parts: &'a [Part],
        options: &Options,
        control: &Control,
    ) -> Result<(), CommitError> {
        let home = resolve::target(self.fs, first, true, DirUse::NamesAndSync)?;
        self.place_of(&home)?;
        for part in parts {
            control.check().map_err(AttemptError::from)?;
            self.find(part).map_err(|error| at(part, error))?;
        }
        if self.members.is_empty() {
            return Ok(());
        }
        let mut record = self.record();
        for (here, place) in self.places.iter_mut().enumerate() {
            record.here = here;
            let bytes = record.encode();
            let bytes = bytes.ok_or_else(|| Failure::at("open", first, Code::EILSEQ.error()))?;
            place.write_record(self.fs, self.id, &bytes)?;
        }
        self.stage(options, control)?;
        if self.syncs {
            self.sync_all()?;
        }
        // Where a file that is open cannot be replaced it must not be open here.
        self.members.iter_mut().for_each(|member| member.before = None);
        Ok(control.check().map_err(AttemptError::from)?)
    }

    /// The number of the directory that a file is in.
    fn place_of(&mut self, target: &Target<F>) -> Result<usize, Failure> {
        let path = target.dir.path();
        let id_of = |dir: &F::DirHandle| {
            uninterrupted(|| self.fs.dir_metadata(dir))
                .map(|metadata| metadata.id)
                .map_err(|error| Failure::at("fstat", path, error))
        };
        let id = id_of(target.dir.handle())?;
        if let Some(known) = self.places.iter().position(|place| place.id == id) {
            return Ok(known);
        }
        let dir = uninterrupted(|| self.fs.open_dir(path, DirUse::NamesAndSync))
            .map_err(|error| Failure::at("open", path, error))?;
        if id_of(&dir)? != id {
            return Err(Failure::at("open", path, Code::ESTALE.error()));
        }
        self.places.push(Participant { dir, path: path.to_owned(), id, record: None });
        Ok(self.places.len() - 1)
    }

    /// Finds a file, and what is in it.
    fn find(&mut self, part: &'a Part) -> Result<(), AttemptError> {
        let fs = self.fs;
        let target = resolve::target(fs, &part.path, true, DirUse::NamesAndSync)?;
        let shown = target.path();
        let syscall = match part.change {
            Change::Write(_) => "rename",
            Change::Remove => "unlink",
        };
        match target.existing.map(|existing| existing.kind) {
            None if matches!(part.change, Change::Remove) => return Ok(()),
            None | Some(FileKind::File) => {}
            Some(FileKind::Dir) => {
                return Err(Failure::at(syscall, shown, Code::EISDIR.error()).into());
            }
            Some(_) => return Err(Failure::at(syscall, shown, Code::EINVAL.error()).into()),
        }
        let before = match target.open()? {
            Some(file) => {
                let content = blocking(|| fingerprint::of_file(fs, file.handle()))
                    .map_err(|error| Failure::at("read", &shown, error))?;
                Some((file, content))
            }
            None => None,
        };
        let place = self.place_of(&target)?;
        let is_named_twice = self
            .members
            .iter()
            .any(|other| other.place == place && other.target.name == target.name);
        if is_named_twice {
            // The facade has told them apart by their locks.
            return Err(Failure::at("open", shown, Code::EBUSY.error()).into());
        }
        let temp_name = names::temp(&target.name, self.id, self.members.len());
        self.members.push(Draftee { part, place, target, before, temp_name, staged: None });
        Ok(())
    }

    fn record(&self) -> Record {
        let member = |member: &Draftee<'_, F>| Member {
            dir: member.place,
            name: member.target.name.clone(),
            before: member.before.as_ref().map(|(_, content)| *content),
            action: match &member.part.change {
                Change::Write(Payload::Owned(bytes)) => Action::Write(fingerprint::of_bytes(bytes)),
                // What is borrowed is only for the kernel to read, so nobody can say what it is.
                Change::Write(Payload::Borrowed { length, .. }) => {
                    Action::Write(Content { size: *length as u64, hash: 0 })
                }
                Change::Remove => Action::Remove,
            },
        };
        Record {
            id: self.id,
            home: self.places.first().map_or(0, |home| home.id.inode),
            here: 0,
            dirs: self.places.iter().map(|place| place.path.clone()).collect(),
            members: self.members.iter().map(member).collect(),
        }
    }

    /// Makes the files that will take the places of others. The system writes them back while
    /// the next ones are made.
    fn stage(&mut self, options: &Options, control: &Control) -> Result<(), CommitError> {
        for member in &mut self.members {
            let Change::Write(payload) = &member.part.change else { continue };
            let name = member.temp_name.clone();
            let staged = TempFile::stage_as(name, &member.target, payload, options, control)
                .map_err(|error| at(member.part, error))?;
            let begun = match self.syncs {
                true => staged.file.begin_write_back(),
                false => Ok(()),
            };
            member.staged = Some(staged);
            begun.map_err(|failure| at(member.part, failure.into()))?;
        }
        Ok(())
    }

    /// Everything that the decision stands for: the new files and the old ones (somebody may
    /// have written those without a sync, and after a power cut they would not be known again),
    /// the records, the names.
    fn sync_all(&self) -> Result<(), CommitError> {
        let devices: BTreeSet<u64> = self.places.iter().map(|place| place.id.device).collect();
        devices.into_iter().try_for_each(|device| self.sync_device(device))
    }

    /// What of it is on one device: each file and directory, or all at once.
    fn sync_device(&self, device: u64) -> Result<(), CommitError> {
        let fs = self.fs;
        let places = || self.places.iter().filter(|place| place.id.device == device);
        let is_here = |member: &&Draftee<'_, F>| {
            self.places.get(member.place).is_some_and(|place| place.id.device == device)
        };
        let count = self.members.iter().filter(is_here).map(Draftee::files).sum::<usize>();
        // The record was made before everything that is new here: by it the system knows whose
        // failures to report.
        if count >= MANY
            && let Some((place, record)) =
                places().find_map(|place| Some((place, place.record.as_ref()?)))
            && fs.sync_rules(record, device).syncs_whole
        {
            let synced = uninterrupted(|| blocking(|| fs.sync_file_system_of(record)));
            return Ok(synced.map_err(|error| Failure::at("syncfs", &place.path, error))?);
        }
        for member in self.members.iter().filter(is_here) {
            let sync = || {
                if let Some(staged) = &member.staged {
                    staged.file.sync()?;
                }
                if let Some((file, _)) = &member.before {
                    let shown = || member.target.path();
                    file.sync().map_err(|failure| failure.on(shown()))?;
                }
                Ok(())
            };
            sync().map_err(|failure: Failure| at(member.part, failure.into()))?;
        }
        for place in places() {
            if let Some(record) = &place.record {
                sync_file(fs, record)
                    .map_err(|error| Failure::at("fsync", place.shown(self.id), error))?;
            }
        }
        Ok(places().try_for_each(|place| place.sync(fs))?)
    }

    /// The moment from which on the transaction is done, whatever happens.
    fn decide(&mut self, control: &Control) -> Result<(), CommitError> {
        let fs = self.fs;
        let Some(home) = self.places.first() else { return Ok(()) };
        let Some(record) = &home.record else { return Ok(()) };
        let prepared = names::record(self.id, RecordKind::Prepared);
        let intent = names::record(self.id, RecordKind::Intent);
        let mut is_decided = false;
        let mut decide = || -> Result<(), Failure> {
            let renamed = uninterrupted(|| fs.rename(&home.dir, record, &prepared, &intent));
            if let Err(error) = renamed
                // It may have been done all the same, as in `write::publish`.
                && !is_named(fs, &home.dir, record, &intent)
            {
                // If the old name is gone, the rename is what took it.
                is_decided = look(fs, &home.dir, &intent) == Seen::Unknown
                    && look(fs, &home.dir, &prepared) == Seen::Nothing;
                let (from, to) = (home.path.join(&prepared), home.path.join(&intent));
                return Err(Failure { dest: Some(to), ..Failure::at("rename", from, error) });
            }
            is_decided = true;
            if self.syncs {
                home.sync(fs)?;
            }
            Ok(())
        };
        let decided = control.check().map_err(AttemptError::from).and_then(|()| Ok(decide()?));
        decided.map_err(|error| self.undecide(error, is_decided).into())
    }

    /// Takes the decision back, while no file has changed, and says what the caller is to be
    /// told. `is_decided` says whether the intent is there, as far as can be told. What was made is
    /// removed once that is on the disk; where it cannot be brought there it stays, so that an
    /// intent that turns up after a power cut finds what it needs.
    fn undecide(&mut self, error: AttemptError, is_decided: bool) -> AttemptError {
        let fs = self.fs;
        let intent = names::record(self.id, RecordKind::Intent);
        let Some(home) = self.places.first() else { return error };
        match uninterrupted(|| fs.remove(&home.dir, &intent)) {
            Err(reason) if reason.kind() != io::ErrorKind::NotFound => {
                // Whoever finds it, if it is there, will do what it says.
                return AttemptError { committed: is_decided, ..error };
            }
            _ => {}
        }
        if !self.syncs || home.sync_names(fs).is_ok() {
            self.roll_back();
        }
        error
    }

    /// Removes everything that was made. The records go last: as long as they are there and
    /// locked nobody else touches the rest.
    fn roll_back(&mut self) {
        let fs = self.fs;
        for member in &mut self.members {
            if let Some(staged) = member.staged.take() {
                let _ = member.target.dir.remove(&staged.name);
            }
        }
        let prepared = names::record(self.id, RecordKind::Prepared);
        for place in self.places.iter().rev().filter(|place| place.record.is_some()) {
            let _ = uninterrupted(|| fs.remove(&place.dir, &prepared));
        }
    }

    /// Changes the files. If not even the first one can be, none is; otherwise as many as can
    /// be, and the rest is left to whoever finds the intent.
    fn apply(&mut self) -> Result<(), CommitError> {
        let mut failed: Option<CommitError> = None;
        for number in 0..self.members.len() {
            let Some(member) = self.members.get(number) else { continue };
            let Err(failure) = member.apply(self.fs) else { continue };
            let error = at(member.part, failure.into());
            // What is not known to be undone cannot be taken back.
            if number == 0 && !member.may_be_applied(self.fs) {
                let CommitError { error, path } = error;
                return Err(CommitError { error: self.undecide(error, true), path });
            }
            failed = failed.or(Some(error));
        }
        let synced = match self.syncs {
            true => self.places.iter().try_for_each(|place| place.sync(self.fs)),
            false => Ok(()),
        };
        let failed = failed.or(synced.err().map(CommitError::from));
        match failed {
            None => Ok(()),
            Some(CommitError { error: AttemptError { kind, .. }, path }) => {
                Err(CommitError { error: AttemptError { kind, committed: true }, path })
            }
        }
    }

    /// Drops the record. All files have changed, and that is on the disk: what fails here does
    /// no harm, and is taken away by recovery.
    fn finish(&self) {
        let (fs, id) = (self.fs, self.id);
        let Some(home) = self.places.first() else { return };
        let intent = names::record(id, RecordKind::Intent);
        if uninterrupted(|| fs.remove(&home.dir, &intent)).is_err() {
            return;
        }
        // An intent that came back would ask for what it has lost.
        if self.syncs && home.sync(fs).is_err() {
            return;
        }
        for member in self.members.iter().filter(|member| member.staged.is_none()) {
            let _ = uninterrupted(|| fs.remove(member.target.dir.handle(), &member.temp_name));
        }
        let prepared = names::record(id, RecordKind::Prepared);
        for place in self.places.iter().skip(1) {
            let _ = uninterrupted(|| fs.remove(&place.dir, &prepared));
        }
    }
}

impl<F: FileSystem> Draftee<'_, F> {
    /// How many files of it there are to sync.
    fn files(&self) -> usize {
        usize::from(self.staged.is_some()) + usize::from(self.before.is_some())
    }

    /// Puts the new file in its place, or the old one aside.
    fn apply(&self, fs: &F) -> Result<(), Failure> {
        let (dir, name) = (self.target.dir.handle(), &self.target.name);
        let shown = |name: &OsStr| self.target.dir.shown(name);
        if let Some(staged) = &self.staged {
            let renamed =
                uninterrupted(|| fs.rename(dir, staged.file.handle(), &self.temp_name, name));
            return match renamed {
                Err(error) if !is_named(fs, dir, staged.file.handle(), name) => Err(Failure {
                    dest: Some(shown(name)),
                    ..Failure::at("rename", shown(&self.temp_name), error)
                }),
                _ => Ok(()),
            };
        }
        put_aside(fs, dir, name, &self.temp_name).map_err(|error| Failure {
            dest: Some(shown(&self.temp_name)),
            ..Failure::at("rename", shown(name), error)
        })
    }

    /// Whether that may have been done although it has failed: the new name cannot be looked at,
    /// and the old one is not known to be there.
    fn may_be_applied(&self, fs: &F) -> bool {
        let (dir, name) = (self.target.dir.handle(), &self.target.name);
        let (from, to) = match self.staged {
            Some(_) => (&self.temp_name, name),
            None => (name, &self.temp_name),
        };
        look(fs, dir, to) == Seen::Unknown && look(fs, dir, from) != Seen::Something
    }
}

fn at(part: &Part, error: AttemptError) -> CommitError {
    CommitError { error, path: Some(part.path.clone()) }
}

fn sync_file<F: FileSystem>(fs: &F, file: &F::FileHandle) -> io::Result<()> {
    uninterrupted(|| blocking(|| fs.sync_file(file)))
}
