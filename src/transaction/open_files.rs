//! How many files a transaction keeps open at once.
//!
//! Most keep all of theirs open, from the first look to the rename: what was read, written and synced
//! is then what is renamed, whatever has its name meanwhile. One that changes more files than the
//! process may have open keeps few: a file is closed when it is complete, and opened again by its
//! name for the rename, as a recovery does it that finds the transaction decided. It is known by its
//! number. That no other process takes it for an orphan meanwhile is due to the records, which are
//! open and locked in both cases.

use std::thread;
use std::time::{Duration, Instant};

use crate::descriptors::{close_unneeded, is_shortage, patience};
use crate::error::Failure;
use crate::fs::FileSystem;
use crate::threads::blocking;

/// How long to wait after the system has refused to open another file.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(10);

/// How many files a transaction keeps open at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OpenFiles {
    /// All.
    All,
    /// Those of them that have to be open, and no more than so many at a time.
    Few(usize),
}

impl OpenFiles {
    /// For a transaction that changes so many files.
    pub(super) fn for_changes<F: FileSystem>(fs: &F, count: usize) -> OpenFiles {
        /// So many it changes on every system.
        const ALWAYS: usize = 2;
        match OpenFiles::few(fs) {
            // Each is open twice: as it was, and as it is to be.
            few @ OpenFiles::Few(most) if count > ALWAYS && 2 * count > most => few,
            _ => OpenFiles::All,
        }
    }

    /// For a transaction that changes any number of files.
    pub(super) fn few<F: FileSystem>(fs: &F) -> OpenFiles {
        let most = usize::try_from(fs.most_open_files()).unwrap_or(usize::MAX);
        OpenFiles::Few((most / 16).max(1))
    }

    /// Whether so many are enough to be closed before there are more.
    pub(super) fn are_enough(self, count: usize) -> bool {
        /// Closing them takes a sync.
        const MOST: usize = 256;
        matches!(self, OpenFiles::Few(most) if count >= most.min(MOST))
    }
}

/// Opens a file for a transaction that is decided: while the system refuses to open another it is
/// waited for, as there is no way back. The other files of the transaction cannot be read meanwhile
/// in any case.
pub(super) fn open_in_time<T>(mut open: impl FnMut() -> Result<T, Failure>) -> Result<T, Failure> {
    let begun = Instant::now();
    loop {
        match open() {
            Err(failure) if is_shortage(&failure) && begun.elapsed() < patience(None) => {
                close_unneeded();
                blocking(|| thread::sleep(SHORTAGE_PAUSE));
            }
            opened => return opened,
        }
    }
}
