//! Fills a file with bytes from memory or from another file, in steps that can be cancelled.

use super::attempt::AttemptError;
use super::control::Control;
use crate::fs::{File, FileSystem};
use crate::payload::Payload;

/// The most that one system call is given, so that a write that has been cancelled stops
/// soon. (Linux takes at most 2 GiB at once.)
const LARGEST_WRITE: usize = 16 << 20;

/// The size of the buffer with which a file is copied by reading and writing.
const COPY_BUFFER: usize = 1 << 20;

/// Appends bytes to a file.
pub(super) fn append<F: FileSystem>(
    file: &File<F>,
    payload: &Payload,
    control: &Control,
) -> Result<(), AttemptError> {
    let mut done = 0;
    while done < payload.len() {
        control.check()?;
        done += file.write(payload.chunk(done..done.saturating_add(LARGEST_WRITE)))?;
    }
    Ok(())
}

/// Copies a file to its end, wherever the end is by then: by sharing its blocks on the disk, in
/// the kernel, or by reading and writing. Returns how many bytes there were.
pub(super) fn copy<F: FileSystem>(
    file: &File<F>,
    source: &File<F>,
    control: &Control,
) -> Result<u64, AttemptError> {
    control.check()?;
    if file.clone_content(source)? {
        return Ok(file.metadata()?.size);
    }
    let mut done: u64 = 0;
    loop {
        control.check()?;
        match file.copy(source, done, LARGEST_WRITE)? {
            Some(count) if count > 0 => done += count as u64,
            // This is the end, or the kernel takes it for the end: reading tells.
            _ => break,
        }
    }
    let mut buffer = vec![0; COPY_BUFFER];
    loop {
        control.check()?;
        let count = source.read(&mut buffer, done)?;
        if count == 0 {
            return Ok(done);
        }
        file.write_all(buffer.get(..count).unwrap_or_default())?;
        done += count as u64;
    }
}
