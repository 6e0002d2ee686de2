//! What is found in the segments of a collection, and what is wrong with it. Nothing is changed
//! here.

use std::collections::VecDeque;

use crate::error::{Damage, DamageKind, ErrorKind, Failure, WalError};
use crate::fs::{Dir, FileKind, FileSystem};
use crate::wal::dirs::{is_file, stat_listed};
use crate::wal::format::{self, END};
use crate::wal::memtable::Memtable;
use crate::wal::options::{LogOptions, RecoveryMode};
use crate::wal::reader::{SegmentItem, SegmentReader};
use crate::wal::remainder::{BECOME_END, BECOME_SPACE, Remainder};
use crate::wal::segments;
use crate::wal::writer::SealedSegment;

const BEHIND_THE_END: &str = "there is something behind the end of the segment";

/// What has been read so far.
pub(super) struct Scan<'a> {
    pub(super) collection: &'a str,
    pub(super) recovery: RecoveryMode,
    segment_size: u64,
    /// What a checkpoint has released is not shown.
    pub(super) released: u64,
    pub(super) memtable: Option<Memtable>,
    pub(super) last: u64,
    pub(super) damage: Vec<Damage>,
}

/// How a segment ends.
pub(super) enum SegmentEnd {
    /// With an end mark at this offset.
    Marked(u64),
    /// With unused space, from this offset on.
    Space(u64),
    /// With bytes that are no block, from this offset on.
    Torn(u64),
}

/// What was found in a segment beside its entries.
pub(super) struct SegmentFindings {
    pub(super) end: SegmentEnd,
    pub(super) has_blocks: bool,
    /// Whether something was skipped.
    pub(super) is_damaged: bool,
    /// How many numbers what was skipped before the end may have had.
    pub(super) lost: u64,
    /// Where the blocks start that no sync is known to have confirmed.
    pub(super) unconfirmed: Option<u64>,
    /// Where the bytes start that are copied aside before they are cut off.
    pub(super) torn: Option<u64>,
}

pub(super) enum CurrentSegment<F: FileSystem> {
    Usable {
        reader: SegmentReader<F>,
        findings: SegmentFindings,
        length: u64,
    },
    /// Its header cannot be read.
    Unusable,
}

/// Bytes behind the end of a sealed segment.
pub(super) struct TrailingBytes {
    pub(super) file: String,
    pub(super) end: u64,
    pub(super) length: u64,
    /// Its place in the list of damage.
    pub(super) index: usize,
}

/// Where the last block of a segment ends, and what is there.
struct EndOfSegment {
    offset: u64,
    /// What is wrong if the segment should not end here.
    reason: &'static str,
    /// Of unused space, or an end mark: whether it is a mark, and where it ends.
    regular: Option<(bool, u64)>,
    is_current: bool,
    /// Whole blocks of a group that no sync has confirmed follow.
    is_group: bool,
}

impl Scan<'_> {
    pub(super) fn new<'a>(collection: &'a str, options: &LogOptions) -> Scan<'a> {
        Scan {
            collection,
            recovery: options.recovery,
            segment_size: options.segment_size,
            released: 0,
            memtable: options.memtable.then(Memtable::default),
            last: 0,
            damage: Vec::new(),
        }
    }

    /// Notes a damage, or refuses to go on.
    pub(super) fn damaged(
        &mut self,
        kind: DamageKind,
        file: &str,
        range: (u64, u64),
        reason: &'static str,
    ) -> Result<(), ErrorKind> {
        let damage = Damage::new(self.collection, file, kind, range, reason, self.last);
        let is_refused = match self.recovery {
            RecoveryMode::Strict => true,
            RecoveryMode::TolerateTail => kind != DamageKind::TornTail,
            RecoveryMode::SkipCorrupt => false,
        };
        if is_refused {
            return Err(WalError::Damaged(Box::new(damage)).into());
        }
        self.damage.push(damage);
        Ok(())
    }

    /// Notes the segments that are missing before this one.
    pub(super) fn note_missing(&mut self, expected: u64, number: u64) -> Result<(), ErrorKind> {
        if number > expected {
            let file = segments::sealed(expected);
            self.damaged(DamageKind::Missing, &file, (0, 0), "the segment is not there")?;
        }
        Ok(())
    }

    /// Reads a sealed segment. `None` if it cannot be used at all.
    pub(super) fn sealed<F: FileSystem>(
        &mut self,
        dir: &Dir<F>,
        number: u64,
    ) -> Result<Option<(SealedSegment, Option<TrailingBytes>)>, ErrorKind> {
        let name = segments::sealed(number);
        let Some(mut reader) = self.open(dir, &name, Some(number))? else { return Ok(None) };
        let findings = self.segment(&mut reader, &name, false)?;
        let bytes = reader.file_size()?;
        let sealed = SealedSegment { number, last: self.last, bytes };
        let SegmentEnd::Marked(offset) = findings.end else { return Ok(Some((sealed, None))) };
        let end = offset + END as u64;
        if bytes <= end {
            return Ok(Some((sealed, None)));
        }
        self.damaged(DamageKind::TornTail, &name, (end, bytes - end), BEHIND_THE_END)?;
        let index = self.damage.len() - 1;
        let trailing = TrailingBytes { file: name, end, length: bytes - end, index };
        Ok(Some((SealedSegment { bytes: end, ..sealed }, Some(trailing))))
    }

    /// Reads the current segment, which may just have been sealed.
    pub(super) fn current<F: FileSystem>(
        &mut self,
        dir: &Dir<F>,
        name: &str,
        is_current: bool,
        expected: u64,
    ) -> Result<CurrentSegment<F>, ErrorKind> {
        let Some(mut reader) = self.open(dir, name, None)? else {
            self.leave_out(dir, name)?;
            return Ok(CurrentSegment::Unusable);
        };
        let number = reader.header.number;
        if number < expected {
            let length = reader.file_size()?;
            let reason = "the current segment has a number that another has had";
            self.damaged(DamageKind::Misplaced, name, (0, length), reason)?;
            self.leave_out(dir, name)?;
            return Ok(CurrentSegment::Unusable);
        }
        self.note_missing(expected, number)?;
        let findings = self.segment(&mut reader, name, is_current)?;
        // What was lost had numbers, which are not given again.
        self.last = self.last.saturating_add(findings.lost);
        let length = reader.file_size()?;
        Ok(CurrentSegment::Usable { reader, findings, length })
    }

    /// Leaves out as many numbers as a segment that cannot be used may have had entries, so that
    /// none of them is given again.
    fn leave_out<F: FileSystem>(&mut self, dir: &Dir<F>, name: &str) -> Result<(), Failure> {
        let found = stat_listed(dir, name)?;
        // What is no file has no length that says anything.
        let size = if found.kind == FileKind::File { found.size } else { self.segment_size };
        self.last = self.last.saturating_add(size / format::SHORTEST_ENTRY as u64);
        Ok(())
    }

    /// Opens a segment. `None` if its header is not what it has to be.
    fn open<F: FileSystem>(
        &mut self,
        dir: &Dir<F>,
        name: &str,
        number: Option<u64>,
    ) -> Result<Option<SegmentReader<F>>, ErrorKind> {
        let opened = match is_file(dir, name)? {
            true => SegmentReader::open_of(dir, name, self.collection, number)?,
            false => Err((DamageKind::Unreadable, "it is no file")),
        };
        match opened {
            Ok(reader) => {
                // Nothing in it, nor behind it, comes before this.
                self.last = self.last.max(reader.header.first.saturating_sub(1));
                Ok(Some(reader))
            }
            Err((kind, reason)) => {
                self.damaged(kind, name, (0, stat_listed(dir, name)?.size), reason)?;
                Ok(None)
            }
        }
    }

    /// Reads the blocks of a segment.
    fn segment<F: FileSystem>(
        &mut self,
        reader: &mut SegmentReader<F>,
        name: &str,
        is_current: bool,
    ) -> Result<SegmentFindings, ErrorKind> {
        let mut findings = SegmentFindings {
            end: SegmentEnd::Torn(0),
            has_blocks: false,
            is_damaged: false,
            lost: 0,
            unconfirmed: None,
            torn: None,
        };
        // The blocks that no later one has called durable: where they start and end.
        let mut open: VecDeque<(u64, u64)> = VecDeque::new();
        loop {
            let offset = reader.offset;
            // With unused space, or an end mark: which of them, and where that ends.
            let (reason, regular) = match reader.next()? {
                SegmentItem::Block(block, length) => {
                    findings.has_blocks = true;
                    if block.first <= self.last {
                        let reason = "the entries of a block have come before";
                        self.damaged(DamageKind::Misplaced, name, (offset, length), reason)?;
                        findings.is_damaged = true;
                        continue;
                    }
                    while open.front().is_some_and(|(_, last)| *last <= block.durable) {
                        open.pop_front();
                    }
                    open.push_back((offset, block.last()));
                    self.take(&block);
                    continue;
                }
                SegmentItem::End(end) => (BECOME_END, Some((true, end))),
                SegmentItem::Filler(end) if is_current => (BECOME_SPACE, Some((false, end))),
                SegmentItem::Filler(_) => ("a sealed segment ends with unused space", None),
                SegmentItem::Damaged(reason) => (reason, None),
            };
            let read = is_current.then_some(self.last);
            match reader.remainder(read, regular.is_some())? {
                // Entries that had been confirmed are missing before the next ones, or the end.
                Remainder::Confirmed { next, unread } => {
                    let range = (offset, next - offset);
                    self.damaged(DamageKind::Unreadable, name, range, reason)?;
                    findings.lost = unread;
                    reader.offset = next;
                    findings.is_damaged = true;
                }
                remainder => {
                    findings.unconfirmed = open.front().map(|(start, _)| *start);
                    let is_group = remainder == Remainder::Unconfirmed;
                    let ending = EndOfSegment { offset, reason, regular, is_current, is_group };
                    self.end_of_segment(reader, name, ending, &mut findings)?;
                    return Ok(findings);
                }
            }
        }
    }

    /// Judges where a segment ends, behind which there is nothing that a sync has confirmed.
    fn end_of_segment<F: FileSystem>(
        &mut self,
        reader: &mut SegmentReader<F>,
        name: &str,
        ending: EndOfSegment,
        findings: &mut SegmentFindings,
    ) -> Result<(), ErrorKind> {
        let EndOfSegment { offset, reason, regular, is_current, is_group } = ending;
        let length = reader.file_size()?;
        findings.end = SegmentEnd::Torn(offset);
        let (kind, from, reason) = match regular {
            Some((is_marked, end)) => {
                findings.end = match is_marked {
                    true => SegmentEnd::Marked(offset),
                    false => SegmentEnd::Space(offset),
                };
                if is_marked {
                    findings.unconfirmed = None;
                }
                // What is behind the end of a sealed one is treated by `sealed`.
                if !is_current || !is_group && (length <= end || reader.is_space(end, length)?) {
                    return Ok(());
                }
                // The rest of a group whose first block is not there lies in the space.
                let from = if is_group && !is_marked { offset } else { end };
                (DamageKind::TornTail, from, BEHIND_THE_END)
            }
            None if is_current => (DamageKind::TornTail, offset, reason),
            None => (DamageKind::Unreadable, offset, reason),
        };
        self.damaged(kind, name, (from, length - from), reason)?;
        findings.torn = Some(from);
        Ok(())
    }

    fn take(&mut self, block: &format::Block<'_>) {
        for damage in self.damage.iter_mut().rev() {
            if damage.before.is_some() {
                break;
            }
            damage.before = Some(block.first);
        }
        self.last = block.last();
        if let Some(memtable) = &mut self.memtable {
            for (sequence, entry) in block.entries() {
                if sequence > self.released {
                    memtable.insert(sequence, entry);
                }
            }
        }
    }
}
