//! Putting in order what a crash has left.
//!
//! A process that dies in the middle of a write leaves a temp file ([`crate::temp_name`]); the
//! JavaScript that holdfast replaces leaves `<file>.tmp` and `<file>.bak` as well. [`recover`]
//! looks at one file's remains, or at those of all files in a directory, and decides:
//!
//! 1. The file is missing and there is a temp file: the newest that is whole becomes the file,
//!    if that is wanted; others are removed.
//! 2. The file is missing and there is a `.bak`: that becomes the file.
//! 3. and 4. The file is there and good: what is left beside it is stale, and removed. A JSON
//!    file that is empty or corrupt is replaced by what is good, and kept aside.
//!
//! What holds at every moment, so that a recovery may be cut off anywhere, run again, and run
//! by several processes at once:
//!
//! - Nothing is touched whose writer may be alive: a temp file is an orphan only when nobody
//!   holds its lock and it is old enough. Its lock is held while it is dealt with, and its name
//!   is known to be that file.
//! - Nothing is overwritten. What becomes a file gets its name by a rename that fails if
//!   the name is taken, and what was there before has been moved aside.
//! - Nothing good is removed before something as good is durable in its place.
//!
//! [`settle`] has the four cases, [`orphan`] says what is an orphan, [`text`] what is whole,
//! and [`replace`] makes one file another. [`submit`] runs it on holdfast's threads, and
//! [`first_write`] sweeps directories as they are first written to.

use std::any::Any;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::error::Code;
use crate::error::{ErrorKind, Failure};
use crate::fs::{DirUse, FileId, FileKind, FileSystem, Metadata, uninterrupted};
use crate::resolve;
use crate::transaction::Unfinished;
use crate::write::{AttemptError, Control, Format};

mod json_check;
pub mod names;
mod orphan;
mod promote;
mod recover_file;
pub mod run;
pub mod sweep_on_first_write;
mod transactions;

use names::Remains;

/// What is to be put in order.
#[derive(Clone, Debug)]
pub struct Request {
    /// A file or a directory, absolute.
    pub path: PathBuf,
    /// How.
    pub options: Options,
    /// The time by which ages are reckoned.
    pub now: SystemTime,
}

/// How to recover. [`Options::default`] has the defaults of the public contract.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether `<file>.tmp` and `<file>.bak` are dealt with in a directory. They always are for a
    /// file that is named.
    pub legacy: bool,
    /// Whether a temp file may become a file that is missing; `None`: if the file is named.
    pub promote: Option<bool>,
    /// How old a temp file has to be to count as an orphan.
    pub min_age: Duration,
    /// Whether the directories below are dealt with as well.
    pub recursive: bool,
    /// Whether only to say what would be done.
    pub dry_run: bool,
    /// What every file has to be, whatever its name. Without it names that end in `.json` say
    /// so.
    pub validate: Option<Format>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            legacy: false,
            promote: None,
            min_age: Duration::from_secs(60),
            recursive: false,
            dry_run: false,
            validate: None,
        }
    }
}

/// What was done with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// It was removed.
    Removed,
    /// A temp file has become the file that it was written to be.
    Promoted,
    /// It has taken the place of a file that was missing or corrupt.
    Restored,
    /// It was corrupt, and got another name.
    SetAside,
    /// A transaction that was decided has replaced it, or removed it.
    Completed,
    /// It was not what a transaction that was decided had found, so it was left as it is.
    Conflict,
    /// Nothing.
    Left,
    /// Something should have been done with it, and could not be.
    Failed,
}

impl Act {
    /// What users see in `action`.
    pub fn name(self) -> &'static str {
        match self {
            Act::Removed => "removed",
            Act::Promoted => "promoted",
            Act::Restored => "restored",
            Act::SetAside => "setAside",
            Act::Completed => "completed",
            Act::Conflict => "conflict",
            Act::Left => "left",
            Act::Failed => "failed",
        }
    }
}

/// One decision.
#[derive(Debug)]
pub struct Action {
    /// The file that it is about.
    pub path: PathBuf,
    /// What was done with it.
    pub act: Act,
    /// What it is called now, if that is something else.
    pub to: Option<PathBuf>,
    /// Why, for people.
    pub reason: String,
    /// Why it could not be done.
    pub error: Option<AttemptError>,
}

/// Takes the lock of the file at a path without waiting; `None` when somebody has it. It is
/// held until the answer is dropped.
pub type Guard<'a> = dyn Fn(&Path) -> Result<Option<Box<dyn Any>>, ErrorKind> + 'a;

/// Puts a file or a directory in order. Whoever names a file should hold its lock, and say so by
/// a guard that always answers.
///
/// # Errors
///
/// When the path itself cannot be looked at. What goes wrong with one of several files is
/// among the actions.
///
/// # Durability
///
/// What has become a file is fully durable when this returns.
pub fn recover<F: FileSystem>(
    fs: &F,
    request: &Request,
    guard: &Guard<'_>,
    control: &Control,
) -> Result<Vec<Action>, ErrorKind> {
    let Request { path, options, now } = request;
    let mut recovery = Recovery {
        fs,
        options,
        now: *now,
        promotes: false,
        only_sweeps: false,
        guard,
        control,
        decided: Vec::new(),
        actions: Vec::new(),
    };
    match Place::open(fs, path) {
        Ok(place) => {
            recovery.promotes = options.promote.unwrap_or(false);
            recovery.dirs(place)?;
        }
        Err(failure) => {
            recovery.promotes = options.promote.unwrap_or(true);
            recovery.file(path, failure)?;
        }
    }
    // With one file, or the last one of a directory, nobody has asked since.
    let is_cut_short = |action: &Action| matches!(&action.error, Some(error) if matches!(error.kind, ErrorKind::Cancelled));
    match recovery.actions.iter().any(is_cut_short) {
        true => Err(ErrorKind::Cancelled),
        false => Ok(recovery.actions),
    }
}

/// Whether the path names a directory.
pub fn is_dir<F: FileSystem>(fs: &F, path: &Path) -> bool {
    uninterrupted(|| fs.open_dir(path, DirUse::Names)).is_ok()
}

/// Removes the orphans in a directory that are of no use to anybody: those beside a good file, and
/// those that are no whole JSON text. It makes nothing a file.
fn sweep<F: FileSystem>(fs: &F, dir: &Path, now: SystemTime) -> Result<Vec<Action>, ErrorKind> {
    let options = Options::default();
    let mut recovery = Recovery {
        fs,
        options: &options,
        now,
        promotes: false,
        only_sweeps: true,
        guard: &|_: &Path| Ok(None),
        control: &Control::default(),
        decided: Vec::new(),
        actions: Vec::new(),
    };
    recovery.dirs(Place::open(fs, dir)?)?;
    Ok(recovery.actions)
}

/// A recovery under way.
struct Recovery<'a, F: FileSystem> {
    fs: &'a F,
    options: &'a Options,
    now: SystemTime,
    promotes: bool,
    /// Nothing becomes a file, and nothing is removed that could.
    only_sweeps: bool,
    guard: &'a Guard<'a>,
    control: &'a Control,
    /// The transactions of the directory at hand that were decided and could not be finished. What
    /// becomes of their files is theirs to say.
    decided: Vec<Unfinished>,
    actions: Vec<Action>,
}

/// An open directory and where it was found.
struct Place<F: FileSystem> {
    dir: F::DirHandle,
    path: PathBuf,
}

impl<F: FileSystem> Place<F> {
    fn open(fs: &F, path: &Path) -> Result<Place<F>, Failure> {
        let dir = uninterrupted(|| fs.open_dir(path, DirUse::NamesAndSync))
            .map_err(|error| Failure::at("open", path, error))?;
        Ok(Place { dir, path: path.to_owned() })
    }

    fn shown(&self, name: &OsStr) -> PathBuf {
        self.path.join(name)
    }

    /// What a name stands for now.
    fn look(&self, fs: &F, name: &OsStr) -> Result<Option<Metadata>, Failure> {
        match uninterrupted(|| fs.metadata(&self.dir, name)) {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Failure::at("lstat", self.shown(name), error)),
        }
    }

    /// Whether a name still stands for a file.
    fn is_still(&self, fs: &F, name: &OsStr, id: FileId) -> Result<bool, Failure> {
        Ok(self.look(fs, name)?.is_some_and(|found| found.id == id))
    }

    fn names(&self, fs: &F) -> Result<Vec<OsString>, Failure> {
        let mut names = uninterrupted(|| fs.names(&self.dir))
            .map_err(|error| Failure::at("scandir", &self.path, error))?;
        names.sort_unstable();
        Ok(names)
    }
}

impl<F: FileSystem> Recovery<'_, F> {
    /// One file that is named, and is no directory: `not_a_dir` says why it cannot be one.
    fn file(&mut self, path: &Path, not_a_dir: Failure) -> Result<(), ErrorKind> {
        let found = resolve::target(self.fs, path, true, DirUse::NamesAndSync)?;
        match found.existing.map(|existing| existing.kind) {
            None | Some(FileKind::File) => {}
            Some(FileKind::Dir) => return Err(not_a_dir.into()),
            Some(FileKind::Link | FileKind::Other) => {
                return Err(Failure::at("open", path, Code::EINVAL.error()).into());
            }
        }
        let (dir, path) = found.dir.into_parts();
        let place = Place { dir, path };
        let names = place.names(self.fs).unwrap_or_else(|failure| {
            // What has a name that is known beforehand can still be found.
            self.failed(place.path.clone(), failure.into());
            names::legacy(&found.name).to_vec()
        });
        self.transactions(&place, &names, Some(&found.name));
        self.settle(&place, &Remains::of_file(&found.name, &names), true);
        Ok(())
    }

    /// A directory, and if that is wanted those below it.
    fn dirs(&mut self, place: Place<F>) -> Result<(), ErrorKind> {
        // The first one has to be there; with the others what can be done is done.
        let names = place.names(self.fs)?;
        let mut ahead = self.dir(&place, &names)?;
        while let Some((path, id)) = ahead.pop() {
            self.control.check()?;
            let opened = Place::open(self.fs, &path).and_then(|place| {
                let found = uninterrupted(|| self.fs.dir_metadata(&place.dir))
                    .map_err(|error| Failure::at("fstat", &path, error))?;
                // By now something else may have the name, a link to elsewhere for example.
                let names = if found.id == id { place.names(self.fs)? } else { Vec::new() };
                Ok((place, names))
            });
            match opened {
                Ok((place, names)) => ahead.extend(self.dir(&place, &names)?),
                Err(failure) if failure.code() == Some(Code::ENOENT) => {}
                Err(failure) => self.failed(path, failure.into()),
            }
        }
        Ok(())
    }

    /// What is directly in a directory. Says which directories there are, if that is wanted.
    fn dir(
        &mut self,
        place: &Place<F>,
        names: &[OsString],
    ) -> Result<Vec<(PathBuf, FileId)>, ErrorKind> {
        self.transactions(place, names, None);
        for remains in Remains::in_dir(names, self.options.legacy) {
            self.control.check()?;
            self.settle(place, &remains, false);
        }
        let mut below = Vec::new();
        if self.options.recursive {
            for name in names.iter().rev() {
                self.control.check()?;
                match place.look(self.fs, name) {
                    Ok(Some(found)) if found.kind == FileKind::Dir => {
                        below.push((place.shown(name), found.id));
                    }
                    Ok(_) => {}
                    Err(failure) => self.failed(place.shown(name), failure.into()),
                }
            }
        }
        Ok(below)
    }

    fn note(&mut self, path: PathBuf, act: Act, to: Option<PathBuf>, reason: impl Into<String>) {
        self.actions.push(Action { path, act, to, reason: reason.into(), error: None });
    }

    fn left(&mut self, path: PathBuf, reason: impl Into<String>) {
        self.note(path, Act::Left, None, reason);
    }

    fn failed(&mut self, path: PathBuf, error: AttemptError) {
        let reason = error.kind.to_string();
        self.actions.push(Action { path, act: Act::Failed, to: None, reason, error: Some(error) });
    }
}
