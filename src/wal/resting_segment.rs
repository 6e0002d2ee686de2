//! The current segment of a collection to which nothing has been appended for a while: what is known
//! of it, without the files that were open for it.

use std::sync::Arc;

use super::format::{END, Header};
use super::new_segment::NewSegment;
use super::segments::CURRENT;
use super::writer::{SealedSegment, SegmentWriter};
use crate::error::Failure;
use crate::fs::{Dir, File, FileId, FileSystem};

/// A current segment that is not open. Everything in it is on the disk.
#[derive(Clone)]
pub(super) struct RestingSegment {
    /// Which directory it is in,
    dir: FileId,
    /// and which file it is.
    file: FileId,
    /// Whether the system can be believed in that.
    tells: bool,
    header: Header,
    end: u64,
    allocated: u64,
    has_blocks: bool,
    is_damaged: bool,
    last: u64,
    sealed: Vec<SealedSegment>,
    has_spare: bool,
    has_failed_to_prepare: bool,
    is_overdue: bool,
    step: u64,
}

impl RestingSegment {
    /// What is needed to open a segment again, if it can be closed: everything in it is on the disk,
    /// nothing is being done with it, and the system says which file it is.
    pub(super) fn of<F: FileSystem>(writer: &mut SegmentWriter<F>) -> Option<RestingSegment> {
        let is_busy = writer.is_preparing || writer.prepared.is_some() || writer.uncut.is_some();
        if is_busy || writer.durable < writer.last {
            return None;
        }
        let (file, tells) = writer.file_id()?;
        Some(RestingSegment {
            dir: writer.dir.metadata().ok()?.id,
            file,
            tells,
            header: writer.header.clone(),
            end: writer.end,
            allocated: writer.allocated,
            has_blocks: writer.has_blocks,
            is_damaged: writer.is_damaged,
            last: writer.last,
            sealed: writer.sealed.clone(),
            has_spare: writer.has_spare,
            has_failed_to_prepare: writer.has_failed_to_prepare,
            is_overdue: writer.is_overdue,
            step: writer.step,
        })
    }

    /// The sealed segments before it, its number, and where its last block ends.
    pub(super) fn extent(&self) -> (&Vec<SealedSegment>, u64, u64) {
        (&self.sealed, self.header.number, self.end)
    }

    /// Whether it ends with an end mark, and so needs nothing when the log is closed.
    pub(super) fn is_marked(&self) -> bool {
        self.allocated == self.end + END as u64
    }

    /// Opens it again in its directory. `None` if it was removed or replaced.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub(super) fn open<F: FileSystem>(
        &self,
        dir: Arc<Dir<F>>,
    ) -> Result<Option<SegmentWriter<F>>, Failure> {
        let Some(file) = self.find(&dir)? else { return Ok(None) };
        let (header, end, allocated) = (self.header.clone(), self.end, self.allocated);
        let segment = NewSegment { header, file, end, allocated };
        let mut writer = SegmentWriter::resume(dir, segment, self.last, self.step);
        (writer.has_blocks, writer.is_damaged) = (self.has_blocks, self.is_damaged);
        (writer.sealed, writer.has_spare) = (self.sealed.clone(), self.has_spare);
        writer.has_failed_to_prepare = self.has_failed_to_prepare;
        writer.is_overdue = self.is_overdue;
        Ok(Some(writer))
    }

    /// Its file, if that is in this directory as it was left.
    fn find<F: FileSystem>(&self, dir: &Dir<F>) -> Result<Option<File<F>>, Failure> {
        let file = match dir.open_to_write(CURRENT.as_ref()) {
            Err(failure) if failure.is_not_found() => return Ok(None),
            opened => opened?,
        };
        let known = file.metadata()?;
        let dir_id = dir.metadata()?.id;
        // Some file systems of programs and some servers number a file anew at each look.
        let is_other_dir = dir_id != self.dir && dir.metadata()?.id == dir_id;
        let is_other_file = known.id != self.file
            && dir.look(CURRENT.as_ref())?.is_none_or(|named| named.id == known.id);
        let is_moved = self.tells && (is_other_file || is_other_dir);
        if is_moved || known.size != self.allocated {
            return Ok(None);
        }
        // A number is given again when a file has been removed; a header is not.
        let header = self.header.encode();
        let mut found = vec![0; header.len()];
        file.read_up_to(&mut found, 0)?;
        Ok((found == header).then_some(file))
    }
}
