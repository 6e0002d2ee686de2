//! The lock under which checkpoints are made and consumers come to be: the advisory lock of the
//! directory of a collection. Each is held for some milliseconds.

use std::time::{Duration, Instant};

use crate::error::{Code, ErrorKind, Failure};
use crate::fs::{Dir, FileSystem};
use crate::threads::blocking;

/// How long the lock is waited for. Whoever has it longer hangs.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// The pause between two attempts.
const PAUSE: Duration = Duration::from_millis(1);

/// Takes the lock of a directory, which holds it until it is closed. Where there are no such locks, or
/// none for directories, nothing is locked.
pub(super) fn lock_names<F: FileSystem>(dir: &Dir<F>) -> Result<(), ErrorKind> {
    let begun = Instant::now();
    while !dir.try_lock()? {
        if begun.elapsed() > LONGEST_WAIT {
            return Err(Failure::at("flock", dir.path(), Code::EAGAIN.error()).into());
        }
        blocking(|| std::thread::sleep(PAUSE));
    }
    Ok(())
}
