//! Making the ends of segments clean.

use super::scan::{Scan, SegmentEnd, SegmentFindings, TrailingBytes};
use crate::error::{ErrorKind, Failure};
use crate::fs::{Dir, File, FileSystem};
use crate::wal::dirs::SHARED;
use crate::wal::format::{self, END};
use crate::wal::new_segment::NewSegment;
use crate::wal::reader::SegmentReader;
use crate::wal::segments::{self, CURRENT};

/// How much is copied at once.
const CHUNK: usize = 256 * 1024;

impl Scan<'_> {
    /// Cuts off what is behind the end of a sealed segment, after copying it aside.
    pub(super) fn cut_sealed<F: FileSystem>(
        &mut self,
        dir: &Dir<F>,
        tail: &TrailingBytes,
    ) -> Result<(), ErrorKind> {
        let file = dir.open_to_write(tail.file.as_ref())?;
        let copy = copy_aside(dir, &file, &tail.file, tail.end, tail.length)?;
        if let Some(damage) = self.damage.get_mut(tail.index) {
            damage.copy = copy;
        }
        file.set_size(tail.end)?;
        file.sync()?;
        Ok(())
    }

    /// Makes the current segment end with an end mark, and with nothing behind it.
    pub(super) fn clean<F: FileSystem>(
        &mut self,
        dir: &Dir<F>,
        reader: SegmentReader<F>,
        findings: &SegmentFindings,
        length: u64,
    ) -> Result<NewSegment<F>, ErrorKind> {
        let header = reader.header.clone();
        // Windows: it must not be open for reading any more.
        drop(reader);
        let file = dir.open_to_write(CURRENT.as_ref())?;
        let (SegmentEnd::Marked(offset) | SegmentEnd::Space(offset) | SegmentEnd::Torn(offset)) =
            findings.end;
        if let Some(torn) = findings.torn {
            let copy = copy_aside(dir, &file, CURRENT, torn, length.saturating_sub(torn))?;
            // What was found in the current segment was found last.
            if let Some(damage) = self.damage.last_mut() {
                damage.copy = copy;
            }
        }
        if !matches!(findings.end, SegmentEnd::Marked(_)) {
            if let Some(from) = findings.unconfirmed {
                rewrite(&file, from, offset)?;
            }
            // The entries first, then the mark that says that they are there.
            file.sync_data()?;
        }
        file.write_all_at(&format::end_mark(&header.marker), offset)?;
        file.sync_data()?;
        let allocated = offset + END as u64;
        if length != allocated {
            file.set_size(allocated)?;
        }
        // Also if nothing was to be cut: the process that did it may have died before its sync.
        file.sync()?;
        Ok(NewSegment { header, file, end: offset, allocated })
    }
}

/// Copies a stretch of a file to a new one beside it, without the zeros at its end, and makes
/// the copy durable. `None` if there is nothing but zeros.
fn copy_aside<F: FileSystem>(
    dir: &Dir<F>,
    file: &File<F>,
    name: &str,
    offset: u64,
    length: u64,
) -> Result<Option<String>, Failure> {
    let mut buffer = vec![0; CHUNK];
    let mut content = 0;
    in_chunks(file, offset, offset + length, &mut buffer, |at, bytes| {
        if let Some(index) = bytes.iter().rposition(|byte| *byte != 0) {
            content = at + index as u64 + 1 - offset;
        }
        Ok(())
    })?;
    if content == 0 {
        return Ok(None);
    }
    let new_name = || segments::torn(name, offset, rand::random()).into();
    let (name, copy) = dir.create_unique(new_name, SHARED)?;
    let copied = in_chunks(file, offset, offset + content, &mut buffer, |at, bytes| {
        copy.write_all_at(bytes, at - offset)
    })
    .and_then(|()| copy.sync())
    .and_then(|()| dir.sync(Some(&copy)));
    match copied {
        Ok(()) => Ok(Some(name.to_string_lossy().into_owned())),
        Err(failure) => {
            // Half a copy is none. The next attempt makes another.
            let _ = dir.remove(&name);
            Err(failure.on(&name))
        }
    }
}

/// Writes a stretch of a file over itself, so that a sync has to deal with it again.
fn rewrite<F: FileSystem>(file: &File<F>, from: u64, to: u64) -> Result<(), Failure> {
    let mut buffer = vec![0; CHUNK];
    in_chunks(file, from, to, &mut buffer, |at, bytes| file.write_all_at(bytes, at))
}

/// Hands a stretch of a file over piece by piece, as far as the file goes.
fn in_chunks<F: FileSystem>(
    file: &File<F>,
    from: u64,
    to: u64,
    buffer: &mut [u8],
    mut each: impl FnMut(u64, &[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut at = from;
    while at < to {
        let most = (to - at).min(buffer.len() as u64) as usize;
        let room = buffer.get_mut(..most).unwrap_or_default();
        let count = file.read(room, at)?;
        let bytes = room.get(..count).unwrap_or_default();
        if bytes.is_empty() {
            break;
        }
        each(at, bytes)?;
        at += bytes.len() as u64;
    }
    Ok(())
}
