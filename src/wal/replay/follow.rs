//! What differs for a walk that waits at the end of the log and goes on with what is appended: it must
//! show nothing that is taken back later.
//!
//! In the process that writes, the walk is told how far the appends have resolved. In another one it
//! shows a block of the current segment only if something behind it says that the write of it was done
//! as a whole, for a write that fails in the middle is undone; and before the entries are handed over
//! they are on the disk, for a sync of the writer may not have been done yet, or fail.

use super::walk::{Replay, ReplayPosition, ReplaySegment};
use crate::error::{Code, ErrorKind};
use crate::fs::{Dir, FileId, FileSystem};
use crate::wal::reader::SegmentItem;
use crate::wal::remainder::Remainder;

/// What there is behind the blocks that are not confirmed yet.
enum Confirmation {
    /// A later block says that those before this offset were on the disk when it was written.
    Durable(u64),
    /// The group ends as it should, and so was written as a whole. With an end mark it is on the disk.
    Whole { is_marked: bool },
    /// Something that is not whole, at this offset.
    Broken(u64),
}

impl<F: FileSystem> Replay<F> {
    /// The same walk, which waits where the log ends for now: [`Replay::chunk`] can be called again
    /// after [`Replay::go_on`]. It fails with [`crate::error::WalError::Released`] where it falls behind
    /// a checkpoint. What it shows is never taken back, unless a power cut takes it from a writer of this
    /// process that does not sync.
    pub fn following(mut self) -> Replay<F> {
        (self.follows, self.refuses_released) = (true, true);
        self
    }

    /// Looks anew at what there is. `until`, where it is given, is the last number of the collection
    /// that is known to be there.
    pub fn go_on(&mut self, until: Option<u64>) {
        self.until = until;
        if let ReplayPosition::InSegment(segment) = &mut self.position {
            segment.reader.forget();
            segment.may_be_stale = false;
        }
    }

    /// The lowest number that is still to come.
    pub fn next_number(&self) -> u64 {
        self.next
    }

    /// The directory of the collection, if it was there.
    pub fn dir(&self) -> Option<&Dir<F>> {
        self.dir.as_ref()
    }

    /// Whether it was there.
    pub fn has_dir(&self) -> bool {
        self.dir.is_some()
    }

    /// Which directory it is.
    ///
    /// # Errors
    ///
    /// The system refuses.
    pub fn dir_id(&self) -> Result<Option<FileId>, ErrorKind> {
        Ok(self.dir.as_ref().map(Dir::metadata).transpose()?.map(|known| known.id))
    }

    /// Whether the walk has found a segment.
    pub fn has_begun(&self) -> bool {
        self.dir.is_some() && !matches!(self.position, ReplayPosition::Start)
    }

    /// Begins anew at the next number if the segment that the walk waits in is not the current one any
    /// more, and has not been sealed: it was set aside. The answer is whether that was so.
    ///
    /// # Errors
    ///
    /// The system refuses.
    pub fn leaves_what_was_set_aside(&mut self) -> Result<bool, ErrorKind> {
        let position = std::mem::replace(&mut self.position, ReplayPosition::Start);
        let ReplayPosition::InSegment(segment) = position else {
            self.position = position;
            return Ok(false);
        };
        let is_left = segment.is_current
            && !self.is_current(&segment.reader)?
            && !self.sealed_numbers()?.contains(&segment.reader.header.number);
        if is_left {
            // The blocks that come before the next number are read again.
            self.read = 0;
        } else {
            self.position = ReplayPosition::InSegment(segment);
        }
        Ok(is_left)
    }

    /// Whether it is not known that the next block will never be taken back.
    pub(super) fn is_unconfirmed(&self, segment: &ReplaySegment<F>) -> bool {
        self.follows
            && self.until.is_none()
            && segment.is_current
            && segment.reader.offset >= segment.confirmed
    }

    /// Finds out about the next blocks. `false` if the walk has to wait for what is behind them.
    pub(super) fn confirm(&mut self, segment: &mut ReplaySegment<F>) -> Result<bool, ErrorKind> {
        let start = segment.reader.offset;
        let mut is_second_look = false;
        loop {
            let mut blocks = Vec::new();
            let confirmation = look_ahead(segment, &mut blocks)?;
            let reached = segment.reader.offset;
            segment.reader.offset = start;
            match confirmation {
                Confirmation::Durable(end) => {
                    (segment.confirmed, segment.durable) = (end, end);
                    return Ok(true);
                }
                Confirmation::Whole { is_marked } => {
                    segment.confirmed = reached;
                    if is_marked {
                        segment.durable = reached;
                    }
                    return Ok(true);
                }
                // It may be being written: what was read is older than what is there by now.
                Confirmation::Broken(_) if !is_second_look => {
                    is_second_look = true;
                    segment.reader.forget();
                }
                Confirmation::Broken(at) => {
                    let Some((last, _)) = blocks.last() else { return Ok(true) };
                    segment.reader.offset = at;
                    let remainder = segment.reader.remainder(Some(*last), false);
                    segment.reader.offset = start;
                    if let Remainder::Confirmed { .. } = remainder? {
                        // It is damage, and what is before it was on the disk.
                        (segment.confirmed, segment.durable) = (at, at);
                        return Ok(true);
                    }
                    return Ok(false);
                }
            }
        }
    }

    /// Makes sure that what was shown is on the disk.
    pub(super) fn sync_shown(&mut self) -> Result<(), ErrorKind> {
        let ReplayPosition::InSegment(segment) = &mut self.position else { return Ok(()) };
        if !segment.shows_unsynced || self.until.is_some() {
            return Ok(());
        }
        // A sealed segment was synced before it was sealed.
        if segment.is_current {
            match segment.reader.sync() {
                // Who may only read cannot sync, on Windows and where nothing can be written.
                Err(failure)
                    if matches!(failure.code(), Some(Code::EACCES | Code::EPERM | Code::EROFS)) => {
                }
                synced => synced?,
            }
            segment.durable = segment.durable.max(segment.reader.offset);
        }
        segment.shows_unsynced = false;
        Ok(())
    }
}

/// Reads on from block to block until something tells of the first of them. `blocks` has the last
/// number and the end of each.
fn look_ahead<F: FileSystem>(
    segment: &mut ReplaySegment<F>,
    blocks: &mut Vec<(u64, u64)>,
) -> Result<Confirmation, ErrorKind> {
    loop {
        let (last, durable) = match segment.reader.next()? {
            SegmentItem::Block(block, _) => (block.last(), block.durable),
            SegmentItem::Filler(_) => return Ok(Confirmation::Whole { is_marked: false }),
            SegmentItem::End(_) => return Ok(Confirmation::Whole { is_marked: true }),
            SegmentItem::Damaged(_) => return Ok(Confirmation::Broken(segment.reader.offset)),
        };
        if let Some((_, end)) = blocks.iter().rev().find(|(last, _)| *last <= durable) {
            return Ok(Confirmation::Durable(*end));
        }
        blocks.push((last, segment.reader.offset));
    }
}
