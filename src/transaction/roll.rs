//! What becomes of a transaction whose process has died.
//!
//! It is rolled forward if its intent is there, and back if not. What has been done already is
//! told by names alone, never by contents: a file that has been replaced has no staged file
//! beside it any more, and one that has been removed has its old content there. Contents only
//! tell whether somebody else has changed a file that is still to be done.
//!
//! Each step can be done again, and the records go last, so this may be interrupted at any
//! point and begun anew by anybody.

use std::any::Any;
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use super::fingerprint::{self, Found};
use super::moves::{is_named, put_aside};
use super::names::{self, Id, Name, RecordKind};
use super::record::{Action, Damage, Member, Record};
use super::record_lock::{Claim, Claimed, Place, claim, is_trusted, read_record};
use crate::error::Failure;
use crate::fs::{FileSystem, uninterrupted};
use crate::threads::blocking;

/// What is held while files are changed, so that nobody reads half of it.
pub type Guard = Box<dyn Any>;

/// Takes the write locks of these files, without waiting. `None` when somebody has one.
pub type Locks<'a> = &'a dyn Fn(&[PathBuf]) -> Result<Option<Guard>, Failure>;

/// How to settle.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// Only say what would be done.
    pub dry_run: bool,
    /// Takes the locks of the files.
    pub locks: Locks<'a>,
}

/// What has become of a file, or of a whole transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// The file has got the content that the transaction had for it, or is removed by it.
    RolledForward,
    /// What the transaction had for the file is thrown away; it never took effect.
    RolledBack,
    /// Somebody else has changed the file, so it was left as it is. What the transaction had
    /// for it, if it was to be replaced, is beside it under a name that ends in `.conflict-` and
    /// the transaction's id.
    Conflict,
    /// Nothing was done: a process is at it, or it cannot be told what is to be done.
    Left,
}

impl Verdict {
    /// What users see.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::RolledForward => "rolledForward",
            Verdict::RolledBack => "rolledBack",
            Verdict::Conflict => "conflict",
            Verdict::Left => "left",
        }
    }
}

/// One decision, for the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The file; or the record, for a transaction as a whole.
    pub path: PathBuf,
    /// What has become of it.
    pub verdict: Verdict,
    /// Why, in a few words.
    pub reason: String,
    /// In a conflict: where the content is that the transaction had for the file.
    pub to: Option<PathBuf>,
}

/// What came of one transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is gone, or would be.
    Settled,
    /// Somebody is at it, or at one of its files.
    InUse,
    /// It cannot be told what is to be done, or could not be done.
    Stuck,
}

/// Settles everything that transactions have left in a directory.
///
/// # Errors
///
/// The first failure of the system, after all have been tried. What could not be done stays,
/// for the next one who tries.
pub fn settle_dir<F: FileSystem>(
    fs: &F,
    dir: &Path,
    options: Options<'_>,
    report: &mut Vec<Decision>,
) -> Result<(), Failure> {
    let id_of = |name: &OsString| match names::parse(name)? {
        Name::Temp(id) | Name::Record(id, _) => Some(id),
    };
    let names = Place::open(fs, dir)?.names(fs)?;
    let ids: BTreeSet<Id> = names.iter().filter_map(id_of).collect();
    let mut first = None;
    for id in ids {
        if let Err(failure) = settle(fs, dir, id, options, report) {
            first = first.or(Some(failure));
        }
    }
    first.map_or(Ok(()), Err)
}

/// Settles one transaction, of which something was found in this directory.
pub fn settle<F: FileSystem>(
    fs: &F,
    dir: &Path,
    id: Id,
    options: Options<'_>,
    report: &mut Vec<Decision>,
) -> Result<Outcome, Failure> {
    let place = Place::open(fs, dir)?;
    DeferredWakeUps { fs, id, options, report }.in_dir(&place, 2)
}

/// One transaction that is being settled.
struct DeferredWakeUps<'a, 'b, F: FileSystem> {
    fs: &'a F,
    id: Id,
    options: Options<'b>,
    report: &'a mut Vec<Decision>,
}

impl<F: FileSystem> DeferredWakeUps<'_, '_, F> {
    fn say(&mut self, path: impl Into<PathBuf>, verdict: Verdict, reason: impl Into<String>) {
        self.report.push(Decision { path: path.into(), verdict, reason: reason.into(), to: None });
    }

    fn leave(&mut self, path: PathBuf, outcome: Outcome, reason: impl Into<String>) -> Outcome {
        self.say(path, Verdict::Left, reason);
        outcome
    }

    /// Settles it from one of its directories; the first one may be asked so often.
    fn in_dir(&mut self, place: &Place<F>, follows: u8) -> Result<Outcome, Failure> {
        let fs = self.fs;
        let claimed = match claim(fs, place, self.id)? {
            Claim::Nothing => {
                self.sweep(place, None)?;
                return Ok(Outcome::Settled);
            }
            Claim::InUse(path) => {
                return Ok(self.leave(path, Outcome::InUse, "a process is at this transaction"));
            }
            Claim::Foreign(path) => {
                let reason = "it is no file, or belongs to somebody who has no say in this folder";
                return Ok(self.leave(path, Outcome::Stuck, reason));
            }
            Claim::Ours(claimed) => claimed,
        };
        let record = read_record(fs, &claimed.file, self.id)
            .map_err(|error| Failure::at("read", &claimed.path, error))?;
        match (claimed.kind, record) {
            (RecordKind::Intent, Ok(record)) => self.roll_forward(place, &claimed, &record),
            (RecordKind::Prepared, Ok(record)) if record.here == 0 => {
                self.roll_back(place, &claimed, &record)?;
                Ok(Outcome::Settled)
            }
            (RecordKind::Prepared, Ok(record)) => {
                self.by_first_dir(place, claimed, &record, follows)
            }
            // It was not on the disk yet, so nothing has been decided.
            (RecordKind::Prepared, Err(Damage::Torn)) => {
                self.sweep(place, Some(&claimed))?;
                Ok(Outcome::Settled)
            }
            (_, Err(damage)) => Ok(self.leave(claimed.path, Outcome::Stuck, damage.to_string())),
        }
    }

    /// Settles it from a directory that has no say: the first one knows.
    fn by_first_dir(
        &mut self,
        place: &Place<F>,
        claimed: Claimed<F>,
        record: &Record,
        follows: u8,
    ) -> Result<Outcome, Failure> {
        let fs = self.fs;
        let Some(path) = record.dirs.first().filter(|_| follows > 0) else {
            let reason = "its record says that it belongs to another folder";
            return Ok(self.leave(claimed.path, Outcome::Stuck, reason));
        };
        let home = match Place::open(fs, path) {
            Ok(home) => home,
            Err(failure) => {
                let reason = format!("its first folder cannot be reached: {failure}");
                return Ok(self.leave(claimed.path, Outcome::Stuck, reason));
            }
        };
        let has_record = |kind| {
            let name = names::record(self.id, kind);
            match uninterrupted(|| fs.metadata(&home.dir, &name)) {
                Ok(_) => Ok(true),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
                Err(error) => Err(Failure::at("lstat", home.path.join(name), error)),
            }
        };
        // In this order: it may get its other name meanwhile.
        if has_record(RecordKind::Prepared)? || has_record(RecordKind::Intent)? {
            drop(claimed);
            let outcome = self.in_dir(&home, 0)?;
            // A record that is torn there does not lead back here.
            return match outcome {
                Outcome::Settled if !self.options.dry_run => self.in_dir(place, follows - 1),
                outcome => Ok(outcome),
            };
        }
        if home.metadata.id.inode != record.home {
            let reason = format!(
                "'{}' is not the folder that it was; is its file system mounted?",
                path.display()
            );
            return Ok(self.leave(claimed.path, Outcome::Stuck, reason));
        }
        if !self.options.dry_run {
            // That there is nothing has to be so on the disk, too.
            home.sync(fs, None)?;
        }
        self.sweep(place, Some(&claimed))?;
        Ok(Outcome::Settled)
    }

    /// Removes what there is of it in a directory that has no decision, the record last.
    fn sweep(&mut self, place: &Place<F>, claimed: Option<&Claimed<F>>) -> Result<(), Failure> {
        let fs = self.fs;
        let is_temp = |name: &OsString| names::parse(name) == Some(Name::Temp(self.id));
        let temps: Vec<OsString> = place.names(fs)?.into_iter().filter(is_temp).collect();
        if temps.is_empty() && claimed.is_none() {
            return Ok(());
        }
        let reason = "the transaction was not decided, or is finished";
        temps.iter().for_each(|name| self.say(place.path.join(name), Verdict::RolledBack, reason));
        if let Some(claimed) = claimed {
            self.say(claimed.path.clone(), Verdict::RolledBack, reason);
        }
        if self.options.dry_run {
            return Ok(());
        }
        if claimed.is_none() {
            // Whoever dropped the record may have died before that was on the disk.
            place.sync(fs, None)?;
        }
        temps.iter().try_for_each(|name| place.remove(fs, name))?;
        match claimed.and_then(|claimed| claimed.path.file_name()) {
            Some(name) => place.remove(fs, name),
            None => Ok(()),
        }
    }

    /// Removes all of a transaction that was not decided.
    fn roll_back(
        &mut self,
        home: &Place<F>,
        claimed: &Claimed<F>,
        record: &Record,
    ) -> Result<(), Failure> {
        for path in record.dirs.iter().skip(1) {
            // What cannot be reached now leads here later, and finds nothing.
            let Ok(place) = Place::open(self.fs, path) else { continue };
            if let Claim::Ours(claimed) = claim(self.fs, &place, self.id)?
                // A decision is only in a first directory, and is not taken back by anybody else's.
                && claimed.kind == RecordKind::Prepared
            {
                self.sweep(&place, Some(&claimed))?;
            }
        }
        self.sweep(home, Some(claimed))
    }

    /// Does what is left to do.
    fn roll_forward(
        &mut self,
        home: &Place<F>,
        claimed: &Claimed<F>,
        record: &Record,
    ) -> Result<Outcome, Failure> {
        let fs = self.fs;
        if record.here != 0 {
            let reason = Damage::Nonsense.to_string();
            return Ok(self.leave(claimed.path.clone(), Outcome::Stuck, reason));
        }
        // Each of the others has the record too, or is not the directory that is meant.
        let mut others = Vec::new();
        for path in record.dirs.iter().skip(1) {
            let place = Place::open(fs, path);
            let prepared = names::record(self.id, RecordKind::Prepared);
            let has_record = place.as_ref().is_ok_and(|place| {
                uninterrupted(|| fs.metadata(&place.dir, &prepared))
                    .is_ok_and(|found| is_trusted(fs, &place.metadata, &found))
            });
            match place {
                Ok(place) if has_record => others.push(place),
                _ => {
                    let reason = format!(
                        "'{}' cannot be reached, or is not the folder that it was; is its file \
                         system mounted?",
                        path.display()
                    );
                    return Ok(self.leave(claimed.path.clone(), Outcome::Stuck, reason));
                }
            }
        }
        // The record may have been moved with its directory.
        let places: Vec<&Place<F>> = std::iter::once(home).chain(&others).collect();
        let path_of = |member: &Member| {
            places.get(member.dir).map_or_else(PathBuf::new, |p| p.path.join(&member.name))
        };
        let paths: Vec<PathBuf> = record.members.iter().map(path_of).collect();
        let guard = match self.options.dry_run {
            true => None,
            false => match (self.options.locks)(&paths)? {
                None => {
                    let reason = "one of its files is locked";
                    return Ok(self.leave(claimed.path.clone(), Outcome::InUse, reason));
                }
                guard => guard,
            },
        };
        if !self.options.dry_run {
            // A process that dies right after its decision leaves it in memory only. No file may
            // change before it is on the disk.
            home.sync(fs, Some(&claimed.file))?;
        }
        let mut is_done = true;
        for (number, member) in record.members.iter().enumerate() {
            let Some(place) = places.get(member.dir) else { continue };
            is_done &= self.finish_member(place, number, member)?;
        }
        if !is_done {
            return Ok(Outcome::Stuck);
        }
        if !self.options.dry_run {
            self.drop_record(&places, claimed)?;
        }
        drop(guard);
        Ok(Outcome::Settled)
    }

    /// Brings one file to its end, and says whether that is reached.
    fn finish_member(
        &mut self,
        place: &Place<F>,
        number: usize,
        member: &Member,
    ) -> Result<bool, Failure> {
        let (fs, name) = (self.fs, &member.name);
        let path = place.path.join(name);
        let temp_name = names::temp(name, self.id, number);
        let temp_path = place.path.join(&temp_name);
        let look = |name: &OsStr, path: &Path| {
            fingerprint::look(fs, &place.dir, name)
                .map_err(|error| Failure::at("open", path, error))
        };
        let aside = look(&temp_name, &temp_path)?;
        let target = look(name, &path)?;
        let is_as_before = target == member.before.map_or(Found::Nothing, Found::File);
        let after = match member.action {
            Action::Remove => {
                if aside != Found::Nothing || target == Found::Nothing {
                    return Ok(true);
                }
                if !is_as_before {
                    self.say(path, Verdict::Conflict, CHANGED);
                    return Ok(true);
                }
                self.say(path.clone(), Verdict::RolledForward, "it was to be removed");
                if !self.options.dry_run {
                    put_aside(fs, &place.dir, name, &temp_name)
                        .map_err(|error| Failure::at("rename", path, error))?;
                }
                return Ok(true);
            }
            Action::Write(after) => after,
        };
        match aside {
            // It has been done.
            Found::Nothing => {
                if target == Found::File(after) && !self.options.dry_run {
                    let file = uninterrupted(|| fs.open(&place.dir, name))
                        .map_err(|error| Failure::at("open", &path, error))?;
                    self.sync(&file, &path)?;
                }
                return Ok(true);
            }
            found if found == Found::File(after) => {}
            _ => {
                self.say(temp_path, Verdict::Left, "what was staged is damaged");
                return Ok(false);
            }
        }
        if is_as_before || target == Found::File(after) {
            self.say(path, Verdict::RolledForward, "the transaction was decided");
            self.rename(place, &temp_name, name, false)?;
        } else {
            let to = Some(place.path.join(names::aside(name, self.id)));
            let (verdict, reason) = (Verdict::Conflict, CHANGED.to_owned());
            self.report.push(Decision { path, verdict, reason, to });
            self.rename(place, &temp_name, name, true)?;
        }
        Ok(true)
    }

    /// Brings a staged file to its place; without one, out of the way, under a name that says
    /// whose it was.
    fn rename(
        &self,
        place: &Place<F>,
        from: &OsStr,
        name: &OsStr,
        is_conflict: bool,
    ) -> Result<(), Failure> {
        if self.options.dry_run {
            return Ok(());
        }
        let fs = self.fs;
        let to = if is_conflict { names::aside(name, self.id) } else { name.to_owned() };
        let file = uninterrupted(|| fs.open_to_change(&place.dir, from))
            .map_err(|error| Failure::at("open", place.path.join(from), error))?;
        self.sync(&file, &place.path.join(from))?;
        let renamed = uninterrupted(|| match is_conflict {
            true => fs.rename_new(&place.dir, &file, from, &to),
            false => fs.rename(&place.dir, &file, from, &to),
        });
        match renamed {
            // It may have been done all the same, as in `write::publish`.
            Err(error) if !is_named(fs, &place.dir, &file, &to) => Err(Failure {
                dest: Some(place.path.join(&to)),
                ..Failure::at("rename", place.path.join(from), error)
            }),
            _ => Ok(()),
        }
    }

    /// Brings a new content to the disk. A transaction without syncs has left that to whoever
    /// finishes it, and the record may go only after it.
    fn sync(&self, file: &F::FileHandle, path: &Path) -> Result<(), Failure> {
        uninterrupted(|| blocking(|| self.fs.sync_file(file)))
            .map_err(|error| Failure::at("fsync", path, error))
    }

    /// Drops the record once everything is on the disk, and then what was needed until then.
    fn drop_record(&self, places: &[&Place<F>], claimed: &Claimed<F>) -> Result<(), Failure> {
        let fs = self.fs;
        let intent = names::record(self.id, RecordKind::Intent);
        let prepared = names::record(self.id, RecordKind::Prepared);
        for (number, place) in places.iter().enumerate() {
            // Any file of the directory serves where it cannot be listed.
            let own = match number {
                0 => None,
                _ => uninterrupted(|| fs.open(&place.dir, &prepared)).ok(),
            };
            let file = if number == 0 { Some(&claimed.file) } else { own.as_ref() };
            place.sync(fs, file)?;
        }
        let Some((home, others)) = places.split_first() else { return Ok(()) };
        home.remove(fs, &intent)?;
        home.sync(fs, Some(&claimed.file))?;
        for place in places {
            for name in place.names(fs)? {
                if names::parse(&name) == Some(Name::Temp(self.id)) {
                    place.remove(fs, &name)?;
                }
            }
        }
        others.iter().try_for_each(|place| place.remove(fs, &prepared))
    }
}

const CHANGED: &str = "somebody else has changed it since";
