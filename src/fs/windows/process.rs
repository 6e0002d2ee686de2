//! What Windows does at the end of a process, and where the process is.

use std::io;
use std::path::{Path, PathBuf};

/// By which path files in the working directory are reached: by its own, whose handle Windows keeps
/// open, so that nothing else can have it.
pub fn working_dir(_path: &Path) -> io::Result<Option<PathBuf>> {
    Ok(None)
}

/// There is none: Windows has no signals, and a process that is ended has no say in it.
#[derive(Debug)]
pub enum TempAtExit {}

impl TempAtExit {
    /// The file has been made, or is not.
    pub fn made(&self) {
        match *self {}
    }

    /// From now on the file stays.
    pub fn keep(&self) -> bool {
        match *self {}
    }
}
