//! Finds the segments of a collection, whose names may change while it is read.

use super::walk::{Replay, ReplayPosition, ReplaySegment};
use crate::error::{Code, DamageKind, ErrorKind, Failure, WalError};
use crate::fs::FileSystem;
use crate::wal::checkpoint::Checkpoint;
use crate::wal::reader::SegmentReader;
use crate::wal::segments::{self, CHECKPOINT, CURRENT};

/// How often a segment is looked for that has got another name meanwhile.
const ATTEMPTS: usize = 100;

/// What a name leads to.
enum SegmentLookup<F: FileSystem> {
    Found(Box<ReplaySegment<F>>),
    /// Something that is not the segment that it should be. It has been reported.
    Unusable,
    Absent,
}

impl<F: FileSystem> Replay<F> {
    /// Finds the last segment that starts at or before the wanted number.
    pub(super) fn find_start(&mut self) -> Result<ReplayPosition<F>, ErrorKind> {
        for _ in 0..ATTEMPTS {
            let checkpoint = self.checkpoint()?;
            let first = checkpoint.up_to.saturating_add(1);
            if self.refuses_released && self.next < first {
                return Err(WalError::Released { asked: self.next, first }.into());
            }
            self.refuses_released = self.follows;
            self.next = self.next.max(first);
            let numbers = self.sealed_numbers()?;
            let needed = numbers.iter().filter(|number| **number >= checkpoint.first_segment);
            let mut lowest = None;
            // From the last on: the current one, whatever its number is, comes first.
            for number in std::iter::once(None).chain(needed.rev().copied().map(Some)) {
                let SegmentLookup::Found(segment) = self.open(number)? else { continue };
                if segment.reader.header.first <= self.next {
                    return Ok(self.enter(segment));
                }
                lowest = Some(segment.reader.header.number);
            }
            // A segment may have got another name, or have been released, meanwhile: also the
            // current one, which then was under neither name when it was looked for.
            if self.sealed_numbers()? != numbers || self.checkpoint()? != checkpoint {
                continue;
            }
            let Some(number) = lowest else { return Ok(ReplayPosition::Over) };
            if number > checkpoint.first_segment {
                self.missing(checkpoint.first_segment)?;
            }
            return Ok(ReplayPosition::BeforeSegment(number));
        }
        Err(self.names_keep_changing())
    }

    /// Opens the segment with this number, under whatever name.
    pub(super) fn find_segment(&mut self, number: u64) -> Result<ReplayPosition<F>, ErrorKind> {
        for _ in 0..ATTEMPTS {
            let mut current = None;
            for name in [Some(number), None] {
                match self.open(name)? {
                    SegmentLookup::Found(segment) if segment.reader.header.number == number => {
                        return Ok(self.enter(segment));
                    }
                    SegmentLookup::Found(segment) => current = Some(segment.reader.header.number),
                    SegmentLookup::Unusable if name.is_some() => {
                        return Ok(ReplayPosition::BeforeSegment(number + 1));
                    }
                    SegmentLookup::Unusable | SegmentLookup::Absent => {}
                }
            }
            let numbers = self.sealed_numbers()?;
            // Released, and the note of it was there before: so it is read after the names.
            if self.checkpoint()?.first_segment > number {
                return Ok(ReplayPosition::Start);
            }
            if numbers.contains(&number) {
                // It has got its other name between the two lookups.
                continue;
            }
            let later = numbers.into_iter().find(|later| *later > number);
            let Some(later) = later.or(current.filter(|current| *current > number)) else {
                // It has not been begun, or is just being.
                return Ok(ReplayPosition::Over);
            };
            self.missing(number)?;
            return Ok(ReplayPosition::BeforeSegment(later));
        }
        Err(self.names_keep_changing())
    }

    fn enter(&mut self, segment: Box<ReplaySegment<F>>) -> ReplayPosition<F> {
        self.read = self.read.max(segment.reader.header.first.saturating_sub(1));
        ReplayPosition::InSegment(segment)
    }

    /// Whether the current segment is the one of this reader.
    pub(super) fn is_current(&mut self, reader: &SegmentReader<F>) -> Result<bool, ErrorKind> {
        Ok(match self.open(None)? {
            SegmentLookup::Found(current) => current.reader.header == reader.header,
            SegmentLookup::Unusable | SegmentLookup::Absent => false,
        })
    }

    /// Opens a sealed segment, or the current one.
    fn open(&mut self, number: Option<u64>) -> Result<SegmentLookup<F>, ErrorKind> {
        let Some(dir) = &self.dir else { return Ok(SegmentLookup::Absent) };
        let name = number.map_or_else(|| CURRENT.to_owned(), segments::sealed);
        let mut is_second_attempt = false;
        loop {
            let (kind, reason) = match SegmentReader::open_of(dir, &name, &self.collection, number)
            {
                Ok(Ok(reader)) => {
                    let is_current = number.is_none();
                    let segment = ReplaySegment::new(reader, is_current);
                    return Ok(SegmentLookup::Found(Box::new(segment)));
                }
                Ok(Err(damage)) => damage,
                Err(failure) if failure.is_not_found() => return Ok(SegmentLookup::Absent),
                Err(failure) => return Err(failure.into()),
            };
            // A segment that was released after its name had been looked up may have got another
            // header before it was read. The name does not lead there any more.
            if std::mem::replace(&mut is_second_attempt, true) {
                self.damaged(kind, &name, (0, 0), reason)?;
                return Ok(SegmentLookup::Unusable);
            }
        }
    }

    pub(super) fn checkpoint(&mut self) -> Result<Checkpoint, ErrorKind> {
        let Some(dir) = &self.dir else { return Ok(Checkpoint::default()) };
        // Before the note: a name that was it may be removed when the note is there.
        let names = dir.names()?;
        let names = names.iter().filter_map(|name| name.to_str());
        if let Some(checkpoint) = Checkpoint::read(dir, names)? {
            return Ok(checkpoint);
        }
        self.damaged(DamageKind::Checkpoint, CHECKPOINT, (0, 0), "the note cannot be read")?;
        let first_segment = self.sealed_numbers()?.first().copied().unwrap_or(1);
        Ok(Checkpoint { up_to: 0, first_segment })
    }

    /// The numbers of the sealed segments, the lowest first.
    pub(super) fn sealed_numbers(&self) -> Result<Vec<u64>, ErrorKind> {
        let Some(dir) = &self.dir else { return Ok(Vec::new()) };
        let names = dir.names()?;
        let names = names.iter().filter_map(|name| name.to_str());
        let mut numbers: Vec<u64> = names.filter_map(segments::number_of).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn missing(&mut self, number: u64) -> Result<(), ErrorKind> {
        let name = segments::sealed(number);
        self.damaged(DamageKind::Missing, &name, (0, 0), "the segment is not there")
    }

    fn names_keep_changing(&self) -> ErrorKind {
        Failure::at("open", &self.collection, Code::EAGAIN.error()).into()
    }
}
