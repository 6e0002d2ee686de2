//! Whether a file is whole JSON, or something like it.

mod dialect;

use std::ffi::OsStr;

use crate::error::{BadJson, ErrorKind};
use crate::fs::{File, FileSystem};
use crate::write::{Control, check_json};

pub use dialect::Dialect;

/// What a file contains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JsonCheck {
    /// One JSON object or array. Its last character says that nothing is missing.
    Whole,
    /// One JSON number, string, `true`, `false` or `null`. Cut short it may still be one.
    Scalar,
    /// Nothing but white space.
    Empty,
    /// Anything else.
    Bad(BadJson),
}

/// Whether a file of this name has to be JSON.
pub fn is_json_name(file: &OsStr) -> bool {
    let name = file.as_encoded_bytes();
    name.len()
        .checked_sub(5)
        .and_then(|at| name.get(at..))
        .is_some_and(|end| end.eq_ignore_ascii_case(b".json"))
}

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

impl JsonCheck {
    /// Reads a file to its end. A byte order mark at its beginning is skipped, as readers of JSON
    /// files do.
    ///
    /// # Errors
    ///
    /// A failed read, and a cancelled operation.
    pub fn of<F: FileSystem>(file: &File<F>, control: &Control) -> Result<JsonCheck, ErrorKind> {
        let mut start = 0;
        let mut first = None;
        let read_at = |buffer: &mut [u8], offset: u64| -> Result<usize, ErrorKind> {
            control.check()?;
            Ok(file.read(buffer, offset)?)
        };
        let checked = check_json(|buffer, offset| {
            let mut count = read_at(buffer, start + offset)?;
            if offset == 0
                && buffer.get(..count).is_some_and(|read| read.starts_with(BYTE_ORDER_MARK))
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
            Ok(()) if matches!(first, Some(b'{' | b'[')) => Ok(JsonCheck::Whole),
            Ok(()) => Ok(JsonCheck::Scalar),
            Err(ErrorKind::EmptyJson) => Ok(JsonCheck::Empty),
            Err(ErrorKind::BadJson(bad)) => Ok(JsonCheck::Bad(bad)),
            Err(kind) => Err(kind),
        }
    }
}
