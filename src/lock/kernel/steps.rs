//! Carries out the steps of the protocol on an open lock file.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::LockFile;
use crate::error::{Code, Failure};
use crate::fs::os::DirHandle;
use crate::lock::lock_name::LockName;
use crate::lock::note::{self, LONGEST_LINE};
use crate::lock::protocol::{Attempt, LockStep, StepResult};
use crate::lock::time_slice::TimeSlice;
use crate::threads::blocking;
use crate::vocabulary::LockKind;

/// The name of the system call in errors.
pub(super) const LOCK: &str = if cfg!(windows) { "LockFileEx" } else { "fcntl" };

/// Whether processes that wait take tickets. Windows serves waiters in their order by itself; on
/// macOS a file has one lock and no more.
pub(super) const HAS_TICKETS: bool = cfg!(target_os = "linux");

/// Whether a process that removes a lock file can be told from one that holds the lock. On macOS a
/// file has one lock and no more.
pub(super) const IS_REMOVAL_TOLD: bool = cfg!(any(target_os = "linux", windows));

/// How often a lock file that another process replaces meanwhile is opened again.
pub(super) const FRESH_STARTS: usize = 100;

/// Does what the protocol says until it is done. No step waits. The directory is needed where the
/// lock may be had at the end.
pub(super) fn carry_out(
    file: &LockFile,
    dir: Option<&DirHandle>,
    mut next: impl FnMut(StepResult) -> LockStep,
) -> io::Result<bool> {
    let mut result = StepResult::Nothing;
    loop {
        result = match next(result) {
            LockStep::Done(outcome) => return Ok(outcome),
            step => take(file, dir, step)?,
        }
    }
}

/// Does one step.
pub(super) fn take(
    file: &LockFile,
    dir: Option<&DirHandle>,
    step: LockStep,
) -> io::Result<StepResult> {
    match step {
        LockStep::Try(byte, kind) => file.try_lock(byte, kind).map(StepResult::Locked),
        LockStep::Lock(byte, kind) => file.lock(byte, kind).map(|()| StepResult::Nothing),
        LockStep::Unlock(byte) => file.unlock(byte).map(|()| StepResult::Nothing),
        LockStep::Look(first, last) => file.find_ticket(first, last).map(StepResult::Found),
        LockStep::LookInDir => {
            let dir = dir.ok_or_else(|| Code::EINVAL.error())?;
            file.has_readers_in(dir).map(StepResult::InDir)
        }
        LockStep::Pause | LockStep::Done(_) => Ok(StepResult::Nothing),
    }
}

/// Asks for the lock once. The time slice in which it has been taken: the last one, if that goes on.
pub(super) fn attempt(
    file: &LockFile,
    dir: &DirHandle,
    kind: LockKind,
    last: Option<TimeSlice>,
) -> io::Result<Option<TimeSlice>> {
    if let Some(time_slice) = last
        && kind == LockKind::Write
        && time_slice.goes_on()
    {
        let mut attempt = Attempt::again().with(file.access());
        if carry_out(file, Some(dir), |result| attempt.next(result))? {
            return Ok(Some(time_slice));
        }
    }
    let mut attempt = Attempt::new(kind, HAS_TICKETS).with(file.access());
    Ok(carry_out(file, Some(dir), |result| attempt.next(result))?.then(TimeSlice::begin))
}

/// Opens the lock file, unless `opened` has it, locks it by `lock`, and makes sure that the name
/// still leads to it: it may have been removed meanwhile, and then others lock another file. Also
/// says whether the file has content.
pub(super) fn acquire_from(
    opened: &mut Option<Arc<LockFile>>,
    dir: &DirHandle,
    name: &LockName,
    kind: LockKind,
    mut lock: impl FnMut(&Arc<LockFile>) -> io::Result<bool>,
) -> Result<Option<(Arc<LockFile>, bool)>, Failure> {
    for _ in 0..FRESH_STARTS {
        let file = match opened.take().filter(|file| file.serves(kind)) {
            Some(file) => file,
            None => open(dir, name, kind)?,
        };
        match lock(&file) {
            Ok(true) => {}
            Ok(false) => {
                *opened = Some(file);
                return Ok(None);
            }
            Err(error) if is_gone(&error) => continue,
            Err(error) => return Err(Failure::new(LOCK, error)),
        }
        match size_if_called(&file, dir, name) {
            Ok(Some(size)) => return Ok(Some((file, size > 0))),
            Ok(None) => {}
            Err(failure) if is_gone(&failure.source) => {}
            Err(failure) => return Err(failure),
        }
    }
    Err(Failure::new(LOCK, Code::EBUSY.error()))
}

/// Whether the server of a network file system does not know an open file any more: another machine
/// has removed it.
pub(super) fn is_gone(error: &io::Error) -> bool {
    cfg!(unix) && Code::of(error) == Some(Code::ESTALE)
}

/// Opens the lock file, making it if there is none.
pub(super) fn open(
    dir: &DirHandle,
    name: &LockName,
    kind: LockKind,
) -> Result<Arc<LockFile>, Failure> {
    LockFile::open(dir, name, kind).map(Arc::new).map_err(|error| Failure::new("open", error))
}

/// The same on a thread that may wait until a lease on the lock file is given back.
pub(super) fn open_patiently(
    dir: &DirHandle,
    name: &LockName,
    kind: LockKind,
) -> Result<Arc<LockFile>, Failure> {
    let mut pause = Duration::from_millis(1);
    loop {
        match open(dir, name, kind) {
            Err(failure) if is_lent(&failure) => blocking(|| thread::sleep(pause)),
            opened => return opened,
        }
        pause = LONGEST_PAUSE.min(pause * 2);
    }
}

/// Between two looks whether a lease has been given back. The system sees to it that it is.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// Whether a lock file could not be opened because it is under a lease (of an NFS client, or of samba):
/// opened without waiting, it is not to be had yet.
pub(super) fn is_lent(failure: &Failure) -> bool {
    cfg!(unix) && failure.syscall == "open" && failure.code() == Some(Code::EAGAIN)
}

/// How long the note in the file is, if `name` still leads to it.
///
/// # Errors
///
/// `EEXIST` when it has content that is no note: it is another program's file, and stays as it is.
pub(super) fn size_if_called(
    file: &LockFile,
    dir: &DirHandle,
    name: &LockName,
) -> Result<Option<u64>, Failure> {
    let size = file.size_if_called(dir, name).map_err(|error| Failure::new("lstat", error))?;
    if size.is_some_and(|size| size > 0) {
        let mut content = vec![0; LONGEST_LINE];
        let length = file.read_note(&mut content).map_err(|error| Failure::new("read", error))?;
        if !note::may_be_note(content.get(..length).unwrap_or_default()) {
            return Err(Failure::new("open", Code::EEXIST.error()));
        }
    }
    Ok(size)
}
