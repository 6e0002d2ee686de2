//! Walks over the blocks of one segment.

use super::dirs::is_file;
use super::format::{
    self, Block, END, Head, Header, LONGEST_HEAD, LONGEST_HEADER, MARKER, SHORTEST_FILLER,
};
use super::read_window::ReadWindow;
use crate::error::{DamageKind, Failure};
use crate::fs::{Dir, FileSystem};

/// What comes next in a segment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SegmentItem<'a> {
    /// A batch, whole and unchanged, and how many bytes it takes.
    Block(Block<'a>, u64),
    /// Unused space, up to this offset.
    Filler(u64),
    /// The end of the segment, up to this offset.
    End(u64),
    /// None of these, and why, for people.
    Damaged(&'static str),
}

/// What the head and the marker of a block say, before its checksum is verified.
pub(super) enum BlockFrame {
    Data { count: u64, head: usize, size: usize },
    Filler(u64),
    End(u64),
    Invalid(&'static str),
}

/// A segment that is read from its start to its end.
pub(super) struct SegmentReader<F: FileSystem> {
    pub(super) window: ReadWindow<F>,
    /// What its header says.
    pub(super) header: Header,
    /// Where the next block starts.
    pub(super) offset: u64,
}

impl<F: FileSystem> SegmentReader<F> {
    /// Opens a segment and reads its header. The inner error says what is wrong with the header.
    pub(super) fn open(
        dir: &Dir<F>,
        name: &str,
    ) -> Result<Result<SegmentReader<F>, &'static str>, Failure> {
        let mut window = ReadWindow::new(dir.open_file(name.as_ref())?);
        let bytes = window.get(0, LONGEST_HEADER).map_err(|failure| failure.on(name))?;
        Ok(Header::decode(bytes).map(|(header, length)| SegmentReader {
            window,
            header,
            offset: length as u64,
        }))
    }

    /// The same for the segment that a name should lead to: one of this collection, with this
    /// number if there is one. The inner error says what is wrong.
    pub(super) fn open_of(
        dir: &Dir<F>,
        name: &str,
        collection: &str,
        number: Option<u64>,
    ) -> Result<Result<SegmentReader<F>, (DamageKind, &'static str)>, Failure> {
        let opened = match SegmentReader::open(dir, name) {
            // A directory, a pipe, a link.
            Err(_) if !is_file(dir, name)? => {
                return Ok(Err((DamageKind::Unreadable, "it is no file")));
            }
            opened => opened?,
        };
        Ok(match opened {
            Err(reason) => Err((DamageKind::Unreadable, reason)),
            Ok(reader)
                if reader.header.collection == collection
                    && number.is_none_or(|number| reader.header.number == number) =>
            {
                Ok(reader)
            }
            Ok(_) => Err((DamageKind::Misplaced, "the segment is not the one that its name says")),
        })
    }

    /// Waits until what was read is on the disk.
    pub(super) fn sync(&self) -> Result<(), Failure> {
        self.window.sync()
    }

    /// The length of the file.
    pub(super) fn file_size(&self) -> Result<u64, Failure> {
        self.window.file_size()
    }

    /// Whether the file still has the header that was read, and has not been made another
    /// segment since.
    pub(super) fn is_same(&mut self) -> Result<bool, Failure> {
        self.forget();
        let bytes = self.window.get(0, LONGEST_HEADER)?;
        Ok(Header::decode(bytes).is_ok_and(|(header, _)| header == self.header))
    }

    /// Drops what is in memory, because the file may have changed.
    pub(super) fn forget(&mut self) {
        self.window.forget();
    }

    /// What comes next. Only a block moves the reader on.
    pub(super) fn next(&mut self) -> Result<SegmentItem<'_>, Failure> {
        let offset = self.offset;
        match self.frame_at(offset)? {
            BlockFrame::Data { count, head, size } => {
                let length = head + size + MARKER;
                let bytes = self.window.get(offset, length)?;
                let objects = bytes.get(head..head + size).unwrap_or_default();
                match Block::check(&self.header.marker, count, objects) {
                    Some(block) => {
                        self.offset += length as u64;
                        Ok(SegmentItem::Block(block, length as u64))
                    }
                    None => Ok(SegmentItem::Damaged("the checksum of a block does not fit")),
                }
            }
            BlockFrame::Filler(end) => Ok(SegmentItem::Filler(end)),
            BlockFrame::End(end) => Ok(SegmentItem::End(end)),
            BlockFrame::Invalid(reason) => Ok(SegmentItem::Damaged(reason)),
        }
    }

    /// What is at `offset`, by its head and its marker.
    pub(super) fn frame_at(&mut self, offset: u64) -> Result<BlockFrame, Failure> {
        let marker = self.header.marker;
        let bytes = self.window.get(offset, LONGEST_HEAD)?;
        if bytes.is_empty() {
            return Ok(BlockFrame::Invalid("the file ends without an end mark"));
        }
        match format::head(bytes) {
            Head::Data { count, head, size } => {
                let bytes = self.window.get(offset, head + size + MARKER)?;
                match bytes.get(head + size..) {
                    Some(found) if found == marker => Ok(BlockFrame::Data { count, head, size }),
                    _ => Ok(BlockFrame::Invalid("a block does not end with the segment's marker")),
                }
            }
            Head::Filler(space) => {
                let end = offset + space;
                let last = self.window.peek(end - MARKER as u64)?;
                if last != marker {
                    return Ok(BlockFrame::Invalid("unused space does not end with the marker"));
                }
                Ok(BlockFrame::Filler(end))
            }
            Head::End => match bytes.get(END - MARKER..END) == Some(&marker) {
                true => Ok(BlockFrame::End(offset + END as u64)),
                false => Ok(BlockFrame::Invalid("an end mark is not that of the segment")),
            },
            Head::Nothing => Ok(BlockFrame::Invalid("there is no block")),
        }
    }
}

// The head of a filler and its marker make up the shortest filler.
const _: () = assert!(SHORTEST_FILLER == (format::FILLER_HEAD + MARKER) as u64);
