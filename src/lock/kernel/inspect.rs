//! Finds out who holds a lock, without taking it.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use super::removal;
use super::steps::LOCK;
use super::{LockFile, has_readers_in};
use crate::error::{Code, Failure, Holder};
use crate::fs::os::DirHandle;
use crate::lock::lock_name::LockName;
use crate::lock::note::{self, LONGEST_LINE};
use crate::lock::protocol::Byte;
use crate::threads::blocking;
use crate::vocabulary::LockKind;

/// Whether to wait for the note of a writer that has only just taken the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::lock) enum Patience {
    /// Not at all.
    None,
    /// For some time. A writer without a note after that will not write one: the disk is full, say.
    ForNote,
    /// The same, and until a lease on the lock file is given back.
    ForLease,
}

/// How long a lease on the lock file is waited for.
const LONGEST_LEASE: Duration = Duration::from_secs(1);

/// How often the note is looked for, and the pause between.
const LOOKS: u32 = 20;
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);

/// Who holds the lock so that a call of this `kind` would have to wait; the outer `None` when no
/// process does, the inner one when the holder is not known.
pub(in crate::lock) fn inspect(
    dir: &DirHandle,
    name: &LockName,
    kind: LockKind,
    patience: Patience,
) -> Result<Option<Option<Holder>>, Failure> {
    let file = match open(dir, name, patience) {
        Ok(file) => file,
        // Who has a lease on the lock file has the lock, for that moment.
        Err(error) if is_lent(&error) => return Ok(Some(None)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return in_dir(dir, name, kind),
        Err(error) => return Err(Failure::new("open", error)),
    };
    let is_locked =
        |kind| file.is_locked(Byte::Main, kind).map_err(|error| Failure::new(LOCK, error));
    let looks = if patience == Patience::None { 0 } else { LOOKS };
    let mut line = vec![0; LONGEST_LINE];
    let mut look = 0;
    loop {
        if !is_locked(kind)? {
            return in_dir(dir, name, kind);
        }
        if removal::is_being_removed(&file)? {
            return Ok(None);
        }
        // Readers leave no note. A note that is there is that of a writer that has died.
        let by_writer = kind == LockKind::Read || is_locked(LockKind::Read)?;
        if !by_writer {
            // A process that was about to remove the file looked like a writer, perhaps.
            return Ok(is_locked(kind)?.then_some(None));
        }
        let length = file.read_note(&mut line).map_err(|error| Failure::new("read", error))?;
        if length > 0 || look == looks {
            return Ok(Some(line.get(..length).and_then(note::from_line)));
        }
        blocking(|| thread::sleep(BETWEEN_LOOKS));
        look += 1;
    }
}

/// Opens the lock file, and waits for a lease if that is asked for.
fn open(dir: &DirHandle, name: &LockName, patience: Patience) -> io::Result<LockFile> {
    let begun = Instant::now();
    loop {
        match LockFile::open_existing(dir, name) {
            Err(error)
                if is_lent(&error)
                    && patience == Patience::ForLease
                    && begun.elapsed() < LONGEST_LEASE =>
            {
                blocking(|| thread::sleep(BETWEEN_LOOKS));
            }
            opened => return opened,
        }
    }
}

/// Whether the file could not be opened because it is under a lease.
fn is_lent(error: &io::Error) -> bool {
    cfg!(unix) && Code::of(error) == Some(Code::EAGAIN)
}

/// The same for readers who have locked the directory, as they can make no lock file. They are not
/// known by name.
#[allow(clippy::option_option, reason = "the answer of `inspect`")]
fn in_dir(
    dir: &DirHandle,
    name: &LockName,
    kind: LockKind,
) -> Result<Option<Option<Holder>>, Failure> {
    if kind == LockKind::Read {
        return Ok(None);
    }
    let is_locked = has_readers_in(dir, name).map_err(|error| Failure::new(LOCK, error))?;
    Ok(is_locked.then_some(None))
}
