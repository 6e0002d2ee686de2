//! Making the ends of segments clean.

use super::scan::{Scan, SegmentEnd, SegmentFindings, TrailingBytes};
use crate::error::{ErrorKind, Failure};
use crate::fs::{Dir, File, FileSystem};
use crate::wal::append_error::is_full;
use crate::wal::format::END;
use crate::wal::new_segment::NewSegment;
use crate::wal::reader::SegmentReader;
use crate::wal::segments::CURRENT;
use crate::wal::torn_tail::{CHUNK, UncutEnd, copy_aside, cut, in_chunks};

impl Scan<'_> {
    /// Cuts off what is behind the end of a sealed segment, after copying it aside.
    pub(super) fn cut_sealed<F: FileSystem>(
        &mut self,
        dir: &Dir<F>,
        tail: &TrailingBytes,
    ) -> Result<(), ErrorKind> {
        let file = dir.open_to_write(tail.file.as_ref())?;
        let copy = match copy_aside(dir, &file, &tail.file, tail.end, tail.length) {
            // It stays where it is. The next opening tries again.
            Err(failure) if is_full(&failure) => return Ok(()),
            copied => copied?,
        };
        if let Some(damage) = self.damage.get_mut(tail.index) {
            damage.copy = copy;
        }
        file.set_size(tail.end)?;
        file.sync()?;
        Ok(())
    }

    /// Makes the current segment end with an end mark, and with nothing behind it; or says what is
    /// left to be done for that when there is room.
    pub(super) fn clean<F: FileSystem>(
        &mut self,
        dir: &Dir<F>,
        reader: SegmentReader<F>,
        findings: &SegmentFindings,
        length: u64,
    ) -> Result<(NewSegment<F>, Option<UncutEnd>), ErrorKind> {
        let header = reader.header.clone();
        // Windows: it must not be open for reading any more.
        drop(reader);
        let file = dir.open_to_write(CURRENT.as_ref())?;
        let (SegmentEnd::Marked(offset) | SegmentEnd::Space(offset) | SegmentEnd::Torn(offset)) =
            findings.end;
        if !matches!(findings.end, SegmentEnd::Marked(_)) {
            if let Some(from) = findings.unconfirmed {
                rewrite(&file, from, offset)?;
            }
            // The entries first, then the mark that says that they are there.
            file.sync_data()?;
        }
        let torn = findings.torn;
        let (allocated, uncut) = match cut(dir, &file, &header.marker, (offset, length), torn) {
            Ok(copy) => {
                // What was found in the current segment was found last.
                if let Some(damage) = self.damage.last_mut().filter(|_| torn.is_some()) {
                    damage.copy = copy;
                }
                (offset + END as u64, None)
            }
            Err(failure) if is_full(&failure) => (length, Some(UncutEnd { torn })),
            Err(failure) => return Err(failure.into()),
        };
        Ok((NewSegment { header, file, end: offset, allocated }, uncut))
    }
}

/// Writes a stretch of a file over itself, so that a sync has to deal with it again.
fn rewrite<F: FileSystem>(file: &File<F>, from: u64, to: u64) -> Result<(), Failure> {
    let mut buffer = vec![0; CHUNK];
    in_chunks(file, (from, to), false, &mut buffer, |at, bytes| file.write_all_at(bytes, at))
}
