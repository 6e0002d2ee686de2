//! Checks that the bytes of a staged file have the format that was asked for.
//!
//! The check reads the temp file, not the caller's memory: it sees what readers of the target
//! will see, and memory that belongs to JavaScript is never looked at on another thread (see
//! [`crate::payload`]).

use std::io::{self, BufReader, Read};

use serde::de::IgnoredAny;

use super::control::Control;
use crate::error::{BadJson, ErrorKind};
use crate::fs::{File, FileSystem};

/// The format that the bytes of a file must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON text in UTF-8, without a byte order mark: what `JSON.parse` takes.
    Json,
}

/// How much of the file is in memory at a time.
const BUFFER: usize = 64 * 1024;

/// Checks all of a file.
///
/// # Errors
///
/// [`ErrorKind::BadJson`] with the first place that is wrong, [`ErrorKind::EmptyJson`] when
/// there is nothing but white space, and the failure of a read.
pub fn validate<F: FileSystem>(
    file: &File<F>,
    format: Format,
    control: &Control,
) -> Result<(), ErrorKind> {
    let Format::Json = format;
    check_json(|buffer, offset| {
        control.check()?;
        Ok(file.read(buffer, offset)?)
    })
}

/// Checks bytes in memory, which must be the caller's own.
///
/// # Errors
///
/// As [`validate`].
pub fn validate_bytes(bytes: &[u8], format: Format) -> Result<(), ErrorKind> {
    let Format::Json = format;
    check_json(|buffer, offset| {
        let mut rest =
            usize::try_from(offset).ok().and_then(|at| bytes.get(at..)).unwrap_or_default();
        Ok(rest.read(buffer).unwrap_or(0))
    })
}

/// Checks what `read` reads at an offset.
pub(crate) fn check_json(
    read: impl FnMut(&mut [u8], u64) -> Result<usize, ErrorKind>,
) -> Result<(), ErrorKind> {
    let mut text =
        Utf8Reader { read, offset: 0, line: 1, column: 1, is_blank: true, stopped: None };
    // Nothing is built, and nesting costs a byte a level, not a frame of the stack.
    let parsed: Result<IgnoredAny, _> =
        serde_json::from_reader(BufReader::with_capacity(BUFFER, &mut text));
    match (text.stopped, parsed) {
        (Some(kind), _) => Err(kind),
        (None, Ok(_)) => Ok(()),
        (None, Err(error)) if error.is_eof() && text.is_blank => Err(ErrorKind::EmptyJson),
        (None, Err(error)) => Err(BadJson::from(&error).into()),
    }
}

/// A stream of bytes that stops where they are not UTF-8: the parser skips what is in strings
/// without looking at it.
struct Utf8Reader<R> {
    /// Reads at an offset.
    read: R,
    offset: u64,
    /// The line and column of the next byte.
    line: usize,
    column: usize,
    /// Whether there has been nothing but white space.
    is_blank: bool,
    /// Why the stream has stopped before its end.
    stopped: Option<ErrorKind>,
}

impl<R: FnMut(&mut [u8], u64) -> Result<usize, ErrorKind>> Read for Utf8Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.next(buffer).map_err(|kind| {
            self.stopped = Some(kind);
            io::ErrorKind::Other.into()
        })
    }
}

impl<R: FnMut(&mut [u8], u64) -> Result<usize, ErrorKind>> Utf8Reader<R> {
    /// Reads whole characters. What comes before a byte that is none is handed out first, so
    /// that the first mistake is the one that is reported.
    fn next(&mut self, buffer: &mut [u8]) -> Result<usize, ErrorKind> {
        let mut length = 0;
        loop {
            let room = buffer.get_mut(length..).unwrap_or_default();
            let count = (self.read)(room, self.offset + length as u64)?;
            length += count;
            let bytes = buffer.get(..length).unwrap_or_default();
            let whole = match std::str::from_utf8(bytes) {
                Ok(_) => length,
                Err(error) if error.valid_up_to() > 0 => error.valid_up_to(),
                // The rest of a character may still come.
                Err(error) if error.error_len().is_none() && count > 0 => continue,
                Err(_) => {
                    let (line, column) = (self.line, self.column);
                    return Err(
                        BadJson { message: "invalid UTF-8".to_owned(), line, column }.into()
                    );
                }
            };
            self.pass(bytes.get(..whole).unwrap_or_default());
            return Ok(whole);
        }
    }

    fn pass(&mut self, bytes: &[u8]) {
        self.offset += bytes.len() as u64;
        self.is_blank &= bytes.iter().all(|byte| b" \t\n\r".contains(byte));
        match bytes.iter().rposition(|byte| *byte == b'\n') {
            Some(last) => {
                self.line += bytes.iter().filter(|byte| **byte == b'\n').count();
                self.column = bytes.len() - last;
            }
            None => self.column += bytes.len(),
        }
    }
}
