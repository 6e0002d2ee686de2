//! The engine of an atomic write: resolve the target, stage a temp file beside it,
//! make it durable, publish it by a rename, make the rename durable.
//!
//! What holds at every moment, so that a crash between any two system calls leaves
//! the old file or the new one:
//!
//! - Nothing is ever written to the target itself. Its name goes from the old file to
//!   the new one in one rename.
//! - The rename comes after the last byte, the size check, the final owner and mode and,
//!   unless `durability` is `None`, the sync of all these.
//! - Success is reported after the last sync that it stands for, and whatever fails
//!   before the rename takes the temp file along with it.
//!
//! [`run`] makes all attempts of one write on the calling thread. [`attempt`] makes one,
//! for callers that wait in between without holding a thread.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::errno::Code;
use crate::error::{Error, ErrorKind, Failure, Operation};
use crate::fs::{FileKind, FileSystem, FolderUse};
use crate::payload::Payload;
use crate::target::{self, Target};
use crate::temp;

mod control;
mod dispatch;
mod durability;
mod events;
mod folders;
mod publish;
mod retry;
mod stage;

pub use control::Control;
pub use dispatch::{Client, submit};
pub use durability::Durability;
pub use events::{Event, Observer};
pub use folders::make_parents;
pub use retry::{delay_before, is_retried};

use events::Log;
use stage::Temp;

/// One write, as the caller asked for it.
#[derive(Debug)]
pub struct Request {
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
    /// Whether to make missing parent folders.
    pub make_dirs: bool,
    /// Attempts in all, the first included.
    pub attempts: u32,
    /// What the waits between attempts are computed from; see [`delay_before`].
    pub retry_delay: Duration,
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
pub enum Next {
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
    request: &Request,
    control: &Control,
    observer: Option<&dyn Observer>,
) -> Result<(), Error> {
    let mut number = 1;
    loop {
        let Err(error) = attempt(fs, request, control, observer) else { return Ok(()) };
        match after_failure(request, number, error, observer) {
            Next::Retry { attempt, delay } => {
                std::thread::sleep(delay);
                number = attempt;
            }
            Next::GiveUp(error) => return Err(error),
        }
    }
}

/// Makes one attempt. Either the target has the new content, as durable as it was asked
/// for, or the error says what went wrong and whether the content is in place.
pub fn attempt<F: FileSystem>(
    fs: &F,
    request: &Request,
    control: &Control,
    observer: Option<&dyn Observer>,
) -> Result<(), AttemptError> {
    let mut log = Log::new(observer, request);
    let target = find(fs, request, control).inspect_err(|error| log.failed_to_start(error))?;
    let temp_name = temp::new_name(&target.name);
    log.starting(&target.folder_path, &temp_name);
    let temp = stage::create(fs, &target, &request.options, temp_name)
        .map_err(AttemptError::from)
        .inspect_err(|error| log.failed(error))?;
    log.staged_at(&target.folder_path, &temp.name);
    fill_and_rename(fs, request, control, &target, &temp, &log).inspect_err(|error| {
        log.failed(error);
        if !error.committed {
            log.cleaned_up(stage::discard(fs, &target, &temp));
        }
    })?;
    publish::make_durable(fs, &target, &temp, request.options.durability)
        .inspect_err(|error| log.failed(error))?;
    log.completed();
    Ok(())
}

fn find<F: FileSystem>(
    fs: &F,
    request: &Request,
    control: &Control,
) -> Result<Target<F>, AttemptError> {
    control.check()?;
    let options = &request.options;
    if options.make_dirs {
        folders::make_parents(fs, &request.path, options.durability)?;
    }
    let purpose = match options.durability.syncs_folder() {
        true => FolderUse::NamesAndSync,
        false => FolderUse::Names,
    };
    let target = target::resolve(fs, &request.path, options.follow_symlinks, purpose)?;
    match target.existing.map(|existing| existing.kind) {
        // Renaming a file over a device or a pipe would take it out of the system. Nobody
        // means that. (A folder is left to the rename, which refuses it.)
        Some(FileKind::Other) => {
            let path = target.shown(&target.name);
            Err(Failure::at("rename", path, Code::EINVAL.error()).into())
        }
        _ => Ok(target),
    }
}

/// Everything up to the rename.
fn fill_and_rename<F: FileSystem>(
    fs: &F,
    request: &Request,
    control: &Control,
    target: &Target<F>,
    temp: &Temp<F>,
    log: &Log<'_>,
) -> Result<(), AttemptError> {
    stage::fill(fs, target, temp, request, control)?;
    log.written();
    control.check()?;
    let begun = Instant::now();
    publish::rename(fs, target, temp)?;
    log.renamed(begun.elapsed());
    Ok(())
}

/// Decides what comes after attempt `number` has failed.
pub fn after_failure(
    request: &Request,
    number: u32,
    error: AttemptError,
    observer: Option<&dyn Observer>,
) -> Next {
    let passing = match &error.kind {
        ErrorKind::System(failure) if !error.committed && is_retried(failure) => Some(failure),
        _ => None,
    };
    if let Some(failure) = passing
        && number < request.options.attempts
    {
        let attempt = number + 1;
        let delay = delay_before(attempt, request.options.retry_delay);
        if let Some(observer) = observer {
            observer.event(Event::Retrying { attempt, delay, code: failure.code_name() });
        }
        return Next::Retry { attempt, delay };
    }
    Next::GiveUp(Error {
        exhausted: passing.is_some(),
        kind: error.kind,
        operation: Operation::AtomicWrite,
        path: request.path.clone(),
        attempts: number,
        committed: error.committed,
    })
}
