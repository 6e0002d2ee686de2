//! Walks over the blocks of one segment, and finds the way back after damage.

use std::ffi::OsStr;

use super::format::{
    self, Block, END, FILLER_HEAD, Head, Header, LONGEST_HEAD, LONGEST_HEADER, MARKER,
    SHORTEST_ENTRY, SHORTEST_FILLER,
};
use crate::error::Failure;
use crate::fs::{FileSystem, uninterrupted};

/// How much is read at once at first: a small segment is read as a whole.
const LEAST: usize = 16 * 1024;

/// How much is read at once later, unless a block is larger.
const CHUNK: usize = 512 * 1024;

/// What comes next in a segment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item<'a> {
    /// A batch, whole and unchanged, and how many bytes it takes.
    Block(Block<'a>, u64),
    /// Unused space, up to this offset.
    Filler(u64),
    /// The end of the segment, up to this offset.
    End(u64),
    /// None of these, and why it is not, for people.
    Damaged(&'static str),
}

/// A segment that is read from its start to its end.
pub(super) struct SegmentReader<F: FileSystem> {
    file: F::FileHandle,
    /// What its header says.
    pub(super) header: Header,
    /// Where the next block starts.
    pub(super) offset: u64,
    window: Window,
}

/// What is in memory of a file.
struct Window {
    start: u64,
    bytes: Vec<u8>,
    /// How much is read next.
    size: usize,
}

impl Default for Window {
    fn default() -> Window {
        Window { start: 0, bytes: Vec::new(), size: LEAST }
    }
}

impl Window {
    /// Up to `length` bytes from `offset` on: fewer only where the file ends.
    fn get<F: FileSystem>(
        &mut self,
        fs: &F,
        file: &F::FileHandle,
        offset: u64,
        length: usize,
    ) -> Result<&[u8], Failure> {
        let end = self.start + self.bytes.len() as u64;
        if offset < self.start || offset + length as u64 > end {
            if (self.start..end).contains(&offset) {
                self.bytes.drain(..(offset - self.start) as usize);
            } else {
                self.bytes.clear();
            }
            self.start = offset;
            let mut filled = self.bytes.len();
            self.bytes.resize(length.max(self.size), 0);
            self.size = (self.size * 2).min(CHUNK);
            while let Some(room) = self.bytes.get_mut(filled..).filter(|room| !room.is_empty()) {
                let count = uninterrupted(|| fs.read(file, room, offset + filled as u64));
                let count = match count {
                    Ok(count) => count,
                    Err(error) => {
                        self.bytes.clear();
                        return Err(Failure::new("read", error));
                    }
                };
                if count == 0 {
                    break;
                }
                filled += count;
            }
            self.bytes.truncate(filled);
        }
        let from = (offset - self.start) as usize;
        let to = (from + length).min(self.bytes.len());
        Ok(self.bytes.get(from.min(to)..to).unwrap_or_default())
    }
}

/// What there is behind damage, or behind the end of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behind {
    /// Something that is known to have been on the disk: so what is before it is damage.
    GoesOn {
        /// Where the next whole block is, or the end mark.
        next: u64,
        /// How many entries there may have been before that, if no later one tells.
        unread: u64,
    },
    /// Whole blocks, of which no sync is known to have ended.
    Unconfirmed,
    /// No whole block.
    Nothing,
}

/// What is wrong where a segment ends, but goes on behind.
pub(super) const BECOME_END: &str = "a block has become an end mark";
/// The same where it ends with unused space.
pub(super) const BECOME_SPACE: &str = "a block has become unused space";

impl<F: FileSystem> SegmentReader<F> {
    /// Opens a segment and reads its header. The inner error says what is wrong with that.
    pub(super) fn open(
        fs: &F,
        dir: &F::DirHandle,
        name: &str,
    ) -> Result<Result<SegmentReader<F>, &'static str>, Failure> {
        let file = uninterrupted(|| fs.open(dir, OsStr::new(name)))
            .map_err(|error| Failure::at("open", name, error))?;
        SegmentReader::read(fs, file).map_err(|failure| failure.on(name))
    }

    /// The same with a file that is open.
    pub(super) fn read(
        fs: &F,
        file: F::FileHandle,
    ) -> Result<Result<SegmentReader<F>, &'static str>, Failure> {
        let mut window = Window::default();
        let bytes = window.get(fs, &file, 0, LONGEST_HEADER)?;
        Ok(Header::decode(bytes).map(|(header, length)| SegmentReader {
            file,
            header,
            offset: length as u64,
            window,
        }))
    }

    /// The length of the file.
    pub(super) fn length(&self, fs: &F) -> Result<u64, Failure> {
        let metadata = uninterrupted(|| fs.file_metadata(&self.file));
        metadata.map(|known| known.size).map_err(|error| Failure::new("fstat", error))
    }

    /// Whether the file still has the header that was read, and has not been made another
    /// segment since.
    pub(super) fn is_same(&mut self, fs: &F) -> Result<bool, Failure> {
        self.forget();
        let bytes = self.window.get(fs, &self.file, 0, LONGEST_HEADER)?;
        Ok(Header::decode(bytes).is_ok_and(|(header, _)| header == self.header))
    }

    /// Forgets what is in memory, because the file may have changed.
    pub(super) fn forget(&mut self) {
        self.window = Window::default();
    }

    /// What comes next. Only a block moves the reader on.
    pub(super) fn next(&mut self, fs: &F) -> Result<Item<'_>, Failure> {
        let offset = self.offset;
        let found = self.look(fs, offset)?;
        match found {
            Found::Data { count, head, size } => {
                let length = head + size + MARKER;
                let bytes = self.window.get(fs, &self.file, offset, length)?;
                let objects = bytes.get(head..head + size).unwrap_or_default();
                match Block::check(&self.header.marker, count, objects) {
                    Some(block) => {
                        self.offset += length as u64;
                        Ok(Item::Block(block, length as u64))
                    }
                    None => Ok(Item::Damaged("the checksum of a block does not fit")),
                }
            }
            Found::Filler(end) => Ok(Item::Filler(end)),
            Found::End(end) => Ok(Item::End(end)),
            Found::Nothing(reason) => Ok(Item::Damaged(reason)),
        }
    }

    /// What is at `offset`, by its head and its marker.
    fn look(&mut self, fs: &F, offset: u64) -> Result<Found, Failure> {
        let marker = self.header.marker;
        let bytes = self.window.get(fs, &self.file, offset, LONGEST_HEAD)?;
        if bytes.is_empty() {
            return Ok(Found::Nothing("the file ends without an end mark"));
        }
        match format::head(bytes) {
            Head::Data { count, head, size } => {
                let bytes = self.window.get(fs, &self.file, offset, head + size + MARKER)?;
                match bytes.get(head + size..) {
                    Some(found) if found == marker => Ok(Found::Data { count, head, size }),
                    _ => Ok(Found::Nothing("a block does not end with the segment's marker")),
                }
            }
            Head::Filler(space) => {
                let end = offset + space;
                let last = self.window.peek(fs, &self.file, end - MARKER as u64)?;
                if last != marker {
                    return Ok(Found::Nothing("unused space does not end with the marker"));
                }
                Ok(Found::Filler(end))
            }
            Head::End => match bytes.get(END - MARKER..END) == Some(&marker) {
                true => Ok(Found::End(offset + END as u64)),
                false => Ok(Found::Nothing("an end mark is not that of the segment")),
            },
            Head::Nothing => Ok(Found::Nothing("there is no block")),
        }
    }

    /// Looks for the next block that is whole behind the damage at `self.offset`, and moves
    /// there. The answer is its offset, its first sequence number and what was durable then.
    /// Where there is none, the reader stays.
    fn resync(&mut self, fs: &F) -> Result<Option<(u64, u64, u64)>, Failure> {
        let damaged = self.offset;
        // If only the marker of a block is damaged, the next starts right behind it, and its
        // own marker would lead past it.
        let bytes = self.window.get(fs, &self.file, damaged, LONGEST_HEAD)?;
        if let Head::Data { head, size, .. } = format::head(bytes) {
            let behind = damaged + (head + size + MARKER) as u64;
            if let Some(found) = self.block_at(fs, behind)? {
                return Ok(Some(found));
            }
        }
        let marker = self.header.marker;
        let mut from = damaged;
        loop {
            let bytes = self.window.get(fs, &self.file, from, CHUNK)?;
            let read = bytes.len();
            let place = position(bytes, &marker);
            match place {
                Some(place) => {
                    let behind = from + (place + MARKER) as u64;
                    if let Some(found) = self.block_at(fs, behind)? {
                        return Ok(Some(found));
                    }
                    from += place as u64 + 1;
                }
                None if read < CHUNK => return Ok(None),
                // The marker may lie across the border.
                None => from += (read - MARKER + 1) as u64,
            }
        }
    }

    /// Looks at what there is behind the damage, or the end, at `self.offset`. `read` is given for
    /// a segment that may have been appended to: the last number before that.
    pub(super) fn behind(
        &mut self,
        fs: &F,
        read: Option<u64>,
        is_regular_end: bool,
    ) -> Result<Behind, Failure> {
        let (offset, length) = (self.offset, self.length(fs)?);
        let end = self.end_behind(fs, offset, length)?;
        // Where there is an end mark, all before it was on the disk.
        match self.resume(fs, read.filter(|_| end.is_none()))? {
            Some((next, true)) => return Ok(Behind::GoesOn { next, unread: 0 }),
            Some((_, false)) => return Ok(Behind::Unconfirmed),
            None => {}
        }
        // What is left of unused space may look like a second end mark, right behind the first.
        let is_second = |end: &u64| is_regular_end && *end <= offset + END as u64;
        Ok(match end.filter(|end| !is_second(end)) {
            Some(next) => Behind::GoesOn { next, unread: (next - offset) / SHORTEST_ENTRY as u64 },
            None => Behind::Nothing,
        })
    }

    /// The next whole block behind the damage at `self.offset`, and whether it had been
    /// confirmed. With `read` it had only if some block says that more was durable when it was
    /// written than the entries up to `read`, which come before the damage. Otherwise what is
    /// behind belongs to what was being written last, and no sync has confirmed it.
    fn resume(&mut self, fs: &F, read: Option<u64>) -> Result<Option<(u64, bool)>, Failure> {
        let mut next = None;
        while let Some((offset, _, mut durable)) = self.resync(fs)? {
            let next = *next.get_or_insert(offset);
            loop {
                if read.is_none_or(|read| durable > read) {
                    return Ok(Some((next, true)));
                }
                match self.next(fs)? {
                    Item::Block(block, _) => durable = block.durable,
                    _ => break,
                }
            }
        }
        Ok(next.map(|next| (next, false)))
    }

    /// Where the end mark is, if the file ends with one, behind the damage at `offset`: it says
    /// that all before it was on the disk when it was written. The last bytes of unused space
    /// look the same, but no marker comes before them.
    fn end_behind(&mut self, fs: &F, offset: u64, length: u64) -> Result<Option<u64>, Failure> {
        let Some(end) = length.checked_sub(END as u64).filter(|end| *end >= offset) else {
            return Ok(None);
        };
        if !matches!(self.look(fs, end)?, Found::End(_)) {
            return Ok(None);
        }
        let bytes = self.window.get(fs, &self.file, offset, LONGEST_HEAD)?;
        if let Head::Data { head, size, .. } = format::head(bytes)
            && offset + (head + size + MARKER) as u64 == end
        {
            return Ok(Some(end));
        }
        let Some(before) = end.checked_sub(MARKER as u64) else { return Ok(None) };
        let found = self.window.get(fs, &self.file, before, MARKER)?;
        Ok((found == self.header.marker).then_some(end))
    }

    /// Whether there is nothing from `from` to the end of the file but unused space, or what is
    /// there of space that was being added: zeros, and of its frame as much as has been written.
    pub(super) fn is_space(&mut self, fs: &F, from: u64, length: u64) -> Result<bool, Failure> {
        let marker = self.header.marker;
        // Where an end mark has taken the place of the head, this much of the space is left at
        // least, and the marker may lie in it in part.
        let left = length.saturating_sub(from);
        let last = self.window.peek(fs, &self.file, length.saturating_sub(MARKER as u64))?;
        let mut ends = last.iter().zip(&marker).rev().take(usize::try_from(left).unwrap_or(MARKER));
        if left >= SHORTEST_FILLER - END as u64 && ends.all(|(found, own)| found == own) {
            return Ok(true);
        }
        let frame = self.window.get(fs, &self.file, from, FILLER_HEAD)?;
        let is_head = |(index, byte): (usize, &u8)| {
            let has_more = byte & 0x80 != 0;
            *byte == 0 || index > 0 && has_more == (index + 1 < FILLER_HEAD)
        };
        if !frame.iter().enumerate().all(is_head) {
            return Ok(false);
        }
        let mut at = from + frame.len() as u64;
        while at < length {
            let bytes = self.window.get(fs, &self.file, at, CHUNK)?;
            if bytes.is_empty() {
                break;
            }
            if let Some(place) = bytes.iter().position(|byte| *byte != 0) {
                let left = length - at - place as u64;
                if left > MARKER as u64 {
                    return Ok(false);
                }
                let rest = self.window.get(fs, &self.file, at + place as u64, left as usize)?;
                return Ok(marker.windows(rest.len().max(1)).any(|part| part == rest));
            }
            at += bytes.len() as u64;
        }
        Ok(true)
    }

    fn block_at(&mut self, fs: &F, offset: u64) -> Result<Option<(u64, u64, u64)>, Failure> {
        let Found::Data { count, head, size } = self.look(fs, offset)? else { return Ok(None) };
        let bytes = self.window.get(fs, &self.file, offset, head + size)?;
        let objects = bytes.get(head..).unwrap_or_default();
        let Some(block) = Block::check(&self.header.marker, count, objects) else {
            return Ok(None);
        };
        let found = (offset, block.first, block.durable);
        self.offset = offset;
        Ok(Some(found))
    }
}

enum Found {
    Data { count: u64, head: usize, size: usize },
    Filler(u64),
    End(u64),
    Nothing(&'static str),
}

impl Window {
    /// The bytes of a marker at `offset`, without moving the window there. Zeros where the
    /// file ends before.
    fn peek<F: FileSystem>(
        &self,
        fs: &F,
        file: &F::FileHandle,
        offset: u64,
    ) -> Result<[u8; MARKER], Failure> {
        let mut bytes = [0; MARKER];
        let mut filled = 0;
        while let Some(room) = bytes.get_mut(filled..).filter(|room| !room.is_empty()) {
            let count = uninterrupted(|| fs.read(file, room, offset + filled as u64))
                .map_err(|error| Failure::new("read", error))?;
            if count == 0 {
                break;
            }
            filled += count;
        }
        Ok(bytes)
    }
}

/// Where `marker` is found first.
fn position(bytes: &[u8], marker: &[u8; MARKER]) -> Option<usize> {
    let first = marker.first()?;
    let mut from = 0;
    loop {
        let rest = bytes.get(from..)?;
        let place = from + rest.iter().position(|byte| byte == first)?;
        if bytes.get(place..place + MARKER)? == marker {
            return Some(place);
        }
        from = place + 1;
    }
}

// What the head of a filler and its marker take is the shortest filler.
const _: () = assert!(SHORTEST_FILLER == (FILLER_HEAD + MARKER) as u64);
