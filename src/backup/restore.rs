//! Brings a backup back.

use std::path::PathBuf;

use super::source::open;
use crate::fs::FileSystem;
use crate::write::{
    AttemptError, ContentSource, Control, Destination, Observer, Options, WriteAttempt,
    make_attempt,
};

/// A backup to be brought back.
#[derive(Clone, Debug)]
pub struct RestoreRequest {
    /// The backup, absolute.
    pub backup: PathBuf,
    /// The file whose place it takes, absolute.
    pub target: PathBuf,
    /// How to write.
    pub options: Options,
}

/// Makes one attempt to bring a backup back.
pub fn restore<F: FileSystem>(
    fs: &F,
    restore: &RestoreRequest,
    control: &Control,
    observer: Option<&dyn Observer>,
) -> Result<(), AttemptError> {
    let RestoreRequest { backup, target: path, options } = restore;
    let source = open(fs, backup)?;
    let (content, destination) = (ContentSource::File(&source), Destination::Target);
    let is_in_place = false;
    let attempt =
        WriteAttempt { path, options, content, destination, is_in_place, control, observer };
    make_attempt(fs, &attempt).map(drop)
}
