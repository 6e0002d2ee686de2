//! What is in a file, in short.

use std::ffi::OsStr;
use std::io;

use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::record::Content;
use crate::fs::{FileKind, FileSystem, uninterrupted};

/// As much of a file as is in memory at once.
const READ_AT_ONCE: usize = 256 << 10;

/// That of some bytes.
pub(super) fn of_bytes(bytes: &[u8]) -> Content {
    Content { size: bytes.len() as u64, hash: xxh3_128(bytes) }
}

/// That of an open file, from its beginning to its end.
pub(super) fn of_file<F: FileSystem>(fs: &F, file: &F::FileHandle) -> io::Result<Content> {
    let size = uninterrupted(|| fs.file_metadata(file))?.size;
    // One more than there should be, so that the end shows in the same call.
    let most = usize::try_from(size).unwrap_or(READ_AT_ONCE).saturating_add(1);
    let mut buffer = vec![0; most.min(READ_AT_ONCE)];
    let mut hasher = Xxh3::new();
    let mut done: u64 = 0;
    loop {
        let count = uninterrupted(|| fs.read(file, &mut buffer, done))?;
        if count == 0 {
            return Ok(Content { size: done, hash: hasher.digest128() });
        }
        hasher.update(buffer.get(..count).unwrap_or_default());
        done += count as u64;
    }
}

/// What a name stands for, as far as a transaction is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    File(Content),
    SomethingElse,
}

/// What a name stands for now.
pub(super) fn look<F: FileSystem>(fs: &F, dir: &F::DirHandle, name: &OsStr) -> io::Result<Found> {
    let is_missing = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    match uninterrupted(|| fs.metadata(dir, name)) {
        Ok(found) if found.kind == FileKind::File => {}
        Ok(_) => return Ok(Found::SomethingElse),
        Err(error) if is_missing(&error) => return Ok(Found::Nothing),
        Err(error) => return Err(error),
    }
    match uninterrupted(|| fs.open(dir, name)) {
        Ok(file) => Ok(Found::File(of_file(fs, &file)?)),
        Err(error) if is_missing(&error) => Ok(Found::Nothing),
        Err(error) => Err(error),
    }
}
