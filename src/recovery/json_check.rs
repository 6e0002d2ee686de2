//! Whether what was left is whole.

use crate::error::{BadJson, ErrorKind, Failure};
use crate::fs::{FileSystem, uninterrupted};
use crate::write::{Control, check_json};

/// What a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Text {
    /// One JSON object or array. Its last character says that nothing is missing.
    Whole,
    /// One JSON number, string, `true`, `false` or `null`. Cut short it may still be one.
    Scalar,
    /// Nothing but white space.
    Empty,
    /// Anything else.
    Bad(BadJson),
}

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Reads a file to its end. A byte order mark at its beginning is passed over, as readers of
/// JSON files do.
///
/// # Errors
///
/// What the system says to the reading, and that it was cancelled.
pub(super) fn judge<F: FileSystem>(
    fs: &F,
    file: &F::FileHandle,
    control: &Control,
) -> Result<Text, ErrorKind> {
    let mut start = 0;
    let mut first = None;
    let read_at = |buffer: &mut [u8], offset: u64| -> Result<usize, ErrorKind> {
        control.check()?;
        let read = uninterrupted(|| fs.read(file, buffer, offset));
        Ok(read.map_err(|error| Failure::new("read", error))?)
    };
    let checked = check_json(|buffer, offset| {
        let mut count = read_at(buffer, start + offset)?;
        if offset == 0 && buffer.get(..count).is_some_and(|read| read.starts_with(BYTE_ORDER_MARK))
        {
            start = BYTE_ORDER_MARK.len() as u64;
            count = read_at(buffer, start)?;
        }
        if first.is_none() {
            let is_text = |byte: &&u8| !b" \t\n\r".contains(byte);
            first = buffer.get(..count).and_then(|read| read.iter().find(is_text)).copied();
        }
        Ok(count)
    });
    match checked {
        Ok(()) if matches!(first, Some(b'{' | b'[')) => Ok(Text::Whole),
        Ok(()) => Ok(Text::Scalar),
        Err(ErrorKind::EmptyJson) => Ok(Text::Empty),
        Err(ErrorKind::BadJson(bad)) => Ok(Text::Bad(bad)),
        Err(kind) => Err(kind),
    }
}
