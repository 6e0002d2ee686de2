//! Reads a file of lines, beside those who append to it. Takes no lock.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::tail::start_of_append;
use crate::error::Failure;
use crate::fs::{Dir, DirUse, DirWatch, File, FileSystem, NamedFile};
use crate::resolve;

/// A file of lines that is open for reading. It stays the same file when another one gets its name.
pub struct LineReader<F: FileSystem> {
    dir: Dir<F>,
    name: OsString,
    file: File<F>,
    path: PathBuf,
}

/// How much is read at a time in the search for lines.
const PIECE: usize = 64 * 1024;

impl<F: FileSystem> LineReader<F> {
    /// Opens the file at `path`. `None` when there is none.
    pub fn open(fs: &F, path: &Path) -> Result<Option<LineReader<F>>, Failure> {
        let target = resolve::target(fs, path, true, DirUse::Names)?;
        let Some(file) = target.open()? else { return Ok(None) };
        let path = target.path();
        Ok(Some(LineReader { dir: target.dir, name: target.name, file, path }))
    }

    /// How long it is now.
    pub fn size(&self) -> Result<u64, Failure> {
        Ok(self.file.metadata().map_err(|failure| self.shown(failure))?.size)
    }

    /// How long it is, and when anything of it was last changed: another one after each change.
    pub fn stamp(&self) -> Result<(u64, i128), Failure> {
        let metadata = self.file.metadata().map_err(|failure| self.shown(failure))?;
        Ok((metadata.size, metadata.changed))
    }

    /// What its name stands for now.
    pub fn named(&self) -> Result<NamedFile, Failure> {
        self.dir.compare(&self.name, &self.file)
    }

    /// At most so many bytes from `offset` on; none at the end.
    pub fn read(&self, offset: u64, most: usize) -> Result<Vec<u8>, Failure> {
        let left = self.size()?.saturating_sub(offset);
        let mut bytes = vec![0; usize::try_from(left).unwrap_or(most).min(most)];
        let count =
            self.file.read_up_to(&mut bytes, offset).map_err(|failure| self.shown(failure))?;
        bytes.truncate(count);
        Ok(bytes)
    }

    /// Where the append begins to which the line at `offset` belongs: there, unless others of it come
    /// before.
    pub fn start_of_append(&self, offset: u64) -> Result<u64, Failure> {
        start_of_append(&self.file, offset).map_err(|failure| self.shown(failure))
    }

    /// Where the last `count` lines begin. A last line without newline counts as one; with a count of
    /// 0 it is where the next line will be whole.
    pub fn start_of_last(&self, count: u64) -> Result<u64, Failure> {
        let size = self.size()?;
        let mut buffer = vec![0; PIECE];
        let (mut left, mut end) = (count, size);
        while end > 0 {
            let from = end.saturating_sub(PIECE as u64);
            let wanted = usize::try_from(end - from).unwrap_or(PIECE);
            let room = buffer.get_mut(..wanted).unwrap_or_default();
            let found = self.file.read_up_to(room, from).map_err(|failure| self.shown(failure))?;
            let piece = buffer.get(..found).unwrap_or_default();
            for (at, _) in piece.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
                let start = from + at as u64 + 1;
                // That of the last line ends it, and begins none.
                if start == size && count > 0 {
                    continue;
                }
                left = left.saturating_sub(1);
                if left == 0 {
                    return Ok(start);
                }
            }
            end = from;
        }
        Ok(0)
    }

    /// Has `changed` called after each change of the file or of what has its name, until what this
    /// returns is dropped. `None` where the system may not tell of every change.
    pub fn watch(&self, changed: impl Fn() + Send + Sync + 'static) -> Option<DirWatch> {
        let own = self.name.clone();
        let on_change = move |name: &OsStr| {
            if name.is_empty() || name == own {
                changed();
            }
        };
        self.dir.fs().watch_dir(self.dir.handle(), Box::new(on_change))
    }

    /// The path, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn shown(&self, failure: Failure) -> Failure {
        failure.on(&self.path)
    }
}
