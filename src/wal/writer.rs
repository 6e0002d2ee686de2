//! Appends to the segments of one collection.
//!
//! A segment is a valid Avro file at every moment. What it has of unused space is spanned by
//! one empty block, whose head is written anew behind each group of batches, in the same write.
//! That space was allocated beforehand, so a group changes no metadata, and one `fdatasync`
//! makes it durable. A segment that is sealed, or closed, ends with an end mark and is cut there.

use std::sync::Arc;

use super::allocate::{AllocationMode, allocate, end_of_space, next_step, refill};
use super::append_error::{AppendError, is_full};
use super::batch::Batch;
use super::format::{self, END, Header, LONGEST_HEAD, MARKER, SHORTEST_FILLER, filler_head};
use super::new_segment::NewSegment;
use super::options::LogOptions;
use super::segments::{CURRENT, NEXT, SPARE, sealed};
use super::torn_tail::{UncutEnd, cut};
use crate::error::Failure;
use crate::fs::{Dir, File, FileId, FileSystem};

/// A group that has needed more memory than this gives it back.
const LARGEST_BUFFER: usize = 4 << 20;

/// A segment that is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SealedSegment {
    pub(super) number: u64,
    /// No entry in it has a higher sequence number.
    pub(super) last: u64,
    pub(super) bytes: u64,
}

/// The end of a collection.
pub(super) struct SegmentWriter<F: FileSystem> {
    pub(super) dir: Arc<Dir<F>>,
    pub(super) header: Header,
    file: File<F>,
    /// Which file it is, once that was asked for, and whether the system can be believed in that.
    file_id: Option<(FileId, bool)>,
    /// Where the next block goes.
    pub(super) end: u64,
    /// The length of the file. From `end` on it is an empty block, or an end mark.
    pub(super) allocated: u64,
    /// Whether the segment has blocks.
    pub(super) has_blocks: bool,
    /// Something in the segment cannot be read, and was skipped. Its end mark may be all that
    /// tells the damage from a torn tail, so nothing takes the place of that any more: the next
    /// append begins another segment.
    pub(super) is_damaged: bool,
    /// The last sequence number in the collection.
    pub(super) last: u64,
    /// The last one that is surely on the disk.
    pub(super) durable: u64,
    /// The sealed segments that are still there, the oldest first.
    pub(super) sealed: Vec<SealedSegment>,
    /// Whether there is a released segment whose space can serve again.
    pub(super) has_spare: bool,
    /// The next segment, where it was made beforehand,
    pub(super) prepared: Option<NewSegment<F>>,
    /// or whether another thread is making it.
    pub(super) is_preparing: bool,
    /// There was no room to make it beforehand: it is made when it is needed.
    pub(super) has_failed_to_prepare: bool,
    /// An append would have sealed the segment, had the next one been there.
    pub(super) is_overdue: bool,
    /// The end of the segment is not clean, because there was no room for that.
    pub(super) uncut: Option<UncutEnd>,
    /// How much space is allocated next.
    pub(super) step: u64,
    /// The bytes of the group that is being written.
    buffer: Vec<u8>,
}

impl<F: FileSystem> SegmentWriter<F> {
    /// Goes on in a current segment of which everything is on the disk.
    pub(super) fn resume(
        dir: Arc<Dir<F>>,
        segment: NewSegment<F>,
        last: u64,
        step: u64,
    ) -> SegmentWriter<F> {
        let NewSegment { header, file, end, allocated } = segment;
        SegmentWriter {
            dir,
            header,
            file,
            file_id: None,
            end,
            allocated,
            has_blocks: false,
            is_damaged: false,
            last,
            durable: last,
            sealed: Vec::new(),
            has_spare: false,
            prepared: None,
            is_preparing: false,
            has_failed_to_prepare: false,
            is_overdue: false,
            uncut: None,
            step,
            buffer: Vec::new(),
        }
    }

    /// Makes the first segment of a collection that has none. `space` is how much it has at least,
    /// and how much if there is room for that.
    pub(super) fn create(
        dir: Arc<Dir<F>>,
        header: Header,
        has_spare: bool,
        space: (u64, u64),
    ) -> Result<SegmentWriter<F>, AppendError> {
        let last = header.first.saturating_sub(1);
        let segment = NewSegment::create_first(&dir, header, has_spare, space)?;
        segment.publish(&dir).map_err(AppendError::Unknown)?;
        Ok(SegmentWriter::resume(dir, segment, last, next_step(space.1)))
    }

    /// The bytes that a group takes at most, with the shortest space behind it.
    pub(super) fn most_bytes(batches: &[&Batch]) -> u64 {
        let most: usize =
            batches.iter().map(|batch| format::most_bytes(batch) + LONGEST_HEAD + MARKER).sum();
        most as u64 + SHORTEST_FILLER
    }

    /// Appends a group of batches. `number` gives each its first sequence number, which is
    /// higher than all before; the answer has them. With `sync` they are on the disk then.
    pub(super) fn append(
        &mut self,
        batches: &[&Batch],
        options: &LogOptions,
        first_free: u64,
        number: impl FnMut(&Batch) -> u64,
        sync: bool,
    ) -> Result<Vec<u64>, AppendError> {
        self.clean()?;
        let most = SegmentWriter::<F>::most_bytes(batches);
        let is_large = most >= options.large_group;
        self.rotate_if_full(most, is_large, options, first_free)?;
        let mut bytes = std::mem::take(&mut self.buffer);
        let (firsts, last) = self.encode(&mut bytes, batches, number);
        let mut written = self.place(&mut bytes, is_large, options);
        if matches!(&written, Err(error) if error.is_full()) && self.has_other_space() {
            written = self.rotate(first_free, options).and_then(|()| {
                // Blocks have the marker of the segment that they are in.
                self.encode_again(&mut bytes, batches, &firsts);
                self.place(&mut bytes, is_large, options)
            });
        }
        if bytes.capacity() <= LARGEST_BUFFER {
            self.buffer = bytes;
        }
        written?;
        self.last = last;
        self.has_blocks = true;
        if sync {
            self.sync().map_err(AppendError::Unknown)?;
        }
        Ok(firsts)
    }

    /// Begins another segment where this one is full, or something in it cannot be read.
    fn rotate_if_full(
        &mut self,
        most: u64,
        is_large: bool,
        options: &LogOptions,
        first_free: u64,
    ) -> Result<(), AppendError> {
        let age = (options.clock)().saturating_sub(self.header.created);
        let is_old = options.segment_age.is_some_and(|limit| u128::from(age) >= limit.as_millis());
        let is_full = is_old || self.end + most > options.segment_size;
        let is_due = self.is_damaged || self.has_blocks && is_full;
        if !is_due {
            return Ok(());
        }
        if self.is_preparing {
            // While the next segment is being made, this one grows.
            self.is_overdue = true;
            return Ok(());
        }
        // A large group makes the room for itself.
        let least = if is_large { SHORTEST_FILLER } else { most };
        match self.rotate_into(first_free, options, least) {
            // So it does while there is no room for another one.
            Err(error) if error.is_full() && !self.is_damaged => {
                self.is_overdue = true;
                Ok(())
            }
            rotated => rotated,
        }
    }

    /// Whether there is space that another segment would be made of, or was made of beforehand.
    fn has_other_space(&self) -> bool {
        self.has_blocks && !self.is_preparing && (self.prepared.is_some() || self.has_spare)
    }

    /// Makes `bytes` the blocks of a group. The answer is the first sequence number of each batch,
    /// and the last of all.
    fn encode(
        &self,
        bytes: &mut Vec<u8>,
        batches: &[&Batch],
        mut number: impl FnMut(&Batch) -> u64,
    ) -> (Vec<u64>, u64) {
        bytes.clear();
        let mut last = self.last;
        let block = |batch: &&Batch| {
            let first = number(batch);
            format::put_block(bytes, &self.header.marker, batch, first, self.durable);
            last = first + (batch.len() as u64 - 1);
            first
        };
        (batches.iter().map(block).collect(), last)
    }

    /// The same, for batches that have their numbers.
    fn encode_again(&self, bytes: &mut Vec<u8>, batches: &[&Batch], firsts: &[u64]) {
        let mut firsts = firsts.iter().copied();
        self.encode(bytes, batches, |_| firsts.next().unwrap_or_default());
    }

    /// Writes a group behind the last block, and allocates more of the segment before where it is
    /// needed. A large group extends the file by its own write.
    fn place(
        &mut self,
        bytes: &mut Vec<u8>,
        is_large: bool,
        options: &LogOptions,
    ) -> Result<(), AppendError> {
        let needed = self.end + bytes.len() as u64 + SHORTEST_FILLER;
        if needed > self.allocated && !is_large {
            self.extend(needed, options)?;
        }
        self.write(bytes)
    }

    /// Writes a group over the beginning of the space, and the head of what is left of that.
    fn write(&mut self, bytes: &mut Vec<u8>) -> Result<(), AppendError> {
        let end = self.end + bytes.len() as u64;
        let allocated = self.allocated.max(end + SHORTEST_FILLER);
        bytes.extend_from_slice(&filler_head(allocated - end));
        if allocated > self.allocated {
            bytes.extend_from_slice(&self.header.marker);
        }
        if let Err(failure) = self.file.write_all_at(bytes, self.end) {
            return Err(self.after_failed_write(failure, self.end + bytes.len() as u64));
        }
        self.end = end;
        self.allocated = allocated;
        Ok(())
    }

    /// A write that fails may have been done in part, up to `written`. Where it failed for want of
    /// room, and what there was can be made what it was, nothing has happened. That has to be on
    /// the disk before it is reported: the system may have written the part, and after a power
    /// cut whole batches of it would show.
    fn after_failed_write(&self, failure: Failure, written: u64) -> AppendError {
        if !is_full(&failure) {
            return AppendError::Unknown(failure);
        }
        match self.undo(written) {
            Ok(()) => AppendError::NotWritten(failure),
            Err(_) => AppendError::Unknown(failure),
        }
    }

    /// Makes what follows the last block what it was: the end mark of a log that was just opened,
    /// or space.
    fn undo(&self, written: u64) -> Result<(), Failure> {
        // First, so that there is room for the rest where nothing is written in place.
        self.file.set_size(self.allocated)?;
        if self.is_marked() {
            self.file.write_all_at(&format::end_mark(&self.header.marker), self.end)?;
        } else {
            let space = (self.end, self.allocated);
            refill(&self.file, &self.header, space, written.min(self.allocated))?;
        }
        self.file.sync()
    }

    /// Whether an end mark is what follows the last block. Space is never that short.
    fn is_marked(&self) -> bool {
        self.allocated == self.end + END as u64
    }

    /// Which file the current segment is, where the system tells, and whether names can be told by such
    /// numbers: on a network, and where a program is the file system, an open file may have another
    /// number than its name, and a name get another one.
    pub(super) fn file_id(&mut self) -> Option<(FileId, bool)> {
        if self.file_id.is_none() {
            let tells = self.file.sees_all_locks();
            self.file_id = self.file.metadata().ok().map(|known| (known.id, tells));
        }
        self.file_id
    }

    /// The last sequence number in the sealed segments that are still there; 0 if there are none.
    pub(super) fn last_sealed(&self) -> u64 {
        self.sealed.last().map_or(0, |segment| segment.last)
    }

    /// Makes everything that was appended durable.
    pub(super) fn sync(&mut self) -> Result<(), Failure> {
        if self.durable < self.last {
            self.file.sync_data()?;
            self.durable = self.last;
        }
        Ok(())
    }

    /// Makes the end of the segment clean where there was no room for that when it was opened.
    fn clean(&mut self) -> Result<(), AppendError> {
        let Some(UncutEnd { torn }) = self.uncut else { return Ok(()) };
        let (marker, range) = (&self.header.marker, (self.end, self.allocated));
        cut(&self.dir, &self.file, marker, range, torn).map_err(|failure| {
            match is_full(&failure) {
                true => AppendError::NotWritten(failure),
                false => AppendError::Unknown(failure),
            }
        })?;
        self.allocated = self.end + END as u64;
        self.uncut = None;
        Ok(())
    }

    /// Gives back the room that nothing needs yet.
    pub(super) fn give_back(&mut self) -> Result<(), Failure> {
        if std::mem::take(&mut self.has_spare) {
            self.dir.remove_if_there(SPARE.as_ref())?;
        }
        if self.prepared.take().is_some() {
            self.dir.remove_if_there(NEXT.as_ref())?;
        }
        self.finish()
    }

    /// Ends the segment: everything in it is on the disk, and the file holds nothing else; except
    /// for a torn tail for whose copy there is no room.
    pub(super) fn finish(&mut self) -> Result<(), Failure> {
        match self.clean() {
            Err(error) if error.is_full() => return Ok(()),
            cleaned => cleaned.map_err(AppendError::into_failure)?,
        }
        let end = self.end + END as u64;
        if self.is_marked() {
            return Ok(());
        }
        // What the mark says has to be true before it is there.
        self.sync()?;
        self.file.write_all_at(&format::end_mark(&self.header.marker), self.end)?;
        // If the file were cut first, a power cut could leave one that ends with nothing.
        self.file.sync_data()?;
        self.file.set_size(end)?;
        self.file.sync()?;
        self.allocated = end;
        Ok(())
    }

    /// Seals the segment and goes on in a new one.
    pub(super) fn rotate(
        &mut self,
        first_free: u64,
        options: &LogOptions,
    ) -> Result<(), AppendError> {
        self.rotate_into(first_free, options, SHORTEST_FILLER)
    }

    /// The same, if there is room for a new one with so much space.
    fn rotate_into(
        &mut self,
        first_free: u64,
        options: &LogOptions,
        least: u64,
    ) -> Result<(), AppendError> {
        self.clean()?;
        let header = Header {
            collection: self.header.collection.clone(),
            number: self.header.number + 1,
            first: first_free,
            created: (options.clock)(),
            marker: rand::random(),
        };
        // More than a segment has would never be used, and a disk that is nearly full may not
        // have it.
        let step = self.step.min(options.segment_size).max(least);
        let next = match self.prepared.take() {
            Some(prepared) => prepared.with_header(&self.dir, header, (least, step))?,
            None => {
                let has_spare = std::mem::take(&mut self.has_spare);
                let mode = AllocationMode::Foreground;
                NewSegment::create(&self.dir, header, has_spare, (least, step), mode)?
            }
        };
        self.seal(next).map_err(AppendError::Unknown)?;
        self.step = next_step(self.step);
        Ok(())
    }

    fn seal(&mut self, next: NewSegment<F>) -> Result<(), Failure> {
        self.finish()?;
        let number = self.header.number;
        self.dir.rename(&self.file, CURRENT.as_ref(), sealed(number).as_ref())?;
        // The new segment must not take the name before the old one is known by another.
        self.dir.sync(Some(&self.file))?;
        next.publish(&self.dir)?;
        self.sealed.push(SealedSegment { number, last: self.last, bytes: self.allocated });
        (self.file, self.file_id) = (next.file, None);
        (self.end, self.allocated) = (next.end, next.allocated);
        self.header = next.header;
        self.has_blocks = false;
        self.is_damaged = false;
        self.is_overdue = false;
        self.has_failed_to_prepare = false;
        Ok(())
    }

    /// Allocates space up to `needed` and beyond, as far as there is room.
    fn extend(&mut self, needed: u64, options: &LogOptions) -> Result<(), AppendError> {
        let room = options.segment_size.saturating_sub(self.allocated);
        let least = needed.saturating_sub(self.allocated).max(SHORTEST_FILLER);
        loop {
            let allocated = end_of_space(self.allocated, least, self.step.min(room));
            let more = allocated - self.allocated;
            match self.extend_to(allocated) {
                // Half of what was asked for, which becomes less than a page: then no border rounds it up.
                Err(error) if error.is_full() && more > least => {
                    self.step = self.step.min(room).min(more) / 2;
                }
                Err(error) => return Err(error),
                Ok(()) => break,
            }
        }
        self.step = next_step(self.step);
        Ok(())
    }

    fn extend_to(&mut self, allocated: u64) -> Result<(), AppendError> {
        // It is an empty block of its own until the head before it spans it, too.
        let range = (self.allocated, allocated);
        if let Err(failure) = allocate(&self.file, &self.header, range, AllocationMode::Foreground)
        {
            // If it stays longer, the next attempt starts at the same offset.
            let _ = self.file.set_size(self.allocated);
            return Err(failure.into());
        }
        self.file.sync().map_err(AppendError::Unknown)?;
        self.durable = self.last;
        self.allocated = allocated;
        Ok(())
    }
}
