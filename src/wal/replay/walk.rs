//! A walk over the entries of a collection, block by block.

use std::path::Path;

use crate::error::{Damage, DamageKind, ErrorKind, Failure, WalError};
use crate::fs::{Dir, DirUse, FileSystem};
use crate::wal::batch::pack_with_sequence;
use crate::wal::format::Block;
use crate::wal::options::RecoveryMode;
use crate::wal::reader::{SegmentItem, SegmentReader};
use crate::wal::remainder::{BECOME_END, BECOME_SPACE, Remainder};
use crate::wal::segments::{self, CURRENT, check_name};

/// A walk over the entries of a collection. It holds one block in memory and shows each entry
/// once, in the order of the numbers. Beside a live writer it shows a prefix of what is
/// appended; what a checkpoint has released before it was reached is not shown.
pub struct Replay<F: FileSystem> {
    /// `None` when there is no such collection.
    pub(super) dir: Option<Dir<F>>,
    pub(super) collection: String,
    /// The lowest number that is still to come.
    pub(super) next: u64,
    /// The last number that is to be shown, if that is known to be there.
    pub(super) until: Option<u64>,
    /// The last number that was read.
    pub(super) read: u64,
    recovery: RecoveryMode,
    pub(super) position: ReplayPosition<F>,
    damage: Vec<Damage>,
    /// What is behind the end has been looked at, and has become part of the log meanwhile.
    has_looked: bool,
    /// The walk has to begin with the number that it was asked for; one that follows, to go on with
    /// what comes next.
    pub(super) refuses_released: bool,
    /// Where the log ends for now the walk waits, and can be gone on with.
    pub(super) follows: bool,
}

/// Where the walk is.
pub(super) enum ReplayPosition<F: FileSystem> {
    /// Before a segment is found that has `next`, or is the first behind it.
    Start,
    /// In a segment.
    InSegment(Box<ReplaySegment<F>>),
    /// Before the segment with this number.
    BeforeSegment(u64),
    /// Behind the last segment.
    Over,
}

/// The segment that the walk is in.
pub(super) struct ReplaySegment<F: FileSystem> {
    pub(super) reader: SegmentReader<F>,
    /// It had the name of the segment that is appended to.
    pub(super) is_current: bool,
    /// It has got that name only after it had been sealed. This is believed once: the file may
    /// have been put there under both names.
    pub(super) is_current_again: bool,
    /// What is in memory may be older than what is on the disk.
    pub(super) may_be_stale: bool,
    /// For a walk that follows a writer of another process: the blocks before this offset will never
    /// be taken back,
    pub(super) confirmed: u64,
    /// those before this one are on the disk,
    pub(super) durable: u64,
    /// and not all that were shown are before it.
    pub(super) shows_unsynced: bool,
}

impl<F: FileSystem> ReplaySegment<F> {
    pub(super) fn new(reader: SegmentReader<F>, is_current: bool) -> ReplaySegment<F> {
        ReplaySegment {
            reader,
            is_current,
            is_current_again: false,
            may_be_stale: false,
            confirmed: 0,
            durable: 0,
            shows_unsynced: false,
        }
    }
}

/// What a chunk of a replay ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayProgress {
    /// There may be more.
    More,
    /// That was all.
    Over,
}

impl<F: FileSystem> Replay<F> {
    /// Starts a walk in the log in this directory. `until`, where it is given, is a number that is
    /// known to be there: a walk that does not get so far reports damage.
    ///
    /// # Errors
    ///
    /// The name of the collection cannot be one, or the system refuses.
    pub fn new(
        fs: F,
        log: &Path,
        collection: &str,
        from: u64,
        until: Option<u64>,
        recovery: RecoveryMode,
    ) -> Result<Replay<F>, ErrorKind> {
        check_name(collection)?;
        let opened = Dir::open(&fs, &log.join(collection), DirUse::Names);
        Replay::begin(opened, collection, from, until, recovery)
    }

    /// The same in the log whose directory is open.
    pub(in crate::wal) fn in_log(
        log: &Dir<F>,
        collection: &str,
        from: u64,
        until: Option<u64>,
        recovery: RecoveryMode,
    ) -> Result<Replay<F>, ErrorKind> {
        check_name(collection)?;
        let opened = log.open_dir(collection.as_ref(), DirUse::Names);
        Replay::begin(opened, collection, from, until, recovery)
    }

    fn begin(
        opened: Result<Dir<F>, Failure>,
        collection: &str,
        from: u64,
        until: Option<u64>,
        recovery: RecoveryMode,
    ) -> Result<Replay<F>, ErrorKind> {
        let dir = match opened {
            Ok(dir) => Some(dir.without_path()),
            Err(failure) if failure.is_not_found() => None,
            Err(failure) => return Err(failure.into()),
        };
        let is_there = dir.is_some();
        Ok(Replay {
            dir,
            collection: collection.to_owned(),
            next: from.max(1),
            until,
            read: 0,
            recovery,
            position: if is_there { ReplayPosition::Start } else { ReplayPosition::Over },
            damage: Vec::new(),
            has_looked: false,
            refuses_released: false,
            follows: false,
        })
    }

    /// The same walk, which fails with [`WalError::Released`] if the number that it is to begin with
    /// has been released, in place of beginning with the first that has not.
    pub fn refusing_released(self) -> Replay<F> {
        Replay { refuses_released: true, ..self }
    }

    /// The lowest number that has not been released.
    ///
    /// # Errors
    ///
    /// As [`Replay::chunk`].
    pub fn first(&mut self) -> Result<u64, ErrorKind> {
        Ok(self.checkpoint()?.up_to.saturating_add(1))
    }

    /// The last number that was read; 0 if there was none.
    pub fn last_read(&self) -> u64 {
        self.read
    }

    /// What was skipped so far.
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }

    /// Appends the next entries, packed as [`pack_with_sequence`] does, until `out` has `most`
    /// bytes or there are no more.
    ///
    /// # Errors
    ///
    /// The system refuses, or something is damaged and the mode does not allow to skip it.
    pub fn chunk(&mut self, out: &mut Vec<u8>, most: usize) -> Result<ReplayProgress, ErrorKind> {
        let progress = self.fill(out, most)?;
        self.sync_shown()?;
        Ok(progress)
    }

    fn fill(&mut self, out: &mut Vec<u8>, most: usize) -> Result<ReplayProgress, ErrorKind> {
        while out.len() < most {
            // Where a walk that follows waits, if this step finds that the log ends for now.
            let (position, waits) =
                match std::mem::replace(&mut self.position, ReplayPosition::Over) {
                    ReplayPosition::Start => (self.find_start()?, ReplayPosition::Start),
                    ReplayPosition::BeforeSegment(number) => {
                        (self.find_segment(number)?, ReplayPosition::BeforeSegment(number))
                    }
                    ReplayPosition::InSegment(mut segment) => {
                        match self.step(&mut segment, out)? {
                            None => (ReplayPosition::InSegment(segment), ReplayPosition::Over),
                            Some(ReplayPosition::BeforeSegment(next)) if self.follows => {
                                let found = self.find_segment(next)?;
                                // Until the next one is there it may become the current one again: in
                                // a rotation that a crash has ended.
                                segment.is_current |= matches!(found, ReplayPosition::Over);
                                (found, ReplayPosition::InSegment(segment))
                            }
                            Some(position) => (position, ReplayPosition::InSegment(segment)),
                        }
                    }
                    ReplayPosition::Over => {
                        self.check_the_end()?;
                        return Ok(ReplayProgress::Over);
                    }
                };
            self.position = position;
            if self.follows && matches!(self.position, ReplayPosition::Over) {
                self.position = waits;
                self.check_the_end()?;
                return Ok(ReplayProgress::Over);
            }
        }
        Ok(ReplayProgress::More)
    }

    /// Reads what comes next in a segment. The answer is where to go on, if not there.
    fn step(
        &mut self,
        segment: &mut ReplaySegment<F>,
        out: &mut Vec<u8>,
    ) -> Result<Option<ReplayPosition<F>>, ErrorKind> {
        let number = segment.reader.header.number;
        if self.is_unconfirmed(segment) && !self.confirm(segment)? {
            return Ok(Some(ReplayPosition::Over));
        }
        let offset = segment.reader.offset;
        // With the end of a segment: where that is.
        let (reason, regular) = match segment.reader.next()? {
            SegmentItem::Block(block, length) => {
                segment.may_be_stale = true;
                if self.until.is_some_and(|until| block.first > until) {
                    segment.reader.offset = offset;
                    return Ok(Some(ReplayPosition::Over));
                }
                if block.first <= self.read {
                    let reason = "the entries of a block have come before";
                    let name = name_of(number, segment.is_current);
                    self.damaged(DamageKind::Misplaced, &name, (offset, length), reason)?;
                    return Ok(None);
                }
                self.show(&block, out);
                segment.shows_unsynced |= self.follows && offset >= segment.durable;
                return Ok(None);
            }
            SegmentItem::End(end) if segment.is_current => {
                // That of a log which has just been opened. More may have been appended in its
                // place since it was read, and then the next segment been begun.
                let is_sealed = self.sealed_numbers()?.contains(&number);
                if is_sealed || self.checkpoint()?.first_segment > number {
                    segment.is_current = false;
                    segment.reader.forget();
                    return Ok(None);
                }
                (BECOME_END, Some(end))
            }
            SegmentItem::End(end) => (BECOME_END, Some(end)),
            SegmentItem::Filler(end) if segment.is_current => (BECOME_SPACE, Some(end)),
            SegmentItem::Filler(_) => ("a sealed segment ends with unused space", None),
            SegmentItem::Damaged(reason) => (reason, None),
        };
        if segment.may_be_stale && regular.is_none() {
            // It may have been read while it was being written.
            segment.may_be_stale = false;
            segment.reader.forget();
            return Ok(None);
        }
        self.end_of_segment(segment, reason, regular)
    }

    /// Packs those entries of a block that are asked for.
    fn show(&mut self, block: &Block<'_>, out: &mut Vec<u8>) {
        self.read = block.last();
        if block.last() < self.next {
            return;
        }
        let is_shown = |sequence: u64| {
            sequence >= self.next && self.until.is_none_or(|until| sequence <= until)
        };
        for (sequence, entry) in block.entries().filter(|(sequence, _)| is_shown(*sequence)) {
            pack_with_sequence(out, sequence, entry);
        }
        self.next = block.last() + 1;
    }

    /// Looks for what there is behind the end of a segment, which should be nothing, or behind
    /// damage. The answer is as that of [`Replay::step`].
    fn end_of_segment(
        &mut self,
        segment: &mut ReplaySegment<F>,
        reason: &'static str,
        regular: Option<u64>,
    ) -> Result<Option<ReplayPosition<F>>, ErrorKind> {
        let (number, offset) = (segment.reader.header.number, segment.reader.offset);
        let length = segment.reader.file_size()?;
        let after = match segment.is_current {
            true => ReplayPosition::Over,
            false => ReplayPosition::BeforeSegment(number + 1),
        };
        if regular.is_some_and(|end| self.is_known_end(segment.is_current, length <= end)) {
            return Ok(Some(after));
        }
        let read = segment.is_current.then_some(self.read);
        let remainder = segment.reader.remainder(read, regular.is_some())?;
        if let Some(position) = self.look_again(segment, offset, regular.is_some())? {
            return Ok(position);
        }
        let name = name_of(number, segment.is_current);
        match remainder {
            Remainder::Confirmed { next, unread } => {
                self.damaged(DamageKind::Unreadable, &name, (offset, next - offset), reason)?;
                if segment.is_current {
                    self.read = self.read.saturating_add(unread);
                }
                segment.reader.offset = next;
                Ok(None)
            }
            // It ends here, or what is being written is not there yet.
            _ if segment.is_current || regular.is_some() => Ok(Some(after)),
            _ => {
                let range = (offset, length.saturating_sub(offset));
                self.damaged(DamageKind::Unreadable, &name, range, reason)?;
                Ok(Some(after))
            }
        }
    }

    /// Whether the end of a segment, or its unused space, is known to be where its entries end.
    fn is_known_end(&self, is_current: bool, is_end_of_file: bool) -> bool {
        match (is_current, self.until) {
            (false, _) => is_end_of_file,
            (true, Some(until)) => self.read >= until,
            // One that follows comes here again and again, and what is behind may be much.
            (true, None) => {
                self.follows || self.recovery == RecoveryMode::TolerateTail || self.has_looked
            }
        }
    }

    /// Reads again what seemed to be damage, or an end: a writer may have changed it meanwhile.
    /// `None` if it is what it was; otherwise the answer of [`Replay::step`].
    fn look_again(
        &mut self,
        segment: &mut ReplaySegment<F>,
        offset: u64,
        is_regular_end: bool,
    ) -> Result<Option<Option<ReplayPosition<F>>>, ErrorKind> {
        // What is behind was written when this was whole, and this may have been read before.
        segment.reader.forget();
        segment.reader.offset = offset;
        let is_whole = matches!(segment.reader.next()?, SegmentItem::Block(..));
        segment.reader.offset = offset;
        if !segment.reader.is_same()? {
            // A checkpoint has released the segment, and its space serves again.
            return Ok(Some(Some(ReplayPosition::Start)));
        }
        if is_whole {
            // There may be more each time, beside a writer that does not rest.
            self.has_looked |= is_regular_end && segment.is_current;
            return Ok(Some(None));
        }
        if !segment.is_current && !segment.is_current_again && self.is_current(&segment.reader)? {
            // It was sealed in a rotation that a crash has ended, and is appended to again.
            (segment.is_current, segment.is_current_again) = (true, true);
            segment.reader.forget();
            return Ok(Some(None));
        }
        Ok(None)
    }

    /// A walk that knows how far it goes has to get there.
    fn check_the_end(&mut self) -> Result<(), ErrorKind> {
        if self.until.is_some_and(|until| until >= self.next && self.read < until) {
            self.until = None;
            let reason = "the log ends before its last entry";
            self.damaged(DamageKind::Unreadable, CURRENT, (0, 0), reason)?;
        }
        Ok(())
    }

    pub(super) fn damaged(
        &mut self,
        kind: DamageKind,
        file: &str,
        range: (u64, u64),
        reason: &'static str,
    ) -> Result<(), ErrorKind> {
        let damage = Damage::new(&self.collection, file, kind, range, reason, self.read);
        if self.recovery != RecoveryMode::SkipCorrupt {
            return Err(WalError::Damaged(Box::new(damage)).into());
        }
        if !self.damage.contains(&damage) {
            self.damage.push(damage);
        }
        Ok(())
    }
}

fn name_of(number: u64, is_current: bool) -> String {
    if is_current { CURRENT.to_owned() } else { segments::sealed(number) }
}
