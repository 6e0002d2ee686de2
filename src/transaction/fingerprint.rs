//! What a file contains, in short.

use std::ffi::OsStr;

use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use crate::error::Failure;
use crate::fs::{Dir, File, FileKind, FileSystem, if_there};
use crate::threads::blocking;

/// How much of a file is in memory at once.
const READ_AT_ONCE: usize = 256 << 10;

/// What the content of a file is recognized by. Numbers of files and devices change when a disk is
/// mounted again or a backup is restored, and are reused for other files; times repeat when a
/// clock is set back. So only the bytes count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// How many bytes there are.
    pub size: u64,
    /// Their XXH3 hash of 128 bits, with the seed 0.
    pub hash: u128,
}

impl Fingerprint {
    /// The fingerprint of bytes in memory.
    pub(super) fn of_bytes(bytes: &[u8]) -> Fingerprint {
        Fingerprint { size: bytes.len() as u64, hash: xxh3_128(bytes) }
    }

    /// The fingerprint of an open file, from its beginning to its end.
    pub(super) fn of_file<F: FileSystem>(file: &File<F>) -> Result<Fingerprint, Failure> {
        let size = file.metadata()?.size;
        // One more than there should be, so that the end shows in the same call.
        let most = usize::try_from(size).unwrap_or(READ_AT_ONCE).saturating_add(1);
        let mut buffer = vec![0; most.min(READ_AT_ONCE)];
        let mut hasher = Xxh3::new();
        let mut done: u64 = 0;
        // Reading all of a file may wait for the disk.
        blocking(|| {
            loop {
                let count = file.read(&mut buffer, done)?;
                if count == 0 {
                    return Ok(Fingerprint { size: done, hash: hasher.digest128() });
                }
                hasher.update(buffer.get(..count).unwrap_or_default());
                done += count as u64;
            }
        })
    }
}

/// What a name stands for, as far as a transaction is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Occupant {
    None,
    File(Fingerprint),
    /// Something that is no regular file.
    Other,
}

impl Occupant {
    /// What `name` stands for now.
    pub(super) fn of<F: FileSystem>(dir: &Dir<F>, name: &OsStr) -> Result<Occupant, Failure> {
        match dir.look(name)? {
            Some(found) if found.kind == FileKind::File => {}
            Some(_) => return Ok(Occupant::Other),
            None => return Ok(Occupant::None),
        }
        match if_there(dir.open_file(name))? {
            Some(file) => Ok(Occupant::File(Fingerprint::of_file(&file)?)),
            None => Ok(Occupant::None),
        }
    }
}
