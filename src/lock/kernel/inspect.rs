//! Finds out who holds a lock, without taking it.

use std::io;
use std::thread;
use std::time::Duration;

use super::removal;
use super::steps::LOCK;
use super::{LockFile, has_readers_in};
use crate::error::{Failure, Holder};
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
}

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
    let file = match LockFile::open_existing(dir, name) {
        Ok(file) => file,
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
