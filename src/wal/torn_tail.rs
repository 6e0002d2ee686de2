//! Copies a torn tail aside, and cuts it off.

use super::dirs::SHARED;
use super::format::{self, END, Marker};
use super::read_window::is_zero;
use super::segments::{self, CURRENT};
use crate::error::Failure;
use crate::fs::{Dir, File, FileSystem};

/// How much is copied at once.
pub(super) const CHUNK: usize = 256 * 1024;

/// The end of a current segment that is not clean.
#[derive(Clone, Copy, Debug)]
pub(super) struct UncutEnd {
    /// Where the bytes start that are copied aside before they are cut off.
    pub(super) torn: Option<u64>,
}

/// Makes the current segment end with an end mark at `end`, and with nothing behind it. What there
/// is from `torn` on is copied aside before. The answer is the name of the copy.
pub(super) fn cut<F: FileSystem>(
    dir: &Dir<F>,
    file: &File<F>,
    marker: &Marker,
    (end, length): (u64, u64),
    torn: Option<u64>,
) -> Result<Option<String>, Failure> {
    let copy = match torn {
        Some(torn) => copy_aside(dir, file, CURRENT, torn, length.saturating_sub(torn))?,
        None => None,
    };
    file.write_all_at(&format::end_mark(marker), end)?;
    file.sync_data()?;
    let allocated = end + END as u64;
    if length != allocated {
        file.set_size(allocated)?;
    }
    // Also if nothing was to be cut: the process that did it may have died before its sync.
    file.sync()?;
    Ok(copy)
}

/// Copies a stretch of a file to a new one beside it, without the zeros at its end, and makes
/// the copy durable. `None` if there is nothing but zeros.
pub(super) fn copy_aside<F: FileSystem>(
    dir: &Dir<F>,
    file: &File<F>,
    name: &str,
    offset: u64,
    length: u64,
) -> Result<Option<String>, Failure> {
    let mut buffer = vec![0; CHUNK];
    let mut content = 0;
    in_chunks(file, (offset, offset + length), true, &mut buffer, |at, bytes| {
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
    let copied = in_chunks(file, (offset, offset + content), true, &mut buffer, |at, bytes| {
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

/// Hands a stretch of a file over piece by piece, as far as the file goes. With `skips_holes` not
/// all of its zeros.
pub(super) fn in_chunks<F: FileSystem>(
    file: &File<F>,
    (from, to): (u64, u64),
    skips_holes: bool,
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
        at += bytes.len() as u64;
        if skips_holes && is_zero(bytes) {
            let Some(data) = file.next_data(at)? else { break };
            at = data.max(at);
            continue;
        }
        each(at - bytes.len() as u64, bytes)?;
    }
    Ok(())
}
