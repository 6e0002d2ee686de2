//! The engine of an atomic write: resolve the target, stage a temp file beside it,
//! make it durable, publish it by a rename, make the rename durable.
//!
//! What holds at every moment, so that a crash between any two system calls leaves
//! the old file or the new one:
//!
//! - Nothing is ever written to the target itself. Its name goes from the old file to
//!   the new one in one rename.
//! - The rename comes after the last byte, the size check, the final owner and mode and,
//!   unless `durability` is `None`, the sync of all these, or what stands for it where the
//!   file system is known ([`Syncs`]).
//! - Success is reported after the last sync that it stands for, and whatever fails
//!   before the rename takes the temp file along with it.
//!
//! [`run`] makes all attempts of one write on the calling thread. [`Engine`] makes them on
//! holdfast's threads, each write in its turn, and holds no thread between attempts. A
//! [`Stream`] takes the same steps as its bytes come, and [`crate::backup`] takes them with
//! the bytes of another file. Writes that are under way at the same time share their syncs
//! ([`run_together`]).

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::Code;
use crate::error::{Error, ErrorKind, Failure, Operation};
use crate::fs::{DirUse, FileKind, FileSystem, SyncRules};
use crate::metrics::METRICS;
use crate::payload::Payload;
use crate::resolve::{self, Target};
use crate::temp_name;

mod control;
pub(crate) mod dir_hook;
pub(crate) mod durability;
pub(crate) mod events;
pub(crate) mod failed_syncs;
mod parent_dirs;
pub(crate) mod publish;
mod retry;
pub(crate) mod stage;
mod staged_file;
mod stream;
mod validate;

pub use crate::vocabulary::Durability;
pub use control::Control;
pub use dir_hook::{DirHook, set_dir_hook};
pub use events::{Observer, WriteEvent};
pub use failed_syncs::sync_failed;
pub use parent_dirs::make_parents;
pub use retry::{delay_before, is_retried};
pub use stream::Stream;
pub use validate::{Format, validate, validate_bytes};

pub(crate) use stage::Original;
pub(crate) use staged_file::StagedFile;
pub(crate) use validate::check_json;

use durability::Syncs;
use events::{Log, Notes};
use stage::{Source, Temp};

/// One write, as the caller asked for it.
#[derive(Debug)]
pub struct WriteRequest {
    /// The target, absolute.
    pub path: PathBuf,
    /// Its new content.
    pub payload: Payload,
    /// How to write it.
    pub options: Options,
}

/// How to write. [`Options::default`] has the defaults of the public contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// What a power cut may take.
    pub durability: Durability,
    /// The exact permission bits; `None` keeps those of the existing file.
    pub mode: Option<u32>,
    /// Who is to own the file.
    pub owner: Owner,
    /// Whether a symbolic link at the path leads to the file that is written, or is
    /// replaced by it.
    pub follow_symlinks: bool,
    /// Whether to make missing parent directories.
    pub make_dirs: bool,
    /// Attempts in all, the first included.
    pub attempts: u32,
    /// What the waits between attempts are computed from; see [`delay_before`].
    pub retry_delay: Duration,
    /// What the bytes have to be, or nothing is written.
    pub validate: Option<Format>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            durability: Durability::Full,
            mode: None,
            owner: Owner::Keep,
            follow_symlinks: true,
            make_dirs: false,
            attempts: 3,
            retry_delay: Duration::from_millis(100),
            validate: None,
        }
    }
}

impl Options {
    /// What the target's directory is opened for.
    pub(crate) fn dir_use(&self) -> DirUse {
        match self.durability.syncs_dir() {
            true => DirUse::NamesAndSync,
            false => DirUse::Names,
        }
    }
}

/// Who is to own the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Whoever owns the existing file, as far as the process may give it to them.
    Keep,
    /// The process.
    Process,
    /// This user and group, as far as the process may give it to them.
    Set {
        /// The user.
        uid: u32,
        /// The group.
        gid: u32,
    },
}

/// Why an attempt failed.
#[derive(Debug)]
pub struct AttemptError {
    /// Why.
    pub kind: ErrorKind,
    /// Whether the new content is in place all the same.
    pub committed: bool,
}

impl AttemptError {
    /// The same, where the new content may have come to its place before.
    pub(crate) fn in_place(self, is_in_place: bool) -> AttemptError {
        AttemptError { committed: self.committed || is_in_place, ..self }
    }
}

impl From<ErrorKind> for AttemptError {
    fn from(kind: ErrorKind) -> AttemptError {
        AttemptError { kind, committed: false }
    }
}

impl From<Failure> for AttemptError {
    fn from(failure: Failure) -> AttemptError {
        ErrorKind::from(failure).into()
    }
}

/// What comes after a failed attempt.
#[derive(Debug)]
pub enum RetryDecision {
    /// Wait this long, then make the attempt with this number.
    Retry {
        /// The number of the next attempt, from 2 on.
        attempt: u32,
        /// How long to wait before it.
        delay: Duration,
    },
    /// It is over.
    GiveUp(Error),
}

/// Makes attempts until one succeeds or none is left, waiting on the calling thread.
pub fn run<F: FileSystem>(
    fs: &F,
    request: &WriteRequest,
    control: &Control,
    observer: Option<&dyn Observer>,
) -> Result<(), Error> {
    let first = attempt(fs, request, control, observer, None);
    run_on(fs, request, control, observer, first)
}

/// Goes on after the first attempt.
pub(crate) fn run_on<F: FileSystem>(
    fs: &F,
    request: &WriteRequest,
    control: &Control,
    observer: Option<&dyn Observer>,
    mut outcome: Result<(), AttemptError>,
) -> Result<(), Error> {
    let mut number = 1;
    loop {
        let Err(error) = outcome else { return Ok(()) };
        match after_failure(request, number, error, observer) {
            RetryDecision::Retry { attempt: next, delay } => {
                std::thread::sleep(delay);
                number = next;
                outcome = attempt(fs, request, control, observer, None);
            }
            RetryDecision::GiveUp(error) => return Err(error),
        }
    }
}

/// Makes one attempt, on the target that was `found` for it a moment ago, if it was. Either
/// the target has the new content, as durable as it was asked for, or the error says what
/// went wrong and whether the content is in place.
pub fn attempt<F: FileSystem>(
    fs: &F,
    request: &WriteRequest,
    control: &Control,
    observer: Option<&dyn Observer>,
    found: Option<Target<F>>,
) -> Result<(), AttemptError> {
    attempt_job(fs, &Job::of(request), control, observer, found).map(drop)
}

/// Makes one attempt at a copy of a file, at `path`. Without `names` it replaces what is
/// there; with them it gets the first of these names that nothing has, and the number of that
/// name is returned.
pub(crate) fn attempt_copy<F: FileSystem>(
    fs: &F,
    original: &Original<F>,
    path: &Path,
    names: Option<&dyn Fn(u64) -> OsString>,
    options: &Options,
    control: &Control,
    observer: Option<&dyn Observer>,
) -> Result<u64, AttemptError> {
    let name = names.map_or(Name::Target, Name::Free);
    let job = Job { path, options, source: Source::File(original), name };
    attempt_job(fs, &job, control, observer, None)
}

/// One file to be made, whatever from.
pub(crate) struct Job<'a, F: FileSystem> {
    path: &'a Path,
    options: &'a Options,
    source: Source<'a, F>,
    name: Name<'a>,
}

/// Which name the new file gets.
#[derive(Clone, Copy)]
pub(crate) enum Name<'a> {
    /// That of the target, whose place it takes.
    Target,
    /// The first of these that nothing has.
    Free(&'a dyn Fn(u64) -> OsString),
}

/// A temp file and what it is for.
pub(crate) struct Draft<F: FileSystem> {
    pub(crate) target: Target<F>,
    pub(crate) temp: Temp<F>,
    /// What is known of its file system, where that matters.
    pub(crate) rules: SyncRules,
}

impl<F: FileSystem> Draft<F> {
    pub(crate) fn syncs(&self, options: &Options) -> Syncs {
        options.durability.syncs(self.rules)
    }
}

/// A write that is about to be synced and published: its temp file has all that the target
/// is to have.
pub(crate) struct Staged<F: FileSystem> {
    pub(crate) draft: Draft<F>,
    pub(crate) notes: Notes,
}

impl<F: FileSystem> Staged<F> {
    /// Makes the first half of an attempt.
    pub(crate) fn new(
        fs: &F,
        request: &WriteRequest,
        control: &Control,
        observer: Option<&dyn Observer>,
        found: Option<Target<F>>,
    ) -> Result<Staged<F>, AttemptError> {
        let job = Job::of(request);
        let mut log = Log::new(observer, job.path, job.source.size(), Instant::now());
        let draft = stage(fs, &job, control, found, &mut log)?;
        Ok(Staged { draft, notes: log.into_notes() })
    }

    /// Makes the second half, alone.
    pub(crate) fn commit(
        self,
        fs: &F,
        request: &WriteRequest,
        control: &Control,
        observer: Option<&dyn Observer>,
    ) -> Result<(), AttemptError> {
        let log = Log::resume(observer, &request.path, self.notes);
        commit(fs, &self.draft, &Job::of(request), control, &log).map(drop)
    }

    /// The second half but for what comes after the rename.
    pub(crate) fn publish(
        self,
        fs: &F,
        request: &WriteRequest,
        control: &Control,
        observer: Option<&dyn Observer>,
    ) -> Result<Staged<F>, AttemptError> {
        let log = Log::resume(observer, &request.path, self.notes);
        sync_and_publish(fs, &self.draft, &Job::of(request), control, &log)?;
        Ok(Staged { draft: self.draft, notes: log.into_notes() })
    }

    pub(crate) fn syncs(&self, options: &Options) -> Syncs {
        self.draft.syncs(options)
    }

    /// Whether a sync of the whole file system can stand for the syncs of this write.
    pub(crate) fn can_be_synced_with_others(&self, options: &Options) -> bool {
        self.draft.rules.syncs_whole && self.syncs(options) != Syncs::None
    }

    pub(crate) fn device(&self) -> u64 {
        self.draft.temp.metadata.id.device
    }
}

impl<'a, F: FileSystem> Job<'a, F> {
    pub(crate) fn of(request: &'a WriteRequest) -> Job<'a, F> {
        Job {
            path: &request.path,
            options: &request.options,
            source: Source::Payload(&request.payload),
            name: Name::Target,
        }
    }
}

pub(crate) fn attempt_job<F: FileSystem>(
    fs: &F,
    job: &Job<'_, F>,
    control: &Control,
    observer: Option<&dyn Observer>,
    found: Option<Target<F>>,
) -> Result<u64, AttemptError> {
    let mut log = Log::new(observer, job.path, job.source.size(), Instant::now());
    let draft = stage(fs, job, control, found, &mut log)?;
    commit(fs, &draft, job, control, &log)
}

/// Finds the target and makes the temp file all that the target is to be.
pub(crate) fn stage<F: FileSystem>(
    fs: &F,
    job: &Job<'_, F>,
    control: &Control,
    found: Option<Target<F>>,
    log: &mut Log<'_>,
) -> Result<Draft<F>, AttemptError> {
    let draft = begin(fs, job, control, found, log)?;
    let filled = stage::fill(fs, &draft.temp, &job.source, control)
        .inspect_err(|error| abandon(fs, &draft, error, log))?;
    log.sized(filled);
    complete(fs, &draft, job, filled, control)
        .inspect_err(|error| abandon(fs, &draft, error, log))?;
    Ok(draft)
}

/// Finds the target and makes the temp file.
pub(crate) fn begin<F: FileSystem>(
    fs: &F,
    job: &Job<'_, F>,
    control: &Control,
    found: Option<Target<F>>,
    log: &mut Log<'_>,
) -> Result<Draft<F>, AttemptError> {
    METRICS.writes.attempts.add(1);
    let target = find(fs, job, control, found).inspect_err(|error| log.failed_to_start(error))?;
    let temp_name = temp_name::new_name(&target.name);
    log.starting(target.dir.path(), &temp_name);
    let temp = stage::create(fs, &target, job.options, job.source.model(), temp_name)
        .map_err(AttemptError::from)
        .inspect_err(|error| log.failed(error))?;
    log.staged_at(target.dir.path(), &temp.name);
    let rules = match job.options.durability {
        Durability::None => SyncRules::default(),
        Durability::File | Durability::Full => fs.sync_rules(&temp.file, temp.metadata.id.device),
    };
    Ok(Draft { target, temp, rules })
}

/// Gives a temp file that has all its bytes whatever else the target is to have.
pub(crate) fn complete<F: FileSystem>(
    fs: &F,
    draft: &Draft<F>,
    job: &Job<'_, F>,
    size: u64,
    control: &Control,
) -> Result<(), AttemptError> {
    let Draft { target, temp, .. } = draft;
    stage::complete(fs, target, temp, job.options, job.source.model(), size, control)
}

/// Brings a complete temp file to its place, and says which of the free names it took, if it
/// was to take one.
pub(crate) fn commit<F: FileSystem>(
    fs: &F,
    draft: &Draft<F>,
    job: &Job<'_, F>,
    control: &Control,
    log: &Log<'_>,
) -> Result<u64, AttemptError> {
    let number = sync_and_publish(fs, draft, job, control, log)?;
    let Draft { target, temp, .. } = draft;
    publish::make_durable(fs, target, temp, draft.syncs(job.options))
        .inspect_err(|error| abandon(fs, draft, error, log))?;
    log.completed();
    Ok(number)
}

/// Makes the temp file as durable as it has to be before its rename, and renames it.
pub(crate) fn sync_and_publish<F: FileSystem>(
    fs: &F,
    draft: &Draft<F>,
    job: &Job<'_, F>,
    control: &Control,
    log: &Log<'_>,
) -> Result<u64, AttemptError> {
    let steps = || {
        publish::prepare(fs, &draft.temp, draft.syncs(job.options))?;
        log.written();
        let number = publish(fs, draft, job.name, control, log)?;
        // What follows is one more sync, and if that fails the write is not made again: nothing
        // of it can come over what the next one writes.
        control.let_go();
        Ok(number)
    };
    steps().inspect_err(|error| abandon(fs, draft, error, log))
}

/// Gives the temp file its name, unless the write has been cancelled.
pub(crate) fn publish<F: FileSystem>(
    fs: &F,
    Draft { target, temp, .. }: &Draft<F>,
    name: Name<'_>,
    control: &Control,
    log: &Log<'_>,
) -> Result<u64, AttemptError> {
    control.check()?;
    let begun = Instant::now();
    let number = match name {
        Name::Target => publish::rename(fs, target, temp).map(|()| 0)?,
        Name::Free(names) => publish::rename_new(fs, target, temp, names)?,
    };
    log.renamed(begun.elapsed());
    Ok(number)
}

/// Takes the temp file of a failed attempt away, unless it has come to its place.
pub(crate) fn abandon<F: FileSystem>(
    fs: &F,
    draft: &Draft<F>,
    error: &AttemptError,
    log: &Log<'_>,
) {
    log.failed(error);
    match error.committed {
        true => failed_syncs::note(draft.temp.metadata.id),
        false => log.cleaned_up(stage::discard(fs, &draft.target, &draft.temp)),
    }
}

pub(crate) fn find<F: FileSystem>(
    fs: &F,
    job: &Job<'_, F>,
    control: &Control,
    found: Option<Target<F>>,
) -> Result<Target<F>, AttemptError> {
    control.check()?;
    let options = job.options;
    if options.make_dirs {
        parent_dirs::make_parents(fs, job.path, options.durability)?;
    }
    let target = match found {
        Some(target) => target,
        None => resolve::target(fs, job.path, options.follow_symlinks, options.dir_use())?,
    };
    dir_hook::dir(fs, &target);
    match job.name {
        Name::Target => check_place(&target)?,
        // Whatever has that name, the new file does not come in its place.
        Name::Free(_) => return Ok(Target { existing: None, ..target }),
    }
    Ok(target)
}

/// Renaming a file over a device or a pipe would take it out of the system. Nobody means
/// that. (A directory is left to the rename, which refuses it.)
pub(crate) fn check_place<F: FileSystem>(target: &Target<F>) -> Result<(), Failure> {
    match target.existing.map(|existing| existing.kind) {
        Some(FileKind::Other) => Err(Failure::at("rename", target.path(), Code::EINVAL.error())),
        _ => Ok(()),
    }
}

/// Decides what comes after attempt `number` has failed.
pub fn after_failure(
    request: &WriteRequest,
    number: u32,
    error: AttemptError,
    observer: Option<&dyn Observer>,
) -> RetryDecision {
    let WriteRequest { path, options, .. } = request;
    decide_retry(Operation::AtomicWrite, path, options, number, error, observer)
}

/// The same for any operation that writes.
pub(crate) fn decide_retry(
    operation: Operation,
    path: &Path,
    options: &Options,
    number: u32,
    error: AttemptError,
    observer: Option<&dyn Observer>,
) -> RetryDecision {
    let passing = match &error.kind {
        ErrorKind::System(failure) if !error.committed && is_retried(failure) => Some(failure),
        _ => None,
    };
    if let Some(failure) = passing
        && number < options.attempts
    {
        METRICS.retried(operation);
        let attempt = number + 1;
        let delay = delay_before(attempt, options.retry_delay);
        if let Some(observer) = observer {
            observer.event(WriteEvent::Retrying { attempt, delay, code: failure.code_name() });
        }
        return RetryDecision::Retry { attempt, delay };
    }
    RetryDecision::GiveUp(Error {
        exhausted: passing.is_some(),
        kind: error.kind,
        operation,
        path: path.to_owned(),
        attempts: number,
        committed: error.committed,
    })
}
