//! What is found in the segments of a collection, and what is wrong with it. Nothing is changed
//! here.

use std::collections::VecDeque;
use std::ffi::OsStr;

use super::is_file;
use crate::error::{Damage, DamageKind, WalError};
use crate::error::{ErrorKind, Failure};
use crate::fs::{FileSystem, uninterrupted};
use crate::wal::Recovery;
use crate::wal::format::{self, END};
use crate::wal::memtable::Memtable;
use crate::wal::reader::{BECOME_END, BECOME_SPACE, Behind, Item, SegmentReader};
use crate::wal::segments;
use crate::wal::writer::Sealed;

const BEHIND_THE_END: &str = "there is something behind the end of the segment";

/// What has been read so far.
pub(super) struct Scan<'a> {
    pub(super) collection: &'a str,
    pub(super) recovery: Recovery,
    /// What a checkpoint has released is not shown.
    pub(super) released: u64,
    pub(super) memtable: Option<Memtable>,
    pub(super) last: u64,
    pub(super) damage: Vec<Damage>,
}

/// How the current segment ends.
pub(super) enum Ending {
    /// With an end mark at this offset.
    Marked(u64),
    /// With unused space, from this offset on.
    Space(u64),
    /// With bytes that are no block, from this offset on.
    Torn(u64),
}

/// What was found in a segment beside its entries.
pub(super) struct Found {
    pub(super) ending: Ending,
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

pub(super) enum Current<F: FileSystem> {
    Usable {
        reader: SegmentReader<F>,
        found: Found,
        length: u64,
    },
    /// Its header cannot be read.
    Unusable,
}

/// Bytes behind the end of a sealed segment.
pub(super) struct Trailing {
    pub(super) file: String,
    pub(super) end: u64,
    pub(super) length: u64,
    /// Its place in the list of damage.
    pub(super) index: usize,
}

impl Scan<'_> {
    /// Notes a damage, or refuses to go on.
    pub(super) fn damaged(
        &mut self,
        kind: DamageKind,
        file: &str,
        (offset, length): (u64, u64),
        reason: &'static str,
    ) -> Result<(), ErrorKind> {
        let damage = Damage {
            collection: self.collection.to_owned(),
            file: file.to_owned(),
            kind,
            offset,
            length,
            reason,
            after: self.last,
            before: None,
            copy: None,
        };
        let is_refused = match self.recovery {
            Recovery::Strict => true,
            Recovery::TolerateTail => kind != DamageKind::TornTail,
            Recovery::SkipCorrupt => false,
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
        fs: &F,
        dir: &F::DirHandle,
        number: u64,
    ) -> Result<Option<(Sealed, Option<Trailing>)>, ErrorKind> {
        let name = segments::sealed(number);
        let Some(mut reader) = self.segment(fs, dir, &name, Some(number))? else {
            return Ok(None);
        };
        let found = self.scan(fs, &mut reader, &name, false)?;
        let bytes = reader.length(fs)?;
        let last = self.last;
        let sealed = Sealed { number, last, bytes };
        let Ending::Marked(offset) = found.ending else { return Ok(Some((sealed, None))) };
        let end = offset + END as u64;
        if bytes <= end {
            return Ok(Some((sealed, None)));
        }
        self.damaged(DamageKind::TornTail, &name, (end, bytes - end), BEHIND_THE_END)?;
        let index = self.damage.len() - 1;
        let trailing = Trailing { file: name, end, length: bytes - end, index };
        Ok(Some((Sealed { bytes: end, ..sealed }, Some(trailing))))
    }

    /// Reads the current segment, which may just have been sealed.
    pub(super) fn current<F: FileSystem>(
        &mut self,
        fs: &F,
        dir: &F::DirHandle,
        name: &str,
        is_current: bool,
        expected: u64,
    ) -> Result<Current<F>, ErrorKind> {
        let Some(mut reader) = self.segment(fs, dir, name, None)? else {
            self.leave_out(fs, dir, name)?;
            return Ok(Current::Unusable);
        };
        let number = reader.header.number;
        if number < expected {
            let length = reader.length(fs)?;
            let reason = "the current segment has a number that another has had";
            self.damaged(DamageKind::Misplaced, name, (0, length), reason)?;
            self.leave_out(fs, dir, name)?;
            return Ok(Current::Unusable);
        }
        self.note_missing(expected, number)?;
        let found = self.scan(fs, &mut reader, name, is_current)?;
        // What was lost had numbers, which are not given again.
        self.last = self.last.saturating_add(found.lost);
        let length = reader.length(fs)?;
        Ok(Current::Usable { reader, found, length })
    }

    /// Leaves out as many numbers as a segment that cannot be used may have had entries, so that
    /// none of them is given again.
    fn leave_out<F: FileSystem>(
        &mut self,
        fs: &F,
        dir: &F::DirHandle,
        name: &str,
    ) -> Result<(), Failure> {
        let known = uninterrupted(|| fs.metadata(dir, OsStr::new(name)));
        let known = known.map_err(|error| Failure::at("stat", name, error))?;
        self.last = self.last.saturating_add(known.size / format::SHORTEST_ENTRY as u64);
        Ok(())
    }

    /// Opens a segment. `None` if its header is not what it has to be.
    pub(super) fn segment<F: FileSystem>(
        &mut self,
        fs: &F,
        dir: &F::DirHandle,
        name: &str,
        number: Option<u64>,
    ) -> Result<Option<SegmentReader<F>>, ErrorKind> {
        let (kind, reason) = if !is_file(fs, dir, name)? {
            (DamageKind::Unreadable, "it is no file")
        } else {
            match SegmentReader::open(fs, dir, name)? {
                Err(reason) => (DamageKind::Unreadable, reason),
                Ok(reader) => {
                    let header = &reader.header;
                    if header.collection == self.collection
                        && number.is_none_or(|number| header.number == number)
                    {
                        // Nothing in it, nor behind it, comes before this.
                        self.last = self.last.max(header.first.saturating_sub(1));
                        return Ok(Some(reader));
                    }
                    (DamageKind::Misplaced, "the segment is not the one that its name says")
                }
            }
        };
        let known = uninterrupted(|| fs.metadata(dir, OsStr::new(name)));
        let known = known.map_err(|error| Failure::at("stat", name, error))?;
        self.damaged(kind, name, (0, known.size), reason)?;
        Ok(None)
    }

    /// Reads the blocks of a segment.
    pub(super) fn scan<F: FileSystem>(
        &mut self,
        fs: &F,
        reader: &mut SegmentReader<F>,
        name: &str,
        is_current: bool,
    ) -> Result<Found, ErrorKind> {
        let (mut has_blocks, mut is_damaged, mut lost) = (false, false, 0);
        // The blocks that no later one has called durable: where they start and end.
        let mut open: VecDeque<(u64, u64)> = VecDeque::new();
        loop {
            let offset = reader.offset;
            // With unused space, or an end mark: which of them, and where that ends.
            let (reason, regular) = match reader.next(fs)? {
                Item::Block(block, length) => {
                    has_blocks = true;
                    if block.first <= self.last {
                        let reason = "the entries of a block have come before";
                        self.damaged(DamageKind::Misplaced, name, (offset, length), reason)?;
                        is_damaged = true;
                        continue;
                    }
                    while open.front().is_some_and(|(_, last)| *last <= block.durable) {
                        open.pop_front();
                    }
                    open.push_back((offset, block.last()));
                    self.take(&block);
                    continue;
                }
                Item::End(end) => (BECOME_END, Some((true, end))),
                Item::Filler(end) if is_current => (BECOME_SPACE, Some((false, end))),
                Item::Filler(_) => ("a sealed segment ends with unused space", None),
                Item::Damaged(reason) => (reason, None),
            };
            let length = reader.length(fs)?;
            let read = is_current.then_some(self.last);
            match reader.behind(fs, read, regular.is_some())? {
                // Entries that had been confirmed are missing before the next ones, or the end.
                Behind::GoesOn { next, unread } => {
                    let range = (offset, next - offset);
                    self.damaged(DamageKind::Unreadable, name, range, reason)?;
                    lost = unread;
                    reader.offset = next;
                    is_damaged = true;
                }
                left => {
                    let unconfirmed = open.front().map(|(start, _)| *start);
                    let ending = Ending::Torn(offset);
                    let mut found =
                        Found { ending, has_blocks, is_damaged, lost, unconfirmed, torn: None };
                    let (kind, from, reason) = match regular {
                        Some((is_marked, end)) => {
                            found.ending = match is_marked {
                                true => Ending::Marked(offset),
                                false => Ending::Space(offset),
                            };
                            if is_marked {
                                found.unconfirmed = None;
                            }
                            let is_group = left == Behind::Unconfirmed;
                            // What is behind the end of a sealed one is seen to elsewhere.
                            if !is_current
                                || !is_group
                                    && (length <= end || reader.is_space(fs, end, length)?)
                            {
                                return Ok(found);
                            }
                            // The rest of a group whose first block is not there lies in the space.
                            let from = if is_group && !is_marked { offset } else { end };
                            (DamageKind::TornTail, from, BEHIND_THE_END)
                        }
                        None if is_current => (DamageKind::TornTail, offset, reason),
                        None => (DamageKind::Unreadable, offset, reason),
                    };
                    self.damaged(kind, name, (from, length - from), reason)?;
                    found.torn = Some(from);
                    return Ok(found);
                }
            }
        }
    }

    pub(super) fn take(&mut self, block: &format::Block<'_>) {
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
