//! What a segment has behind damage, or behind its end: the next whole block, an end mark, or
//! nothing but unused space.

use super::format::{
    self, Block, END, FILLER_HEAD, Head, LONGEST_HEAD, MARKER, SHORTEST_ENTRY, SHORTEST_FILLER,
};
use super::read_window::{LARGEST_READ, is_zero};
use super::reader::{BlockFrame, SegmentItem, SegmentReader};
use crate::error::Failure;
use crate::fs::FileSystem;

/// What there is behind damage, or behind the end of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remainder {
    /// Something that is known to have been on the disk: so what is before it is damage.
    Confirmed {
        /// Where the next whole block is, or the end mark.
        next: u64,
        /// How many entries there may have been before that, if no later one tells.
        unread: u64,
    },
    /// Whole blocks, of which no sync is known to have ended.
    Unconfirmed,
    /// No whole block.
    Empty,
}

/// What is wrong where a segment ends, but goes on behind.
pub(super) const BECOME_END: &str = "a block has become an end mark";
/// The same where it ends with unused space.
pub(super) const BECOME_SPACE: &str = "a block has become unused space";

impl<F: FileSystem> SegmentReader<F> {
    /// What there is behind the damage, or the end, at `self.offset`. `read` is given for a
    /// segment that may have been appended to: the last number before that.
    pub(super) fn remainder(
        &mut self,
        read: Option<u64>,
        is_regular_end: bool,
    ) -> Result<Remainder, Failure> {
        let (offset, length) = (self.offset, self.file_size()?);
        let end = self.end_mark_behind(offset, length)?;
        // Where there is an end mark, all before it was on the disk.
        match self.next_confirmed(read.filter(|_| end.is_none()))? {
            Some((next, true)) => return Ok(Remainder::Confirmed { next, unread: 0 }),
            Some((_, false)) => return Ok(Remainder::Unconfirmed),
            None => {}
        }
        // What is left of unused space may look like a second end mark, right behind the first.
        let is_second = |end: &u64| is_regular_end && *end <= offset + END as u64;
        Ok(match end.filter(|end| !is_second(end)) {
            Some(next) => {
                Remainder::Confirmed { next, unread: (next - offset) / SHORTEST_ENTRY as u64 }
            }
            None => Remainder::Empty,
        })
    }

    /// The next whole block behind the damage at `self.offset`, and whether it had been
    /// confirmed. With `read` it had only if some block says that more was durable when it was
    /// written than the entries up to `read`, which come before the damage. Otherwise what is
    /// behind belongs to the last group that was written, and no sync has confirmed it.
    fn next_confirmed(&mut self, read: Option<u64>) -> Result<Option<(u64, bool)>, Failure> {
        let mut next = None;
        while let Some((offset, mut durable)) = self.resync()? {
            let next = *next.get_or_insert(offset);
            loop {
                if read.is_none_or(|read| durable > read) {
                    return Ok(Some((next, true)));
                }
                match self.next()? {
                    SegmentItem::Block(block, _) => durable = block.durable,
                    _ => break,
                }
            }
        }
        Ok(next.map(|next| (next, false)))
    }

    /// Looks for the next block that is whole behind the damage at `self.offset`, and moves
    /// there. The answer is its offset and what was durable then. Where there is none, the
    /// reader stays.
    fn resync(&mut self) -> Result<Option<(u64, u64)>, Failure> {
        let damaged = self.offset;
        // If only the marker of a block is damaged, the next starts right behind it, and its
        // own marker would lead past it.
        let bytes = self.window.get(damaged, LONGEST_HEAD)?;
        if let Head::Data { head, size, .. } = format::head(bytes) {
            let behind = damaged + (head + size + MARKER) as u64;
            if let Some(found) = self.block_at(behind)? {
                return Ok(Some(found));
            }
        }
        let marker = self.header.marker;
        let mut from = damaged;
        loop {
            let bytes = self.window.get(from, LARGEST_READ)?;
            let read = bytes.len();
            if read == LARGEST_READ && is_zero(bytes) {
                // A marker may begin with zeros.
                let behind = from + read as u64;
                let Some(data) = self.window.next_data(behind)? else { return Ok(None) };
                from = data.max(behind) - (MARKER as u64 - 1);
                continue;
            }
            match position(bytes, &marker) {
                Some(index) => {
                    let behind = from + (index + MARKER) as u64;
                    if let Some(found) = self.block_at(behind)? {
                        return Ok(Some(found));
                    }
                    from += index as u64 + 1;
                }
                None if read < LARGEST_READ => return Ok(None),
                // The marker may lie across the border.
                None => from += (read - MARKER + 1) as u64,
            }
        }
    }

    /// Moves to the block at `offset`, if a whole one is there. The answer is as that of
    /// [`SegmentReader::resync`].
    fn block_at(&mut self, offset: u64) -> Result<Option<(u64, u64)>, Failure> {
        let BlockFrame::Data { count, head, size } = self.frame_at(offset)? else {
            return Ok(None);
        };
        let bytes = self.window.get(offset, head + size)?;
        let objects = bytes.get(head..).unwrap_or_default();
        let Some(block) = Block::check(&self.header.marker, count, objects) else {
            return Ok(None);
        };
        let durable = block.durable;
        self.offset = offset;
        Ok(Some((offset, durable)))
    }

    /// Where the end mark is, if the file ends with one, behind the damage at `offset`: it says
    /// that all before it was on the disk when it was written. The last bytes of unused space
    /// look the same, but no marker comes before them.
    fn end_mark_behind(&mut self, offset: u64, length: u64) -> Result<Option<u64>, Failure> {
        let Some(end) = length.checked_sub(END as u64).filter(|end| *end >= offset) else {
            return Ok(None);
        };
        if !matches!(self.frame_at(end)?, BlockFrame::End(_)) {
            return Ok(None);
        }
        let bytes = self.window.get(offset, LONGEST_HEAD)?;
        if let Head::Data { head, size, .. } = format::head(bytes)
            && offset + (head + size + MARKER) as u64 == end
        {
            return Ok(Some(end));
        }
        let Some(before) = end.checked_sub(MARKER as u64) else { return Ok(None) };
        let found = self.window.get(before, MARKER)?;
        Ok((found == self.header.marker).then_some(end))
    }

    /// Whether there is nothing from `from` to the end of the file but unused space, or what is
    /// there of space that was being added: zeros, and as much of its frame as has been written.
    pub(super) fn is_space(&mut self, from: u64, length: u64) -> Result<bool, Failure> {
        let marker = self.header.marker;
        // Where an end mark has taken the place of the head, this much of the space is left at
        // least, and the marker may lie in it in part.
        let left = length.saturating_sub(from);
        let last = self.window.peek(length.saturating_sub(MARKER as u64))?;
        let mut ends = last.iter().zip(&marker).rev().take(usize::try_from(left).unwrap_or(MARKER));
        if left >= SHORTEST_FILLER - END as u64 && ends.all(|(found, own)| found == own) {
            return Ok(true);
        }
        let frame = self.window.get(from, FILLER_HEAD)?;
        let is_head = |(index, byte): (usize, &u8)| {
            let has_more = byte & 0x80 != 0;
            *byte == 0 || index > 0 && has_more == (index + 1 < FILLER_HEAD)
        };
        if !frame.iter().enumerate().all(is_head) {
            return Ok(false);
        }
        let mut at = from + frame.len() as u64;
        while at < length {
            let bytes = self.window.get(at, LARGEST_READ)?;
            if bytes.is_empty() {
                break;
            }
            if let Some(index) = bytes.iter().position(|byte| *byte != 0) {
                let left = length - at - index as u64;
                if left > MARKER as u64 {
                    return Ok(false);
                }
                let rest = self.window.get(at + index as u64, left as usize)?;
                return Ok(marker.windows(rest.len().max(1)).any(|part| part == rest));
            }
            at += bytes.len() as u64;
            match self.window.next_data(at)? {
                Some(data) => at = data.max(at),
                None => break,
            }
        }
        Ok(true)
    }
}

/// Where `marker` is found first.
fn position(bytes: &[u8], marker: &[u8; MARKER]) -> Option<usize> {
    let first = marker.first()?;
    let mut from = 0;
    loop {
        let rest = bytes.get(from..)?;
        let index = from + rest.iter().position(|byte| byte == first)?;
        if bytes.get(index..index + MARKER)? == marker {
            return Some(index);
        }
        from = index + 1;
    }
}
