//! Removes a lock file that no process uses.

use std::ffi::OsStr;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::LockFile;
use super::steps::{HAS_TICKETS, IS_REMOVAL_TOLD, LOCK, carry_out};
use crate::error::Failure;
use crate::fs::os::DirHandle;
use crate::lock::note::{self, LONGEST_LINE};
use crate::lock::protocol::{Byte, Removal};
use crate::vocabulary::LockKind;

/// How long processes that remove the lock file are waited for, and the first pause. A removal takes
/// some microseconds, unless its process gets no processor or has been stopped.
const PATIENCE: Duration = Duration::from_millis(500);
const FIRST_PAUSE: Duration = Duration::from_micros(100);

/// What has become of a lock file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::lock) enum Removed {
    /// There is none any more.
    Gone,
    /// A process uses it, and will see to it; or it is no lock file, or cannot be removed.
    Stays,
    /// Another process was about to remove it at the same time. Both may have left it.
    Contended,
}

/// Removes the lock file, if no process uses it and it is one: it is empty, or has the note of a
/// process that has died.
pub(in crate::lock) fn remove_unused(dir: &DirHandle, name: &OsStr) -> Result<Removed, Failure> {
    let file = match LockFile::open_there(dir, name) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Removed::Gone),
        Err(error) => return Err(Failure::new("open", error)),
    };
    let mut removal = Removal::new(HAS_TICKETS, IS_REMOVAL_TOLD);
    let is_unused = carry_out(&file, None, |result| removal.next(result))
        .map_err(|error| Failure::new(LOCK, error))?;
    if !is_unused {
        return Ok(if removal.has_met_another() { Removed::Contended } else { Removed::Stays });
    }
    let size = file.size_if_called(dir, name).map_err(|error| Failure::new("lstat", error))?;
    let may_be_removed = match size {
        None => false,
        Some(0) => true,
        Some(_) => has_note(&file)?,
    };
    let remove = || file.remove(dir, name).map_err(|error| Failure::new("unlink", error));
    Ok(if may_be_removed && remove()? { Removed::Gone } else { Removed::Stays })
}

fn has_note(file: &LockFile) -> Result<bool, Failure> {
    let mut line = vec![0; LONGEST_LINE];
    let length = file.read_note(&mut line).map_err(|error| Failure::new("read", error))?;
    Ok(line.get(..length).is_some_and(note::may_be_note))
}

/// Whether the file is locked by a process that removes it, and is no holder.
pub(super) fn is_being_removed(file: &LockFile) -> Result<bool, Failure> {
    if !IS_REMOVAL_TOLD {
        return Ok(false);
    }
    file.is_locked(Byte::Removal, LockKind::Write).map_err(|error| Failure::new(LOCK, error))
}

/// The processes that remove a lock file while this one asks for the lock.
pub(super) struct Removals {
    since: Instant,
    pause: Duration,
    has_asked_again: bool,
}

impl Removals {
    /// To be made when the lock has been refused.
    pub(super) fn new() -> Removals {
        Removals { since: Instant::now(), pause: FIRST_PAUSE, has_asked_again: false }
    }

    /// Whether the lock may have been refused, on the file that is open, because a process removes
    /// that file or has done so, and is to be asked for again: it may be free.
    pub(super) fn are_in_the_way(
        &mut self,
        opened: &mut Option<Arc<LockFile>>,
        dir: &DirHandle,
        name: &OsStr,
    ) -> Result<bool, Failure> {
        let has_time = self.since.elapsed() < PATIENCE;
        let Some(file) = opened.as_ref().filter(|_| has_time) else { return Ok(false) };
        // In this order: a removal that is over by the first look has been done by the second.
        let is_called = || {
            let size = file.size_if_called(dir, name);
            size.map(|size| size.is_some()).map_err(|error| Failure::new("lstat", error))
        };
        if is_being_removed(file)? {
            thread::sleep(self.pause);
            self.pause = self.pause * 3 / 2;
        } else if !is_called()? {
            *opened = None;
        } else if !self.has_asked_again {
            // One that was about to remove it has found a process that has gone since, perhaps.
            self.has_asked_again = true;
        } else {
            return Ok(false);
        }
        Ok(true)
    }
}
