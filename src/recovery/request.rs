//! What a caller asks of a recovery.

use std::any::Any;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::error::ErrorKind;
use crate::write::Format;

/// What is to be recovered, and how.
#[derive(Clone, Debug)]
pub struct RecoveryRequest {
    /// A file or a directory, absolute.
    pub path: PathBuf,
    /// How.
    pub options: Options,
    /// The time that ages are counted from.
    pub now: SystemTime,
}

/// How to recover. [`Options::default`] has the defaults of the public contract.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether `<file>.tmp` and `<file>.bak` are dealt with in a directory. They always are for a
    /// file that the caller names.
    pub legacy: bool,
    /// Whether a temp file may become a file that is missing; `None`: if the caller names the file.
    pub promote: Option<bool>,
    /// How old a temp file has to be to count as an orphan.
    pub min_age: Duration,
    /// Whether the directories below are dealt with as well.
    pub recursive: bool,
    /// Whether only to say what would be done.
    pub dry_run: bool,
    /// What every file has to be, whatever its name. Without it a file has to be JSON if its name
    /// ends in `.json`.
    pub validate: Option<Format>,
    /// Whether files are looked into at all to see whether they are JSON. Without that a file is
    /// good if it is there.
    pub checks_json: bool,
    /// Whether a corrupt file for which nothing else is good is restored from its newest good backup.
    pub backups: bool,
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
            checks_json: true,
            backups: false,
        }
    }
}

/// A lock of a file, held until it is dropped.
pub type RecoveryLock = Box<dyn Any>;

/// Takes the lock of the file at a path without waiting; `None` when it is taken.
pub type TryLockFile<'a> = dyn Fn(&Path) -> Result<Option<RecoveryLock>, ErrorKind> + 'a;
