//! The part of a segment's file that is in memory while the segment is read.

use super::format::MARKER;
use crate::error::Failure;
use crate::fs::{File, FileSystem};

/// How much the first read takes: a small segment is read as a whole.
const FIRST_READ: usize = 16 * 1024;

/// How much a later read takes, unless a block is larger.
pub(super) const LARGEST_READ: usize = 512 * 1024;

pub(super) struct ReadWindow<F: FileSystem> {
    file: File<F>,
    /// The offset of the first byte in memory.
    start: u64,
    bytes: Vec<u8>,
    /// How much the next read takes.
    next_read: usize,
}

impl<F: FileSystem> ReadWindow<F> {
    pub(super) fn new(file: File<F>) -> ReadWindow<F> {
        ReadWindow { file, start: 0, bytes: Vec::new(), next_read: FIRST_READ }
    }

    /// Drops what is in memory, because the file may have changed.
    pub(super) fn forget(&mut self) {
        (self.start, self.bytes, self.next_read) = (0, Vec::new(), FIRST_READ);
    }

    /// The file.
    pub(super) fn into_file(self) -> File<F> {
        self.file
    }

    /// Waits until what was read of the file is on the disk.
    pub(super) fn sync(&self) -> Result<(), Failure> {
        self.file.sync_data()
    }

    /// The length of the file.
    pub(super) fn file_size(&self) -> Result<u64, Failure> {
        Ok(self.file.metadata()?.size)
    }

    /// Where the next bytes are that may be something else than zeros: [`File::next_data`].
    pub(super) fn next_data(&self, offset: u64) -> Result<Option<u64>, Failure> {
        self.file.next_data(offset)
    }

    /// Up to `length` bytes from `offset` on: fewer only where the file ends.
    pub(super) fn get(&mut self, offset: u64, length: usize) -> Result<&[u8], Failure> {
        let end = self.start + self.bytes.len() as u64;
        if offset < self.start || offset + length as u64 > end {
            if (self.start..end).contains(&offset) {
                self.bytes.drain(..(offset - self.start) as usize);
            } else {
                self.bytes.clear();
            }
            self.start = offset;
            self.fill(length)?;
        }
        let from = (offset - self.start) as usize;
        let to = (from + length).min(self.bytes.len());
        Ok(self.bytes.get(from.min(to)..to).unwrap_or_default())
    }

    /// Reads on behind what is in memory, until there are `length` bytes or the file ends.
    fn fill(&mut self, length: usize) -> Result<(), Failure> {
        let known = self.bytes.len();
        self.bytes.resize(length.max(self.next_read), 0);
        self.next_read = (self.next_read * 2).min(LARGEST_READ);
        let room = self.bytes.get_mut(known..).unwrap_or_default();
        let read = self.file.read_up_to(room, self.start + known as u64);
        self.bytes.truncate(read.as_ref().map_or(0, |count| known + count));
        read.map(drop)
    }

    /// The bytes of a marker at `offset`, without moving the window there. Zeros where the
    /// file ends before.
    pub(super) fn peek(&self, offset: u64) -> Result<[u8; MARKER], Failure> {
        let mut bytes = [0; MARKER];
        self.file.read_up_to(&mut bytes, offset)?;
        Ok(bytes)
    }
}

/// Whether there are only zeros. Looks at all of them, which is faster than to stop at the first
/// other byte.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(4096).all(|chunk| chunk.iter().fold(0, |all, byte| all | byte) == 0)
}
