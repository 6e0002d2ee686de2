//! The events that a write reports to a logger while it runs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::ErrorKind;

/// One event, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteEvent {
    /// An attempt begins.
    Starting {
        /// Where its bytes will be staged.
        temp_path: PathBuf,
        /// How many bytes there are.
        size: u64,
    },
    /// The temp file is complete, and synced where that was asked for.
    Written {
        /// Where it is.
        temp_path: PathBuf,
        /// How many bytes it has.
        size: u64,
        /// How long it took to make, fill and sync it.
        duration: Duration,
    },
    /// The temp file has become the target.
    Renamed {
        /// What it was called.
        temp_path: PathBuf,
        /// How long the rename took.
        duration: Duration,
    },
    /// The attempt succeeded.
    Completed {
        /// How many bytes were written.
        size: u64,
        /// How long the whole attempt took.
        duration: Duration,
    },
    /// The attempt failed.
    Failed {
        /// Where its bytes were to be staged.
        temp_path: PathBuf,
        /// The error's name.
        code: &'static str,
        /// The error's message.
        message: String,
    },
    /// The temp file of a failed attempt has been removed.
    CleanedUp {
        /// What it was called.
        temp_path: PathBuf,
    },
    /// The temp file of a failed attempt is still there.
    CleanupFailed {
        /// What it is called.
        temp_path: PathBuf,
        /// Why it could not be removed.
        code: &'static str,
    },
    /// A newer write to the same file stands for this one.
    Merged {
        /// How many bytes it had.
        size: u64,
    },
    /// Another attempt will be made.
    Retrying {
        /// Its number.
        attempt: u32,
        /// How long it waits.
        delay: Duration,
        /// The error that may pass.
        code: &'static str,
    },
}

/// Receives the events of one write, on the thread that runs it.
pub trait Observer {
    /// Takes one event. It must not fail.
    fn event(&self, event: WriteEvent);

    /// Is shown a temp file that has been made and has no bytes yet.
    ///
    /// # Errors
    ///
    /// Why the write is not to go on. The temp file is removed then.
    fn temp_file_made(&self, _temp_path: &Path) -> Result<(), ErrorKind> {
        Ok(())
    }
}
