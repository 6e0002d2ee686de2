//! The bytes of one write, and the owner of their memory.

use std::ops::Range;

/// What is to be written.
#[derive(Debug)]
pub enum Payload {
    /// Memory of our own, copied when the call was made.
    Owned(Vec<u8>),
    /// Memory of the caller, too large to be copied. It may be changed, transferred
    /// or freed by its owner at any moment, so it is kept as a plain address that
    /// only the kernel ever reads: memory that is gone makes `write` fail with
    /// `EFAULT` where a read of our own would crash the process.
    Borrowed {
        /// Where the bytes start.
        address: usize,
        /// How many there are.
        length: usize,
    },
}

/// A part of a [`Payload`], as [`crate::fs::FileSystem::write`] takes it.
#[derive(Clone, Copy, Debug)]
pub enum Chunk<'a> {
    /// Bytes that are safe to look at.
    Slice(&'a [u8]),
    /// Bytes that only the kernel may read; see [`Payload::Borrowed`].
    Memory {
        /// Where the bytes start.
        address: usize,
        /// How many there are.
        length: usize,
    },
}

impl Payload {
    /// The number of bytes.
    pub fn len(&self) -> usize {
        match self {
            Payload::Owned(bytes) => bytes.len(),
            Payload::Borrowed { length, .. } => *length,
        }
    }

    /// Whether there are no bytes at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes in `range`, which is cut to what there is.
    pub fn chunk(&self, range: Range<usize>) -> Chunk<'_> {
        let end = range.end.min(self.len());
        let start = range.start.min(end);
        match self {
            Payload::Owned(bytes) => Chunk::Slice(bytes.get(start..end).unwrap_or_default()),
            Payload::Borrowed { address, .. } => {
                Chunk::Memory { address: address.wrapping_add(start), length: end - start }
            }
        }
    }
}

impl Chunk<'_> {
    /// The number of bytes.
    pub fn len(&self) -> usize {
        match self {
            Chunk::Slice(bytes) => bytes.len(),
            Chunk::Memory { length, .. } => *length,
        }
    }

    /// Whether there are no bytes at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
