//! A directory in which a transaction changes files, and the record that it has there meanwhile.

use std::io;
use std::path::PathBuf;

use super::moves::is_named;
use super::names::{self, Id, RecordKind};
use crate::error::Code;
use crate::error::Failure;
use crate::fs::{FileId, FileSystem, uninterrupted};
use crate::payload::Chunk;
use crate::threads::blocking;
use crate::write::AttemptError;

/// A directory.
pub(super) struct Participant<F: FileSystem> {
    pub(super) dir: F::DirHandle,
    pub(super) path: PathBuf,
    pub(super) id: FileId,
    /// The record there, locked.
    pub(super) record: Option<F::FileHandle>,
}

impl<F: FileSystem> Participant<F> {
    pub(super) fn shown(&self, id: Id) -> PathBuf {
        self.path.join(names::record(id, RecordKind::Prepared))
    }

    /// Makes the record, locked, and does not sync it.
    pub(super) fn write_record(
        &mut self,
        fs: &F,
        id: Id,
        bytes: &[u8],
    ) -> Result<(), AttemptError> {
        let name = names::record(id, RecordKind::Prepared);
        let failed =
            |syscall, error| AttemptError::from(Failure::at(syscall, self.path.join(&name), error));
        let file = fs.create_new(&self.dir, &name, 0o644).map_err(|error| {
            if Code::of(&error) != Some(Code::EEXIST) {
                // It may be there all the same.
                let _ = uninterrupted(|| fs.remove(&self.dir, &name));
            }
            failed("open", error)
        })?;
        let fill = || {
            let locked = uninterrupted(|| fs.try_lock(&file));
            // Whoever sweeps may have come between, as with temp files.
            if !locked.map_err(|error| failed("flock", error))?
                || !is_named(fs, &self.dir, &file, &name)
            {
                return Err(failed("open", Code::EBUSY.error()));
            }
            let mut rest = bytes;
            while !rest.is_empty() {
                let written = uninterrupted(|| fs.write(&file, Chunk::Slice(rest)))
                    .and_then(|count| match count {
                        0 => Err(Code::EIO.error()),
                        count => Ok(count),
                    })
                    .map_err(|error| failed("write", error))?;
                rest = rest.get(written..).unwrap_or_default();
            }
            let size = uninterrupted(|| fs.file_metadata(&file));
            match size.map_err(|error| failed("fstat", error))?.size == bytes.len() as u64 {
                true => Ok(()),
                false => Err(failed("fstat", Code::EIO.error())),
            }
        };
        let filled = fill();
        if filled.is_err() {
            let _ = uninterrupted(|| fs.remove(&self.dir, &name));
        }
        self.record = filled.is_ok().then_some(file);
        filled
    }

    pub(super) fn sync_names(&self, fs: &F) -> io::Result<()> {
        uninterrupted(|| blocking(|| fs.sync_dir(&self.dir, self.record.as_ref())))
    }

    pub(super) fn sync(&self, fs: &F) -> Result<(), Failure> {
        self.sync_names(fs).map_err(|error| Failure::at("fsync", &self.path, error))
    }
}
