//! Making the ends of segments clean.

use std::ffi::OsStr;
use std::io;

use super::open_to_write;
use super::scan::{Ending, Found, Scan, Trailing};
use crate::error::{ErrorKind, Failure};
use crate::fs::{FileSystem, uninterrupted};
use crate::wal::format::{self, END};
use crate::wal::reader::SegmentReader;
use crate::wal::segments::{self, CURRENT};
use crate::wal::writer::{set_size, sync_data, sync_dir, sync_file, write_all};

/// How much is copied at once.
const CHUNK: usize = 256 * 1024;

impl Scan<'_> {
    /// Cuts what is behind the end of a sealed segment, after copying it aside.
    pub(super) fn cut_sealed<F: FileSystem>(
        &mut self,
        fs: &F,
        dir: &F::DirHandle,
        tail: &Trailing,
    ) -> Result<(), ErrorKind> {
        let file = open_to_write(fs, dir, &tail.file)?;
        let copy = set_aside(fs, dir, &file, &tail.file, tail.end, tail.length)?;
        if let Some(damage) = self.damage.get_mut(tail.index) {
            damage.copy = copy;
        }
        set_size(fs, &file, tail.end)?;
        sync_file(fs, &file)?;
        Ok(())
    }

    /// Makes the current segment end with an end mark, and with nothing behind it.
    pub(super) fn clean<F: FileSystem>(
        &mut self,
        fs: &F,
        dir: &F::DirHandle,
        reader: SegmentReader<F>,
        found: &Found,
        length: u64,
    ) -> Result<(F::FileHandle, u64), ErrorKind> {
        let header = reader.header.clone();
        // Windows: nobody has it open for reading any more.
        drop(reader);
        let file = open_to_write(fs, dir, CURRENT)?;
        let (Ending::Marked(offset) | Ending::Space(offset) | Ending::Torn(offset)) = found.ending;
        if let Some(torn) = found.torn {
            let copy = set_aside(fs, dir, &file, CURRENT, torn, length.saturating_sub(torn))?;
            // What was found in the current segment was found last.
            if let Some(damage) = self.damage.last_mut() {
                damage.copy = copy;
            }
        }
        if !matches!(found.ending, Ending::Marked(_)) {
            if let Some(from) = found.unconfirmed {
                write_again(fs, &file, from, offset)?;
            }
            // The entries first, then the mark that says that they are there.
            sync_data(fs, &file)?;
        }
        write_all(fs, &file, &format::end_mark(&header.marker), offset)?;
        sync_data(fs, &file)?;
        let end = offset + END as u64;
        if length != end {
            set_size(fs, &file, end)?;
        }
        // Also if nothing was to be cut: the one who did it may have died before its sync.
        sync_file(fs, &file)?;
        Ok((file, offset))
    }
}

/// Copies a stretch of a file to a new one beside it, without the zeros at its end, and makes
/// the copy durable. `None` if there is nothing but zeros.
fn set_aside<F: FileSystem>(
    fs: &F,
    dir: &F::DirHandle,
    file: &F::FileHandle,
    name: &str,
    offset: u64,
    length: u64,
) -> Result<Option<String>, Failure> {
    let mut buffer = vec![0; CHUNK];
    let mut content = 0;
    in_chunks(fs, file, offset, offset + length, &mut buffer, |at, bytes| {
        if let Some(place) = bytes.iter().rposition(|byte| *byte != 0) {
            content = at + place as u64 + 1 - offset;
        }
        Ok(())
    })?;
    if content == 0 {
        return Ok(None);
    }
    let name = segments::torn(name, offset, rand::random());
    let create = || fs.create_new(dir, OsStr::new(&name), 0o666);
    let copy = uninterrupted(create).map_err(|error| Failure::at("open", &name, error))?;
    let outcome = in_chunks(fs, file, offset, offset + content, &mut buffer, |at, bytes| {
        write_all(fs, &copy, bytes, at - offset)
    })
    .and_then(|()| sync_file(fs, &copy))
    .and_then(|()| sync_dir(fs, dir, &copy));
    match outcome {
        Ok(()) => Ok(Some(name)),
        Err(failure) => {
            // Half a copy is none. The next attempt makes another.
            let _ = fs.remove(dir, OsStr::new(&name));
            Err(failure.on(&name))
        }
    }
}

/// Writes a stretch of a file over itself, so that a sync has to deal with it again.
fn write_again<F: FileSystem>(
    fs: &F,
    file: &F::FileHandle,
    from: u64,
    to: u64,
) -> Result<(), Failure> {
    let mut buffer = vec![0; CHUNK];
    in_chunks(fs, file, from, to, &mut buffer, |at, bytes| write_all(fs, file, bytes, at))
}

/// Hands a stretch of a file over piece by piece, as far as the file goes.
fn in_chunks<F: FileSystem>(
    fs: &F,
    file: &F::FileHandle,
    from: u64,
    to: u64,
    buffer: &mut [u8],
    mut each: impl FnMut(u64, &[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut at = from;
    while at < to {
        let most = (to - at).min(buffer.len() as u64) as usize;
        let room = buffer.get_mut(..most).unwrap_or_default();
        let count = uninterrupted(|| fs.read(file, room, at))
            .map_err(|error: io::Error| Failure::new("read", error))?;
        let bytes = room.get(..count).unwrap_or_default();
        if bytes.is_empty() {
            break;
        }
        each(at, bytes)?;
        at += bytes.len() as u64;
    }
    Ok(())
}
