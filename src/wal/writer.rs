//! Appends to the segments of one collection.
//!
//! A segment is a valid Avro file at every moment. What it has of unused space is spanned by
//! one empty block, whose head is written anew behind each group of batches, in the same write.
//! That space was allocated beforehand, so a group changes no metadata, and one `fdatasync`
//! makes it durable. A segment that is sealed, or closed, ends with an end mark and is cut there.

use std::sync::Arc;

use super::allocate::{AllocationMode, allocate};
use super::append_error::AppendError;
use super::batch::Batch;
use super::format::{self, END, Header, LONGEST_HEAD, MARKER, SHORTEST_FILLER, filler_head};
use super::new_segment::NewSegment;
use super::options::{LARGEST_STEP, LogOptions};
use super::segments::{CURRENT, sealed};
use crate::error::{Code, Failure};
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
    /// Which file it is, once that was asked for.
    file_id: Option<FileId>,
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
    /// An append would have sealed the segment, had the next one been there.
    pub(super) is_overdue: bool,
    /// How much space is allocated next.
    step: u64,
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
            is_overdue: false,
            step,
            buffer: Vec::new(),
        }
    }

    /// Makes the first segment of a collection that has none.
    pub(super) fn create(
        dir: Arc<Dir<F>>,
        header: Header,
        has_spare: bool,
        step: u64,
    ) -> Result<SegmentWriter<F>, AppendError> {
        let last = header.first.saturating_sub(1);
        let segment =
            NewSegment::create(&dir, header, has_spare, step, AllocationMode::Foreground)?;
        segment.publish(&dir).map_err(AppendError::Unknown)?;
        Ok(SegmentWriter::resume(dir, segment, last, next_step(step)))
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
        self.make_room(batches, options, first_free)?;
        let before = self.last;
        let mut bytes = std::mem::take(&mut self.buffer);
        let firsts = self.encode(&mut bytes, batches, number);
        let end = self.end + bytes.len() as u64;
        let allocated = self.allocated.max(end + SHORTEST_FILLER);
        bytes.extend_from_slice(&filler_head(allocated - end));
        if allocated > self.allocated {
            bytes.extend_from_slice(&self.header.marker);
        }
        let written = self.file.write_all_at(&bytes, self.end);
        if bytes.capacity() <= LARGEST_BUFFER {
            self.buffer = bytes;
        }
        if let Err(failure) = written {
            self.last = before;
            return Err(self.after_failed_write(failure, allocated));
        }
        self.end = end;
        self.allocated = allocated;
        self.has_blocks = true;
        if sync {
            self.sync().map_err(AppendError::Unknown)?;
        }
        Ok(firsts)
    }

    /// Begins another segment, or allocates more of this one, where a group needs it.
    fn make_room(
        &mut self,
        batches: &[&Batch],
        options: &LogOptions,
        first_free: u64,
    ) -> Result<(), AppendError> {
        let most: usize =
            batches.iter().map(|batch| format::most_bytes(batch) + LONGEST_HEAD + MARKER).sum();
        let most = most as u64 + SHORTEST_FILLER;
        let age = (options.clock)().saturating_sub(self.header.created);
        let is_old = options.segment_age.is_some_and(|limit| u128::from(age) >= limit.as_millis());
        let is_full = is_old || self.end + most > options.segment_size;
        if self.is_damaged || self.has_blocks && is_full {
            if self.is_preparing {
                // While the next segment is being made, this one grows.
                self.is_overdue = true;
            } else {
                self.rotate(first_free, options)?;
            }
        }
        // A large group extends the file by its own write.
        if self.end + most > self.allocated && most < options.large_group {
            self.extend(self.end + most, options)?;
        }
        Ok(())
    }

    /// Makes `bytes` the blocks of a group.
    fn encode(
        &mut self,
        bytes: &mut Vec<u8>,
        batches: &[&Batch],
        mut number: impl FnMut(&Batch) -> u64,
    ) -> Vec<u64> {
        bytes.clear();
        let block = |batch: &&Batch| {
            let first = number(batch);
            format::put_block(bytes, &self.header.marker, batch, first, self.durable);
            self.last = first + (batch.len() as u64 - 1);
            first
        };
        batches.iter().map(block).collect()
    }

    /// A write that fails may have been done in part. Where it failed for want of room, and the
    /// space that there was can be made what it was, nothing has happened. That has to be on the
    /// disk before it is reported: the system may have written the part, and after a power cut
    /// whole batches of it would show.
    fn after_failed_write(&mut self, failure: Failure, allocated: u64) -> AppendError {
        let is_full = matches!(failure.code(), Some(Code::ENOSPC | Code::EDQUOT));
        if !is_full || allocated == self.allocated || self.allocated < self.end + SHORTEST_FILLER {
            return AppendError::Unknown(failure);
        }
        let range = (self.end, self.allocated);
        let undone = allocate(&self.file, &self.header, range, AllocationMode::Foreground)
            .and_then(|()| self.file.set_size(self.allocated))
            .and_then(|()| self.file.sync());
        match undone {
            Ok(()) => AppendError::NotWritten(failure),
            Err(_) => AppendError::Unknown(failure),
        }
    }

    /// Which file the current segment is, where the system tells.
    pub(super) fn file_id(&mut self) -> Option<FileId> {
        if self.file_id.is_none() {
            self.file_id = self.file.metadata().ok().map(|known| known.id);
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

    /// Ends the segment: everything in it is on the disk, and the file holds nothing else.
    pub(super) fn finish(&mut self) -> Result<(), Failure> {
        let end = self.end + END as u64;
        if self.allocated == end {
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
        let header = Header {
            collection: self.header.collection.clone(),
            number: self.header.number + 1,
            first: first_free,
            created: (options.clock)(),
            marker: rand::random(),
        };
        // More than a segment has would never be used, and a disk that is nearly full may not
        // have it.
        let step = self.step.min(options.segment_size);
        let next = match self.prepared.take() {
            Some(prepared) => prepared.with_header(&self.dir, header, step)?,
            None => {
                let has_spare = std::mem::take(&mut self.has_spare);
                let mode = AllocationMode::Foreground;
                NewSegment::create(&self.dir, header, has_spare, step, mode)?
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
        Ok(())
    }

    /// Allocates space up to `needed` and beyond.
    fn extend(&mut self, needed: u64, options: &LogOptions) -> Result<(), AppendError> {
        let room = options.segment_size.saturating_sub(self.allocated);
        let least = needed.saturating_sub(self.allocated) + SHORTEST_FILLER;
        let allocated = self.allocated + self.step.min(room).max(least);
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
        self.step = next_step(self.step);
        Ok(())
    }
}

fn next_step(step: u64) -> u64 {
    step.saturating_mul(2).min(LARGEST_STEP).max(step)
}
