//! Makes segments. A new segment has a provisional name until it is published.

use super::allocate::{AllocationMode, allocate, end_of_space};
use super::append_error::is_full;
use super::dirs::SHARED;
use super::format::{self, Header, LONGEST_HEADER, MARKER, SHORTEST_FILLER, filler_head};
use super::segments::{CURRENT, NEXT, SPARE};
use crate::error::Failure;
use crate::fs::{Dir, File, FileSystem};

/// A file that becomes the current segment when it is published.
pub(super) struct NewSegment<F: FileSystem> {
    pub(super) header: Header,
    pub(super) file: File<F>,
    /// Where the first block goes.
    pub(super) end: u64,
    /// The length of the file.
    pub(super) allocated: u64,
}

impl<F: FileSystem> NewSegment<F> {
    /// Makes a segment under its provisional name, and makes both durable. `space` is how much it
    /// has at least, and how much if there is room for that.
    pub(super) fn create(
        dir: &Dir<F>,
        header: Header,
        has_spare: bool,
        space: (u64, u64),
        mode: AllocationMode<'_>,
    ) -> Result<NewSegment<F>, Failure> {
        let segment = NewSegment::write(dir, header, has_spare, space, mode)?;
        segment.file.sync()?;
        dir.sync(Some(&segment.file)).inspect_err(|_| {
            // No later sync speaks for this name: the next attempt has to give it anew.
            let _ = dir.remove(NEXT.as_ref());
        })?;
        Ok(segment)
    }

    /// Makes the first segment of a collection under its provisional name, which need not outlive
    /// anything.
    pub(super) fn create_first(
        dir: &Dir<F>,
        header: Header,
        has_spare: bool,
        space: (u64, u64),
    ) -> Result<NewSegment<F>, Failure> {
        let mode = AllocationMode::Foreground;
        let segment = NewSegment::write(dir, header, has_spare, space, mode)?;
        segment.file.sync()?;
        Ok(segment)
    }

    fn write(
        dir: &Dir<F>,
        header: Header,
        has_spare: bool,
        space: (u64, u64),
        mode: AllocationMode<'_>,
    ) -> Result<NewSegment<F>, Failure> {
        let file = if has_spare {
            let file = dir.open_to_write(SPARE.as_ref())?;
            dir.rename(&file, SPARE.as_ref(), NEXT.as_ref())?;
            file
        } else {
            // If it is there, an attempt has failed, or a power cut has ended it. The name stays
            // all the time: between two segments it tells that nothing is missing.
            dir.open_or_create(NEXT.as_ref(), SHARED)?
        };
        let (end, allocated) = write_frame_that_fits(&file, &header, space, mode)?;
        Ok(NewSegment { header, file, end, allocated })
    }

    /// Writes what was not known when the segment was made into its header.
    pub(super) fn with_header(
        self,
        dir: &Dir<F>,
        header: Header,
        space: (u64, u64),
    ) -> Result<NewSegment<F>, Failure> {
        let header = Header { marker: self.header.marker, ..header };
        let bytes = header.encode();
        if bytes.len() as u64 != self.end {
            // The clock has got another digit.
            drop(self);
            return NewSegment::create(dir, header, false, space, AllocationMode::Foreground);
        }
        self.file.write_all_at(&bytes, 0)?;
        self.file.sync_data()?;
        Ok(NewSegment { header, ..self })
    }

    /// Gives the segment its name.
    pub(super) fn publish(&self, dir: &Dir<F>) -> Result<(), Failure> {
        dir.rename(&self.file, NEXT.as_ref(), CURRENT.as_ref())?;
        dir.sync(Some(&self.file))
    }
}

/// The same as [`write_frame`] does. Where there is no room for so much space,
/// there is less of it, but not less than `least`.
fn write_frame_that_fits<F: FileSystem>(
    file: &File<F>,
    header: &Header,
    (least, mut space): (u64, u64),
    mode: AllocationMode<'_>,
) -> Result<(u64, u64), Failure> {
    loop {
        let failure = match write_frame(file, header, (least, space), mode) {
            Err(failure) => failure,
            written => return written,
        };
        // So that an attempt on a full disk leaves the room to others.
        let emptied = file.set_size(0);
        if !is_full(&failure) || space <= least || emptied.is_err() {
            return Err(failure);
        }
        space = (space / 2).max(least);
    }
}

/// Writes the header and the empty block behind it. The answer is where the header ends, and the
/// length of the file.
fn write_frame<F: FileSystem>(
    file: &File<F>,
    header: &Header,
    (least, space): (u64, u64),
    mode: AllocationMode<'_>,
) -> Result<(u64, u64), Failure> {
    let bytes = header.encode();
    let end = bytes.len() as u64;
    let existing = file.metadata()?.size;
    file.write_all_at(&bytes, 0)?;
    let allocated = if existing >= end + SHORTEST_FILLER {
        // What was written before need not be written again, but for what frames it.
        file.write_all_at(&filler_head(existing - end), end)?;
        file.write_all_at(&header.marker, existing - MARKER as u64)?;
        existing
    } else {
        let allocated = end_of_space(end, least.max(SHORTEST_FILLER), space);
        allocate(file, header, (end, allocated), mode)?;
        allocated
    };
    Ok((end, allocated))
}

// The header is read in one piece.
const _: () = assert!(LONGEST_HEADER > 100 * 4 + format::SCHEMA.len() + 400);
